"""Callbacks that `DebiasedModel.fit` adds by itself."""

import keras
import numpy as np
from keras import ops


class SetShuffleEpoch(keras.callbacks.Callback):
    """Sets the epoch by which batches are shuffled, also when resuming."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.seed = int(ops.convert_to_numpy(self.model.shuffle_seed))
        self.batches.epoch = epoch


class SyncReplicas(keras.callbacks.Callback):
    """Copies the state of the first process to all others.

    Before training it copies everything. After each epoch it copies the
    weights that a forward pass writes, such as moving means, which every
    process computes from its own rows.
    """

    def __init__(self, replicas):
        super().__init__()
        self.replicas = replicas

    def on_train_begin(self, logs=None):
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        self.replicas.share([*self.model.variables, *optimizer.variables])

    def on_epoch_end(self, epoch, logs=None):
        self.replicas.share(self.model.forward_state())


class WaitForFiles(keras.callbacks.Callback):
    """Waits, as the last callback, until the first process wrote its files."""

    def __init__(self, replicas):
        super().__init__()
        self.replicas = replicas

    def on_train_end(self, logs=None):
        self.replicas.wait()


class TerminateOnNonFinite(keras.callbacks.Callback):
    """Raises when the step has refused a batch.

    The step skips the update of a batch whose loss or logits are not finite
    and logs NaN; so the first NaN in the logs names the batch.
    """

    def __init__(self):
        super().__init__()
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is None or np.isfinite(float(ops.convert_to_numpy(loss))):
            return
        message = (
            "Expected a finite loss and logits. Received: NaN or infinity "
            f"in batch {batch} of epoch {self.epoch} (both counted from 0). "
            "The weights are those before this batch. Check its inputs and "
            "labels, or lower the learning rate."
        )
        names = [
            tracker.name
            for tracker in getattr(self.model, "regularizer_trackers", ())
            if np.isnan(float(ops.convert_to_numpy(logs[tracker.name])))
        ]
        if names:
            message += (
                f" The regularizers {names} are NaN, as they are where sample "
                "weights of zero or padding leave nothing to count."
            )
        raise ValueError(message)
