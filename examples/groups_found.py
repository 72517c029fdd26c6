"""How near are groups inferred without labels to the true ones?

For each set of `natural_shortcuts.py` with groups: the weights of
`InversePropensitySampling`, which `kd.recommended` uses where the label goes
with a kind of input, made from frozen features, and what they do to the true
groups. They are made whether or not the rule would act. With the true groups
known, each group has the same share of the weighted rows.

    python examples/groups_found.py             # resumable
    python examples/groups_found.py --sets mdsd --draws 8
    python examples/groups_found.py --table     # from kept draws

Nothing is trained but models on frozen features. `--table` writes
`examples/groups_found.json` and `.md`.
"""

import json
import pathlib
import sys

import common  # chooses the backend
import frozen_shortcuts as frozen
import natural_shortcuts as natural
import numpy as np

import keras_debias as kd

HERE = pathlib.Path(__file__)
DRAWS = (8, 9, 10)
SETS = {
    name: load
    for name, (load, *_) in natural.SETS.items()
    if name not in natural.NO_SHORTCUT
}


class Features:
    """What the inference of groups asks of a trainer."""

    def __init__(self, encoded):
        self.frozen_features = encoded.of
        self.notes = {}


def measured(name, draw, encoded):
    train, _ = SETS[name](draw)
    encoded.add(train.x)
    features = Features(encoded)
    recipe = kd.recipes.InversePropensitySampling()
    weights = recipe.weights(features, train)
    groups = train.groups
    share = np.bincount(groups.ids) / len(train)
    weighted = np.bincount(groups.ids, weights) / weights.sum()
    (agreement,) = features.notes["agreement"].values()
    small = int(share.argmin())
    match = agreement["matches"][groups.names[small]]
    return {
        "smallest_group": groups.names[small],
        "share": share[small],
        "share_with_weights": weighted[small],
        "share_if_known": 1 / len(share),
        "least_share_with_weights": weighted.min(),
        "recall": match["recall"],
        "precision": match["precision"],
        "adjusted_rand": agreement["adjusted_rand"],
    }


def table(found):
    """The summary as Markdown."""
    lines = [
        "Share of the training rows in the smallest group, in percent: as they "
        "are, with the weights, and if the groups were known. Best match: the "
        "inferred group that holds most of that group's rows. Means over "
        "draws.",
        "",
        "| set | draws | share | with weights | if known | best match: recall "
        "| precision | adjusted Rand |",
        "| --- |" + " --- |" * 7,
    ]
    for name, draws in found.items():

        def mean(key, draws=draws):
            return np.mean([entry[key] for entry in draws.values()])

        lines.append(
            f"| {name} | {len(draws)} | {100 * mean('share'):.1f} | "
            f"{100 * mean('share_with_weights'):.1f} | "
            f"{100 * mean('share_if_known'):.1f} | {mean('recall'):.2f} | "
            f"{mean('precision'):.2f} | {mean('adjusted_rand'):.2f} |"
        )
    return "\n".join(lines)


def main():
    chosen = natural.options(__doc__, SETS, {}, DRAWS, "results/groups")
    if not chosen.table:
        encoded = frozen.Encoded("text", chosen.folder / "features")
        for draw in chosen.draws:
            for name in chosen.sets:
                path = chosen.folder / name / f"{draw}.json"
                if path.exists():
                    continue
                found = measured(name, draw, encoded)
                print(f"{name}, draw {draw}: {found}", flush=True)
                path.parent.mkdir(parents=True, exist_ok=True)
                common.replace(path, json.dumps(found).encode())
        return 0
    found = {}
    for name in SETS:
        paths = (chosen.folder / name).glob("[0-9]*.json")
        draws = {int(p.stem): json.loads(p.read_text()) for p in paths}
        if draws:
            found[name] = dict(sorted(draws.items()))
    content = {
        "model": "all-MiniLM-L6-v2, frozen",
        "weights": repr(kd.recipes.InversePropensitySampling()),
        "versions": common.versions(),
        "sets": found,
    }
    common.write_tables(HERE, table(found), content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
