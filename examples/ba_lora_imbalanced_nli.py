"""Does BA-LoRA save a rare class? Natural language inference at 100:10:1.

SNLI is cut to entailment:neutral:contradiction = 100:10:1, and MiniLM is
fine-tuned on it by LoRA, PiSSA and BA-LoRA, the latter with the published
k = 5, at which its spectral term is constant for three classes, and with
k = 1. Of one seed, all methods have the same rows in the same order and the
same head at the start. The test rows are balanced.

    python examples/ba_lora_imbalanced_nli.py             # one seed, resumable
    python examples/ba_lora_imbalanced_nli.py --seeds 0 1 2
    python examples/ba_lora_imbalanced_nli.py --table     # from the logits

Needs the set `snli`: a folder named by KERAS_DEBIAS_DATA, or the hub.
Finished runs are kept in `results/ba_lora_imbalanced_nli/` and not
repeated; the table is rebuilt from their logits alone.
"""

import argparse
import io
import json
import pathlib
import sys
import time
import warnings

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import keras_hub  # isort: skip
import numpy as np  # isort: skip

from common import machine  # isort: skip
from common import mean_and_spread  # isort: skip
from common import replace  # isort: skip
from common import versions  # isort: skip
from common import write  # isort: skip

RATIO = {"entailment": 100, "neutral": 10, "contradiction": 1}
MINORITY = "contradiction"
EPOCHS = 6
BATCH_SIZE = 32
SEQUENCE_LENGTH = 28  # 95 % of the training pairs fit
TEST_LENGTH = 40
TEST_ROWS = 1500
# At 1e-3 both stay at the frequent class: nine rows in ten are of it.
LEARNING_RATES = {kd.adapters.LoRA: 5e-4, kd.adapters.PiSSA: 3e-4}
# Half the time of float32 on a CPU that knows bfloat16; weights, factors and
# optimizer stay float32.
POLICY = "mixed_bfloat16"
RANK = 8
TARGETS = (
    *("query", "key", "value", "attention_output"),
    *("feedforward_intermediate_dense", "feedforward_output_dense"),
)
METHODS = {
    "LoRA": (kd.adapters.LoRA, None),
    "PiSSA": (kd.adapters.PiSSA, None),
    "BA-LoRA k=5": (kd.adapters.PiSSA, 5),
    "BA-LoRA k=1": (kd.adapters.PiSSA, 1),
}
PLAIN = ("LoRA", "PiSSA")
# Table 12 of the paper: RoBERTa-base on MNLI at the same ratio. Silhouette of
# all classes and of the rare one, and its recall in percent.
PAPER = {
    "LoRA": (0.207, 0.015, 5.8),
    "PiSSA": (0.247, 0.128, 26.4),
    "BA-LoRA k=5": (0.351, 0.425, 61.7),
}
SCRIPT = pathlib.Path(__file__)
FOLDER = SCRIPT.parents[1] / "results" / SCRIPT.stem  # finished runs
SINGLE = ("silhouette", "minority_silhouette", "minority_recall")


def build(method, seed):
    """The same start for every method: `seed` decides the head."""
    keras.utils.set_random_seed(seed)
    classifier = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=len(RATIO), dtype=POLICY
    )
    classifier.preprocessor.sequence_length = SEQUENCE_LENGTH
    adapter, k = METHODS[method]
    kd.adapters.apply(classifier, adapter(rank=RANK, targets=TARGETS))
    regularizers = None
    if k is not None:
        # The teacher's features, once for all epochs.
        cache = kd.regularizers.TeacherCache()
        regularizers = kd.regularizers.ba_lora(k=k, cache=cache)
    return kd.DebiasedModel(classifier, regularizers=regularizers, seed=seed)


def run(method, seed, rows=None):
    everything = kd.data.load("snli", "train")
    train = kd.data.subsample_classes(everything, RATIO, seed=seed)
    if rows is not None:
        train = train.sample(rows, seed=seed)
    test = kd.data.load("snli", "test").sample(
        TEST_ROWS, seed=0, balance_labels=True
    )
    model = build(method, seed)
    steps = EPOCHS * -(-len(train) // BATCH_SIZE)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                0.0,
                steps,
                warmup_target=LEARNING_RATES[METHODS[method][0]],
                warmup_steps=steps // 10,
            )
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    with warnings.catch_warnings():
        # Known, and what the run with k = 5 is about.
        warnings.filterwarnings("ignore", "`SpectralConcentration.*cannot act")
        history = model.fit(
            train, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=2
        )
    model.model.preprocessor.sequence_length = TEST_LENGTH
    logits = model.predict(test.x, batch_size=64, verbose=0)
    return {
        "method": method,
        "seed": seed,
        "train_counts": dict(
            zip(train.label_names, np.bincount(train.y).tolist(), strict=True)
        ),
        "label_names": list(test.label_names),
        "history": {
            k: [round(float(x), 5) for x in v]
            for k, v in history.history.items()
        },
        "versions": versions(),
        "machine": machine(),
    }, {"logits": logits.astype("float16"), "labels": test.y.astype("int8")}


def paths_of(method, seed):
    name = f"{method.replace(' ', '_').replace('=', '')}_seed{seed}"
    return FOLDER / f"{name}.json", FOLDER / f"{name}.npz"


def keep(method, seed, result, arrays):
    result_path, arrays_path = paths_of(method, seed)

    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    replace(arrays_path, content.getvalue())
    write(result_path, result)


