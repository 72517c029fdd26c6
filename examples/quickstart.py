"""Quickstart: a shortcut in real data, and a model that does not take it.

    make quickstart                        # installs and runs this
    python examples/quickstart.py          # about five minutes on two cores
    python examples/quickstart.py --true-groups --seed 1

The task is the sentiment of real sentences. In the training data 95 of 100
positive sentences are tweets and 95 of 100 negative ones are from film
reviews, so a model can answer by the kind of text. Nobody labeled the kind of
text. MiniLM, a pretrained encoder with 22 million weights, is fine-tuned with
LoRA three times from the same start: plainly, with EDGE, and by the method
that `kd.recommended` chooses. All are tested on sentences for which the kind
of text says nothing.
"""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def quiet():
    """Hides what TensorFlow's C++ code logs while it starts."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


with quiet():
    import keras_debias as kd  # before Keras: it chooses the backend

    import keras  # isort: skip
    import keras_hub  # isort: skip
    import common  # isort: skip
    import tensorflow as tf  # isort: skip

    # KerasHub tokenizes with TensorFlow, which looks for devices once.
    tf.config.list_physical_devices()

DOMAINS = ("tweets", "film_reviews")
PARTNER = {"positive": "tweets", "negative": "film_reviews"}
STRENGTH = 0.95
BATCH_SIZE = 32
EPOCHS = 2
LEARNING_RATE = 1e-3
RANK = 8
SEQUENCE_LENGTH = 40  # tokens; nine sentences in ten fit


def load_data(rows, test_rows, seed):
    """Skewed training rows, and tests with and without the skew."""
    sentences = kd.data.sentences(DOMAINS)
    pool, rest = sentences.partition(0.7, seed=0)
    train = kd.data.skew(
        pool, label=PARTNER, strength=STRENGTH, n=rows, seed=seed
    )
    balanced = rest.sample(test_rows, seed=0, balance_groups=True)
    same = kd.data.skew(
        rest, label=PARTNER, strength=STRENGTH, n=test_rows, seed=0
    )
    return train, {
        "as in training": same.with_label_groups(),
        "domain says nothing": balanced,
    }


def build(updates):
    """A new network; every method starts from the same one."""
    classifier = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=2, dtype=common.fast_policy()
    )
    classifier.preprocessor.sequence_length = SEQUENCE_LENGTH
    kd.adapters.apply(classifier, kd.adapters.LoRA(rank=RANK))
    classifier.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(LEARNING_RATE, updates)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return classifier


def measures(run):
    """What one model does on the test sets, in percent."""
    rows = run.scores.predictions
    rows = rows[rows["split"] == "domain says nothing"]
    right = rows["label"] == rows["prediction"]
    tweet = rows["group"].str.contains("domain=tweets")
    positive = rows["label"] == "positive"
    says_positive = rows["prediction"] == "positive"
    split = run.scores["domain says nothing"]
    return {
        "as in training": 100 * run.scores["as in training"].accuracy,
        "domain says nothing": 100 * split.accuracy,
        "where it misleads": 100 * right[tweet != positive].mean(),
        "worst group": 100 * split.worst_group_accuracy,
        "reliance": 100
        * (says_positive[tweet].mean() - says_positive[~tweet].mean()),
    }


def table(results):
    """The measures of all methods as text."""
    columns = list(next(iter(results.values())))
    width = max(map(len, results))
    lines = [" " * width + "".join(f"{name:>22}" for name in columns)]
    for method, values in results.items():
        lines.append(
            f"{method:<{width}}"
            + "".join(f"{values[name]:>22.1f}" for name in columns)
        )
    return "\n".join(lines)


def conclusion(results):
    """The result in one sentence."""
    plain, cured = results["plain"], results["recommended"]
    before, after = plain["where it misleads"], cured["where it misleads"]
    if after - before < 10:
        return (
            "The recommended method did not help here: where the kind of text "
            f"misleads, {before:.0f} of 100 sentences are right with plain "
            f"fine-tuning and {after:.0f} of 100 with it."
        )
    return (
        "Where the kind of text misleads, plain fine-tuning gets "
        f"{before:.0f} of 100 sentences right and the recommended method "
        f"{after:.0f} of 100, although nobody told it what misleads."
    )


def draw(results, path):
    """Bars: accuracy where the domain misleads, and the reliance on it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    titles = {
        "where it misleads": "Right where the domain misleads, %",
        "reliance": '"Positive" for the domain alone, points',
    }
    for axes, (name, title) in zip(
        figure.subplots(1, 2), titles.items(), strict=True
    ):
        values = [result[name] for result in results.values()]
        bars = axes.barh(list(results), values, color="#3366aa")
        axes.bar_label(bars, fmt="%.0f", padding=3)
        axes.set_xlim(min(0, *values), 1.15 * max(values))
        axes.set_title(title, fontsize=10, loc="left")
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rows", type=int, default=2000, help="training rows (2000)")
    add("--test-rows", type=int, default=600, help="rows of a test (600)")
    add("--alpha", type=float, default=1.0, help="strength of EDGE (1.0)")
    add("--seed", type=int, default=0)
    add("--true-groups", action="store_true", help="add the ceiling")
    add("--out", type=pathlib.Path, default=pathlib.Path("quickstart"))
    options = parser.parse_args(arguments)
    if options.rows < 200 or options.test_rows < 40:
        parser.error(
            "expected --rows of at least 200 and --test-rows of at least 40"
        )
    return options


