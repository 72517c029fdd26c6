"""Does EDGE help on Biased-SNLI? TaskOnly against EDGE, several seeds.

The token " !!" is appended to hypotheses so that in training it speaks for
entailment in 90 of 100 cases, and in the test set for nothing. MiniLM with
LoRA is fine-tuned from the same start, in the same order, for the same
number of steps, by plain fine-tuning and by EDGE at several strengths.

    python examples/biased_snli.py                 # 3 seeds, resumable
    python examples/biased_snli.py --seeds 0 1 2 3 4
    python examples/biased_snli.py --full          # whole test sets
    python examples/biased_snli.py --table         # rebuild from predictions

Needs the sets `snli`, `hans` and `mnli_hard`: a folder named by
KERAS_DEBIAS_DATA, or the hub. Finished runs are kept in
`results/biased_snli/` and not repeated; the table is rebuilt from their
predictions alone.
"""

import argparse
import pathlib
import sys
import time

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import keras_hub  # isort: skip
import numpy as np  # isort: skip
from common import machine  # isort: skip
from common import versions  # isort: skip
from common import write  # isort: skip
from compare_nli import training_set  # isort: skip

TRAIN_ROWS = 4000
EPOCHS = 2
BATCH_SIZE = 32
SEQUENCE_LENGTH = 40  # 95 % of the training pairs are shorter
TEST_LENGTH = 48
LEARNING_RATE = 1e-3
# Half the time of float32 on a CPU that knows bfloat16; weights, factors and
# optimizer stay float32.
POLICY = "mixed_bfloat16"
RANK = 8
SETS = {
    "in_distribution": 600,
    "shifted": 1500,
    "hans": 900,
    "mnli_hard": 600,
}
SCRIPT = pathlib.Path(__file__)
FOLDER = SCRIPT.parents[1] / "results" / SCRIPT.stem  # finished runs
METHODS = {
    "TaskOnly": kd.projections.TaskOnly(),
    "EDGE 0.5": kd.projections.EDGE(alpha=0.5),
    "EDGE 1": kd.projections.EDGE(alpha=1.0),
    "EDGE 2": kd.projections.EDGE(alpha=2.0),
}


def test_sets(full):
    """The same rows for every seed and method."""
    clean = kd.data.load("snli", "validation")
    same = kd.data.inject_token(clean, "entailment", 0.25, 0.90, seed=1)
    shifted = kd.data.inject_token(
        kd.data.load("snli", "test"), "entailment", 0.66, 0.50, seed=2
    )
    sets = {
        "in_distribution": same,
        "shifted": shifted,
        "hans": kd.data.load("hans", "validation"),
        "mnli_hard": kd.data.load("mnli_hard", "validation_matched"),
    }
    if full:
        return sets
    return {
        # In distribution the groups keep their shares.
        name: split.sample(
            SETS[name], seed=0, balance_groups=name != "in_distribution"
        )
        for name, split in sets.items()
    }


def build(seed):
    """The same start for every method: `seed` decides head and factors."""
    keras.utils.set_random_seed(seed)
    classifier = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=3, dtype=POLICY
    )
    classifier.preprocessor.sequence_length = SEQUENCE_LENGTH
    kd.adapters.apply(classifier, kd.adapters.LoRA(rank=RANK))
    return classifier


def run(method, seed, full):
    train = training_set(seed)
    model = kd.DebiasedModel(build(seed), METHODS[method], seed=seed)
    steps = EPOCHS * -(-len(train) // BATCH_SIZE)
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                0.0,
                steps,
                warmup_target=LEARNING_RATE,
                warmup_steps=steps // 10,
            ),
            weight_decay=0.05,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    began = time.time()
    history = model.fit(
        train,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        verbose=2,
        callbacks=[kd.callbacks.GradientCosine()]
        if method != "TaskOnly"
        else None,
    )
    seconds = time.time() - began
    model.preprocessor.sequence_length = TEST_LENGTH
    scores = kd.evaluate(
        model, test_sets(full), train=train, batch_size=64, verbose=0
    )
    return {
        "method": method,
        "seed": seed,
        "full": full,
        "training_seconds": round(seconds, 1),
        "history": {
            k: [float(x) for x in v] for k, v in history.history.items()
        },
        "scores": scores.to_dict(),
    }, scores


