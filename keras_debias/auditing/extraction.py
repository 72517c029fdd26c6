"""All features of a split, and which rows have them."""

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from keras_debias.auditing import image_measures
from keras_debias.auditing import text_measures
from keras_debias.auditing.feature import CHUNK
from keras_debias.auditing.feature import Feature
from keras_debias.auditing.fields import field_values
from keras_debias.auditing.token_table import TokenTable
from keras_debias.data.checks import is_text
from keras_debias.utils.progress import Progress


@dataclasses.dataclass
class Extraction:
    """The features of a split, and which rows have them.

    Attributes:
        n: int, the number of rows.
        measures: list of pairs of a `Feature` without range and its values,
            an array of shape `(n,)`.
        binary: list of pairs of a `Feature` with a range and the position of
            its measure in `measures`.
        tokens: dict from the column of a text to its `TokenTable`.
        vocabulary: dict from the column of a text to its tokens that are
            frequent enough.
        fields: dict from column to name, see `fields_of`.
    """

    n: int
    measures: list
    binary: list
    tokens: dict
    vocabulary: dict
    fields: dict

    @property
    def features(self) -> list[Feature]:
        """The columns of `blocks`: the tokens, then the measures."""
        tokens = [
            Feature(self.fields[column], "token", column, token=token)
            for column, words in self.vocabulary.items()
            for token in words
        ]
        return tokens + [feature for feature, _ in self.binary]

    def blocks(self) -> Iterator[tuple[slice, sparse.csr_matrix]]:
        """Yields chunks of rows with the features that they have.

        Yields:
            Slice of rows, and a sparse matrix of zeros and ones of shape
            `(rows of the chunk, features)`.
        """
        tables = zip(
            *(self.tokens[c].blocks(w) for c, w in self.vocabulary.items())
        )
        for start in range(0, self.n, CHUNK):
            rows = slice(start, min(start + CHUNK, self.n))
            dense = [
                feature.within(self.measures[position][1][rows])
                for feature, position in self.binary
            ]
            parts = list(next(tables)) if self.vocabulary else []
            if dense:
                dense = np.stack(dense, axis=1).astype("float64")
                parts.append(sparse.csr_matrix(dense))
            yield rows, sparse.hstack(parts, format="csr")

    def count(
        self,
        indicators: sparse.csr_matrix,
        features: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Counts the rows with each feature and each indicator.

        Args:
            indicators: sparse matrix of shape `(n, indicators)` of zeros and
                ones.
            features: ints, the positions of the features to be counted, or
                `None`: all.

        Returns:
            A float array of shape `(features, indicators)`.
        """
        size = len(self.features) if features is None else len(features)
        counts = np.zeros((size, indicators.shape[1]))
        progress = Progress("Counting features", self.n, "row")
        for rows, block in self.blocks():
            if features is not None:
                block = block[:, features]
            found = (block.T @ indicators[rows]).tocoo()
            counts[found.row, found.col] += found.data
            progress.add(block.shape[0])
        return counts

    def partial_inputs(self, rows: np.ndarray) -> dict:
        """What the probes see of some rows.

        Args:
            rows: int array, in ascending order.

        Returns:
            Dict from the name of a part of the input to a sparse matrix of
            tokens or a dense array of measures, with `len(rows)` rows.
        """
        partial = {}
        if len(self.fields) > 1:
            for column, words in self.vocabulary.items():
                if words:
                    partial[f"{self.fields[column]} only"] = _rows_of(
                        self.tokens[column].blocks(words), rows
                    )
        name = "simple features only"
        if not self.tokens:
            name = "color and brightness only"
        simple = [(feature, values[rows]) for feature, values in self.measures]
        partial[name] = _as_columns(simple)
        return partial


def _rows_of(blocks, rows):
    parts, start = [], 0
    for block in blocks:
        stop = start + block.shape[0]
        first, last = np.searchsorted(rows, [start, stop])
        parts.append(block[rows[first:last] - start])
        start = stop
    return sparse.vstack(parts, format="csr")


def extract(split, fields: dict, min_count: int) -> Extraction:
    """Finds all features that at least `min_count` rows have, and not all.

    Texts are read in chunks: what has to fit into memory are the numbers
    that were measured of each row, the vocabulary and one chunk.
    """
    n = len(split)
    measures, tokens = _measures(split, fields, with_tokens=True)
    vocabulary = {}
    highest, seen = 0, 0
    for column, table in tokens.items():
        counts = table.counts()
        seen += len(counts)
        highest = max(highest, max(counts.values(), default=0))
        vocabulary[column] = sorted(
            token for token, count in counts.items() if min_count <= count < n
        )
    quartered = text_measures.QUARTERED if tokens else image_measures.QUARTERED
    binary = []
    for position, (plain, values) in enumerate(measures):
        for low, high in _ranges(plain.measure, values, quartered):
            feature = dataclasses.replace(plain, low=low, high=high)
            count = int(feature.within(values).sum())
            seen += 1
            highest = max(highest, count)
            if min_count <= count < n:
                binary.append((feature, position))
    if not binary and not any(vocabulary.values()):
        raise ValueError(
            "Expected at least one feature that `min_count` rows have and "
            f"that not all have. Received: {n} rows, min_count={min_count}, "
            f"and the most frequent of {seen} features in {highest} rows. "
            "Audit more rows, or lower `min_count`."
        )
    return Extraction(n, measures, binary, tokens, vocabulary, fields)


def measured(split, fields: dict) -> np.ndarray:
    """All simple features of a split as numbers, without any word.

    Args:
        split: `Split` of texts or images.
        fields: dict from column to name, see `fields_of`.

    Returns:
        Array of shape `(n, measures)`.
    """
    measures, _ = _measures(split, fields, with_tokens=False)
    return _as_columns(measures)


def _measures(split, fields, with_tokens):
    """Pairs of a feature without range and its values, and the tokens."""
    column, name = next(iter(fields.items()))
    values = field_values(split, column)
    if not is_text(values):
        progress = Progress("Measuring images", len(split), "image")
        measures = [
            (Feature(name, measure), found)
            for measure, found in image_measures.measures(
                values, progress.add
            ).items()
        ]
        return measures, {}
    tables = {column: TokenTable() for column in fields if with_tokens}
    progress = Progress("Reading texts", len(split), "row")
    chunks = []
    for start in range(0, len(split), CHUNK):
        rows = {
            c: text_measures.tokens(
                field_values(split, c)[start : start + CHUNK]
            )
            for c in fields
        }
        for column, table in tables.items():
            table.add(rows[column])
        chunks.append(_text_measures(fields, rows))
        progress.add(min(CHUNK, len(split) - start))
    measures = [
        (parts[0][0], np.concatenate([values for _, values in parts]))
        for parts in zip(*chunks, strict=True)
    ]
    return measures, tables


def _text_measures(fields, rows):
    """Pairs of a feature without range and its values in some rows."""
    measures = [
        (
            Feature(field, measure, column),
            text_measures.single_measure(measure, rows[column]),
        )
        for column, field in fields.items()
        for measure in text_measures.SINGLE
    ]
    if len(fields) == 2:
        (first, _), (second, field) = fields.items()
        measures += [
            (
                Feature(field, measure, second),
                text_measures.pair_measure(measure, rows[first], rows[second]),
            )
            for measure in text_measures.PAIR
        ]
    return measures


def _ranges(measure, values, quartered):
    """The ranges of a measure that become features."""
    if measure.startswith("hue"):
        hues = range(len(image_measures.HUES))
        yield from ((hue - 0.5, hue + 0.5) for hue in hues)
        return
    if measure not in quartered:
        yield 1.0, None
        return
    known = values[~np.isnan(values)]
    if not len(known):
        return
    low, high = np.quantile(known, [0.25, 0.75])
    if low < high:
        yield None, float(low)
        yield float(high), None
    if measure == "overlap" and high < 1.0:
        yield 1.0, None


def _as_columns(simple) -> np.ndarray:
    """Measures as columns; an angle as a point on the circle."""
    columns = []
    for feature, values in simple:
        if feature.measure.startswith("hue"):
            angle = 2 * np.pi * values / len(image_measures.HUES)
            parts = [np.cos(angle), np.sin(angle)]
        else:
            parts = [values]
        columns += [np.nan_to_num(part) for part in parts]
    return np.stack(columns, axis=1)
