import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_debias.adapters.blocks import blocks
from keras_debias.analysis.layer_curves import plot_layer_curves
from keras_debias.data.batches import Batches
from keras_debias.data.split import Split
from keras_debias.models.label_word_classifier import LabelWordClassifier
from keras_debias.utils.networks import network_of
from keras_debias.utils.short_repr import ShortRepr


@dataclasses.dataclass(frozen=True, repr=False)
class BiasAccumulation(ShortRepr):
    """Mean label scores at every depth, of rows with and without a label.

    Attributes:
        label_names: tuple of strings.
        contain: array of shape `(layers, labels)`. The mean score of each
            label over the rows that have it; NaN where none has.
        lack: array like `contain`, over the rows that have it not.

    Example:

    >>> contain = np.array([[1.0, 1.0], [3.0, 1.0]])
    >>> found = BiasAccumulation(("joy", "fear"), contain, np.zeros((2, 2)))
    >>> found.propensity.tolist(), found.discrimination.tolist()
    ([0.0, 1.0], [1.0, 2.0])
    """

    label_names: tuple[str, ...]
    contain: np.ndarray
    lack: np.ndarray

    @property
    def propensity(self) -> np.ndarray:
        """At every depth, the standard deviation over labels of `contain`."""
        return np.nanstd(self.contain, axis=1)

    @property
    def discrimination(self) -> np.ndarray:
        """At every depth, the mean over labels of `contain - lack`."""
        return np.nanmean(self.contain - self.lack, axis=1)

    def plot_contain(self, path) -> None:
        """Saves a curve for each label: how scores grow apart.

        Needs matplotlib.

        Args:
            path: path of a picture to be written.
        """
        curves = dict(zip(self.label_names, self.contain.T))
        plot_layer_curves(
            path, curves, "Rows that contain the label", ylabel="Mean score"
        )

    def plot_labels(self, path, labels: Sequence[str]) -> None:
        """Saves both curves of some labels, dashed for rows without it.

        Needs matplotlib.

        Args:
            path: path of a picture to be written.
            labels: sequence of strings among `label_names`.

        Raises:
            ValueError: If there is no label, or an unknown one.
        """
        unknown = [name for name in labels if name not in self.label_names]
        if unknown or not len(labels):
            raise ValueError(
                f"Expected `labels` among {self.label_names}. "
                f"Received: labels={labels!r}"
            )
        chosen = [self.label_names.index(name) for name in labels]
        plot_layer_curves(
            path,
            {self.label_names[i]: self.contain[:, i] for i in chosen},
            "Rows that contain the label, and that do not (dashed)",
            dashed={self.label_names[i]: self.lack[:, i] for i in chosen},
            ylabel="Mean score",
        )


def bias_accumulation(
    model: keras.Model, split: Split, batch_size: int = 16
) -> BiasAccumulation:
    """Scores of label words read off after every layer.

    The final normalization and the output embedding are applied to the
    hidden states that leave each block (early exit), so that the last layer
    gives the scores of the model itself.

    Args:
        model: a `LabelWordClassifier`, or a `DebiasedModel` around one.
        split: `Split` with labels.
        batch_size: int. Defaults to `16`.

    Returns:
        A `BiasAccumulation`.

    Raises:
        TypeError: If `model` is no `LabelWordClassifier`.
        ValueError: If `split` has no labels.

    Example:

    ```python
    before = kd.analysis.bias_accumulation(classifier, test)
    before.plot_contain("contain.png")
    before.plot_labels("labels.png", ["anger", "trust"])
    ```

    Reference:
        Bias-aware PEFT, section 3 and Figure 2.
    """
    classifier = network_of(model)
    if not isinstance(classifier, LabelWordClassifier):
        raise TypeError(
            "Expected `model` to be a `LabelWordClassifier`, or a "
            f"`DebiasedModel` around one. Received: model={model!r}"
        )
    if split.y is None:
        raise ValueError(f"Expected a split with labels. Received: {split!r}")
    if split.label_names not in (None, classifier.label_names):
        split = split.align_labels(classifier.label_names)
    gold = split.y
    if gold.ndim == 1:
        gold = np.eye(classifier.num_labels)[gold]
    gold = gold > 0.5
    exits = _EarlyExits(classifier)
    batches = Batches(
        split.x,
        batch_size=batch_size,
        preprocess=classifier.preprocess_samples,
    )
    scores = np.asarray(exits.predict(batches, verbose=0), "float64")

    def means(chosen):
        found = np.full(scores.shape[1:], np.nan)
        for label in range(scores.shape[-1]):
            rows = scores[chosen[:, label], :, label]
            if len(rows):
                found[:, label] = rows.mean(axis=0)
        return found

    return BiasAccumulation(classifier.label_names, means(gold), means(~gold))


class _EarlyExits(keras.Model):
    """Label scores after each block, of shape `(batch, layers, labels)`."""

    def __init__(self, classifier):
        super().__init__(dtype=classifier.dtype_policy, name="early_exits")
        self.classifier = classifier
        backbone = classifier.backbone
        outputs = [block.layer.output for block in blocks(backbone)]
        self.depths = keras.Model(backbone.input, outputs)
        # What is between the last block and the embedding: a normalization.
        self.finish = keras.Model(outputs[-1], backbone.output)
        self.built = True

    def call(self, inputs):
        length = ops.shape(inputs["token_ids"])[-1]
        flat = {
            name: ops.reshape(inputs[name], (-1, length))
            for name in ("token_ids", "padding_mask")
        }
        found = []
        for hidden in self.depths(flat, training=False):
            # Between blocks, the states of a prompt come before the tokens.
            hidden = self.finish(hidden[:, -length:], training=False)
            hidden = self.classifier.at_answers(hidden, inputs["answer"])
            logits = self.classifier.vocabulary_logits(hidden)
            found.append(self.classifier.scores(logits))
        return ops.stack(found, axis=1)
