from keras_debias.evaluation.evaluate import score_splits
from keras_debias.evaluation.outputs import threshold_tuner
from keras_debias.evaluation.score_frame import Settings


class BestWeights:
    """Keeps the weights with the best criterion on validation data."""

    def __init__(self, validation, selection):
        self.validation = validation
        self.selection = selection
        self.best = None

    def update(self, model, update):
        """Scores the model, and remembers it if it is the best so far."""
        tune = threshold_tuner(model)
        if tune is not None:
            tune(self.validation)
        scores = score_splits(
            model,
            {"validation": self.validation},
            settings=Settings(),
            metrics=self.selection.metrics,
        )
        score = self.selection.judge(scores, self.validation)
        if self.best is None or score > self.best[0]:
            values = [variable.numpy() for variable in _changing(model)]
            self.best = (score, update, values)

    def restore(self, model) -> int:
        """Puts the best weights back; returns the update they are from."""
        _, update, values = self.best
        for variable, value in zip(_changing(model), values, strict=True):
            variable.assign(value)
        tune = threshold_tuner(model)
        if tune is not None:
            tune(self.validation)  # it was that of the last weights
        return update


def _changing(model):
    """What training changes: the frozen base need not be copied."""
    return [*model.trainable_variables, *model.forward_state()]
