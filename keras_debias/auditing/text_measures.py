"""Measures of one text, and of pairs of texts."""

import itertools
import re
import unicodedata

import numpy as np

# Scripts that are written without blanks between words: Chinese characters,
# kana, and those of Thai, Lao, Myanmar and Khmer.
UNSPACED = (
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u3005\u3007\u3040-\u30ff\uff66-\uff9f"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
UNSPACED_RUN = re.compile(f"[{UNSPACED}]+")
# Vowel signs, viramas and accents that belong to the letter before.
MARKS = "".join(
    chr(code)
    for code in range(0x300, 0x20F0)
    if unicodedata.category(chr(code)) in ("Mn", "Mc")
)
# Words, with their marks and apostrophes; or a run of punctuation such as
# "!!". Joiners stand inside words of Indic scripts and Persian.
WORD = f"(?:[^\\W_{UNSPACED}]+[{re.escape(MARKS)}\u200c\u200d]*)+"
TOKEN = re.compile(
    f"[{UNSPACED}]+|{WORD}(?:['’]{WORD})*|[^\\w\\s{re.escape(MARKS)}]+|_+"
)
NEGATIONS = frozenset(
    "no not never none nobody nothing nowhere neither nor without cannot "
    "hardly barely".split()
)


def tokens(texts) -> list[list[str]]:
    """Words and runs of punctuation of each text, in lower case.

    Scripts without blanks between words are not segmented: each character is
    a token, and so is each pair of neighbors.
    """
    return [
        [
            part
            for token in TOKEN.findall(text.lower())
            for part in _parts(token)
        ]
        for text in texts
    ]


def _parts(token: str) -> list[str]:
    if not UNSPACED_RUN.fullmatch(token):
        return [token]
    characters = CHARACTER.findall(token)
    pairs = map("".join, itertools.pairwise(characters))
    return [*characters, *pairs]


# A character with its marks.
CHARACTER = re.compile(f".[{re.escape(MARKS)}]*", re.DOTALL)


def _is_pair(token: str) -> bool:
    """Whether a token is two neighbors of a script without blanks."""
    return bool(
        UNSPACED_RUN.fullmatch(token) and len(CHARACTER.findall(token)) > 1
    )


def _is_word(token: str) -> bool:
    return token[0].isalnum()


def _is_negation(token: str) -> bool:
    return token in NEGATIONS or token.endswith(("n't", "n’t"))


def _words(row) -> int:
    return sum(_is_word(token) and not _is_pair(token) for token in row)


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
    """Whether the second text is a contiguous part of the first.

    In time linear in both: Knuth, Morris and Pratt, 1977.
    """
    first = [word for word in first if _is_word(word) and not _is_pair(word)]
    second = [word for word in second if _is_word(word) and not _is_pair(word)]
    if not 0 < len(second) <= len(first):
        return False
    # How long a beginning of `second` ends at each of its words.
    borders, length = [0], 0
    for word in second[1:]:
        while length and word != second[length]:
            length = borders[length - 1]
        length += word == second[length]
        borders.append(length)
    length = 0
    for word in first:
        while length and word != second[length]:
            length = borders[length - 1]
        length += word == second[length]
        if length == len(second):
            return True
    return False


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
