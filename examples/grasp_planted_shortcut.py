"""Can a shortcut be read from a fine-tune's weights, and kept out of it?

The token " !!" is appended to SNLI hypotheses so that in training it speaks
for entailment in 90 of 100 cases. MiniLM with LoRA is fine-tuned, and what it
then relies on is looked for in its weights. Compared are

- base: the head alone, on the frozen encoder;
- naive: plain fine-tuning with LoRA;
- GRASP: fine-tuning again, kept from the leading 1 or 4 directions;
- random: the same with as many random directions;
- ablation: fine-tuning again with the direction taken out of activations;
- steering: the naive model, the direction taken out at inference;
- tail truncation: the naive model, of whose updates the leading (trailing,
  random) singular components are kept.

    python examples/grasp_planted_shortcut.py             # 3 seeds, resumable
    python examples/grasp_planted_shortcut.py --seeds 0
    python examples/grasp_planted_shortcut.py --table     # rebuild the table

Needs the set `snli`: a folder named by KERAS_DEBIAS_DATA, or the hub.
Finished runs are kept in `results/grasp_planted_shortcut/` and not repeated.
The naive adapters go to a folder for caches (`--cache`).
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
from common import read  # isort: skip
from common import run_path  # isort: skip
from common import versions  # isort: skip
from common import write  # isort: skip

TRAIN_ROWS = 3000
EPOCHS = 2
BATCH_SIZE = 32
SEQUENCE_LENGTH = 32
LEARNING_RATE = 2e-3
POLICY = "mixed_bfloat16"
RANK = 8
TOKEN = " !!"
TEST_ROWS = {"in_distribution": 500, "paired": 450}
SCRIPT = pathlib.Path(__file__)
FOLDER = SCRIPT.parents[1] / "results" / SCRIPT.stem  # finished runs
METHODS = (
    "naive",
    "GRASP k=1",
    "random k=1",
    "ablation k=1",
    "GRASP k=4",
    "random k=4",
    "base",
    "steering k=1",
    "steering k=4",
    "top 1",
    "top 4",
    "bottom 4",
    "random 4",
)


def training_set(seed):
    rows = kd.data.load("snli", "train").sample(
        TRAIN_ROWS, seed=seed, balance_labels=True
    )
    return kd.data.inject_token(rows, "entailment", 0.25, 0.90, seed=seed)


def test_sets():
    """The same rows for every seed and method."""
    same = kd.data.inject_token(
        kd.data.load("snli", "validation"), "entailment", 0.25, 0.90, seed=1
    ).sample(TEST_ROWS["in_distribution"], seed=0)
    clean = kd.data.load("snli", "test").sample(
        TEST_ROWS["paired"], seed=0, balance_labels=True
    )
    premises, hypotheses = clean.x
    marked = kd.data.Split(
        (premises, [text + TOKEN for text in hypotheses]),
        clean.y,
        label_names=clean.label_names,
    )
    return {"in_distribution": same, "clean": clean, "marked": marked}


def build(seed, adapter=True):
    """The same start for every method: `seed` decides head and factors."""
    keras.utils.set_random_seed(seed)
    classifier = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=3, dtype=POLICY
    )
    classifier.preprocessor.sequence_length = SEQUENCE_LENGTH
    if adapter:
        kd.adapters.apply(classifier, kd.adapters.LoRA(rank=RANK))
    else:
        classifier.backbone.trainable = False
    return classifier


def fit(classifier, seed, projection=None):
    train = training_set(seed)
    model = kd.DebiasedModel(classifier, projection, seed=seed)
    steps = EPOCHS * -(-len(train) // BATCH_SIZE)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=LEARNING_RATE, warmup_steps=steps // 10
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(train, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=2)
    model.label_names = train.label_names
    return model, history.history


def naive_model(seed, cache):
    classifier = build(seed, adapter=False)
    classifier.backbone.trainable = True
    kd.adapters.load(classifier, cache / f"seed{seed}")
    return classifier


def found_in(spectrum, classifier):
    """What was read from the weights, and how it lies to the token."""
    embedding = classifier.backbone.token_embedding
    table = keras.ops.convert_to_numpy(embedding.embeddings).astype("float32")
    tokenizer = classifier.preprocessor.tokenizer
    token = table[tokenizer.token_to_id("!")] - table.mean(0)
    return {
        "spectrum": spectrum.spectrum[:12].round(5).tolist(),
        "threshold": round(spectrum.threshold, 5),
        "detected": spectrum.detected,
        "gap": round(spectrum.gap, 4),
        "layer_shares": {
            path: round(share, 4)
            for path, share in spectrum.layer_shares.items()
        },
        "overlap_with_token_embedding": {
            k: round(spectrum.directions.first(k).overlap(token), 4)
            for k in (1, 4)
        },
        "random_overlap": {
            k: round(
                float(
                    np.mean(
                        [
                            spectrum.directions.first(k)
                            .random(seed)
                            .overlap(token)
                            for seed in range(100)
                        ]
                    )
                ),
                4,
            )
            for k in (1, 4)
        },
    }


def run(method, seed, cache):
    kind, _, number = method.partition(" ")
    number = int(number.split("=")[-1]) if number else None
    trained, history, extra = True, None, {}
    began = time.time()
    if method == "base":
        model, history = fit(build(seed, adapter=False), seed)
    elif method == "naive":
        model, history = fit(build(seed), seed)
        kd.adapters.save(model.model, cache / f"seed{seed}", overwrite=True)
        spectrum = kd.analysis.latent_factors(model.model, k=4)
        spectrum.save(cache / f"spectrum{seed}", overwrite=True)
        print(spectrum, flush=True)
        extra["found"] = found_in(spectrum, model.model)
    else:
        spectrum = kd.analysis.UpdateSpectrum.load(cache / f"spectrum{seed}")
        if "k=" in method:
            directions = spectrum.directions.first(number)
        if kind == "random" and "k=" in method:
            directions = directions.random(seed)
        if kind in ("GRASP", "ablation") or "random k" in method:
            classifier = build(seed)
            if kind == "ablation":
                extra["ablated"] = len(
                    kd.analysis.ablate(classifier, directions)
                )
            subspace = kd.projections.Subspace(directions)
            model, history = fit(classifier, seed, subspace)
        else:
            trained = False
            model = naive_model(seed, cache)
            if kind == "steering":
                extra["ablated"] = len(kd.analysis.ablate(model, directions))
            else:
                kd.analysis.truncate_update(
                    model, k=number, keep=kind, seed=seed
                )
    seconds = time.time() - began
    tests = test_sets()
    return {
        "method": method,
        "seed": seed,
        "training_seconds": round(seconds, 1) if trained else None,
        "history": history
        and {k: np.round(v, 4).tolist() for k, v in history.items()},
        "label_names": list(tests["clean"].label_names),
        "labels": {name: test.y.tolist() for name, test in tests.items()},
        "logits": {
            name: model.predict(test.x, batch_size=64, verbose=0)
            .astype("float64")
            .round(3)
            .tolist()
            for name, test in tests.items()
        },
        **extra,
    }


class Kept:
    """Kept logits in a model's place."""

    def predict(self, x, **_):
        return x


