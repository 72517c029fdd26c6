"""Label spaces of models and splits with different classes."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_debias.data.labels import match_labels
from keras_debias.data.labels import normalize_label


@dataclasses.dataclass(frozen=True)
class LabelSpace:
    """The classes of one comparison, and how both sides map to them.

    Attributes:
        names: tuple of strings, the classes that are compared.
        from_model: int array, model class to class compared.
        from_split: int array, split label to class compared.
    """

    names: tuple[str, ...]
    from_model: np.ndarray
    from_split: np.ndarray

    @property
    def merges_model_classes(self) -> bool:
        """Whether several model classes fall on one class compared."""
        return len(set(self.from_model.tolist())) < len(self.from_model)


def _negation(names, others) -> int | None:
    """Returns the one class "not X" of `names` where `others` has X."""
    known = {normalize_label(name) for name in others}
    found = [
        index
        for index, name in enumerate(names)
        if normalize_label(name).startswith("not ")
        and normalize_label(name) not in known
        and normalize_label(name)[4:] in known
    ]
    return found[0] if len(found) == 1 else None


def _fold(fine, coarse) -> LabelSpace | None:
    """Maps `fine` classes to `coarse` ones; others map to the negation.

    The `from_model` of the result belongs to `fine`.
    """
    negation = _negation(coarse, fine)
    if negation is None:
        return None
    names = list(coarse)
    to_coarse = match_labels(fine, coarse)
    positive = normalize_label(coarse[negation])[4:]
    for index, target in enumerate(to_coarse):
        if target is not None:
            continue
        if normalize_label(fine[index]) == positive:
            # the split has only rows of the negative class
            to_coarse[index] = len(names)
            names.append(fine[index])
        else:
            to_coarse[index] = negation
    if None in match_labels(
        [n for i, n in enumerate(coarse) if i != negation], fine
    ):
        return None
    return LabelSpace(
        tuple(names),
        np.asarray(to_coarse),
        np.arange(len(coarse)),
    )


def label_space(
    model_names: Sequence[str], split_names: Sequence[str]
) -> LabelSpace:
    """Finds the classes in which a model and a split can be compared.

    Names are compared as `align_labels` does. Where one side has a class
    "not X" and the other has X, every class of the other side that is not
    named goes to "not X".

    Args:
        model_names: sequence of strings, one an output of the model.
        split_names: sequence of strings, the label names of the split.

    Returns:
        A `LabelSpace`.

    Raises:
        ValueError: If the two sets of names do not fit.

    Example:

    >>> space = label_space(
    ...     ["entailment", "neutral", "contradiction"],
    ...     ["entailment", "non-entailment"],
    ... )
    >>> space.from_model.tolist()
    [0, 1, 1]

    Reference:

    - [HANS](https://arxiv.org/abs/1902.01007) folds this way.
    """
    model_names, split_names = list(model_names), list(split_names)
    in_model = match_labels(split_names, model_names)
    if None not in in_model and len(set(in_model)) == len(in_model):
        return LabelSpace(
            tuple(model_names),
            np.arange(len(model_names)),
            np.asarray(in_model),
        )
    space = _fold(model_names, split_names)
    if space is not None:
        return space
    space = _fold(split_names, model_names)
    if space is not None:
        return LabelSpace(space.names, space.from_split, space.from_model)
    raise ValueError(
        "The label names of the model and of the split do not fit. Received: "
        f"model {tuple(model_names)}, split {tuple(split_names)}. Name the "
        "model's outputs in their order with `label_names=`, or rename the "
        "labels of the split."
    )
