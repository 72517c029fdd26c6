"""How long PiSSA takes to start, and how much of the kernels it holds.

`kd.adapters.apply(model, PiSSA(...))` against PEFT's `init_lora_weights` of
"pissa" (an exact decomposition) and "pissa_niter_16" (a randomized one), on
the same kernels: all projections of MiniLM (36) and of SmolLM2-135M (210),
and a random matrix of 4096 x 4096. Energy is the Frobenius norm of the
starting product, against that of the exact one, the least over kernels.

    python benchmarks/pissa_start.py --json benchmarks/pissa_start.json
"""

import argparse
import os
import statistics
import sys
import time
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import numpy as np  # noqa: E402
import peft  # noqa: E402
import results  # noqa: E402
import torch  # noqa: E402

import keras_debias as kd  # noqa: E402
from keras_debias.adapters.apply import adapted_layers  # noqa: E402
from keras_debias.linalg import kernel_view  # noqa: E402

TARGETS = {
    "minilm": (
        *("query", "key", "value", "attention_output"),
        *("feedforward_intermediate_dense", "feedforward_output_dense"),
    ),
    "smollm2": (
        *("query", "key", "value", "attention_output"),
        *("feedforward_gate_dense", "feedforward_intermediate_dense"),
        "feedforward_output_dense",
    ),
    "random_4096": ("kernel_4096",),
}
GOALS = {"time": 0.5, "energy": 0.99}


def load(name):
    if name == "minilm":
        return keras_hub.models.TextClassifier.from_preset(
            kd.presets.minilm(), num_classes=2
        )
    if name == "smollm2":
        return keras_hub.models.CausalLM.from_preset(kd.presets.smollm2())
    layer = keras.layers.Dense(4096, name="kernel_4096")
    model = keras.Sequential([keras.Input((4096,)), layer])
    generator = np.random.default_rng(0)
    kernel = generator.standard_normal((4096, 4096), dtype="float32") / 64
    layer.set_weights([kernel, np.zeros(4096, "float32")])
    return model


def matrices(model, targets, rank):
    """The kernels, inputs x outputs, in the order of PiSSA's layers."""
    adapter = kd.adapters.LoRA(rank=rank, targets=targets)
    kd.adapters.apply(model, adapter, also_train=())
    found = []
    for layer in adapted_layers(model).values():
        matrix = kernel_view(layer).to_matrix(layer.kernel)
        found.append(keras.ops.convert_to_numpy(matrix))
    return found


def ours(model, targets, rank):
    adapter = kd.adapters.PiSSA(rank=rank, targets=targets)
    began = time.perf_counter()
    kd.adapters.apply(model, adapter, also_train=(), verbose=0)
    seconds = time.perf_counter() - began
    norms = []
    for layer in adapted_layers(model).values():
        a, b = (
            keras.ops.convert_to_numpy(x) for x in (layer.lora_a, layer.lora_b)
        )
        norms.append(float(np.linalg.norm(a @ b)))
    return seconds, norms


def of_peft(kernels, rank, start):
    layers = []
    for kernel in kernels:
        layer = torch.nn.Linear(*kernel.shape, bias=False)
        layer.weight.data = torch.tensor(kernel.T.copy())
        layers.append(layer)
    network = torch.nn.Sequential(*layers)
    names = [str(i) for i in range(len(layers))]
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=names,
        init_lora_weights=start,
    )
    began = time.perf_counter()
    model = peft.get_peft_model(network, config)
    seconds = time.perf_counter() - began
    norms = []
    for name in names:
        layer = model.base_model.model.get_submodule(name)
        a = layer.lora_A["default"].weight
        b = layer.lora_B["default"].weight
        norms.append(float(torch.linalg.norm((b @ a).float())))
    return seconds, norms


def measure(name, rank, rounds):
    targets = TARGETS[name]
    kernels = matrices(load(name), targets, rank)
    found = {}
    for _ in range(rounds):
        runs = {
            "pissa": of_peft(kernels, rank, "pissa"),
            "pissa_niter_16": of_peft(kernels, rank, "pissa_niter_16"),
            "ours": ours(load(name), targets, rank),
        }
        for program, (seconds, norms) in runs.items():
            found.setdefault(program, ([], norms))[0].append(seconds)
    exact = found["pissa"][1]
    return {
        "kernels": len(kernels),
        **{
            program: {
                "seconds": [round(s, 4) for s in seconds],
                "energy": round(min(n / e for n, e in zip(norms, exact)), 6),
            }
            for program, (seconds, norms) in found.items()
        },
    }


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--models", nargs="+", choices=list(TARGETS), default=list(TARGETS)
    )
    parser.add_argument("--json", help="where to write the results")
    options = parser.parse_args()
    found_for = {}
    for name in options.models:
        # One exact decomposition of the largest takes minutes.
        rounds = 1 if name == "random_4096" else options.rounds
        found = found_for[name] = measure(name, options.rank, rounds)
        times = {
            program: statistics.median(found[program]["seconds"])
            for program in ("pissa", "pissa_niter_16", "ours")
        }
        found["ratios"] = {
            f"ours/{other}": round(times["ours"] / times[other], 3)
            for other in ("pissa", "pissa_niter_16")
        }
        print(
            f"{name:12} {found['kernels']:>3} kernels",
            {k: f"{v:.2f} s" for k, v in times.items()},
            found["ratios"],
            {k: found[k]["energy"] for k in times},
            flush=True,
        )
    result = {
        "command": "python benchmarks/pissa_start.py --json "
        "benchmarks/pissa_start.json",
        "rank": options.rank,
        "goals": GOALS,
        "results": found_for,
    }
    results.write(options.json, result, packages=["peft"])


if __name__ == "__main__":
    sys.exit(main())
