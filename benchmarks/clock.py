"""When the batches of a `fit` begin."""

import time

import keras


class Clock(keras.callbacks.Callback):
    """Notes when each batch begins, in CPU time."""

    def __init__(self):
        super().__init__()
        self.times = []

    def on_train_batch_begin(self, batch, logs=None):
        self.times.append(time.process_time())
