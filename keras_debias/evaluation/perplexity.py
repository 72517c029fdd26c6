from collections.abc import Sequence

import numpy as np

from keras_debias.data.arguments import check_int
from keras_debias.data.prompt_response import token_lists
from keras_debias.evaluation.token_losses import token_losses
from keras_debias.evaluation.token_losses import tokenizer_of


def perplexity(
    causal_lm,
    texts: str | Sequence[str],
    *,
    stride: int = 256,
    context: int = 512,
    max_tokens: int | None = None,
    batch_size: int = 4,
    tokenizer=None,
) -> float:
    """Perplexity of a language model on running text, by sliding windows.

    The texts are joined by blank lines and tokenized as one. Windows of
    `context` tokens move on by `stride`; each token but the first is scored
    once, in the first window that holds it, with at least
    `context - stride` tokens before it once there are as many.

    Args:
        causal_lm: a KerasHub causal LM, or a `DebiasedModel` around one.
        texts: string, or sequence of strings.
        stride: int, from 1 to `context - 1`. Defaults to `256`.
        context: int. Tokens in a window. Defaults to `512`.
        max_tokens: int. Number of tokens to use, from the start. Defaults to
            `None`: all.
        batch_size: int. Windows at a time. Defaults to `4`.
        tokenizer: KerasHub tokenizer. Defaults to `None`: that of the model.

    Returns:
        A float: `exp` of the mean negative log-likelihood of a token.

    Raises:
        ValueError: If an argument is out of range, or there are fewer than
            two tokens.

    Example:

    ```python
    test = kd.data.load("wikitext2", "test")
    kd.evaluation.perplexity(causal_lm, test.x, max_tokens=20_000)
    ```
    """
    check_int("batch_size", batch_size, 1)
    check_int("stride", stride, 1)
    check_int("context", context, 2)
    if max_tokens is not None:
        check_int("max_tokens", max_tokens, 2)
    if not 0 < stride < context:
        raise ValueError(
            "Expected `stride` from 1 to `context - 1`. Received: "
            f"stride={stride}, context={context}"
        )
    tokenizer = tokenizer_of(causal_lm, tokenizer)
    text = texts if isinstance(texts, str) else "\n\n".join(texts)
    tokens = np.array(token_lists(tokenizer, [text])[0][:max_tokens], "int32")
    if len(tokens) < 2:
        raise ValueError(
            "Expected texts of at least two tokens. Received: "
            f"{len(tokens)} tokens, max_tokens={max_tokens}"
        )
    windows = [0]
    while windows[-1] + context < len(tokens):
        windows.append(windows[-1] + stride)
    x = {
        name: np.zeros((len(windows), context - 1), "int32")
        for name in ("token_ids", "padding_mask")
    }
    targets = np.zeros_like(x["token_ids"])
    scored = np.zeros(targets.shape, bool)
    done = 1
    for row, start in enumerate(windows):
        part = tokens[start : start + context]
        size = len(part) - 1
        x["token_ids"][row, :size] = part[:-1]
        x["padding_mask"][row, :size] = 1
        targets[row, :size] = part[1:]
        scored[row, done - start - 1 : size] = True
        done = start + len(part)
    losses = token_losses(causal_lm, x, targets, batch_size)
    return float(np.exp(losses[scored].mean(dtype="float64")))
