"""Compiled steps of a thin language model in `fit`, beside PEFT's.

    python benchmarks/compiled_step.py --json benchmarks/compiled_step.json

The thin Llama of `language_model_step.py` with eight tokens: what is left of
a step is Python and small operations. All programs are in one process and
take turns; times are CPU times, so that other programs count less. They still
empty the caches, which only ever adds time: the fastest round says most.
"""

import argparse
import os
import statistics
import time
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import language_model_step
import numpy as np
import results
from clock import Clock

STEPS = 30
PEFT = "peft_compiled"
PROGRAMS = ("ours_compiled", "ours_edge_compiled")


def in_fit(program):
    clock = Clock()
    x = {name: np.repeat(value, STEPS, 0) for name, value in program.x.items()}
    y = np.repeat(program.y, STEPS, 0)
    program.model.fit(
        x, y, batch_size=1, verbose=0, callbacks=[clock], shuffle=False
    )
    return statistics.median(np.diff(clock.times)[2:])


def in_a_loop(program):
    seconds = []
    for _ in range(STEPS):
        began = time.process_time()
        program.step()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds)


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json")
    options = parser.parse_args()

    def create(name):
        return language_model_step.PROGRAMS[name]("tiny", 1, 8)

    peft = create(PEFT)
    programs = {name: create(name) for name in PROGRAMS}
    in_a_loop(peft)
    for program in programs.values():
        in_fit(program)
    found = {name: [] for name in (PEFT, *PROGRAMS)}
    for _ in range(options.rounds):
        found[PEFT].append(in_a_loop(peft))
        for name, program in programs.items():
            found[name].append(in_fit(program))
    print("milliseconds of CPU  fastest round    median of rounds")
    for name, seconds in found.items():
        cells = [
            f"{1e3 * of(seconds):6.1f} ({of(seconds) / of(found[PEFT]):.2f})"
            for of in (min, statistics.median)
        ]
        print(f"{name:20} {cells[0]}    {cells[1]}")
    rounded = {k: [round(s, 5) for s in v] for k, v in found.items()}
    result = {
        "command": "python benchmarks/compiled_step.py",
        "cpu_seconds": rounded,
    }
    results.write(options.json, result)


if __name__ == "__main__":
    main()
