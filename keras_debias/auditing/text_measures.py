"""What can be counted in a text, and between two texts."""

import re

import numpy as np

# Words, with their apostrophes; or a run of punctuation such as "!!".
TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]+|_+")
NEGATIONS = frozenset(
    "no not never none nobody nothing nowhere neither nor without cannot "
    "hardly barely".split()
)


def tokens(texts) -> list[list[str]]:
    """Words and runs of punctuation of each text, in lower case."""
    return [TOKEN.findall(text.lower()) for text in texts]


def _is_word(token: str) -> bool:
    return token[0].isalnum()


def _is_negation(token: str) -> bool:
    return token in NEGATIONS or token.endswith(("n't", "n’t"))


def _words(row) -> int:
    return sum(map(_is_word, row))


def _containing(character):
    return lambda row: sum(character in token for token in row)


# Of one text; those that are not `QUARTERED` are present from one on.
SINGLE = {
    "words": _words,
    "negations": lambda row: sum(map(_is_negation, row)),
    "question marks": _containing("?"),
    "exclamation marks": _containing("!"),
    "numbers": lambda row: sum(token[0].isdigit() for token in row),
    "final stop": lambda row: bool(row) and row[-1].startswith("."),
}


def _overlap(first, second) -> float:
    """Share of the second text's distinct words that the first has too."""
    words = set(filter(_is_word, second))
    if not words:
        return np.nan
    return len(words.intersection(first)) / len(words)


def _contiguous(first, second) -> bool:
    first = list(filter(_is_word, first))
    second = list(filter(_is_word, second))
    return bool(second) and any(
        first[at : at + len(second)] == second
        for at in range(len(first) - len(second) + 1)
    )


# Of the second of two texts, given the first.
PAIR = {
    "overlap": _overlap,
    "contiguous": _contiguous,
    "added words": lambda first, second: _words(second) - _words(first),
}
# Measures with many values: their lowest and highest quarters are features.
QUARTERED = ("words", "overlap", "added words")


def single_measure(name: str, rows) -> np.ndarray:
    """One measure of each tokenized text, as floats."""
    return np.array([SINGLE[name](row) for row in rows], dtype="float64")


def pair_measure(name: str, firsts, seconds) -> np.ndarray:
    """One measure of each pair of tokenized texts, as floats."""
    function = PAIR[name]
    return np.array(
        [function(a, b) for a, b in zip(firsts, seconds, strict=True)],
        dtype="float64",
    )
