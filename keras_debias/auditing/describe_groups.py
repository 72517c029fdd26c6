"""Distinctive words of groups of texts."""

import numpy as np
from scipy import stats

from keras_debias.auditing import text_measures
from keras_debias.auditing.feature import CHUNK
from keras_debias.auditing.fields import field_values
from keras_debias.auditing.fields import fields_of
from keras_debias.auditing.token_table import TokenTable
from keras_debias.data.checks import is_text
from keras_debias.data.groups import Groups
from keras_debias.utils.progress import Progress


def describe_groups(
    split,
    groups,
    top: int = 5,
    *,
    min_count: int = 5,
    prior: float = 100.0,
    level: float = 0.05,
) -> dict[str, tuple[str, ...]]:
    """Names groups of texts, for instance inferred clusters, by their words.

    The words of a group are those with the highest z-score of the log-odds
    ratio between the group and all other rows, with an informative Dirichlet
    prior: the prior shrinks the ratio of words that few rows have. A word
    counts once for each row, so that long texts weigh no more than short
    ones. Words are reported if they are significant at `level` after
    Bonferroni's correction over all words and groups: a random group gets no
    words.

    Args:
        split: `Split` of texts or tuples of texts.
        groups: `Groups`, or an array of shape `(n,)` of strings or integers:
            the group of each row.
        top: int, how many words at most for each group. Defaults to `5`.
        min_count: int. Words of fewer rows are left out. Defaults to `5`.
        prior: float, the weight of the prior, as a number of rows. Defaults
            to `100.0`.
        level: float, the level of significance. Defaults to `0.05`.

    Returns:
        Dict from the name of each group to a tuple of its words, the most
        telling first. With several texts a word is preceded by the name of
        its text: `"hypothesis: nobody"`.

    Raises:
        ValueError: If there is not one group for each row, fewer than two
            groups, or an argument is out of range.
        TypeError: If the split does not hold texts. For images use
            `contact_sheet`.

    Example:

    >>> split = Split(["a good film"] * 30 + ["my new phone"] * 30)
    >>> describe_groups(split, ["x"] * 30 + ["y"] * 30, top=2)
    {'x': ('a', 'film'), 'y': ('my', 'new')}

    Reference:

    - [Monroe et al., 2008](https://doi.org/10.1093/pan/mpn018), section
      3.5.1. Here `n` is the number of rows instead of the number of words.
    """
    groups = checked_groups(split, groups)
    for name, value in (("top", top), ("min_count", min_count)):
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise ValueError(
                f"Expected `{name}` to be an integer of at least 1. "
                f"Received: {name}={value!r}"
            )
    if not prior > 0 or not 0 < level < 1:
        raise ValueError(
            "Expected `prior` above 0 and `level` between 0 and 1. Received: "
            f"prior={prior}, level={level}"
        )
    fields = fields_of(split, None)
    if not is_text(field_values(split, next(iter(fields)))):
        raise TypeError(
            f"Expected a split of texts. Received: {split}. For images use "
            "`keras_debias.auditing.contact_sheet`."
        )
    words, counts = _counts(split, fields, groups, min_count)
    if not words:
        return dict.fromkeys(groups.names, ())
    sizes = np.bincount(groups.ids, minlength=len(groups.names))
    z = _log_odds(counts, sizes, prior)
    least = stats.norm.isf(level / z.size)
    described = {}
    for name, scores in zip(groups.names, z, strict=True):
        order = np.argsort(-scores, kind="stable")[:top]
        described[name] = tuple(words[i] for i in order if scores[i] > least)
    return described


def checked_groups(split, groups) -> Groups:
    """`Groups` of the rows of a split, at least two of them, or raises."""
    if not isinstance(groups, Groups):
        groups = Groups.from_values(groups)
    if len(groups) != len(split):
        raise ValueError(
            f"Expected one group for each of the {len(split)} rows. Received: "
            f"{len(groups)}"
        )
    if len(np.unique(groups.ids)) < 2:
        raise ValueError(
            f"Expected at least two groups with rows. Received: {groups}"
        )
    return groups


def _counts(split, fields, groups, min_count):
    """Words, and how many rows of each group have them."""
    words, parts = [], []
    member = np.eye(len(groups.names))
    progress = Progress("Reading texts", len(fields) * len(split), "row")
    for column, field in fields.items():
        table = TokenTable()
        values = field_values(split, column)
        for start in range(0, len(split), CHUNK):
            chunk = values[start : start + CHUNK]
            table.add(text_measures.tokens(chunk))
            progress.add(len(chunk))
        # A word of all rows has no odds.
        frequent = sorted(
            word
            for word, count in table.counts().items()
            if min_count <= count < len(split)
        )
        found = np.zeros((len(groups.names), len(frequent)))
        start = 0
        for block in table.blocks(frequent):
            ids = groups.ids[start : start + block.shape[0]]
            found += (block.T @ member[ids]).T
            start += block.shape[0]
        prefix = f"{field}: " if len(fields) > 1 else ""
        words += [prefix + word for word in frequent]
        parts.append(found)
    return words, np.concatenate(parts, axis=1)


def _log_odds(counts, sizes, prior):
    """Z-scores of log-odds ratios.

    Args:
        counts: array of shape `(groups, words)`, the rows with each word.
        sizes: array of shape `(groups,)`, the number of rows.
        prior: float.

    Returns:
        Array of shape `(groups, words)`.
    """
    sizes = np.reshape(sizes, (-1, 1))
    everywhere, n = counts.sum(axis=0), sizes.sum()
    alpha = prior * everywhere / n
    score, variance = 0.0, 0.0
    for sign, with_word, rows in (
        (1, counts, sizes),
        (-1, everywhere - counts, n - sizes),
    ):
        present = with_word + alpha
        absent = rows + prior - present
        score = score + sign * np.log(present / absent)
        variance = variance + 1 / present + 1 / absent
    return score / np.sqrt(variance)
