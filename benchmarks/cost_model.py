"""What a step costs, counted: operations and bytes, no clock.

    python benchmarks/cost_model.py
    python benchmarks/cost_model.py --rows 4 --length 4096 --rank 64

For Llama-shaped models with a frozen bfloat16 base and float32 factors on
query and value. A token costs `2 P` operations forward through `P` weights of
kernels and `4 L T d` in attention over `T` tokens of width `d` in `L` layers;
backward through a frozen kernel costs as much again, since its own gradient is
never formed, and the logits of `V` tokens cost `2 d V` each way. So with `F`
for a forward pass, a plain step is `2 F`, and

    EDGE, one pass for both objectives (classifiers)     2 F
    EDGE, two backward passes (losses of tokens)         3 F
    EDGE with the ratio of norms kept for n steps        (2 + 1 / n) F
    EDGE as its authors' code runs it                    5 F
    BA-LoRA, teacher in inference mode                   3 F
    BA-LoRA, teacher's features from a cache             2 F
    one layer out of L, the deepest k of them below      (1 + k / L) F
    GRASP                                                two fine-tunings

Memory beside the base: 16 bytes a trained weight (factor, gradient, Adam), 34
bytes a token, layer and unit of width for activations kept for the backward
pass, and 14 bytes a token and entry of the vocabulary for logits in bfloat16
and their soft-max and gradients in float32. Processes of `torchrun` send four
bytes a trained weight and objective, and two a token and entry of the
vocabulary (rule 15 of `keras_debias/training/README.md`).
"""

import argparse
import sys

# Name: layers, width, key-value width, width of the feed-forward part, tokens.
MODELS = {
    "1B": (16, 2048, 512, 8192, 128256),
    "8B": (32, 4096, 1024, 14336, 128256),
    "70B": (80, 8192, 1024, 28672, 128256),
}
PASSES = {
    "plain LoRA": 2.0,
    "EDGE, two backward passes": 3.0,
    "EDGE, ratio kept for 8 steps": 2.125,
    "EDGE as published": 5.0,
    "BA-LoRA": 3.0,
}
GPUS = (1, 8, 64)
OBJECTIVES = {"EDGE, two backward passes": 2, "EDGE as published": 2}


def count(model, rows, length, rank):
    """Operations of a forward pass and bytes of one step, per device."""
    layers, width, narrow, inner, vocabulary = MODELS[model]
    kernels = layers * (2 * width * (width + narrow) + 3 * width * inner)
    tokens = rows * length
    forward = tokens * (
        2 * kernels + 4 * layers * length * width + 2 * width * vocabulary
    )
    trained = layers * rank * (2 * width + width + narrow)
    return {
        "weights": kernels + width * vocabulary,
        "trained": trained,
        "forward": forward,
        "base": 2 * (kernels + width * vocabulary),
        "training": 16 * trained,
        "activations": 34 * tokens * layers * width,
        "logits": 14 * tokens * vocabulary,
        "gathered": 2 * tokens * vocabulary,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=8, help="on each GPU")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument(
        "--rate", type=float, default=400.0, help="TFLOP/s kept up on each"
    )
    options = parser.parse_args()
    print(
        f"{options.rows} x {options.length} tokens on each GPU, rank "
        f"{options.rank}, {options.rate:g} TFLOP/s\n"
    )
    print("| model | weights | trained | base GB | activations | logits |")
    print("|---|---|---|---|---|---|")
    counts = {}
    for name in MODELS:
        counts[name] = c = count(
            name, options.rows, options.length, options.rank
        )
        print(
            f"| {name} | {c['weights'] / 1e9:.2f} G | "
            f"{c['trained'] / 1e6:.1f} M | {c['base'] / 1e9:.1f} | "
            f"{c['activations'] / 1e9:.1f} | {c['logits'] / 1e9:.1f} |"
        )
    print("\nThousand tokens a second; a GPU of 80 GB holds the base or not:\n")
    print(
        "| method | " + " | ".join(f"{m} x {g}" for m in MODELS for g in GPUS)
    )
    print("|---" * (1 + len(MODELS) * len(GPUS)) + "|")
    for method, passes in PASSES.items():
        cells = []
        for c in counts.values():
            needed = c["base"] + c["training"] + c["activations"] + c["logits"]
            for gpus in GPUS:
                if needed > 80e9 * gpus:
                    cells.append("does not fit")
                    continue
                seconds = passes * c["forward"] / (options.rate * 1e12)
                tokens = gpus * options.rows * options.length
                sharded = "*" if needed > 80e9 else ""
                cells.append(f"{tokens / seconds / 1e3:.0f}{sharded}")
        print(f"| {method} | " + " | ".join(cells) + " |")
    print("\n* the model spread over GPUs; what they send is not counted.\n")
    print("Bytes that data parallelism sends a step and GPU, torch:\n")
    print(
        "| model | gradients, one objective | two | gathered logits, 8 GPUs |"
    )
    print("|---|---|---|---|")
    for name, c in counts.items():
        print(
            f"| {name} | {4 * c['trained'] / 1e6:.0f} MB | "
            f"{8 * c['trained'] / 1e6:.0f} MB | "
            f"{8 * c['gathered'] / 1e9:.1f} GB |"
        )


if __name__ == "__main__":
    sys.exit(main())
