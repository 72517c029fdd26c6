"""What helps on Biased-SNLI? Methods side by side, with equal budgets.

The token " !!" is appended to hypotheses so that in training it speaks for
entailment in 90 of 100 cases, and in the shifted test set for nothing. MiniLM
with LoRA is fine-tuned from the same start, with the same number of updates,
by every method, and tested on the shifted set and on six sets from elsewhere.

    python examples/compare_nli.py                     # 3 seeds, resumable
    python examples/compare_nli.py --seeds 0 --methods ERM EDGE
    python examples/compare_nli.py --full              # whole test sets
    python examples/compare_nli.py --table             # from the kept runs

Needs the sets `snli`, `mnli_hard`, `hans`, `nli_stress`, `qnli` and `is_cs`: a
folder named by KERAS_DEBIAS_DATA, or the hub. Finished runs are kept in
`results/compare_nli/` and not repeated. The table is rebuilt from them, and
written to `examples/compare_nli.json` and `.md`.
"""

import argparse
import pathlib
import sys

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import keras_hub  # isort: skip
import numpy as np  # isort: skip
import common  # isort: skip

TRAIN_ROWS = 4000
EPOCHS = 2
BATCH_SIZE = 32
SEQUENCE_LENGTH = 40  # 95 % of the training pairs are shorter
TEST_LENGTH = 48
LEARNING_RATE = 1e-3
# Half the time of float32 on a CPU that knows bfloat16.
POLICY = "mixed_bfloat16"
RANK = 8
VALIDATION_ROWS = 300
# Evaluation takes time as well: enough rows for two or three points.
SETS = {
    "in_distribution": 500,
    "shifted": 720,
    "mnli_hard": 450,
    "hans": 450,
    "stress": 300,
    "qnli": 300,
    "is_cs": 300,
}
NOTE = (
    "Kept runs are from one H200 with twelve to thirty processes side by "
    "side: their seconds say nothing."
)
SCRIPT = pathlib.Path(__file__)
FOLDER = SCRIPT.parents[1] / "results" / SCRIPT.stem  # finished runs
METHODS = {
    "ERM": kd.recipes.FineTuning(),
    "EDGE": kd.recipes.FineTuning(kd.projections.EDGE(alpha=0.5)),
    # With group labels.
    "balanced": kd.recipes.BalancedSampling(),
    "GroupDRO": kd.recipes.GroupDRO(),
    "GA": kd.recipes.GradientAlignment(
        conflicting=(
            "label=neutral, token=yes",
            "label=contradiction, token=yes",
        )
    ),
    # Without.
    "JTT": kd.recipes.JTT(),
    "REW": kd.recipes.Reweighting(),
    "LM": kd.recipes.LearnedMixin(),
    "LfF": kd.recipes.LearningFromFailure(),
    "CORSAIR": kd.recipes.CounterfactualInference(),
    "balanced, cross mistakes": kd.recipes.BalancedSampling(
        groups=kd.recipes.XRM()
    ),
    "balanced, audit cue": kd.recipes.BalancedSampling(
        groups=kd.recipes.AuditGroups()
    ),
}

# EDGE's Tables 2 and 3: RoBERTa-base with LoRA, all of SNLI, percent. Table 3
# is without the token, so only the order of its methods may be compared.
PAPER_COLUMNS = (
    *("shifted accuracy", "shifted worst group", "mnli_hard accuracy"),
    *("qnli accuracy", "stress accuracy", "hans accuracy", "is_cs accuracy"),
)
PAPER = {
    "ERM": (81.2, 73.5, 76.4, 72.0, 68.0, 64.5, 63.7),
    "REW": (81.4, 74.8, 76.6, 72.1, 68.8, 65.0, 64.1),
    "LM": (80.1, 74.0, 75.7, 71.2, 67.3, 63.8, 63.0),
    "CORSAIR": (81.0, 73.2, 76.5, 72.4, 68.4, 64.7, 64.0),
    "GA": (82.4, 77.3, 77.0, 72.5, 68.7, 65.3, 64.0),
    "EDGE": (83.5, 77.4, 76.9, 72.2, 68.6, 65.2, 64.0),
}