def measures(found):
    """The figures of one run, from its logits alone."""
    tests = {
        name: kd.data.Split(
            np.array(logits, "float32"),
            np.array(found["labels"][name]),
            label_names=found["label_names"],
        )
        for name, logits in found["logits"].items()
    }
    same = tests["in_distribution"]
    probe = kd.evaluation.reliance(
        Kept(), tests["clean"], tests["marked"], "entailment"
    )
    return {
        "in_distribution": float((same.x.argmax(-1) == same.y).mean()),
        "majority": float((np.bincount(same.y) / len(same)).max()),
        **probe.to_dict(),
    }


SHOWN = {
    "in_distribution": "in distribution",
    "accuracy": "paired",
    "worst_group_accuracy": "its worst group",
    "toward": "toward entailment",
    "flipped": "flipped",
}


def table(seeds):
    runs = {}
    for seed in seeds:
        for method in METHODS:
            if run_path(FOLDER, method, seed).exists():
                found = read(run_path(FOLDER, method, seed))
                runs[method, seed] = {**measures(found), **found}
    rows = []
    print("| method | " + " | ".join(SHOWN.values()) + " |")
    print("|---" * (len(SHOWN) + 1) + "|")
    for method in METHODS:
        present = [s for s in seeds if (method, s) in runs]
        if not present:
            continue
        row, cells = {"method": method, "seeds": present}, []
        for key in SHOWN:
            values = np.array([runs[method, s][key] for s in present])
            row[key] = {
                "values": values.round(4).tolist(),
                "mean": round(float(values.mean()), 4),
                "std": round(float(values.std(ddof=len(values) > 1)), 4),
            }
            mean, std = 100 * row[key]["mean"], 100 * row[key]["std"]
            cells.append(f"{mean:.1f} ± {std:.1f}")
        rows.append(row)
        print(f"| {method} | " + " | ".join(cells) + " |")
    naive = [runs[m, s] for m, s in runs if m == "naive"]
    learned = all(r["in_distribution"] >= r["majority"] + 0.1 for r in naive)
    print("Percent: mean ± standard deviation over seeds.")
    if not learned:
        print("FAILED: naive does not beat the majority class by 10 points.")
    result = {
        "command": "python examples/grasp_planted_shortcut.py --seeds "
        + " ".join(map(str, seeds)),
        "valid": learned,
        "setting": {
            "train_rows": TRAIN_ROWS,
            "epochs": EPOCHS,
            "batch_size": BATCH_SIZE,
            "sequence_length": SEQUENCE_LENGTH,
            "learning_rate": LEARNING_RATE,
            "rank": RANK,
            "dtype_policy": POLICY,
            "injection": [0.25, 0.90],
            "test_rows": TEST_ROWS,
        },
        "majority_in_distribution": [r["majority"] for r in naive],
        "found": [r["found"] for r in naive],
        "rows": rows,
        "versions": versions(),
        "machine": machine(),
    }
    write(SCRIPT.with_suffix(".json"), result)
    plot(rows)


