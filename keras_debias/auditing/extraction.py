"""All features of a split, and which rows have them."""

import dataclasses

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

from keras_debias.auditing import image_measures
from keras_debias.auditing import text_measures
from keras_debias.auditing.feature import Feature
from keras_debias.auditing.fields import field_values
from keras_debias.data.checks import is_text


@dataclasses.dataclass
class Extraction:
    """What was read from the inputs.

    Attributes:
        features: list of `Feature`.
        presence: sparse matrix of shape `(n, features)` of zeros and ones.
        partial: dict from the name of a partial input to what a probe sees
            of it: sparse counts, or a dense array of measures.
    """

    features: list[Feature]
    presence: sparse.csc_matrix
    partial: dict


def extract(split, fields: dict, min_count: int) -> Extraction:
    """Reads all features that at least `min_count` rows have, and not all."""
    if is_text(field_values(split, next(iter(fields)))):
        found = _text_features(split, fields, min_count)
    else:
        found = _image_features(split, fields)
    features, presence, partial = found
    counts = np.asarray(presence.sum(axis=0)).ravel()
    kept = np.flatnonzero((counts >= min_count) & (counts < len(split)))
    if not len(kept):
        raise ValueError(
            "Expected at least one feature that `min_count` rows have and "
            f"that not all have. Received: {len(split)} rows, "
            f"min_count={min_count}, and the most frequent of "
            f"{len(features)} features in {counts.max(initial=0):.0f} rows. "
            "Audit more rows, or lower `min_count`."
        )
    return Extraction(
        [features[i] for i in kept], presence.tocsc()[:, kept], partial
    )


def measured(split, fields: dict) -> np.ndarray:
    """All simple features of a split as numbers, without any word.

    Args:
        split: `Split` of texts or pictures.
        fields: dict from column to name, see `fields_of`.

    Returns:
        Array of shape `(n, measures)`.
    """
    return _as_columns(_simple(split, fields))


def _simple(split, fields, rows=None):
    """Pairs of a feature without range, and its values."""
    column, name = next(iter(fields.items()))
    values = field_values(split, column)
    if not is_text(values):
        return [
            (Feature(name, measure), found)
            for measure, found in image_measures.measures(values).items()
        ]
    if rows is None:
        rows = _tokens(split, fields)
    simple = [
        (
            Feature(field, measure, column),
            text_measures.single_measure(measure, rows[column]),
        )
        for column, field in fields.items()
        for measure in text_measures.SINGLE
    ]
    if len(fields) == 2:
        (first, _), (second, field) = fields.items()
        simple += [
            (
                Feature(field, measure, second),
                text_measures.pair_measure(measure, rows[first], rows[second]),
            )
            for measure in text_measures.PAIR
        ]
    return simple


def _tokens(split, fields):
    return {c: text_measures.tokens(field_values(split, c)) for c in fields}


def _text_features(split, fields, min_count):
    rows = _tokens(split, fields)
    features, blocks, partial = [], [], {}
    for column, field in fields.items():
        vectorizer = CountVectorizer(analyzer=list, binary=True)
        try:
            counts = vectorizer.fit_transform(rows[column])
        except ValueError:
            continue  # no token at all
        often = np.asarray(counts.sum(axis=0)).ravel() >= min_count
        names = vectorizer.get_feature_names_out()[often]
        counts = counts[:, often]
        features += [
            Feature(field, "token", column, token=str(token)) for token in names
        ]
        blocks.append(counts)
        if len(fields) > 1 and counts.shape[1]:
            partial[f"{field} only"] = counts.astype("float64")
    simple = _simple(split, fields, rows)
    chosen, block = _binarized(simple, text_measures.QUARTERED)
    partial["simple features only"] = _as_columns(simple)
    presence = sparse.hstack([*blocks, block], format="csc")
    return features + chosen, presence, partial


def _image_features(split, fields):
    simple = _simple(split, fields)
    chosen, presence = _binarized(simple, image_measures.QUARTERED)
    partial = {"colour and brightness only": _as_columns(simple)}
    return chosen, presence, partial


def _binarized(simple, quartered):
    """Yes-or-no features of measures, and a sparse matrix of them."""
    features, columns = [], []
    for plain, values in simple:
        for low, high in _ranges(plain.measure, values, quartered):
            feature = dataclasses.replace(plain, low=low, high=high)
            features.append(feature)
            columns.append(feature.within(values))
    return features, sparse.csc_matrix(np.stack(columns, 1).astype("float64"))


def _ranges(measure, values, quartered):
    """The ranges of a measure that are worth a feature."""
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
