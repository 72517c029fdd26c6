"""What fusing the factors of query, key and value could save, at most.

The three read the same input: with their `A` side by side, one product takes
the place of three. Timed are forward and backward of the low-rank paths of
all layers of MiniLM (32 x 64 tokens, rank 8), apart and fused, beside whole
steps of plain LoRA on query, key and value: eager, where the factors stay
apart, and compiled (`jit_compile=True`), where they are joined, and with that
turned off. All in one run.

    python benchmarks/fused_factors.py --json benchmarks/fused_factors.json
"""

import argparse
import os
import statistics
import time
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import numpy as np  # noqa: E402
import results  # noqa: E402
import torch  # noqa: E402

import keras_debias as kd  # noqa: E402
from keras_debias.training import torch_compiled_call  # noqa: E402

ROWS, LENGTH, WIDTH, RANK, LAYERS = 32, 64, 384, 8, 6


class Paths:
    """The low-rank paths of all layers, without their frozen kernels."""

    def __init__(self, fused):
        generator = torch.Generator().manual_seed(0)

        def drawn(*shape, trained=True):
            tensor = torch.randn(shape, generator=generator) / WIDTH**0.5
            return tensor.requires_grad_(trained)

        self.fused = fused
        self.x = drawn(ROWS * LENGTH, WIDTH)
        self.factors = [
            [(drawn(WIDTH, RANK), drawn(RANK, WIDTH)) for _ in range(3)]
            for _ in range(LAYERS)
        ]
        self.above = drawn(ROWS * LENGTH, WIDTH, trained=False)

    def step(self):
        outputs = []
        for layer in self.factors:
            if self.fused:
                down = self.x @ torch.cat([a for a, _ in layer], 1)
                parts = down.split(RANK, 1)
                outputs += [p @ b for p, (_, b) in zip(parts, layer)]
            else:
                outputs += [self.x @ a @ b for a, b in layer]
        trained = [f for layer in self.factors for pair in layer for f in pair]
        torch.autograd.grad(
            outputs, [self.x, *trained], [self.above] * len(outputs)
        )


class Step:
    """Plain LoRA on query, key and value."""

    def __init__(self, jit_compile=False, joined=True):
        keras.utils.set_random_seed(0)
        backbone = keras_hub.models.Backbone.from_preset(kd.presets.minilm())
        network = keras_hub.models.BertTextClassifier(
            backbone, num_classes=3, preprocessor=None
        )
        targets = ("query", "key", "value")
        kd.adapters.apply(network, kd.adapters.LoRA(RANK, targets=targets))
        self.model = kd.DebiasedModel(network, seed=0)
        self.model.compile(
            keras.optimizers.Adam(1e-4),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[],
            jit_compile=jit_compile,
        )
        generator = np.random.default_rng(0)
        tokens = generator.integers(1000, 30000, (ROWS, LENGTH))
        self.x = {
            "token_ids": tokens.astype("int32"),
            "padding_mask": np.ones_like(tokens, "int32"),
            "segment_ids": np.zeros_like(tokens, "int32"),
        }
        self.y = generator.integers(0, 3, ROWS).astype("int32")
        share = torch_compiled_call.fuse_matmuls
        if not joined:
            torch_compiled_call.fuse_matmuls = lambda *_: None
        # Compiles, if it does.
        self.step()
        torch_compiled_call.fuse_matmuls = share

    def step(self):
        self.model.train_on_batch(self.x, self.y)


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", help="where to write the results")
    options = parser.parse_args()
    programs = {
        "apart": Paths(False),
        "fused": Paths(True),
        "step": Step(),
        "compiled apart": Step(jit_compile=True, joined=False),
        "compiled joined": Step(jit_compile=True),
    }
    seconds = {name: [] for name in programs}
    for number in range(3 + options.rounds):
        for name, program in programs.items():
            began = time.perf_counter()
            program.step()
            if number >= 3:
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    shares = {
        "low-rank paths": medians["apart"] / medians["step"],
        "saved by fusing": (medians["apart"] - medians["fused"])
        / medians["step"],
        "compiled apart": medians["compiled apart"] / medians["step"],
        "compiled joined": medians["compiled joined"] / medians["step"],
    }
    print({name: f"{1e3 * s:.1f} ms" for name, s in medians.items()})
    print({name: f"{100 * s:.1f} % of a step" for name, s in shares.items()})
    result = {
        "command": "python benchmarks/fused_factors.py --json "
        "benchmarks/fused_factors.json",
        "seconds": {n: [round(x, 5) for x in s] for n, s in seconds.items()},
        "shares_of_a_step": {n: round(s, 4) for n, s in shares.items()},
    }
    results.write(options.json, result)


if __name__ == "__main__":
    main()