def path_of(method, seed, full):
    name = f"{method.replace(' ', '_')}_seed{seed}" + ("_full" if full else "")
    return FOLDER / f"{name}.json.gz", FOLDER / f"{name}.csv.gz"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table and not FOLDER.is_dir():
        parser.error(f"Expected finished runs in {FOLDER}. Received: none.")
    if len(set(options.seeds)) != len(options.seeds):
        parser.error(f"Expected different seeds. Received: {options.seeds}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for method in METHODS:
            result_path, predictions_path = path_of(method, seed, options.full)
            if result_path.exists() or options.table:
                continue
            print(f"== {method}, seed {seed}", flush=True)
            result, scores = run(method, seed, options.full)
            scores.save_predictions(predictions_path)
            write(result_path, result)
            print(scores, flush=True)
    table(options)


def measures(predictions):
    """The figures of one run, from its predictions alone."""
    right = predictions["label"] == predictions["prediction"]
    found = {}
    for name, rows in predictions.groupby("split"):
        found[f"{name}_accuracy"] = float(right[rows.index].mean())
        groups = right[rows.index].groupby(rows["group"]).mean()
        found[f"{name}_worst_group"] = float(groups.min())
        if name == "in_distribution":
            shares = rows["label"].value_counts(normalize=True)
            found["majority"] = float(shares.max())
        if name == "shifted":
            # The token says nothing here: any difference is reliance on it.
            token = rows["group"].str.contains("token=yes")
            says = rows["prediction"] == "entailment"
            found["reliance"] = float(says[token].mean() - says[~token].mean())
    return found


SHOWN = {
    "in_distribution_accuracy": "ID acc",
    "shifted_accuracy": "OA",
    "shifted_worst_group": "WGA",
    "hans_accuracy": "HANS",
    "mnli_hard_accuracy": "MNLI-hard",
    "reliance": "reliance",
}


def table(options):
    import pandas as pd

    runs = {}
    for seed in options.seeds:
        for method in METHODS:
            _, path = path_of(method, seed, options.full)
            if path.exists():
                runs[method, seed] = measures(pd.read_csv(path))
    rows = []
    lines = ["| method | " + " | ".join(SHOWN.values()) + " |"]
    lines.append("|---" * (len(SHOWN) + 1) + "|")
    for method in METHODS:
        seeds = [s for s in options.seeds if (method, s) in runs]
        if not seeds:
            continue
        row = {"method": method, "seeds": seeds}
        cells = []
        for key in SHOWN:
            values = np.array([runs[method, s][key] for s in seeds])
            paired = [s for s in seeds if ("TaskOnly", s) in runs]
            difference = np.array(
                [
                    runs[method, s][key] - runs["TaskOnly", s][key]
                    for s in paired
                ]
            )
            row[key] = {
                "values": [round(float(v), 4) for v in values],
                "mean": round(float(values.mean()), 4),
                "std": round(float(values.std(ddof=len(values) > 1)), 4),
                "minus_task_only": [round(float(d), 4) for d in difference],
            }
            cell = f"{100 * values.mean():.1f} ± {100 * row[key]['std']:.1f}"
            if method != "TaskOnly" and len(difference):
                cell += f" ({100 * difference.mean():+.1f})"
            cells.append(cell)
        rows.append(row)
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    plain = [runs[m, s] for m, s in runs if m == "TaskOnly"]
    learned = all(
        r["in_distribution_accuracy"] >= r["majority"] + 0.10 for r in plain
    )
    print("\n".join(lines))
    print(
        "Percent: mean ± standard deviation over seeds (mean paired "
        "difference to TaskOnly)."
    )
    if not learned:
        print("FAILED: TaskOnly does not beat the majority class by 10 points.")
    result = {
        "command": "python examples/biased_snli.py --seeds "
        + " ".join(map(str, options.seeds))
        + (" --full" if options.full else ""),
        "valid": learned,
        "seeds": options.seeds,
        "setting": {
            "train_rows": TRAIN_ROWS,
            "epochs": EPOCHS,
            "batch_size": BATCH_SIZE,
            "sequence_length": SEQUENCE_LENGTH,
            "test_length": TEST_LENGTH,
            "learning_rate": LEARNING_RATE,
            "rank": RANK,
            "dtype_policy": POLICY,
            "injection": {"train": [0.25, 0.90], "test": [0.66, 0.50]},
            "test_rows": "all" if options.full else SETS,
        },
        "majority_in_distribution": [r["majority"] for r in plain],
        "rows": rows,
        "versions": versions(),
        "machine": machine(),
    }
    path = SCRIPT.with_suffix(".json" if not options.full else ".full.json")
    write(path, result)


if __name__ == "__main__":
    sys.exit(main())
