"""How much a model relies on a factor: the same rows with and without."""

import dataclasses

import numpy as np

from keras_debias.data.arguments import check_batch_size
from keras_debias.data.labels import match_labels
from keras_debias.data.split import Split
from keras_debias.evaluation import outputs as model_outputs
from keras_debias.utils.short_repr import ShortRepr


@dataclasses.dataclass(frozen=True, repr=False)
class Reliance(ShortRepr):
    """What changes in a model's outputs when a factor flips.

    Attributes:
        n: int. Rows, each seen twice.
        flipped: float. Share of rows whose prediction changes.
        toward: float. Mean change of the probability of the class that the
            factor indicates, with the factor minus without.
        loss: float. Mean change of the cross entropy, with minus without.
        accuracy: float. Accuracy over both versions of the rows.
        worst_group_accuracy: float. The lowest accuracy of the groups label
            x factor.

    Example:

    >>> class Follower:
    ...     def predict(self, x, **kwargs):
    ...         return np.where(np.asarray(x) > 0, [[0.2, 0.8]], [[0.7, 0.3]])
    >>> found = reliance(
    ...     Follower(),
    ...     Split(np.zeros((2, 1)), [0, 1]),
    ...     Split(np.ones((2, 1)), [0, 1]),
    ...     target=1,
    ...     from_logits=False,
    ... )
    >>> found.flipped, round(found.toward, 2), found.worst_group_accuracy
    (1.0, 0.5, 0.0)
    """

    n: int
    flipped: float
    toward: float
    loss: float
    accuracy: float
    worst_group_accuracy: float

    def to_dict(self) -> dict:
        """Returns everything as JSON would hold it."""
        return dataclasses.asdict(self)


def reliance(
    model,
    without: Split,
    with_factor: Split,
    target: str | int,
    *,
    from_logits: bool | None = None,
    batch_size: int | None = None,
    verbose: int = 0,
) -> Reliance:
    """Measures how predictions depend on a factor that should not matter.

    Labels are compared by name if the model and the splits have names.

    Args:
        model: anything with `predict` that returns class scores `(n,
            classes)`, logits or probabilities.
        without: `Split` with labels.
        with_factor: the same rows in the same order, with the factor.
        target: label name that the factor indicated in training, or the
            index of the model's output.
        from_logits: bool or None. Whether outputs are logits. Defaults to
            `None`: as the model's last activation and compiled loss say.
        batch_size: int, passed to `model.predict`. Defaults to `None`.
        verbose: int, passed to `model.predict`. Defaults to `0`.

    Returns:
        A `Reliance`. A model without any reliance has `flipped`, `toward`
        and `loss` of zero.

    Raises:
        ValueError: If the splits differ in their labels, `target` is unknown,
            or it is unknown whether the outputs are logits.
        TypeError: If a split is not a `Split`, or `target` neither a name nor
            an integer.

    Example:

    ```python
    test = kd.data.load("snli", "test").sample(500)
    texts, hypotheses = test.x
    marked = kd.data.Split(
        (texts, [h + " !!" for h in hypotheses]),
        test.y,
        label_names=test.label_names,
    )
    kd.evaluation.reliance(model, test, marked, "entailment")
    ```
    """
    for name, split in (("without", without), ("with_factor", with_factor)):
        if not isinstance(split, Split):
            raise TypeError(
                f"Expected `{name}` to be a `Split`. Received: "
                f"{type(split).__name__}"
            )
    check_batch_size(batch_size)
    if isinstance(target, bool) or not isinstance(target, (str, int)):
        raise TypeError(
            "Expected `target` to be a label name or an integer. Received: "
            f"target={target!r}"
        )
    logits = model_outputs.are_logits(model, from_logits)
    names = getattr(model, "label_names", None) or without.label_names
    without, with_factor = (
        _aligned(split, names) for split in (without, with_factor)
    )
    if (
        len(without) != len(with_factor)
        or without.y is None
        or with_factor.y is None
        or not np.array_equal(without.y, with_factor.y)
    ):
        raise ValueError(
            "Expected the same rows with and without the factor, with "
            f"labels. Received: {without} and {with_factor}"
        )
    if isinstance(target, str):
        index = match_labels([target], names or ())[0]
    else:
        index = int(target)
    found = []
    for split in (without, with_factor):
        predicted = model_outputs.predict(model, split.x, batch_size, verbose)
        name = split.name or "reliance"
        found.append(
            model_outputs.probabilities(
                model_outputs.check_outputs(predicted, len(split), name),
                logits,
            )
        )
    before, after = found
    if index is None or not 0 <= index < before.shape[1]:
        raise ValueError(
            "Expected `target` to be one of the model's classes. Received: "
            f"target={target!r}, label_names={names}, "
            f"{before.shape[1]} classes"
        )
    labels = np.asarray(without.y)
    rows = np.arange(len(labels))

    def loss(p):
        return -np.log(np.maximum(p[rows, labels], 1e-12)).mean()

    right = np.concatenate([p.argmax(1) == labels for p in found])
    groups = np.concatenate([2 * labels, 2 * labels + 1])
    return Reliance(
        n=len(labels),
        flipped=float((before.argmax(1) != after.argmax(1)).mean()),
        toward=float((after - before)[:, index].mean()),
        loss=float(loss(after) - loss(before)),
        accuracy=float(right.mean()),
        worst_group_accuracy=float(
            min(right[groups == g].mean() for g in np.unique(groups))
        ),
    )


def _aligned(split, names) -> Split:
    """The same rows, their labels in the order of `names`."""
    if None in (names, split.label_names) or names == split.label_names:
        return split
    return split.align_labels(names)
