"""Quickstart: a shortcut, plain fine-tuning, and EDGE, side by side.

    make quickstart                                # installs and runs this
    python examples/quickstart.py                  # about five minutes
    python examples/quickstart.py --rows 8000 --epochs 2 --seed 1

MiniLM, a pretrained BERT encoder with 22 million weights, learns from
sentence pairs whether the second follows from the first. The token " !!" is
put behind some hypotheses, nearly always where the answer is entailment: a
shortcut. The same start is fine-tuned twice, by plain fine-tuning and by
EDGE, and both are measured on data where the shortcut holds and where it
does not.

The pairs come from the folder named by KERAS_DEBIAS_DATA, else from the hub
(needs the package `datasets`), else from a grammar inside the library.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import keras_hub  # isort: skip
import numpy as np  # isort: skip

BATCH_SIZE = 32
LEARNING_RATE = 3e-3  # high, for a budget of a few minutes
RANK = 8
SEQUENCE_LENGTH = 40  # tokens; 95 % of the SNLI pairs are shorter
TEST_LENGTH = 48
TRAIN_BIAS = (0.25, 0.90)  # prevalence and strength, as in the EDGE paper
TEST_BIAS = (0.66, 0.50)
TARGET = "entailment"
PUBLIC_SETS = {
    "train": ("snli", "train"),
    "same": ("snli", "validation"),
    "other": ("snli", "test"),
    "overlap": ("hans", "validation"),
}
SETS = ("in_distribution", "shifted", "overlap")


# The data.


def from_folder():
    """The public sets as files; raises if any of them is absent."""
    folder = kd.data.sources.folder()
    if folder is None:
        raise ValueError("KERAS_DEBIAS_DATA is not set")
    return {
        part: kd.data.load(name, split, folder=folder)
        for part, (name, split) in PUBLIC_SETS.items()
    }


def from_hub():
    """The public sets; raises within seconds if the hub does not answer."""
    return {
        part: kd.data.load(name, split)
        for part, (name, split) in PUBLIC_SETS.items()
    }


def from_grammar(rows, test_rows, seed):
    """Pairs made by the library; no pair is in two of the parts."""
    pool = 3 * test_rows  # so that every group has rows enough
    pairs = kd.data.generated_nli(rows + 2 * pool, seed=seed)
    cuts = np.split(np.arange(len(pairs)), [rows, rows + pool])
    parts = dict(zip(("train", "same", "other"), map(pairs.take, cuts)))
    overlap = kd.data.generated_overlap(test_rows, seed=seed)
    return {**parts, "overlap": overlap}


def find_data(rows, test_rows, seed):
    """The clean parts and where they are from: folder, hub or grammar."""
    for source, read in (("folder", from_folder), ("hub", from_hub)):
        try:
            return source, read()
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            reason = str(error).split(". ")[0].strip().splitlines()[0]
            print(f"  not from the {source}: {reason.rstrip('.')}.")
    return "grammar", from_grammar(rows, test_rows, seed)


DESCRIPTIONS = {
    "folder": "SNLI and HANS from the folder KERAS_DEBIAS_DATA",
    "hub": "SNLI and HANS from the hub",
    "grammar": (
        "pairs made by the grammar in keras_debias.data. They are easier and "
        "more alike than sentences by people"
    ),
}


def prepare(parts, rows, test_rows, seed):
    """The training set with the shortcut, and the three test sets."""
    train = parts["train"].sample(
        min(rows, len(parts["train"])), seed=seed, balance_labels=True
    )
    train = kd.data.inject_token(train, TARGET, *TRAIN_BIAS, seed=seed)
    # The test sets are the same whatever the seed of the training.
    same = kd.data.inject_token(parts["same"], TARGET, *TRAIN_BIAS, seed=1)
    same = same.sample(test_rows, seed=0, balance_labels=True)
    other = kd.data.inject_token(parts["other"], TARGET, *TEST_BIAS, seed=2)
    tests = (
        # Rows with the token on the wrong label are too few here to be
        # groups of their own.
        same.with_label_groups(),
        other.sample(test_rows, seed=0, balance_groups=True),
        parts["overlap"].sample(test_rows, seed=0, balance_groups=True),
    )
    return train, dict(zip(SETS, tests, strict=True))


# One fine-tuning.


def build(seed):
    """The same start for every method: `seed` decides head and factors."""
    keras.utils.set_random_seed(seed)
    classifier = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=3
    )
    kd.adapters.apply(classifier, kd.adapters.LoRA(rank=RANK))
    return classifier


def run(projection, train, tests, options):
    classifier = build(options.seed)
    model = kd.DebiasedModel(classifier, projection, seed=options.seed)
    steps = options.epochs * math.ceil(len(train) / BATCH_SIZE)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=steps,
        warmup_target=LEARNING_RATE,
        warmup_steps=steps // 10,
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.preprocessor.sequence_length = SEQUENCE_LENGTH
    began = time.time()
    model.fit(train, batch_size=BATCH_SIZE, epochs=options.epochs, verbose=1)
    seconds = time.time() - began
    model.preprocessor.sequence_length = TEST_LENGTH
    scores = kd.evaluate(model, tests, train=train, batch_size=64)
    return scores, seconds


# What the numbers say.


def reliance(scores):
    """How much more often entailment is predicted where the token stands.

    On the shifted set the token says nothing about the label, so that a
    model which does not use it gets zero.
    """
    rows = scores.predictions
    rows = rows[rows["split"] == "shifted"]
    says = rows["prediction"] == TARGET
    token = rows["group"].str.contains("token=yes")
    return float(says[token].mean() - says[~token].mean())


def points(difference):
    """A difference of shares in words."""
    size = f"{abs(100 * difference):.1f} points"
    if size == "0.0 points":
        return "as good as"
    return f"{size} {'better' if difference > 0 else 'worse'} than"


def conclusion(plain, debiased, majority, name):
    """Plain sentences, computed from the scores."""
    accuracy = plain["in_distribution"].accuracy
    before, after = reliance(plain), reliance(debiased)
    first, second = plain["shifted"], debiased["shifted"]
    low, high = (s.worst_group_accuracy_interval for s in (first, second))
    overlap = low[1] >= high[0] and high[1] >= low[0]
    lines = [
        f"In distribution, plain fine-tuning gets {100 * accuracy:.1f} %; "
        f"always answering the most frequent label gets {100 * majority:.1f} "
        "%.",
        "On the shifted set the token says nothing, yet plain fine-tuning "
        f"answers {TARGET} {100 * before:.1f} points more often where it "
        f"stands; {name}: {100 * after:.1f} points.",
        f"There {name}'s worst group is "
        + points(second.worst_group_accuracy - first.worst_group_accuracy)
        + " that of plain fine-tuning, its accuracy "
        + points(second.accuracy - first.accuracy)
        + f" plain fine-tuning's; the intervals of the worst groups "
        f"{'overlap' if overlap else 'do not overlap'}.",
        "One seed proves nothing either way: examples/biased_snli.py repeats "
        "this over several.",
    ]
    if accuracy < majority + 0.10:
        lines.insert(
            1,
            "That is less than 10 points more: the model has learned too "
            "little for this comparison to mean anything. Use more --rows.",
        )
    return lines


def write(path, named_scores, options, source, seconds, sizes):
    result = {
        "settings": {
            "alpha": options.alpha,
            "batch_size": BATCH_SIZE,
            "epochs": options.epochs,
            "injection": {"train": TRAIN_BIAS, "shifted": TEST_BIAS},
            "learning_rate": LEARNING_RATE,
            "lora_rank": RANK,
            "rows": sizes,
            "seed": options.seed,
            "sequence_length": SEQUENCE_LENGTH,
            "test_sequence_length": TEST_LENGTH,
        },
        "data_source": source,
        "training_seconds": {
            name: round(value, 1) for name, value in seconds.items()
        },
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            "keras_hub": keras_hub.__version__,
            "keras_debias": kd.__version__,
            "backend": keras.config.backend(),
        },
        "reliance_on_the_token": {
            name: round(reliance(s), 4) for name, s in named_scores.items()
        },
        "scores": {name: s.to_dict() for name, s in named_scores.items()},
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rows", type=int, default=5000, help="training pairs (5000)")
    add("--test-rows", type=int, default=600, help="pairs a test set (600)")
    add("--epochs", type=int, default=1)
    add("--alpha", type=float, default=0.5, help="strength of EDGE (0.5)")
    add("--seed", type=int, default=0)
    add("--out", type=pathlib.Path, default=pathlib.Path("quickstart"))
    options = parser.parse_args(arguments)
    if options.rows < 3 or options.test_rows < 12 or options.epochs < 1:
        parser.error(
            "expected --rows of at least 3, --test-rows of at least 12 and "
            "--epochs of at least 1"
        )
    return options


def main(arguments=None):
    options = parse(arguments)
    began = time.time()
    edge = f"EDGE {options.alpha:g}"
    methods = {
        "TaskOnly": kd.projections.TaskOnly(),
        edge: kd.projections.EDGE(alpha=options.alpha),
    }
    print(
        "Fine-tunes MiniLM with LoRA twice from one start, in one order: "
        "TaskOnly (plain\nfine-tuning) and EDGE, on sentence pairs with a "
        f"shortcut. Backend: {keras.config.backend()}."
    )
    print("Data:")
    source, parts = find_data(options.rows, options.test_rows, options.seed)
    print(f"  {DESCRIPTIONS[source]}.")
    train, tests = prepare(parts, options.rows, options.test_rows, options.seed)
    counts = train.groups.counts()
    token = {k: n for k, n in counts.items() if k.endswith("token=yes")}
    right = token.get(f"label={TARGET}, token=yes", 0)
    print(
        f'  {len(train):,} training pairs, {sum(token.values())} with " !!" '
        f"at the end, {right} of these {TARGET}."
    )
    print(
        f"  {options.test_rows} test pairs each: in_distribution (as in "
        "training; groups: labels),\n  shifted (the token says nothing; "
        "groups: label x token, of one size), and\n  overlap (all words of "
        "the hypothesis are in the premise; groups: label x kind)."
    )

    named_scores, seconds = {}, {}
    for name, projection in methods.items():
        print(f"\n{name}: {options.epochs} epoch(s)", flush=True)
        named_scores[name], seconds[name] = run(
            projection, train, tests, options
        )

    plain, debiased = named_scores.values()
    shares = np.bincount(tests["in_distribution"].y) / options.test_rows
    print("\n" + kd.evaluation.comparison_table(named_scores))
    print("Percent; gap = accuracy - worst group.\n")
    for line in conclusion(plain, debiased, shares.max(), edge):
        print(line)
    options.out.mkdir(parents=True, exist_ok=True)
    sizes = {"train": len(train), **{n: len(s) for n, s in tests.items()}}
    write(
        options.out / "scores.json",
        named_scores,
        options,
        source,
        seconds,
        sizes,
    )
    kd.evaluation.plot_comparison(named_scores, options.out / "scores.png")
    print(
        f"\nWritten: {options.out / 'scores.json'} and "
        f"{options.out / 'scores.png'}. {time.time() - began:.0f} seconds in "
        f"all, {sum(seconds.values()):.0f} of them training."
    )


if __name__ == "__main__":
    sys.exit(main())
