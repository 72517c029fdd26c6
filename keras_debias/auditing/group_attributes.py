"""The attributes by which the groups of a split are defined."""

import numpy as np

from keras_debias.data.groups import Groups


def group_attributes(split) -> dict[str, Groups]:
    """One grouping for each attribute that the groups of a split cross.

    `Split(..., groups={"source": ..., "gender": ...})` names its groups
    "source=web, gender=female"; these names are taken apart again. Groups
    with other names are the values of one attribute called "group". What
    only repeats the label is left out.

    Args:
        split: `Split`.

    Returns:
        Dict from attribute to `Groups`; empty without groups.
    """
    if split.groups is None:
        return {}
    attributes = {}
    for attribute, values in _columns(split.groups.names).items():
        found, codes = np.unique(values, return_inverse=True)
        ids = codes[split.groups.ids]
        if attribute != "label" and not _same_partition(ids, split.y):
            attributes[attribute] = Groups(ids, [str(name) for name in found])
    return attributes


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