def measures(method, seed):
    """The figures of one run, from its logits alone; None without a run."""
    result_path, arrays_path = paths_of(method, seed)
    if not result_path.exists():
        return None
    names = json.loads(result_path.read_text())["label_names"]
    with np.load(arrays_path) as file:
        logits, labels = file["logits"].astype("float32"), file["labels"]
    predictions = logits.argmax(-1)
    found = kd.evaluation.representation(
        logits, labels, names.index(MINORITY), predictions
    )
    recalls = {
        name: float((predictions[labels == i] == i).mean())
        for i, name in enumerate(names)
    }
    return {
        **{name: getattr(found, name) for name in SINGLE},
        "balanced_accuracy": float(np.mean(list(recalls.values()))),
        # What the same rows say of the training distribution.
        "imbalanced_accuracy": sum(RATIO[n] * r for n, r in recalls.items())
        / sum(RATIO.values()),
        **{f"recall_{name}": recall for name, recall in recalls.items()},
    }


def table(seeds):
    runs = {
        (m, s): found
        for m in METHODS
        for s in seeds
        if (found := measures(m, s)) is not None
    }
    if not runs:
        print("No finished runs.")
        return
    finished = json.loads(paths_of(*next(iter(runs)))[0].read_text())
    rows, differences = {}, {}
    for method in METHODS:
        there = [r for (m, _), r in runs.items() if m == method]
        if there:
            rows[method] = {
                "seeds": [s for m, s in runs if m == method],
                **{k: mean_and_spread([r[k] for r in there]) for k in there[0]},
            }
        paired = [s for m, s in runs if m == method and ("PiSSA", s) in runs]
        if paired and method != "PiSSA":
            differences[method] = {
                k: mean_and_spread(
                    [runs[method, s][k] - runs["PiSSA", s][k] for s in paired]
                )
                for k in SINGLE
            }
    majority = RATIO["entailment"] / sum(RATIO.values())
    plain = [rows[m]["balanced_accuracy"]["mean"] for m in rows if m in PLAIN]
    valid = bool(plain) and max(plain) >= 1 / len(RATIO) + 0.10
    show(rows, differences, valid)
    result = {
        "command": "python examples/ba_lora_imbalanced_nli.py --seeds "
        + " ".join(map(str, seeds)),
        "seeds": seeds,
        "setting": {
            **{"epochs": EPOCHS, "batch_size": BATCH_SIZE, "rank": RANK},
            "learning_rates": {
                kind.__name__: rate for kind, rate in LEARNING_RATES.items()
            },
            "dtype_policy": POLICY,
            **{"targets": TARGETS, "ratio": RATIO, "test_rows": TEST_ROWS},
            "optimizer": "Adam, warm-up of a tenth, cosine decay",
            "weights": "consistency 0.15, diversity 0.03, spectral 0.03",
        },
        # Nothing beats the majority class of the training distribution by
        # ten points: that would be more than all.
        "majority_imbalanced": round(majority, 4),
        "chance_balanced": round(1 / len(RATIO), 4),
        "valid": valid,
        "rows": rows,
        "differences_to_pissa": differences,
        "paper_table_12": PAPER,
        "versions": finished["versions"],
        "machine": finished["machine"],
    }
    write(SCRIPT.with_suffix(".json"), result)


def cell(measured, percent=False, sign=""):
    scale, places = (100, 1) if percent else (1, 3)
    mean = f"{scale * measured['mean']:{sign}.{places}f}"
    if measured["std"] is None:
        return mean
    return f"{mean} ± {scale * measured['std']:.{places}f}"


def show(rows, differences, valid):
    print(
        "Mean ± standard deviation over seeds; silhouettes of the logits, "
        f"by cosine; {TEST_ROWS} balanced test rows."
    )
    if not valid:
        print(
            "FAILED: no plain baseline beats chance on the balanced rows, a "
            "third, by ten points. The order below means nothing."
        )
    heads = ["method", "seeds", "silhouette", "rare class", "rare recall"]
    heads += ["balanced acc.", "acc. at 100:10:1", "paper (Table 12)"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for method, row in rows.items():
        cells = [
            method,
            str(len(row["seeds"])),
            cell(row["silhouette"]),
            cell(row["minority_silhouette"]),
            cell(row["minority_recall"], True),
            cell(row["balanced_accuracy"], True),
            cell(row["imbalanced_accuracy"], True),
            " / ".join(map(str, PAPER.get(method, ("-",)))),
        ]
        print("| " + " | ".join(cells) + " |")
    for method, found in differences.items():
        print(
            f"{method} - PiSSA, paired: silhouette "
            f"{cell(found['silhouette'], sign='+')}, rare class "
            f"{cell(found['minority_silhouette'], sign='+')}, rare recall "
            f"{cell(found['minority_recall'], True, '+')}"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=list(METHODS)
    )
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table and not FOLDER.is_dir():
        parser.error(f"Expected finished runs in {FOLDER}. Received: none.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for method in options.methods:
            if options.table or paths_of(method, seed)[0].exists():
                continue
            print("==", method, seed, flush=True)
            began = time.time()
            result, arrays = run(method, seed)
            result["seconds"] = round(time.time() - began, 1)
            keep(method, seed, result, arrays)
            print(measures(method, seed), f"{result['seconds']} s", flush=True)
    table(options.seeds)


if __name__ == "__main__":
    sys.exit(main())
