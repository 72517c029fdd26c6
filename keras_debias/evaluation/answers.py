"""How well a causal language model answers: likelihood and exact answers."""

import re
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from keras_debias.data.arguments import check_int
from keras_debias.data.arguments import check_pairs
from keras_debias.data.prompt_response import prompt_response
from keras_debias.evaluation.generation import greedy
from keras_debias.evaluation.token_losses import token_losses
from keras_debias.evaluation.token_losses import tokenizer_of
from keras_debias.utils.networks import network_of
from keras_debias.utils.progress import Progress


def answer_nll(
    causal_lm,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    sequence_length: int = 512,
    batch_size: int = 4,
    tokenizer=None,
) -> float:
    """Mean negative log-likelihood of the tokens of reference answers.

    The end token counts as part of an answer; the prompt does not.

    Args:
        causal_lm: a KerasHub causal LM, or a `DebiasedModel` around one.
        prompts: sequence of strings.
        answers: sequence of as many strings.
        sequence_length: int. Longer sequences are cut. Defaults to `512`.
        batch_size: int. Defaults to `4`.
        tokenizer: KerasHub tokenizer. Defaults to `None`: that of the model.

    Returns:
        A float, in nats a token.

    Raises:
        ValueError: If the numbers differ, or a prompt leaves no room for its
            answer.

    Example:

    ```python
    kd.evaluation.answer_nll(causal_lm, test.x, test.y)
    ```
    """
    check_int("batch_size", batch_size, 1)
    check_pairs(prompts, answers, "answers")
    tokenizer = tokenizer_of(causal_lm, tokenizer)
    split = prompt_response(prompts, answers, tokenizer, sequence_length)
    losses = token_losses(causal_lm, split.x, split.y, batch_size)
    weights = split.sample_weight
    return float(np.sum(losses * weights, dtype="float64") / weights.sum())


def final_number(text: str) -> str | None:
    """The last number of a text, without separators, or `None`."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    if not found:
        return None
    number = found[-1].replace(",", "")
    return re.sub(r"\.0+$", "", number)


def answer_accuracy(
    causal_lm,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    max_length: int = 512,
    batch_size: int = 4,
    extract: Callable[[str], str | None] = final_number,
) -> float:
    """Share of prompts whose greedy continuation gives the right answer.

    Args:
        causal_lm: a KerasHub causal LM with a preprocessor, or a
            `DebiasedModel` around such a model.
        prompts: sequence of strings.
        answers: sequence of as many strings.
        max_length: int. Tokens of prompt and continuation. Defaults to
            `512`.
        batch_size: int. Defaults to `4`.
        extract: function from a text to its answer, or `None`; applied to
            continuations and to `answers`. Defaults to `final_number`: the
            last number.

    Returns:
        A float from 0 to 1.

    Raises:
        ValueError: If the numbers differ, there are none, or an answer of
            `answers` cannot be extracted.

    Example:

    ```python
    kd.evaluation.answer_accuracy(causal_lm, questions, ["18", "3"])
    ```
    """
    check_int("batch_size", batch_size, 1)
    prompts, answers = check_pairs(prompts, answers, "answers")
    expected = [extract(answer) for answer in answers]
    if None in expected:
        row = expected.index(None)
        raise ValueError(
            "Expected answers that `extract` understands. Received: "
            f"{answers[row]!r} in row {row}"
        )
    network = network_of(causal_lm)
    correct = 0
    progress = Progress("Generating answers", len(prompts), "answer")
    with greedy(network):
        for at in range(0, len(prompts), batch_size):
            texts = network.generate(
                prompts[at : at + batch_size],
                max_length=max_length,
                strip_prompt=True,
            )
            correct += sum(
                extract(text) == right
                for text, right in zip(texts, expected[at : at + batch_size])
            )
            progress.add(len(texts))
    return correct / len(prompts)
