"""Prompts and responses as token arrays, with the loss on the response."""

from collections.abc import Sequence

import numpy as np

from keras_debias.data.arguments import check_flag
from keras_debias.data.arguments import check_int
from keras_debias.data.arguments import check_pairs
from keras_debias.data.split import Split


def prompt_response(
    prompts: Sequence[str],
    responses: Sequence[str],
    tokenizer,
    sequence_length: int = 512,
    add_start_token: bool = True,
    name: str | None = None,
) -> Split:
    """Token arrays for fine-tuning a causal language model on answers.

    The tokens of the response follow those of the prompt, with the tokenizer's
    start token before and its end token after them. Sample weights restrict
    the loss to the response and the end token. Longer sequences are cut at the
    end.

    Args:
        prompts: sequence of strings.
        responses: sequence of as many strings.
        tokenizer: a KerasHub tokenizer, such as
            `causal_lm.preprocessor.tokenizer`.
        sequence_length: int. Length of the arrays. Defaults to `512`.
        add_start_token: bool. Whether to put the start token first. Defaults
            to `True`.
        name: string. Name of the split. Defaults to `None`.

    Returns:
        A `Split` for `fit`: `x` holds `token_ids` and `padding_mask`, `y`
        the next tokens, `sample_weight` one where the next token belongs to
        the response; all of shape `(n, sequence_length)`.

    Raises:
        ValueError: If the numbers of texts differ, there are none, or a
            prompt leaves no room for its response.
        TypeError: If the texts are not strings, or `tokenizer` is not a
            tokenizer.

    Example:

    ```python
    train = kd.data.prompt_response(
        questions, answers, causal_lm.preprocessor.tokenizer, 256
    )
    model.fit(train)
    ```
    """
    prompts, responses = check_pairs(prompts, responses, "responses")
    check_int("sequence_length", sequence_length, 1)
    check_flag("add_start_token", add_start_token)
    if not callable(tokenizer):
        raise TypeError(
            "Expected `tokenizer` to be a KerasHub tokenizer. Received: "
            f"tokenizer={tokenizer!r}"
        )
    start = getattr(tokenizer, "start_token_id", None)
    end = getattr(tokenizer, "end_token_id", None)
    before = [start] if add_start_token and start is not None else []
    after = [] if end is None else [end]
    pad = getattr(tokenizer, "pad_token_id", None) or 0
    # One more token: the targets are shifted by one.
    shape = (len(prompts), sequence_length + 1)
    tokens = np.full(shape, pad, "int32")
    present, answered = np.zeros(shape, "int32"), np.zeros(shape, "float32")
    for row, (prompt, response) in enumerate(
        zip(token_lists(tokenizer, prompts), token_lists(tokenizer, responses))
    ):
        head = before + prompt
        ids = (head + response + after)[: sequence_length + 1]
        tokens[row, : len(ids)] = ids
        present[row, : len(ids)] = 1
        answered[row, len(head) : len(ids)] = 1
    empty = np.flatnonzero(answered[:, 1:].sum(axis=1) == 0)
    if len(empty):
        raise ValueError(
            "Expected room for each response. Received: "
            f"sequence_length={sequence_length}, at which {len(empty)} "
            f"prompts leave none, such as row {empty[0]}. Use longer arrays, "
            "or drop those rows."
        )
    return Split(
        {"token_ids": tokens[:, :-1], "padding_mask": present[:, :-1]},
        tokens[:, 1:],
        sample_weight=answered[:, 1:],
        name=name,
    )


def token_lists(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, without special tokens around them."""
    found = tokenizer(list(texts))
    if hasattr(found, "to_list"):
        found = found.to_list()
    return [[int(i) for i in np.asarray(ids).ravel()] for ids in found]
