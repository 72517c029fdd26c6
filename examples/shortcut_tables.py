"""Summaries and tables of methods on sets with shortcuts.

`natural_shortcuts.py` and `frozen_shortcuts.py` keep runs of `kd.compare`, one
folder for each set and draw; this reads their predictions.
"""

import functools
import json

import common  # chooses the backend
import numpy as np
import pandas as pd

import keras_debias as kd

import keras  # isort: skip
import keras_hub  # isort: skip

BOOTSTRAP = 2000
# A set counts only with runs of these.
FIRST = ("plain", "recommended", "true groups")


def correct(frame):
    """Which predictions are correct, one array for each group."""
    return [
        (rows["label"] == rows["prediction"]).to_numpy()
        for _, rows in frame.groupby("group")
    ]


def group_accuracies(groups, generator=None):
    """Accuracy of each group; of resampled rows with a generator."""
    return np.array(
        [
            each.mean()
            if generator is None
            else generator.choice(each, len(each)).mean()
            for each in groups
        ]
    )


def kept_runs(folder):
    """From method to `(predictions on the test, notes)`.

    Read from the predictions alone: other versions of the library may have
    counted small groups in the scores in another way.
    """
    found = {}
    for path in folder.rglob("*-seed*.json"):
        record = json.loads(path.read_text())
        frame = pd.read_csv(path.with_suffix(".csv.gz"))
        found[record["method"]] = (
            frame[frame["split"] == "test"],
            record["notes"],
        )
    return found


@functools.cache
def kept_draws(folder):
    """From draw to its kept runs, of one set."""
    paths = sorted(folder.glob("*"), key=lambda path: int(path.name))
    return {int(path.name): kept_runs(path) for path in paths}


def summary(folder, loaders, methods):
    """What the kept runs say, one entry a set.

    Args:
        folder: path with a folder for each set and draw.
        loaders: dict from the name of a set to the function that loads a
            draw.
        methods: names, in the order of the tables.
    """
    found = {}
    for name, load in loaders.items():
        draws = kept_draws(folder / name)
        if not draws:
            continue
        groups = load(0)[0].groups
        if groups is None:
            first = {"plain", "recommended"}
        else:
            first = set(FIRST)
        draws = {
            draw: runs for draw, runs in draws.items() if first <= set(runs)
        }
        if not draws:
            continue
        known = [
            method
            for method in methods
            if any(method in runs for runs in draws.values())
        ]
        if groups is None:
            found[name] = _without_groups(draws, known)
        else:
            found[name] = _with_groups(draws, known, groups.shares())
    return found


def _without_groups(draws, methods):
    """Accuracies on data where nobody knows of a shortcut."""
    return {
        "draws": sorted(draws),
        "accuracy": {
            method: _percent(
                (
                    runs[method][0]["label"] == runs[method][0]["prediction"]
                ).mean()
                for runs in draws.values()
                if method in runs
            )
            for method in methods
        },
        "reason": _reasons(draws),
    }


def _reasons(draws):
    return {
        str(draw): runs["recommended"][1]["reason"]
        for draw, runs in draws.items()
    }


def _figures(tests, shares):
    """What a method does on the tests of some draws."""
    groups = [group_accuracies(correct(test)) for test in tests]
    return {
        "worst_group": _percent(each.min() for each in groups),
        "mean_of_groups": _percent(each.mean() for each in groups),
        "in_distribution": _percent(
            in_distribution(test, shares) for test in tests
        ),
    }


def _with_groups(draws, methods, shares):
    result = {"draws": sorted(draws), "methods": {}}
    for method in methods:
        tests = [runs[method][0] for runs in draws.values() if method in runs]
        result["methods"][method] = _figures(tests, shares)
    for other in ("plain", "true groups"):
        result[f"recommended - {other}"] = difference(draws, other)
    result["reason"] = _reasons(draws)
    labels = {}
    for group, share in shares.items():
        label = group.split(", ")[0]
        labels[label] = labels.get(label, 0.0) + share
    majority = max(labels.values())
    plain = result["methods"]["plain"]
    true = result["methods"]["true groups"]
    gain = np.mean(true["worst_group"]) - np.mean(plain["worst_group"])
    learned = plain["in_distribution"]
    result["gate"] = {
        "plain_beats_majority_by": round(
            float(np.mean(learned) - 100 * majority), 1
        ),
        "true_groups_gain": round(float(gain), 1),
        "passed": bool(gain >= 5 and np.mean(learned) >= 100 * majority + 10),
    }
    return result


