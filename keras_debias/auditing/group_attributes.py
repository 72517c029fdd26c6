"""The attributes by which the groups of a split are defined."""

import numpy as np

from keras_debias.data.groups import Groups
from keras_debias.data.overlapping_groups import OverlappingGroups


def group_attributes(split) -> dict[str, Groups]:
    """One grouping for each attribute that the groups of a split cross.

    `Split(..., groups={"source": ..., "gender": ...})` names its groups
    "source=web, gender=female"; these names are taken apart again. Groups
    with other names are the values of one attribute called "group". What
    only repeats the label is left out. Of `OverlappingGroups` each attribute
    has the values "yes" and "no"; their names may begin with a label.

    Args:
        split: `Split`.

    Returns:
        Dict from attribute to `Groups`; empty without groups.
    """
    if split.groups is None:
        return {}
    if isinstance(split.groups, OverlappingGroups):
        return _overlapping(split)
    attributes = {}
    for attribute, values in _columns(split.groups.names).items():
        found, codes = np.unique(values, return_inverse=True)
        ids = codes[split.groups.ids]
        if attribute != "label" and not _same_partition(ids, split.y):
            attributes[attribute] = Groups(ids, [str(name) for name in found])
    return attributes


def _overlapping(split) -> dict[str, Groups]:
    """Whether a row is in each group, apart from the label in its name."""
    labels = split.label_names or ()
    if not labels and split.y is not None and split.y.dtype.kind == "i":
        labels = map(str, np.unique(split.y).tolist())
    prefixes = sorted((f"label={x}" for x in labels), key=len, reverse=True)
    members = {}
    for name, member in zip(split.groups.names, split.groups.matrix.T):
        start = next(
            (p for p in prefixes if f"{name}, ".startswith(f"{p}, ")), ""
        )
        attribute = name.removeprefix(start).removeprefix(", ")
        if attribute:
            members[attribute] = members.get(attribute, False) | member
    return {
        attribute: Groups(member.astype("int32"), ["no", "yes"])
        for attribute, member in members.items()
        if not _same_partition(member.astype("int32"), split.y)
    }


def _columns(names):
    parts = [
        [part.split("=", 1) for part in name.split(", ")] for name in names
    ]
    keys = {
        tuple(pair[0] for pair in pairs if len(pair) == 2) for pairs in parts
    }
    paired = all(len(pair) == 2 for pairs in parts for pair in pairs)
    if len(keys) != 1 or not paired:
        return {"group": list(names)}
    return {
        key: [pairs[position][1] for pairs in parts]
        for position, key in enumerate(keys.pop())
    }


def _same_partition(ids, y):
    if y is None or y.ndim != 1 or y.dtype.kind not in "iu":
        return False
    pairs = np.unique(np.stack([ids, y], axis=1), axis=0)
    return len(pairs) == len(np.unique(ids)) == len(np.unique(y))
