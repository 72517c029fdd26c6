import os
from concurrent import futures

import tensorflow as tf

from keras_debias import _keras_internals
from keras_debias.training.base_debiased_model import BaseDebiasedModel
from keras_debias.training.tensorflow_step import TensorFlowStep


class TensorFlowDebiasedModel(BaseDebiasedModel):
    """On tensorflow: one device, and a step that is traced."""

    def __init__(self, *args, **kwargs):
        _check_one_replica(tf.distribute.get_strategy())
        super().__init__(*args, **kwargs)

    @property
    def threads(self):
        # 0 means one for every processor.
        chosen = tf.config.threading.get_intra_op_parallelism_threads()
        chosen = chosen or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0))
        return min(chosen or super().threads, super().threads)

    @staticmethod
    def strings(array):
        return tf.constant(array.tolist(), dtype="string")

    def make_train_function(self, force=False):
        # The scope may have been entered after the model was made.
        _check_one_replica(self.distribute_strategy)
        # Within the traced step, each slot would add two graphs.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        super().make_train_function(force)

    def train_step(self, data):
        return TensorFlowStep(self, data).run()

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        # Variables made within a trace have it made twice: a thread is outside.
        if tf.inside_function():
            with futures.ThreadPoolExecutor(1) as pool:
                made = pool.submit(
                    _keras_internals.compiled_metrics, self, y, y_pred
                )
                made.result()
        return super().compute_metrics(x, y, y_pred, sample_weight)


def _check_one_replica(strategy) -> None:
    replicas = strategy.num_replicas_in_sync
    if replicas > 1:
        raise ValueError(
            "Expected one device on tensorflow: each replica would "
            "project the gradients of its own rows. Received: a "
            f"`tf.distribute` strategy of {replicas} replicas. Use the "
            "torch backend with `torchrun`, or jax with "
            "`keras.distribution`."
        )