def in_distribution(test, shares):
    """Accuracy with the groups weighted as in the training data.

    Groups that the training data lack count as their label does.
    """
    right = test["label"] == test["prediction"]
    means = right.groupby(test["group"]).mean()
    labels = {}
    for group, share in shares.items():
        label = group.split(", ")[0]
        labels[label] = labels.get(label, 0.0) + share
    if set(means.index) & set(shares):
        weights = [shares.get(group, 0.0) for group in means.index]
    else:
        weights = [labels[group.split(", ")[0]] for group in means.index]
    weights = np.array(weights)
    return float((means.to_numpy() * weights).sum() / weights.sum())


def difference(draws, other):
    """Worst group of recommended minus another's, with a 95 % interval.

    Rows are resampled within groups, the same rows for both methods.
    """
    frames = []
    for runs in draws.values():
        first, second = (runs[method][0] for method in ("recommended", other))
        frames.append((correct(first), correct(second)))
    estimate = np.mean(
        [
            group_accuracies(a).min() - group_accuracies(b).min()
            for a, b in frames
        ]
    )
    generator = np.random.default_rng(0)
    resampled = []
    for _ in range(BOOTSTRAP):
        values = []
        for a, b in frames:
            seed = generator.integers(2**31)
            values.append(
                group_accuracies(a, np.random.default_rng(seed)).min()
                - group_accuracies(b, np.random.default_rng(seed)).min()
            )
        resampled.append(np.mean(values))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {
        "points": round(100 * float(estimate), 1),
        "low": round(100 * float(low), 1),
        "high": round(100 * float(high), 1),
    }


def _percent(values):
    return [round(100 * float(value), 1) for value in values]


def table(found, title, methods, sweep):
    """The summary as Markdown."""
    with_groups = {k: v for k, v in found.items() if "methods" in v}
    without = {k: v for k, v in found.items() if "methods" not in v}
    lines = [
        title,
        "",
        *_main_rows(with_groups),
        "",
        *_differences(with_groups),
    ]
    if without:
        lines += [
            "",
            "Sets in which no shortcut is known, accuracy in percent.",
            "",
            "| set | draws | plain | recommended |",
            "| --- | --- | --- | --- |",
        ]
        for name, entry in without.items():
            cells = " | ".join(
                f"{np.mean(entry['accuracy'][method]):.1f}"
                for method in ("plain", "recommended")
            )
            lines.append(f"| {name} | {len(entry['draws'])} | {cells} |")
    others = [method for method in methods if method not in FIRST]
    for names, what in (
        (others, "Other methods"),
        (sweep, "The papers' methods at other settings"),
    ):
        lines += _matrices(with_groups, names, what)
    return "\n".join(lines)


def _main_rows(found):
    lines = [
        "| set | draws | worst group: "
        + " | ".join(FIRST)
        + " | in distribution: "
        + " | ".join(FIRST)
        + " |",
        "| --- | --- |" + " --- |" * 2 * len(FIRST),
    ]
    for name, entry in found.items():
        cells = []
        for key in ("worst_group", "in_distribution"):
            for method in FIRST:
                values = entry["methods"][method][key]
                cell = f"{np.mean(values):.1f}"
                if key == "worst_group" and len(values) > 1:
                    cell += f" ({min(values)} to {max(values)})"
                cells.append(cell)
        lines.append(
            f"| {name} | {len(entry['draws'])} | {' | '.join(cells)} |"
        )
    return lines


