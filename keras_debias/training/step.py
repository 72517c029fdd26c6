import abc
from contextlib import nullcontext

from keras.utils import unpack_x_y_sample_weight

from keras_debias.training.shared_backward import GradientComputer
from keras_debias.training.step_values import StepValues


class Step(abc.ABC):
    """One training step: the sequence that all backends share.

    Args:
        model: the `DebiasedModel`.
        data: the batch, as `train_step` gets it.

    Attributes:
        x, y, sample_weight: the batch.
        y_pred: the outputs of the network, after `forward`.
        variables: list of the variables that train.
        shared: the `SharedBackward` of the objectives, or `None`.
    """

    def __init__(self, model, data):
        self.model = model
        self.x, self.y, self.sample_weight = unpack_x_y_sample_weight(data)
        self.y_pred = None
        self.variables = model.step_variables()
        self.shared = model.shared_backward(self.variables)

    def run(self) -> dict:
        """Trains on the batch; returns the logs."""
        teachers = self.teacher_outputs()
        values = self.forward(teachers)
        self.track(values)
        self.update(values)
        return self.logs()

    @abc.abstractmethod
    def teacher_outputs(self) -> dict:
        """The outputs of the teachers that regularizers ask for, by `id`."""

    @abc.abstractmethod
    def forward(self, teachers) -> StepValues:
        """The one forward pass, and all scalars computed from it."""

    def track(self, values: StepValues) -> None:
        """Updates what the logs show of the loss and the regularizers."""
        self.model.track_loss(values, self.y_pred)

    @abc.abstractmethod
    def update(self, values: StepValues) -> None:
        """Changes the weights; changes nothing if a value is not finite."""

    @abc.abstractmethod
    def gradients(self, values: StepValues) -> GradientComputer:
        """Computes the gradients of the objectives."""

    def logs(self) -> dict:
        """Updates the metrics; returns the logs."""
        return self.model.compute_metrics(
            self.x, self.y, self.y_pred, self.sample_weight
        )

    # Shared by the backends.

    def recording(self, *perturbations):
        """A context that records the calls of layers which train."""
        if self.shared is None:
            return nullcontext()
        return self.shared.recording(*perturbations)

    def values(self, loss, y_pred, teachers) -> StepValues:
        """The scalars of the step from the outputs of the network."""
        mask = self.model.regularization.mask(
            self.x, y_pred, self.sample_weight
        )
        return self.model.step_values(
            loss, mask, teachers, self.x, self.y, y_pred, self.sample_weight
        )

    def compute_update(self, values: StepValues) -> list:
        """What the optimizer is given: projected gradients."""
        return self.model.compute_update(self.gradients(values), self.variables)