def training_set(seed):
    rows = kd.data.load("snli", "train").sample(
        TRAIN_ROWS, seed=seed, balance_labels=True
    )
    return kd.data.inject_token(rows, "entailment", 0.25, 0.90, seed=seed)


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
        "mnli_hard": kd.data.load("mnli_hard", "validation_matched"),
        "hans": kd.data.load("hans", "validation"),
        "stress": kd.data.load("nli_stress", "negation"),
        "qnli": kd.data.load("qnli", "validation"),
        "is_cs": kd.data.load("is_cs", "addamod"),
    }
    # Other rows than those of `in_distribution`.
    rows = same.sample(SETS["in_distribution"] + VALIDATION_ROWS, seed=0)
    validation = rows.take(np.arange(SETS["in_distribution"], len(rows)))
    if full:
        return sets, validation
    chosen = {
        # In distribution the groups keep their shares.
        name: split.sample(
            SETS[name], seed=0, balance_groups=name != "in_distribution"
        )
        for name, split in sets.items()
    }
    return chosen, validation


def build(updates):
    classifier = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=3, dtype=POLICY
    )
    classifier.preprocessor.sequence_length = SEQUENCE_LENGTH
    kd.adapters.apply(classifier, kd.adapters.LoRA(rank=RANK))
    classifier.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                0.0,
                updates,
                warmup_target=LEARNING_RATE,
                warmup_steps=updates // 10,
            ),
            weight_decay=0.05,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return classifier


def prepare_evaluation(model):
    model.preprocessor.sequence_length = TEST_LENGTH


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table and not FOLDER.is_dir():
        parser.error(f"Expected finished runs in {FOLDER}. Received: none.")
    unknown = sorted(set(options.methods) - set(METHODS))
    if unknown:
        parser.error(
            f"Expected methods of {list(METHODS)}. Received: {unknown}"
        )
    folder = FOLDER.with_name(FOLDER.name + "_full" * options.full)
    if not options.table:
        splits, validation = test_sets(options.full)
        kd.compare(
            {n: m for n, m in METHODS.items() if n in options.methods},
            training_set,
            splits,
            options.seeds,
            build,
            kd.recipes.Budget(epochs=EPOCHS, batch_size=BATCH_SIZE),
            validation=validation,
            criteria=[
                kd.comparison.BiasedDisagreement(
                    kd.recipes.BagOfWords().predict(training_set(0), validation)
                )
            ],
            folder=folder,
            batch_size=64,
            prepare_evaluation=prepare_evaluation,
        )
    write(kd.comparison.Comparison.load(folder, methods=METHODS), folder)


def write(comparison, folder):
    """Table and figures, from the kept runs alone."""
    print(comparison)
    print(f"\nEDGE's tables 2 and 3: {', '.join(PAPER_COLUMNS)}")
    for method, values in PAPER.items():
        print(f"{method:<8}", *values)
    plain = [run for run in comparison.runs if run.method == "ERM"]
    majority = {run.seed: majority_in_distribution(run) for run in plain}
    valid = bool(plain) and all(
        run.scores["in_distribution"].accuracy >= majority[run.seed] + 0.10
        for run in plain
    )
    if not valid:
        print("FAILED: ERM does not beat the majority class by 10 points.")
    found = comparison.to_dict()
    for run in found["runs"]:
        # Groups and intervals are in the kept runs.
        run["scores"] = {
            split["name"]: {
                name: round(split[name], 4)
                for name in ("accuracy", "worst_group_accuracy")
            }
            for split in run["scores"]["splits"]
        }
    setting = {
        "train_rows": TRAIN_ROWS,
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "sequence_length": SEQUENCE_LENGTH,
        "test_length": TEST_LENGTH,
        "learning_rate": LEARNING_RATE,
        "rank": RANK,
        "dtype_policy": POLICY,
        "injection": {"train": [0.25, 0.90], "test": [0.66, 0.50]},
        "test_rows": "all" if folder.name.endswith("_full") else SETS,
        "note": NOTE,
    }
    result = {
        "command": "python examples/compare_nli.py",
        "valid": valid,
        "majority_in_distribution": majority,
        "setting": setting,
        "paper": {"columns": PAPER_COLUMNS, **PAPER},
        "keras_hub": keras_hub.__version__,
        **found,
    }
    common.write(SCRIPT.with_name(f"{folder.name}.json"), result)
    comparison.to_markdown(SCRIPT.with_name(f"{folder.name}.md"))


def majority_in_distribution(run):
    rows = run.scores.predictions
    labels = rows[rows["split"] == "in_distribution"]["label"]
    return round(float(labels.value_counts(normalize=True).max()), 4)


if __name__ == "__main__":
    sys.exit(main())
