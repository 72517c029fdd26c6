"""Answers of language models: generated, and the likelihood of references."""

import contextlib

import numpy as np
from keras import ops

from keras_debias.data.checks import is_text
from keras_debias.evaluation.token_losses import token_losses
from keras_debias.metrics.metric_data import MetricData
from keras_debias.utils.networks import network_of
from keras_debias.utils.progress import Progress

BATCH = 8
PAIR = ("encoder_text", "decoder_text")


def is_generation(split) -> bool:
    """Whether a split holds prompts and references.

    They are those of `kd.data.prompt_response`, for a causal language model,
    or texts under the names `encoder_text` and `decoder_text`.
    """
    return _has_texts(split) or _has_tokens(split)


def _has_texts(split) -> bool:
    x = split.x
    return (
        isinstance(x, dict)
        and set(PAIR) <= set(x)
        and all(is_text(x[name]) for name in PAIR)
    )


def _has_tokens(split) -> bool:
    x, y, weight = split.x, split.y, split.sample_weight
    return (
        isinstance(x, dict)
        and "token_ids" in x
        and y is not None
        and weight is not None
        and y.ndim == 2
        and y.dtype.kind == "i"
        and y.shape == weight.shape == x["token_ids"].shape
    )


def check_generation(model, name: str, split) -> None:
    """Raises unless a model can answer the prompts of a split."""
    network = network_of(model)
    preprocessor = getattr(network, "preprocessor", None)
    tokenizer = getattr(preprocessor, "tokenizer", None)
    if not hasattr(network, "make_generate_function") or tokenizer is None:
        raise ValueError(
            f"Expected a KerasHub causal or sequence-to-sequence language "
            f"model with a preprocessor for the split {name!r}, which holds "
            f"prompts and answers. Received: {type(network).__name__}"
        )
    of_pairs = hasattr(preprocessor, "encoder_sequence_length")
    if of_pairs != _has_texts(split):
        wanted = (
            f"`x` to be a dict of the texts {PAIR}"
            if of_pairs
            else "the tokens that `kd.data.prompt_response` makes"
        )
        raise ValueError(
            f"Expected {wanted} in the split {name!r}, for "
            f"{type(network).__name__}. Received: {split}"
        )
    if of_pairs:
        return
    size = network.backbone.token_embedding.input_dim
    highest = int(max(split.x["token_ids"].max(), split.y.max()))
    if highest >= size:
        raise ValueError(
            f"Expected tokens below {size}, the vocabulary of "
            f"{type(network).__name__}. Received: the token {highest} in the "
            f"split {name!r}. Make it with the model's own tokenizer."
        )
    if not (split.sample_weight > 0).any(axis=1).all():
        raise ValueError(
            "Expected a token with a weight, of the reference, in each row of "
            f"the split {name!r}. Received: rows without"
        )


def read_answers(model, split, batch_size: int | None) -> MetricData:
    """Generates an answer for each row, and scores its reference.

    Args:
        model: what `check_generation` lets pass.
        split: `Split`.
        batch_size: int or `None`.

    Returns:
        `MetricData` of texts; in place of probabilities the negative
        log-likelihood of each reference, and its number of tokens.
    """
    network, size = network_of(model), batch_size or BATCH
    read = _of_texts if _has_texts(split) else _of_tokens
    references, answers, losses, weights = read(network, split, size)
    counted = weights > 0
    likelihood = np.stack(
        [
            np.where(counted, losses, 0).sum(axis=1, dtype="float64"),
            counted.sum(axis=1).astype("float64"),
        ],
        axis=1,
    )
    return MetricData(
        "generation", _objects(references), _objects(answers), likelihood
    )


def _objects(texts) -> np.ndarray:
    found = np.empty(len(texts), object)
    found[:] = texts
    return found


class _Kept:
    """A cached greedy generate function.

    It is dropped as soon as something, such as an adapter, changes the
    computation. Other callers get a new function.
    """

    def __init__(self, network, function):
        self.network, self.function = network, function

    def __call__(self, *args, **kwargs):
        self.network.generate_function = None
        return self.network.make_generate_function()(*args, **kwargs)


@contextlib.contextmanager
def greedy(network):
    """A context in which a language model generates greedily.

    The compiled function is kept for the next time.
    """
    import keras_hub

    sampler, kept = network.sampler, network.generate_function
    network.sampler = keras_hub.samplers.GreedySampler()
    network.generate_function = (
        kept.function if isinstance(kept, _Kept) else None
    )
    try:
        yield
    finally:
        function = network.generate_function
        network.sampler = sampler
        network.generate_function = (
            None if function is None else _Kept(network, function)
        )


def _of_texts(network, split, size) -> tuple:
    prompts, references = (split.x[name].tolist() for name in PAIR)
    answers = []
    progress = Progress("Generating answers", len(prompts), "answer")
    with greedy(network):
        for start in range(0, len(prompts), size):
            part = prompts[start : start + size]
            # A constant batch size, so that compiled backends trace once.
            filled = part + part[-1:] * (size - len(part))
            answers += list(network.generate(filled))[: len(part)]
            progress.add(len(part))
    x, y, weights = network.preprocessor(
        {name: split.x[name].tolist() for name in PAIR}
    )
    x = {name: np.asarray(part) for name, part in x.items()}
    losses = token_losses(network, x, np.asarray(y), size)
    return references, answers, losses, np.asarray(weights)


def _of_tokens(network, split, size) -> tuple:
    tokenizer = network.preprocessor.tokenizer
    tokens, weights = split.x["token_ids"], split.sample_weight
    stops = [
        getattr(tokenizer, name, None)
        for name in ("end_token_id", "end_token2_id")
    ]
    stops = [int(token) for token in stops if token is not None]
    lengths = (weights > 0).argmax(axis=1) + 1
    mask = np.arange(tokens.shape[1]) < lengths[:, None]
    # Positions to be generated must not hold a stop token, as padding may.
    filler = next(i for i in range(len(stops) + 1) if i not in stops)
    prompts = {
        "token_ids": np.where(mask, tokens, filler).astype("int32"),
        "padding_mask": mask.astype("int32"),
    }
    answers = []
    progress = Progress("Generating answers", len(split), "answer")
    with greedy(network):
        generate = network.make_generate_function()
        for start in range(0, len(split), size):
            rows = np.arange(start, min(start + size, len(split)))
            filled = np.resize(rows, size)
            batch = {name: part[filled] for name, part in prompts.items()}
            found = generate(
                _tensors(batch), stop_token_ids=tuple(stops) or None
            )
            found = _array(found["token_ids"])
            answers += [
                _decoded(tokenizer, found[i, lengths[row] :], stops)
                for i, row in enumerate(rows)
            ]
            progress.add(len(rows))
    references = [
        _decoded(tokenizer, targets[weight > 0], stops)
        for targets, weight in zip(split.y, weights, strict=True)
    ]
    losses = token_losses(network, split.x, split.y, size)
    return references, answers, losses, weights


def _tensors(batch) -> dict:
    return {name: ops.convert_to_tensor(part) for name, part in batch.items()}


def _array(tensor) -> np.ndarray:
    return ops.convert_to_numpy(tensor)


def _decoded(tokenizer, ids, stops) -> str:
    """The text of tokens, up to the first that ends it."""
    ends = np.flatnonzero(np.isin(ids, stops))
    ids = ids[: ends[0]] if len(ends) else ids
    if not len(ids):
        return ""
    text = tokenizer.detokenize([int(i) for i in ids])
    text = text if isinstance(text, str) else np.asarray(text).item()
    return (text.decode() if isinstance(text, bytes) else text).strip()
