import warnings
from collections.abc import Sequence

import keras
import numpy as np

from keras_debias.adapters.checks import require_model
from keras_debias.analysis.bias_term_measure import BiasTermMeasure
from keras_debias.analysis.bias_term_ranking import BiasTermRanking
from keras_debias.analysis.bias_terms import BiasTerm
from keras_debias.analysis.bias_terms import chosen_names
from keras_debias.analysis.bias_terms import find_bias_terms
from keras_debias.analysis.projection_change import ProjectionChange
from keras_debias.utils.networks import network_of


def rank_bias_terms(
    model: keras.Model,
    measure: BiasTermMeasure | None = None,
    before: keras.Model | None = None,
    terms: str | Sequence[str] | None = ("query", "key", "value"),
) -> BiasTermRanking:
    """Ranks the bias terms of a transformer: per layer, and in total.

    As in BEFT: train all biases, then measure which kind changed most. The
    changes are known for biases that an adapter trains (`AllBiases`, or
    several of `QueryBias`, `KeyBias` and `ValueBias`). For other models, pass
    the model before training.

    Args:
        model: a `keras.Model` with attention layers, or a `DebiasedModel`
            around one.
        measure: `ProjectionChange()`, `MagnitudeChange()` or
            `FisherInformation(data)`. Defaults to `None`, which means
            `ProjectionChange()`.
        before: the same model before training, or `None`: what the adapters
            started from. A bias that one of the two models does not have
            counts as zero there. Defaults to `None`.
        terms: string, several, or `None` for all: what to rank. Beside
            `"query"`, `"key"` and `"value"` there are `"attention_output"`
            and, by the name of their layer, the other biases of a block,
            such as `"feedforward_output_dense"`. Defaults to
            `("query", "key", "value")`, as in the paper.

    Returns:
        A `BiasTermRanking`; printing it shows a table.

    Raises:
        TypeError: If `measure` is not a `BiasTermMeasure`.
        ValueError: If the model has no attention; if a term is not there or,
            without `before`, no adapter trains it; if no bias changed, or
            the loss reaches none.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.AllBiases())
    classifier.fit(texts, labels)
    ranking = kd.analysis.rank_bias_terms(classifier)
    print(ranking)
    ranking.plot("bias_terms.png")
    ```

    Reference:
        BEFT: Huang, Balashankar and Aminifar, *Bias-Efficient Fine-Tuning of
        Language Models in Low-Data Regimes*, section 2.
    """
    require_model(model)
    measure = ProjectionChange() if measure is None else measure
    check_measure(measure)
    found = find_bias_terms(model)
    rows = tuple(dict.fromkeys(term.row for term in found))
    if not measure.is_change:
        if before is not None:
            raise ValueError(
                f"Expected no `before` with {measure!r}, which compares "
                f"nothing. Received: before={before.name!r}. Rank the bias "
                "terms of that model instead."
            )
        starts = None
        found = [term for term in found if term.exists]
        meaning = "bias terms that the model has"
    elif before is None:
        found = [term for term in found if term.has_start]
        starts = {term.key: term.start() for term in found}
        meaning = "bias terms that an adapter trains"
        if not found:
            raise ValueError(
                "Expected a model whose biases an adapter trains, so that "
                "their starting values are known. Received: "
                f"model={network_of(model).name!r}, where none does. Apply "
                "`AllBiases()` before training, or pass the model before "
                "training as `before`."
            )
    else:
        found, starts = _compared(found, before)
        meaning = "bias terms that the models have"
    names = chosen_names(found, terms, meaning)
    found = [term for term in found if term.name in names]
    ranking = measured(model, measure, found, starts, rows, names)
    _check(ranking, measure, found, starts)
    return ranking


def check_measure(measure: BiasTermMeasure) -> None:
    """Raises if a measure is none."""
    if not isinstance(measure, BiasTermMeasure):
        raise TypeError(
            "Expected `measure` to be a measure such as `ProjectionChange()`. "
            f"Received: measure={measure!r}"
        )


def measured(
    model: keras.Model,
    measure: BiasTermMeasure,
    found: list[BiasTerm],
    starts: dict[tuple, np.ndarray] | None,
    rows: Sequence[str],
    names: Sequence[str],
) -> BiasTermRanking:
    """Measures bias terms, whatever comes out.

    Args:
        model: the `keras.Model`.
        measure: a `BiasTermMeasure`.
        found: list of `BiasTerm`, those to measure.
        starts: dict of their earlier values by key, or `None`.
        rows: the attention layers, in order.
        names: the names of the terms, in order.
    """
    earlier = None if starts is None else [starts[t.key] for t in found]
    numbers = measure.values(model, found, earlier)
    values = np.full((len(rows), len(names)), np.nan)
    sizes = np.zeros((len(rows), len(names)), "int64")
    for term, number in zip(found, numbers, strict=True):
        at = rows.index(term.row), names.index(term.name)
        values[at], sizes[at] = number, term.size
    present = sizes > 0
    totals = [
        measure.total(values[present[:, i], i], sizes[present[:, i], i])
        for i in range(len(names))
    ]
    used = present.any(axis=1)
    return BiasTermRanking(
        measure=measure.name,
        layers=[row for row, use in zip(rows, used, strict=True) if use],
        terms=names,
        values=values[used],
        totals=totals,
    )


def _compared(found, before):
    """The terms that one of two models has, and their earlier values."""
    if not isinstance(before, keras.Model):
        raise TypeError(
            "Expected `before` to be a `keras.Model`. Received: "
            f"before={before!r}"
        )
    others = {term.key: term for term in find_bias_terms(before)}
    own = {term.key: term for term in found}
    terms, starts = [], {}
    for key in [*own, *(k for k in others if k not in own)]:
        term, other = own.get(key), others.get(key)
        sizes = [t and t.size for t in (term, other)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                "Expected `before` to be the same model before training. "
                f"Received: '{key[0]}' has a {key[1]} bias of the size "
                f"{sizes[1]} there and {sizes[0]} in `model`."
            )
        if term.exists or other.exists:
            terms.append(term)
            starts[key] = other.value()
    return terms, starts


def _check(ranking, measure, found, starts):
    """Nothing must look like a ranking that is none."""
    values = ranking.values[~np.isnan(ranking.values)]
    if not np.isfinite(values).all() or len(values) < len(found):
        raise ValueError(
            "Expected finite biases. Received: "
            f"{len(found) - int(np.isfinite(values).sum())} of {len(found)} "
            "with NaN or infinity. Train again from a sound state."
        )
    if not values.any():
        reason = (
            "are what they were before: the largest change is 0. Train the "
            "model first, or pass the one before training as `before`."
            if measure.is_change
            else "have a gradient of 0: the loss does not reach them."
        )
        raise ValueError(
            f"Expected bias terms to rank by {measure.name}. Received: all "
            f"{len(found)} biases ({', '.join(ranking.terms)}) {reason}"
        )
    totals = list(ranking.totals.values())
    if starts is not None and len(set(totals)) == 1 and len(totals) > 1:
        zero = sum(not starts[term.key].any() for term in found)
        warnings.warn(
            f"All {len(totals)} bias terms have the same {measure.name}, "
            f"{totals[0]:.4g}, and {zero} of {len(found)} biases started from "
            "zero: this ranks nothing. Use `MagnitudeChange()`.",
            stacklevel=3,
        )
