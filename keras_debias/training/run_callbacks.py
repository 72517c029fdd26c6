"""Callbacks that `DebiasedModel.fit` adds by itself."""

import os
import time

import keras
import numpy as np
from keras import ops

from keras_debias.utils.progress import say


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


class SayIfOversubscribed(keras.callbacks.Callback):
    """Says, once, that training shares its processors with other programs.

    Two processes with a thread for every processor take several times as long
    as two with half of them. It looks at the time until the first end of an
    epoch that is `PATIENCE` seconds away, and needs `psutil`.

    Args:
        threads: int, how many threads training computes with.
    """

    # Shorter runs are not worth a line.
    PATIENCE = 10.0
    # The share of all processors that are busy, and processors that others
    # keep busy, from which on it speaks.
    FULL = 0.9
    OTHERS = 0.25
    # Of this process: it has said so already.
    said = False

    def __init__(self, threads):
        super().__init__()
        self.threads = threads
        self._began = None
        self._text = None

    def on_train_begin(self, logs=None):
        if self.threads > 1 and not self.said:
            self._began = _processor_times()

    def on_epoch_begin(self, epoch, logs=None):
        self._say()

    def on_epoch_end(self, epoch, logs=None):
        if self._began is None:
            return
        seconds, busy, own = (
            now - before for now, before in zip(_processor_times(), self._began)
        )
        if seconds < self.PATIENCE:
            return
        self._began = None
        count = os.cpu_count() or 1
        others = (busy - own) / seconds
        # Others that leave threads enough idle do not slow them down.
        if others < self.OTHERS or busy / seconds < self.FULL * count:
            return
        self._text = (
            f"Other programs keep {others:.1f} of {count} processors busy, and "
            f"this one computes with {self.threads} threads, which wait for "
            "each other: it is slower than with fewer. Set OMP_NUM_THREADS "
            "(torch) or TF_NUM_INTRAOP_THREADS (tensorflow) to what is free."
        )

    def on_train_end(self, logs=None):
        self._say()

    def _say(self):
        # Where no progress bar is under way.
        if self._text is not None:
            SayIfOversubscribed.said = True
            say(self._text)
            self._text = None


def _processor_times() -> tuple[float, float, float] | None:
    """Seconds: of the clock, of all busy processors, of this process."""
    try:
        import psutil
    except ImportError:  # of the extra `compare`
        return None
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Counted among the time of the user as well.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return time.monotonic(), sum(times) - idle - guests, time.process_time()
