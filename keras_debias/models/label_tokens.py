"""The tokens of label words, and how few rows score all of them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_debias.data.prompt_response import token_lists


def tokenize_labels(
    tokenizer, labels: Sequence[str], tail: str
) -> tuple[tuple[int, ...], ...]:
    """The tokens that a label word adds to a prompt that ends in `tail`."""
    before = token_lists(tokenizer, [tail])[0] if tail else []
    found = []
    for label in labels:
        tokens = token_lists(tokenizer, [f"{tail} {label}"])[0]
        same = 0
        while same < len(before) and tokens[same : same + 1] == [before[same]]:
            same += 1
        found.append(tuple(tokens[same:]))
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class LabelLayout:
    """Which rows and positions score which token of which label.

    After the prompt, a row holds all but the last token of some label. A
    label is scored in a row that starts with these tokens of its own, so
    labels of one token need no row but the prompt, and labels that begin
    alike share one.

    Args:
        tokens: the tokens of each label.
    """

    tokens: tuple[tuple[int, ...], ...]

    @property
    def depth(self) -> int:
        """The number of tokens of the longest label."""
        return max(len(ids) for ids in self.tokens)

    @property
    def is_single(self) -> bool:
        """Whether every label is one token."""
        return self.depth == 1

    @property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """What follows the prompt in each row."""
        paths = dict.fromkeys(ids[:-1] for ids in self.tokens)
        return tuple(
            path
            for path in paths
            if not any(
                len(o) > len(path) and o[: len(path)] == path for o in paths
            )
        )

    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(place, token, weight)`, each of shape `(labels, depth)`.

        `place` counts positions row by row, `depth` of them each; the
        weights of a label sum to one.
        """
        shape = (len(self.tokens), self.depth)
        place, token = np.zeros(shape, "int32"), np.zeros(shape, "int32")
        weight = np.zeros(shape, "float32")
        rows = self.rows
        for label, ids in enumerate(self.tokens):
            path = ids[:-1]
            row = next(i for i, r in enumerate(rows) if r[: len(path)] == path)
            for step, each in enumerate(ids):
                place[label, step] = row * self.depth + step
                token[label, step] = each
                weight[label, step] = 1 / len(ids)
        return place, token, weight