def main(arguments=None):
    options = parse(arguments)
    began = time.time()
    print(f"Backend: {keras.config.backend()}. Data: real sentences.")
    train, tests = load_data(options.rows, options.test_rows, options.seed)
    for name, count in train.groups.counts().items():
        print(f"  {count:5,} training sentences with {name}")

    print("\n1. Audit: what goes with the label?")
    unlabeled = train.with_groups(None)
    audit = kd.audit(unlabeled, folds=0)
    for finding in audit.findings[:3]:
        print(f"  {finding.feature} -> {finding.label}")

    print("\n2. Fine-tuning, from the same start each time.")
    methods = {
        "plain": kd.recipes.FineTuning(),
        f"EDGE {options.alpha:g}": kd.recipes.FineTuning(
            kd.projections.EDGE(alpha=options.alpha)
        ),
        "recommended": kd.recommended(unlabeled),
    }
    if options.true_groups:
        methods["true groups"] = kd.recipes.BalancedSampling()
    comparison = kd.compare(
        methods,
        train,
        tests,
        seeds=[options.seed],
        model_fn=build,
        budget=kd.recipes.Budget(epochs=EPOCHS, batch_size=BATCH_SIZE),
        batch_size=64,
        verbose=2,
    )
    for (method, _), error in comparison.errors.items():
        print(f"{method} failed: {error}")
    if comparison.errors:
        return 1
    results = {run.method: measures(run) for run in comparison.runs}
    notes = {run.method: run.notes for run in comparison.runs}
    reason = notes["recommended"]["reason"]

    print(f"\n3. Why this method: {reason}")
    print("\n4. Results, in percent\n")
    print(table(results))
    print(
        "\nReliance: how much more often a tweet is called positive than a "
        "film review,\nof equal sentiment. One seed.\n"
    )
    sentence = conclusion(results)
    print(sentence)
    options.out.mkdir(parents=True, exist_ok=True)
    draw(results, options.out / "results.png")
    comparison.report(
        options.out / "report.html",
        title="A shortcut in sentiment data",
        introduction=[sentence, f"Why this method: {reason}"],
    )
    comparison.to_json(options.out / "results.json")
    print(
        f"\nWritten: {options.out / 'results.png'}, "
        f"{options.out / 'report.html'} and {options.out / 'results.json'}. "
        f"{time.time() - began:.0f} seconds."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