def _differences(found):
    lines = [
        "| set | draws | recommended - plain | recommended - true groups | "
        "counts |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, entry in found.items():
        cells = []
        for other in ("plain", "true groups"):
            value = entry[f"recommended - {other}"]
            cells.append(
                f"{value['points']:+.1f} [{value['low']:+.1f}, "
                f"{value['high']:+.1f}]"
            )
        counts = "yes" if entry["gate"]["passed"] else "nothing to gain here"
        lines.append(
            f"| {name} | {len(entry['draws'])} | {cells[0]} | {cells[1]} | "
            f"{counts} |"
        )
    return lines


def _matrices(found, methods, what):
    """Methods x sets: the worst group, then accuracy in distribution."""
    methods = [
        method
        for method in methods
        if any(method in entry["methods"] for entry in found.values())
    ]
    sets = [
        name
        for name, entry in found.items()
        if any(method in entry["methods"] for method in methods)
    ]
    lines = []
    for key, title in (
        ("worst_group", "worst group"),
        ("in_distribution", "in distribution"),
    ):
        if not methods:
            break
        lines += [
            "",
            f"{what}, {title}. Parentheses: the number of draws, where it "
            "differs from the set's.",
            "",
            f"| method | {' | '.join(sets)} |",
            "| --- |" + " --- |" * len(sets),
        ]
        for method in (*FIRST, *methods):
            cells = [_cell(found[name], method, key) for name in sets]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def _cell(entry, method, key):
    values = entry["methods"].get(method, {}).get(key)
    if not values:
        return ""
    draws = len(values)
    known = "" if draws == len(entry["draws"]) else f" ({draws})"
    return f"{np.mean(values):.1f}{known}"


def further_methods(folder, name, load, entry):
    """The figures of a set, with methods that were run later.

    Their draws have to be known, and the methods new to the set.
    """
    later = {}
    for draw, runs in kept_draws(folder / name).items():
        if draw not in entry["draws"] or set(FIRST) <= set(runs):
            continue
        for method, (test, _) in runs.items():
            if method not in entry["methods"]:
                later.setdefault(method, []).append(test)
    if not later:
        return entry
    shares = load(0)[0].groups.shares()
    new = {method: _figures(tests, shares) for method, tests in later.items()}
    return {**entry, "methods": entry["methods"] | new}


def combined(known, new):
    """Figures of known draws and of new ones of the same set.

    Intervals are those of a mean of independent estimates. Where a draw is in
    both, the new figures replace those of the same methods.
    """
    if known is None or new is None or "methods" not in new:
        return new or known
    if set(known["draws"]) & set(new["draws"]):
        return {**new, "methods": known["methods"] | new["methods"]}
    result = {**new, "draws": [*known["draws"], *new["draws"]]}
    result["reason"] = {**known["reason"], **new["reason"]}
    methods = dict.fromkeys([*known["methods"], *new["methods"]])
    empty = {"worst_group": [], "mean_of_groups": [], "in_distribution": []}
    result["methods"] = {
        method: {
            key: known["methods"].get(method, empty)[key]
            + new["methods"].get(method, empty)[key]
            for key in empty
        }
        for method in methods
    }
    for key in ("recommended - plain", "recommended - true groups"):
        parts = [
            (entry[key], len(entry["draws"]) / len(result["draws"]))
            for entry in (known, new)
        ]
        points = sum(share * part["points"] for part, share in parts)
        half = {
            side: sum(
                (share * (part[side] - part["points"])) ** 2
                for part, share in parts
            )
            ** 0.5
            for side in ("low", "high")
        }
        result[key] = {
            "points": round(points, 1),
            "low": round(points - half["low"], 1),
            "high": round(points + half["high"], 1),
        }
    worst = {
        method: np.mean(result["methods"][method]["worst_group"])
        for method in FIRST
    }
    shares = [len(entry["draws"]) for entry in (known, new)]
    beats = np.average(
        [entry["gate"]["plain_beats_majority_by"] for entry in (known, new)],
        weights=shares,
    )
    gain = worst["true groups"] - worst["plain"]
    result["gate"] = {
        "plain_beats_majority_by": round(float(beats), 1),
        "true_groups_gain": round(float(gain), 1),
        "passed": bool(gain >= 5 and beats >= 10),
    }
    return result


def joined(script, folder, loaders, methods):
    """The summary of a folder, and what the file beside a script has.

    Sets without runs in the folder keep their figures, and known draws of
    other sets are added to the new ones.
    """
    found = summary(folder, loaders, methods)
    path = script.with_suffix(".json")
    if path.exists():
        known = json.loads(path.read_text())["sets"]
        found = {
            name: combined(known.get(name), found.get(name))
            for name in loaders
            if name in found or name in known
        }
    for name, entry in found.items():
        if "methods" in entry:
            found[name] = further_methods(folder, name, loaders[name], entry)
    return found


def write(script, folder, loaders, title, content, methods, sweep):
    """Writes the summary next to a script, as JSON and as tables."""
    found = joined(script, folder, loaders, methods | sweep)
    text = table(found, title, methods, sweep)
    content = {
        **content,
        "backend": keras.config.backend(),
        "versions": {
            "keras": keras.__version__,
            "keras_hub": keras_hub.__version__,
            "keras_debias": kd.__version__,
        },
        "sets": found,
    }
    common.write_tables(script, text, content)
