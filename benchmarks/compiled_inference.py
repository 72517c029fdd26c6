"""`predict` and `evaluate`, compiled and as they are, side by side on torch.

    python benchmarks/compiled_inference.py \
        --json benchmarks/compiled_inference.json

A Llama of 16 layers of width 64 with LoRA reads 8 tokens at a time: what is
left of the time on a CPU is Python between operations, for which a GPU waits.
Two models with the same weights take turns in one process; a turn is one call
on 20 batches.
"""

import argparse
import pathlib
import statistics
import sys
import time

import language_model_step as steps
import numpy as np
import results

ROUNDS = 8
BATCHES = 20
LENGTH = 8


def model(jit_compile):
    kind = steps.CompiledOurs if jit_compile else steps.Ours
    return kind("tiny", 1, LENGTH).model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    tokens, labels = steps.batch("tiny", BATCHES, LENGTH)
    x = {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}
    models = {"as it is": model(False), "compiled": model(True)}

    def predict(each):
        return each.predict(x, batch_size=1, verbose=0)

    def evaluate(each):
        return each.evaluate(x, labels, batch_size=1, verbose=0)

    outputs = [predict(each) for each in models.values()]
    distance = float(np.abs(outputs[0] - outputs[1]).max())
    result = {"largest_difference": distance}
    for call in (predict, evaluate):
        seconds = {name: [] for name in models}
        for number in range(ROUNDS + 1):
            for name in sorted(models, reverse=number % 2):
                began = time.perf_counter()
                call(models[name])
                if number:  # the first warms up, and compiles
                    seconds[name].append(time.perf_counter() - began)
        pairs = zip(seconds["compiled"], seconds["as it is"], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        result[call.__name__] = {"ratio": round(ratio, 3), **seconds}
        print(f"{call.__name__}: {ratio:.2f} times the time", flush=True)
    print(f"largest difference of outputs {distance:.2g}")
    if options.json:
        results.write(options.json, result)


if __name__ == "__main__":
    sys.exit(main())
