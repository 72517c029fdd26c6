import torch
from keras import ops
from keras.utils import unpack_x_y_sample_weight

from keras_debias import _keras_internals
from keras_debias.training.base_debiased_model import BaseDebiasedModel


class TorchDebiasedModel(BaseDebiasedModel):
    def train_step(self, data):
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        state = self.forward_state()
        before = [v.value.clone() for v in state]

        y_pred = self(x, training=True)
        loss = _keras_internals.expand_loss(self, x, y, y_pred, sample_weight)
        values = [loss, *self.other_values(y, y_pred, sample_weight)]
        finite = bool(self.is_finite(loss, y_pred))
        _keras_internals.loss_tracker(self).update_state(
            loss if finite else loss * float("nan"),
            sample_weight=ops.shape(_first(x))[0],
        )
        with torch.no_grad():
            if not finite:
                for variable, value in zip(state, before):
                    variable.assign(value)
        if finite:
            variables = self.trainable_variables
            gradients = self._gradients(values, variables)
            with torch.no_grad():
                self.optimizer.apply(
                    self.combine(gradients, variables), variables
                )
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _gradients(self, values, variables):
        tensors = [v.value for v in variables]
        gradients = {}
        for number, objective in enumerate(self.objectives()):
            found = torch.autograd.grad(
                self.optimizer.scale_loss(values[number]),
                tensors,
                retain_graph=number < len(values) - 1,
                allow_unused=True,
            )
            gradients[objective] = [
                torch.zeros_like(t) if g is None else g
                for g, t in zip(found, tensors)
            ]
        return gradients


def _first(x):
    import keras

    return keras.tree.flatten(x)[0]
