"""EDGE's two gradients of token losses: two backward passes, or one of twice
the batch.

    python benchmarks/edge_tokens.py --json benchmarks/edge_tokens.json

A token's gradient reaches other tokens through attention, so what arrives at
a layer for the one objective is no multiple of what arrives for the other, and
both cotangents must go through every frozen kernel. They can go together:
`autograd.grad(..., is_grads_batched=True)` stacks them, and each kernel is
read once. Timed are the forward pass and both ways back, side by side in each
round, on SmolLM2-135M with LoRA on query and value, or on a small Llama with
`--tiny`. CPU time of the process, since other programs may run.
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
import language_model_step  # noqa: E402
import numpy as np  # noqa: E402
import results  # noqa: E402
import torch  # noqa: E402

import keras_debias as kd  # noqa: E402


def network(tiny):
    keras.utils.set_random_seed(0)
    if tiny:
        sizes = {**language_model_step.SIZES["tiny"], "hidden_dim": 256}
        sizes = {**sizes, "num_layers": 4, "intermediate_dim": 512}
        backbone = keras_hub.models.Llama3Backbone(**sizes)
        model = keras_hub.models.Llama3CausalLM(backbone=backbone)
    else:
        model = keras_hub.models.CausalLM.from_preset(
            kd.presets.smollm2(), preprocessor=None
        )
    kd.adapters.apply(model, kd.adapters.LoRA(rank=16))
    for layer in model.backbone.layers:
        for variable in layer.trainable_variables:
            value = np.asarray(keras.ops.convert_to_numpy(variable))
            if not value.any():
                noise = np.random.default_rng(0).normal(size=value.shape)
                variable.assign(0.02 * noise)
    return model


def cotangents(logits, labels):
    """Those of cross entropy and of its generalized form, at the logits."""
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), reduction="none"
    )
    values = losses.mean(), ((1 - torch.exp(-0.7 * losses)) / 0.7).mean()
    return [
        torch.autograd.grad(value, logits, retain_graph=True)[0]
        for value in values
    ]


def apart(logits, given, tensors):
    return [
        torch.autograd.grad(logits, tensors, each, retain_graph=True)
        for each in given
    ]


def together(logits, given, tensors):
    found = torch.autograd.grad(
        logits,
        tensors,
        torch.stack(given),
        retain_graph=True,
        is_grads_batched=True,
    )
    return list(zip(*[each.unbind(0) for each in found]))


def timed(function, *arguments):
    began = time.process_time()
    found = function(*arguments)
    return found, time.process_time() - began


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    model = network(options.tiny)
    generator = np.random.default_rng(0)
    words = 512 if options.tiny else 49_152
    tokens = generator.integers(
        1, words, (options.rows, options.length + 1)
    ).astype("int32")
    x = {
        "token_ids": torch.tensor(tokens[:, :-1]),
        "padding_mask": torch.ones(tokens[:, :-1].shape, dtype=torch.int32),
    }
    labels = torch.tensor(tokens[:, 1:]).long()
    tensors = [v.value for v in model.trainable_variables]
    seconds = {"forward": [], "apart": [], "together": []}
    for number in range(options.rounds + 1):
        logits, forward = timed(lambda: model(x, training=True))
        given = cotangents(logits, labels)
        ways = {"apart": apart, "together": together}
        order = list(ways) if number % 2 else list(ways)[::-1]
        found, times = {}, {"forward": forward}
        for name in order:
            found[name], times[name] = timed(ways[name], logits, given, tensors)
        if number:
            for name, value in times.items():
                seconds[name].append(round(value, 4))
    pairs = zip(found["apart"], found["together"])
    distance = max(
        float((a - b).abs().max() / a.abs().max().clamp_min(1e-12))
        for first, second in pairs
        for a, b in zip(first, second)
    )
    middle = {name: statistics.median(value) for name, value in seconds.items()}
    result = {
        "model": "tiny Llama" if options.tiny else "SmolLM2-135M",
        "rows": options.rows,
        "length": options.length,
        "seconds": seconds,
        "largest_relative_difference": distance,
        "largest_gradient": max(
            float(g.abs().max()) for row in found["apart"] for g in row
        ),
        "ratios": {
            "together/apart": round(
                statistics.median(
                    b / a for a, b in zip(seconds["apart"], seconds["together"])
                ),
                3,
            ),
            "one_pass/forward": round(
                middle["apart"] / 2 / middle["forward"], 3
            ),
        },
    }
    print(result)
    results.write(options.json, result)


if __name__ == "__main__":
    sys.exit(main())