def plot(rows):
    """Reliance against the score of the task, one point a method."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    # Points lie on each other: a color a kind, a marker a size, a legend.
    kinds = dict.fromkeys(row["method"].split()[0] for row in rows)
    colors = dict(zip(kinds, matplotlib.colormaps["tab10"].colors))
    for row in rows:
        x, y = 100 * row["accuracy"]["mean"], 100 * row["toward"]["mean"]
        kind, _, size = row["method"].partition(" ")
        axes.plot(
            x,
            y,
            "s" if size.endswith("4") else "o",
            color=colors[kind],
            label=row["method"],
            markersize=6,
            alpha=0.8,
        )
    axes.axhline(0, color="#DDDDDD", linewidth=0.8)
    axes.set_xlabel("Accuracy on pairs with and without the token, %")
    axes.set_ylabel("Change toward entailment by the token, points")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(SCRIPT.with_suffix(".png"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        default=pathlib.Path.home() / ".cache/keras_debias/grasp_shortcut",
    )
    options = parser.parse_args()
    if options.table and not FOLDER.is_dir():
        parser.error(f"Expected finished runs in {FOLDER}. Received: none.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    options.cache.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for method in options.methods:
            if options.table or run_path(FOLDER, method, seed).exists():
                continue
            print(f"== {method}, seed {seed}", flush=True)
            result = run(method, seed, options.cache)
            write(run_path(FOLDER, method, seed), result)
            print(measures(result), flush=True)
    table(options.seeds)


if __name__ == "__main__":
    sys.exit(main())
