"""All that wants measuring on a GPU, within ten minutes.

    python benchmarks/gpu.py --json benchmarks/gpu.json

First whether `compile()` decides by itself and whether its steps are those
that are not compiled, on small models; then steps of a Llama of 1.2 billion
weights (`language_model_step.py`), what matters most first, until `--seconds`
are over. The file is written after each program.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import language_model_step  # noqa: E402
import numpy as np  # noqa: E402
import results  # noqa: E402
import torch  # noqa: E402

import keras_debias as kd  # noqa: E402

# In the order of what they are worth.
PROGRAMS = (
    *("peft", "ours_compiled", "ours_edge_compiled", "ours_ba_lora_compiled"),
    *("peft_compiled", "ours", "ours_edge_refresh_compiled", "ours_edge"),
    *("ours_ba_lora", "ours_edge_refresh", "keras"),
)
# Tokens a second over those of PEFT as it is, at least.
GOALS = {
    "ours_compiled": 1.0,
    "ours_edge_compiled": 0.9,
    "ours_ba_lora_compiled": 0.6,
}
LENGTHS = (32, 24, 48, 32, 24, 40)


def batches():
    """Tokens of several lengths, and their next ones."""
    generator = np.random.default_rng(0)
    for length in LENGTHS:
        tokens = generator.integers(1, 512, (4, length + 1)).astype("int32")
        mask = np.ones((4, length), "int32")
        yield {"token_ids": tokens[:, :-1], "padding_mask": mask}, tokens[:, 1:]


def trained(jit_compile, dropout):
    """The weights after steps on batches of several lengths."""
    keras.utils.set_random_seed(0)
    sizes = {**language_model_step.SIZES["tiny"], "num_layers": 2}
    backbone = keras_hub.models.Llama3Backbone(
        **sizes, tie_word_embeddings=True
    )
    network = keras_hub.models.Llama3CausalLM(backbone=backbone)
    kd.adapters.apply(network, kd.adapters.LoRA(rank=4, dropout=dropout))
    model = kd.DebiasedModel(network, kd.projections.EDGE(), seed=0)
    model.compile(
        keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[],
        jit_compile=jit_compile,
    )
    for x, y in batches():
        model.train_on_batch(x, y)
    weights = [
        keras.ops.convert_to_numpy(v).ravel() for v in model.trainable_variables
    ]
    return np.concatenate(weights), model


def check():
    """What `compile()` chooses, and how far its steps are from eager ones."""
    found = {"on_accelerator": torch.cuda.is_available()}
    began = time.perf_counter()
    expected, _ = trained(False, 0.0)
    weights, model = trained("auto", 0.0)
    found["compiles_by_itself"] = bool(model.jit_compile)
    found["largest_difference"] = float(abs(weights - expected).max())
    found["largest_weight"] = float(abs(expected).max())
    first, _ = trained("auto", 0.2)
    second, _ = trained("auto", 0.2)
    found["dropout_repeats"] = bool((first == second).all())
    found["seconds"] = round(time.perf_counter() - began, 1)
    return found


def ratios(programs):
    """Speed and memory over those of PEFT, side by side in this run."""
    base = programs.get("peft", {})
    found = {}
    for name, row in programs.items():
        if "tokens_per_second" not in row or "tokens_per_second" not in base:
            continue
        found[name] = {
            "speed": round(
                row["tokens_per_second"] / base["tokens_per_second"], 3
            ),
            "goal": GOALS.get(name),
        }
        if row["peak_gib"]:
            found[name]["memory"] = round(row["peak_gib"] / base["peak_gib"], 3)
    return found


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=560.0)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS))
    parser.add_argument("--json", default="gpu.json")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    device = "cpu"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    result = {"device": device, "check": check(), "programs": {}}
    print(json.dumps(result["check"]), flush=True)
    for name in options.programs:
        left = end - time.monotonic()
        if left < 20:
            print(f"no time left for {name}", flush=True)
            continue
        try:
            row = language_model_step.measured_apart(name, options, left)
        except (subprocess.SubprocessError, OSError) as error:
            row = {"failed": type(error).__name__}
        result["programs"][name] = row
        result["ratios"] = ratios(result["programs"])
        shown = {k: v for k, v in row.items() if k not in ("seconds", "losses")}
        print(name, json.dumps(shown), flush=True)
        results.write(pathlib.Path(options.json), result)
    print(json.dumps(result.get("ratios", {}), indent=1))


if __name__ == "__main__":
    sys.exit(main())
