"""Negative log-likelihoods of tokens, without keeping any logits."""

import keras
import numpy as np
from keras import ops

from keras_debias.losses.sample_losses import sample_losses
from keras_debias.utils.networks import network_of


class _TokenLosses(keras.Model):
    def __init__(self, causal_lm):
        # TensorFlow takes no name that starts with an underscore.
        super().__init__(name="token_losses")
        self.causal_lm = causal_lm

    def call(self, inputs):
        x = {k: v for k, v in inputs.items() if k != "targets"}
        logits = self.causal_lm(x, training=False)
        return sample_losses(
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            inputs["targets"],
            ops.cast(logits, "float32"),
        )


def token_losses(causal_lm, x, targets, batch_size) -> np.ndarray:
    """The negative log-likelihood of each target, of the targets' shape.

    Args:
        causal_lm: a KerasHub causal LM, or a model around one as `.model`.
        x: dict with `token_ids` and `padding_mask`, `(n, tokens)`.
        targets: int array `(n, tokens)`.
        batch_size: int.
    """
    scorer = _TokenLosses(network_of(causal_lm))
    return scorer.predict(
        {**x, "targets": targets}, batch_size=batch_size, verbose=0
    )


def tokenizer_of(causal_lm, tokenizer=None):
    """The tokenizer given, or that of the model's preprocessor."""
    preprocessor = getattr(network_of(causal_lm), "preprocessor", None)
    tokenizer = tokenizer or getattr(preprocessor, "tokenizer", None)
    if tokenizer is None:
        raise ValueError(
            "Expected a causal LM with a preprocessor, or `tokenizer`. "
            "Received: a model without a preprocessor, tokenizer=None"
        )
    return tokenizer
