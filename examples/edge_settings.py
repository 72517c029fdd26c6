"""EDGE at 42 settings on natural shortcuts: does a larger `alpha` help?

Every `alpha`, `q` and `scope` on the sets of `frozen_shortcuts.py` that have a
natural shortcut in text, with a frozen encoder: seconds a run.

    python examples/edge_settings.py                     # resumable
    python examples/edge_settings.py --sets mdsd --draws 4
    python examples/edge_settings.py --table             # from kept runs

Runs are kept in `--folder`; `--table` writes `examples/edge_settings.json` and
`.md`. See `frozen_shortcuts.py` for the data and the training.
"""

import pathlib
import sys

import common  # chooses the backend
import frozen_shortcuts as frozen
import natural_shortcuts as natural
import numpy as np
import shortcut_tables

HERE = pathlib.Path(__file__)
DRAWS = (4, 5)
SETS = {
    name: frozen.SETS[name]
    for name in natural.SETS
    if name not in natural.NO_SHORTCUT
}
SETTINGS = [
    natural.edge_setting(alpha, q, scope)
    for scope in natural.SCOPES
    for q in natural.QS
    for alpha in natural.ALPHAS
]
METHODS = {
    **{name: natural.METHODS[name] for name in shortcut_tables.FIRST},
    **{name: natural.SWEEP[name] for name in SETTINGS},
}


def table(found):
    """The summary as Markdown."""
    lines = []
    for key, title in (
        ("worst_group", "Worst group"),
        ("in_distribution", "In distribution"),
    ):
        lines += [
            f"{title}, percent, mean over draws: `q=1`, each variable by "
            "itself.",
            "",
            "| set | plain | "
            + " | ".join(f"alpha {alpha:g}" for alpha in natural.ALPHAS)
            + " | true groups |",
            "| --- |" + " --- |" * (2 + len(natural.ALPHAS)),
        ]
        for name, entry in found.items():
            methods = [
                "plain",
                *(
                    natural.edge_setting(alpha, 1.0, "variable")
                    for alpha in natural.ALPHAS
                ),
                "true groups",
            ]
            cells = [f"{mean(entry, each, key):.1f}" for each in methods]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    lines += [
        "Worst group minus that of plain fine-tuning, in points, mean over "
        "the sets that count.",
        "",
        "| q | scope | "
        + " | ".join(f"alpha {alpha:g}" for alpha in natural.ALPHAS)
        + " |",
        "| --- | --- |" + " --- |" * len(natural.ALPHAS),
    ]
    for scope in natural.SCOPES:
        for q in natural.QS:
            cells = []
            for alpha in natural.ALPHAS:
                name = natural.edge_setting(alpha, q, scope)
                gains = [
                    mean(entry, name, "worst_group")
                    - mean(entry, "plain", "worst_group")
                    for entry in found.values()
                    if entry["gate"]["passed"]
                ]
                cells.append(f"{np.mean(gains):+.1f}")
            lines.append(f"| {q:g} | {scope} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean(entry, method, key):
    return np.mean(entry["methods"][method][key])


def main():
    chosen = natural.options(__doc__, SETS, METHODS, DRAWS, "results/edge")
    if not chosen.table:
        encoders = {}
        for draw in chosen.draws:
            for name in chosen.sets:
                print(f"== {name}, draw {draw}", flush=True)
                frozen.run(name, draw, chosen.methods, chosen.folder, encoders)
        return 0
    loaders = {name: load for name, (load, _) in SETS.items()}
    found = shortcut_tables.joined(
        HERE, chosen.folder / "runs", loaders, METHODS
    )
    content = {
        "model": "all-MiniLM-L6-v2, frozen",
        "trained": f"the last layer, L2 {frozen.PENALTY}",
        "learning_rate": frozen.LEARNING_RATE,
        "batch_size": frozen.BATCH_SIZE,
        "updates": frozen.UPDATES,
        "versions": common.versions(),
        "sets": found,
    }
    common.write_tables(HERE, table(found), content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
