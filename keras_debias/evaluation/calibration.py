"""Label scores, calibrated by content-free inputs."""

from collections.abc import Sequence

import numpy as np

from keras_debias.data.arguments import check_floats
from keras_debias.data.arguments import check_int
from keras_debias.data.arguments import check_seed
from keras_debias.data.arguments import check_texts
from keras_debias.evaluation.label_report import log_softmax

CONTENT_FREE = ("N/A", "", "[MASK]")
"""The content-free texts of Zhao et al., used to estimate a label prior."""


def calibrated_scores(scores, prior_scores) -> np.ndarray:
    """Label scores divided by the model's own label prior.

    Contextual calibration (CC) where `prior_scores` are those of
    `CONTENT_FREE` texts, domain-context calibration (DC) where they are
    those of `domain_texts`. Nothing is trained.

    Args:
        scores: float array of shape `(n, labels)`.
        prior_scores: float array of shape `(m, labels)`: scores of texts
            without content. Their probabilities are averaged.

    Returns:
        A float array `(n, labels)`: log-probabilities among the labels minus
        the log of the prior.

    Raises:
        ValueError: If the shapes do not fit.

    Example:

    ```python
    prior = classifier.predict(list(kd.evaluation.CONTENT_FREE))
    scores = kd.evaluation.calibrated_scores(classifier.predict(x), prior)
    ```

    Reference:
        CC: Zhao et al., Calibrate before use, ICML 2021 (the diagonal form).
        DC: Fei et al., Mitigating label biases for in-context learning, ACL
        2023.
    """
    scores = check_floats("scores", scores)
    prior_scores = check_floats("prior_scores", prior_scores)
    fits = scores.ndim == prior_scores.ndim == 2 and len(prior_scores)
    if not fits or scores.shape[1] != prior_scores.shape[1]:
        raise ValueError(
            "Expected `scores` and `prior_scores` with one column a label. "
            f"Received: shapes {scores.shape} and {prior_scores.shape}"
        )
    prior = np.exp(log_softmax(prior_scores)).mean(axis=0)
    return log_softmax(scores) - np.log(np.maximum(prior, 1e-12))


def domain_texts(texts: Sequence[str], n: int = 20, seed: int = 0) -> list[str]:
    """Texts of random in-domain words, with the domain's average length.

    Args:
        texts: sequence of strings, such as the training texts.
        n: int. How many to make. Defaults to `20`, as in the paper.
        seed: int. Seed of the draws. Defaults to `0`.

    Returns:
        A list of `n` strings. Each has as many words as the average text,
        drawn from all texts in proportion to how often they occur.

    Raises:
        ValueError: If `n` is below 1, or the texts hold no word.
        TypeError: If `texts` is not a sequence of strings.

    Example:

    >>> [len(text.split()) for text in domain_texts(["a b c", "d"], n=2)]
    [2, 2]
    """
    check_seed(seed)
    check_int("n", n, 1)
    words = [text.split() for text in check_texts("texts", texts)]
    pool = np.array([w for each in words for w in each], dtype=object)
    if not len(pool):
        raise ValueError(
            "Expected texts with words. Received: no word in "
            f"{len(words)} texts"
        )
    length = max(1, round(len(pool) / len(words)))
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(pool, length)) for _ in range(n)]
