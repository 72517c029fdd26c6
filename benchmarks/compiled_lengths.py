"""Compiled steps on batches of several lengths, beside uncompiled ones.

    python benchmarks/compiled_lengths.py --json FILE

A thin BERT classifier with LoRA and EDGE: what is left of a step is Python and
small operations. Batches take turns between lengths, of which a compiled step
knows few: tokens are padded to the next. Both models are in one process and
take turns; CPU times, so that other programs count less.
"""

import argparse
import os
import statistics
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import numpy as np  # noqa: E402
import results  # noqa: E402
from clock import Clock  # noqa: E402

import keras_debias as kd  # noqa: E402

LENGTHS = (32, 14, 45)
ROWS = 8
STEPS = 60
SIZES = {
    "vocabulary_size": 512,
    "num_layers": 8,
    "num_heads": 4,
    "hidden_dim": 64,
    "intermediate_dim": 128,
    "max_sequence_length": 128,
}


def create(jit_compile):
    keras.utils.set_random_seed(0)
    network = keras_hub.models.BertTextClassifier(
        backbone=keras_hub.models.BertBackbone(**SIZES),
        num_classes=2,
        preprocessor=None,
    )
    kd.adapters.apply(network, kd.adapters.LoRA(rank=8))
    model = kd.DebiasedModel(
        network, projection=kd.projections.EDGE(alpha=1.0), seed=0
    )
    model.compile(
        keras.optimizers.AdamW(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    return model


def batches():
    generator = np.random.default_rng(0)
    for number in range(STEPS):
        shape = ROWS, LENGTHS[number % len(LENGTHS)]
        tokens = generator.integers(1, 512, shape).astype("int32")
        x = {
            "token_ids": tokens,
            "padding_mask": np.ones_like(tokens),
            "segment_ids": np.zeros_like(tokens),
        }
        yield x, generator.integers(0, 2, ROWS)


def in_fit(model):
    """CPU seconds of a step, one figure for each length."""
    clock = Clock()
    model.fit(batches(), verbose=0, callbacks=[clock])
    seconds = np.diff(clock.times)
    return [
        statistics.median(seconds[len(LENGTHS) + i :: len(LENGTHS)])
        for i in range(len(LENGTHS))
    ]


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--json")
    options = parser.parse_args()
    models = {"as it is": create(False), "compiled": create(True)}
    for model in models.values():
        in_fit(model)
    found = {name: [] for name in models}
    for _ in range(options.rounds):
        for name, model in models.items():
            found[name].append([round(s, 5) for s in in_fit(model)])
    print("milliseconds of CPU, median of rounds, at lengths", LENGTHS)
    for name, rounds in found.items():
        print(f"{name:10}", 1e3 * np.median(rounds, axis=0))
    result = {
        "command": "python benchmarks/compiled_lengths.py",
        "lengths": LENGTHS,
        "cpu_seconds": found,
    }
    results.write(options.json, result)


if __name__ == "__main__":
    main()
