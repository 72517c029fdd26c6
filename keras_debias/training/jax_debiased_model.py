import keras

from keras_debias.training.base_debiased_model import BaseDebiasedModel
from keras_debias.training.jax_step import JaxStep


class JaxDebiasedModel(BaseDebiasedModel):
    """On jax: a step from state to state."""

    @property
    def batch_parts(self):
        distribution = keras.distribution.distribution()
        if distribution is None or distribution.batch_dim_name is None:
            return 1
        mesh = distribution.device_mesh
        axis = mesh.axis_names.index(distribution.batch_dim_name)
        return int(mesh.shape[axis])

    def train_step(self, state, data):
        step = JaxStep(self, state, data)
        return step.run(), step.state
