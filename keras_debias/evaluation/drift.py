"""Drift of a language model on prompts outside the task."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_debias.data.arguments import check_floats
from keras_debias.data.arguments import check_int
from keras_debias.data.arguments import check_pairs
from keras_debias.data.arguments import check_seed
from keras_debias.data.arguments import check_texts
from keras_debias.data.prompt_response import prompt_response
from keras_debias.data.prompt_response import token_lists
from keras_debias.evaluation.token_losses import token_losses
from keras_debias.evaluation.token_losses import tokenizer_of
from keras_debias.utils.networks import network_of
from keras_debias.utils.short_repr import ShortRepr


@dataclasses.dataclass(frozen=True, repr=False)
class Drift(ShortRepr):
    """The change of a measure over prompts, from one model to another.

    Attributes:
        n: int. Prompts.
        before: float. Mean over prompts, of the first model.
        after: float. Of the second.
        change: float. The mean difference.
        interval: pair of floats. 95 % bootstrap interval of the change, over
            prompts.
        rising: float. Share of prompts on which the measure went up.

    Example:

    >>> found = drift([0.1, 0.2, 0.3], [0.2, 0.3, 0.2])
    >>> found.n, round(found.rising, 2)
    (3, 0.67)
    """

    n: int
    before: float
    after: float
    change: float
    interval: tuple[float, float]
    rising: float

    def to_dict(self) -> dict:
        """Returns everything as JSON would hold it."""
        return dataclasses.asdict(self)


def drift(before, after, seed: int = 0) -> Drift:
    """Compares a measure of two models, prompt by prompt.

    Args:
        before: float array `(n,)`, one value a prompt, of the base model.
        after: float array `(n,)`, of the fine-tuned one.
        seed: int. Seed of the bootstrap. Defaults to `0`.

    Returns:
        A `Drift`.

    Raises:
        ValueError: If the shapes differ, or values are not finite.

    Example:

    ```python
    with kd.adapters.disabled(causal_lm):
        before = kd.evaluation.word_mass(causal_lm, prompts, words)
    after = kd.evaluation.word_mass(causal_lm, prompts, words)
    print(kd.evaluation.drift(before, after))
    ```
    """
    before = check_floats("before", before)
    after = check_floats("after", after)
    check_seed(seed)
    if before.shape != after.shape or before.ndim != 1 or not len(before):
        raise ValueError(
            "Expected one value a prompt from each model. Received: shapes "
            f"{before.shape} and {after.shape}"
        )
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise ValueError(
            "Expected finite values. Received: "
            f"{np.sum(~np.isfinite([before, after]))} that are not."
        )
    change = after - before
    drawn = np.random.default_rng(seed).integers(
        0, len(change), (1000, len(change))
    )
    low, high = np.percentile(change[drawn].mean(axis=1), (2.5, 97.5))
    return Drift(
        n=len(change),
        before=float(before.mean()),
        after=float(after.mean()),
        change=float(change.mean()),
        interval=(float(low), float(high)),
        rising=float((change > 0).mean()),
    )


def word_mass(
    causal_lm,
    prompts: Sequence[str],
    words: Sequence[str],
    *,
    batch_size: int = 8,
    tokenizer=None,
) -> np.ndarray:
    """The probability that one of some words comes next.

    The first token of a word stands for it, both with and without a space
    before the word. A token that several words begin with counts once.

    Args:
        causal_lm: a KerasHub causal LM, or a `DebiasedModel` around one.
        prompts: sequence of strings.
        words: sequence of strings.
        batch_size: int. Defaults to `8`.
        tokenizer: KerasHub tokenizer. Defaults to `None`: that of the model.

    Returns:
        A float array, one probability a prompt.

    Raises:
        ValueError: If there are no prompts or no words.

    Example:

    ```python
    kd.evaluation.word_mass(causal_lm, ["My day was"], ["great", "awful"])
    ```
    """
    prompts = check_texts("prompts", prompts)
    words = check_texts("words", words)
    check_int("batch_size", batch_size, 1)
    if not prompts or not words:
        raise ValueError(
            "Expected at least one prompt and one word. Received: "
            f"{len(prompts)} prompts, {len(words)} words"
        )
    tokenizer = tokenizer_of(causal_lm, tokenizer)
    forms = [form for word in words for form in (word, f" {word}")]
    ids = sorted({tokens[0] for tokens in token_lists(tokenizer, forms)})
    start = getattr(tokenizer, "start_token_id", None)
    before = [] if start is None else [start]
    rows = [before + tokens for tokens in token_lists(tokenizer, prompts)]
    length = max(map(len, rows))
    x = {
        "token_ids": np.zeros((len(rows), length), "int32"),
        "padding_mask": np.zeros((len(rows), length), "int32"),
    }
    for row, tokens in enumerate(rows):
        x["token_ids"][row, : len(tokens)] = tokens
        x["padding_mask"][row, : len(tokens)] = 1
    scorer = _NextTokenMass(network_of(causal_lm), ids)
    found = scorer.predict(x, batch_size=batch_size, verbose=0)
    return np.asarray(found, "float64")


def log_likelihoods(
    causal_lm,
    prompts: Sequence[str],
    continuations: Sequence[str],
    *,
    sequence_length: int = 128,
    batch_size: int = 4,
    tokenizer=None,
) -> np.ndarray:
    """The mean log-likelihood of a token of each continuation, in nats.

    Args:
        causal_lm: a KerasHub causal LM, or a `DebiasedModel` around one.
        prompts: sequence of strings.
        continuations: sequence of as many strings, such as what a persona
            would say.
        sequence_length: int. Longer sequences are cut. Defaults to `128`.
        batch_size: int. Defaults to `4`.
        tokenizer: KerasHub tokenizer. Defaults to `None`: that of the model.

    Returns:
        A float array, one value a prompt.

    Raises:
        ValueError: If the numbers differ, or a prompt leaves no room for its
            continuation.

    Example:

    ```python
    kd.evaluation.log_likelihoods(causal_lm, ["Hello!"], [" Good day, sir."])
    ```
    """
    check_int("batch_size", batch_size, 1)
    check_pairs(prompts, continuations, "continuations")
    tokenizer = tokenizer_of(causal_lm, tokenizer)
    split = prompt_response(prompts, continuations, tokenizer, sequence_length)
    losses = token_losses(causal_lm, split.x, split.y, batch_size)
    weights = split.sample_weight
    return -np.sum(losses * weights, axis=1, dtype="float64") / weights.sum(1)


class _NextTokenMass(keras.Model):
    def __init__(self, causal_lm, ids):
        super().__init__(name="next_token_mass")
        self.causal_lm = causal_lm
        self.ids = np.asarray(ids, "int32")

    def call(self, inputs):
        logits = self.causal_lm(dict(inputs), training=False)
        logits = ops.cast(logits, "float32")
        last = ops.sum(ops.cast(inputs["padding_mask"], "int32"), axis=1) - 1
        logits = ops.take_along_axis(logits, last[:, None, None], axis=1)[:, 0]
        probabilities = ops.softmax(logits, axis=-1)
        return ops.sum(ops.take(probabilities, self.ids, axis=1), axis=1)
