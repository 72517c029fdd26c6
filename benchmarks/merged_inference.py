"""What an adapter costs at inference, beside its base and merged into it.

The same MiniLM classifier three times: as pretrained, with LoRA, and with
LoRA merged into its kernels; rounds of `predict_on_batch` are interleaved.

    python benchmarks/merged_inference.py --json \
benchmarks/merged_inference.json
"""

import argparse
import os
import statistics
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import numpy as np  # noqa: E402
import results  # noqa: E402

import keras_debias as kd  # noqa: E402

ROWS, LENGTH, VOCABULARY = 32, 64, 30522
TARGETS = (
    *("query", "key", "value", "attention_output"),
    *("feedforward_intermediate_dense", "feedforward_output_dense"),
)
GOAL = 1.0


def build(name):
    keras.utils.set_random_seed(0)
    model = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=3, preprocessor=None
    )
    if name != "base":
        adapter = kd.adapters.LoRA(rank=8, targets=TARGETS)
        kd.adapters.apply(model, adapter)
        generator = np.random.default_rng(0)
        for variable in model.weights:
            if variable.name == "lora_b":
                value = 0.01 * generator.standard_normal(variable.shape)
                variable.assign(value.astype("float32"))
    return kd.adapters.merge(model) if name == "merged" else model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", help="where to write the results")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    tokens = generator.integers(1000, VOCABULARY, (ROWS, LENGTH))
    batch = {
        "token_ids": tokens.astype("int32"),
        "padding_mask": np.ones_like(tokens, "int32"),
        "segment_ids": np.zeros_like(tokens, "int32"),
    }
    models = {name: build(name) for name in ("base", "lora", "merged")}
    outputs = {n: m.predict_on_batch(batch) for n, m in models.items()}
    difference = float(np.abs(outputs["lora"] - outputs["merged"]).max())
    seconds = {name: [] for name in models}
    for _ in range(options.rounds):
        for name, model in models.items():
            began = time.perf_counter()
            model.predict_on_batch(batch)
            seconds[name].append(time.perf_counter() - began)
    median = {n: statistics.median(s) for n, s in seconds.items()}
    ratios = {
        f"{name}/base": {
            "of_medians": round(median[name] / median["base"], 3),
            "median_of_rounds": round(
                statistics.median(
                    a / b for a, b in zip(seconds[name], seconds["base"])
                ),
                3,
            ),
        }
        for name in ("lora", "merged")
    }
    for name, found in ratios.items():
        goal = f", goal {GOAL}" if name.startswith("merged") else ""
        print(f"{name}: {found}{goal}")
    print(f"outputs of lora and merged differ by {difference:.1e} at most")
    result = {
        "command": "python benchmarks/merged_inference.py --json "
        "benchmarks/merged_inference.json",
        "batch": [ROWS, LENGTH],
        "seconds": {n: [round(s, 5) for s in v] for n, v in seconds.items()},
        "ratios": ratios,
        "goal": GOAL,
        "difference": difference,
    }
    results.write(options.json, result)


if __name__ == "__main__":
    sys.exit(main())
