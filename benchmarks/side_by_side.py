"""Two versions of the package, side by side in one run.

    git worktree add /tmp/before v0.1.0
    python benchmarks/side_by_side.py --before /tmp/before \
        --json benchmarks/side_by_side.json

One process for each version keeps its models; the processes take turns, step
by step, so that other load on the machine hits both alike. Times are CPU
times. The programs are those of `step_time.py`, and `features`: frozen
features of texts of 4 to 16 words, of which no two calls see the same.
Imports are timed in processes of their own, which take turns as well.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = pathlib.Path(__file__).parents[1]
OURS = ("ours", "ours_edge", "features")
OTHERS = ("peft", "keras")
TEXTS = 96
ROWS = 32
# What is divided by what: (version, program) over (version, program).
RATIOS = {
    "LoRA / Keras' enable_lora": ("ours", "keras", 0.9),
    "LoRA / PEFT": ("ours", "peft", 1.0),
    "EDGE / PEFT": ("ours_edge", "peft", None),
}


class Features:
    """Frozen features of texts that were not seen before."""

    def __init__(self):
        import keras_hub
        import numpy as np

        import keras_debias as kd

        classifier = keras_hub.models.TextClassifier.from_preset(
            kd.presets.minilm(), num_classes=3
        )
        self.features = kd.features.FrozenFeatures(classifier, verbose=0)
        self.split = kd.data.Split
        self.generator = np.random.default_rng(0)

    def step(self):
        import numpy as np

        words = "the a old new red cat dog man saw ran sat by in on at".split()
        texts = [
            " ".join(self.generator.choice(words, length))
            for length in self.generator.integers(4, 17, TEXTS)
        ]
        self.features(self.split(np.array(texts, dtype=object)))


def work(names):
    """Answers each name on a line of its own with the CPU time of a step."""
    import step_time

    warnings.simplefilter("ignore")
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    programs = {
        name: Features() if name == "features" else step_time.build(name, 0.1)
        for name in names
    }
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        began = time.process_time()
        programs[line.strip()].step()
        print(time.process_time() - began, file=out, flush=True)


class Worker:
    """A process with one version of the package."""

    def __init__(self, folder, names):
        command = [sys.executable, __file__, "--worker", *names]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{folder}: the programs could not be built.")

    def step(self, name):
        print(name, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def import_time(folder, module):
    """Seconds of CPU time that an import takes."""
    code = f"import time; s = time.process_time(); import {module}; "
    code += "print(time.process_time() - s)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        # First of all, Python looks where it runs.
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(found.stdout.split()[-1])


def middle(numerator, denominator):
    """The median of the ratios within rounds."""
    pairs = zip(numerator, denominator, strict=True)
    return round(statistics.median(a / b for a, b in pairs), 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", help="a checkout of the other version")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--imports", type=int, default=3)
    parser.add_argument("--json")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker)
    folders = {"before": pathlib.Path(options.before), "after": ROOT}
    imports = {"keras": [], "before": [], "after": []}
    for _ in range(options.imports):
        imports["keras"].append(import_time(ROOT, "keras"))
        for version, folder in folders.items():
            imports[version].append(import_time(folder, "keras_debias"))
    workers = {
        "before": Worker(folders["before"], OURS),
        "after": Worker(folders["after"], (*OURS, *OTHERS)),
    }
    turns = [
        *(("before", name) for name in OURS),
        *(("after", name) for name in (*OURS, *OTHERS)),
    ]
    seconds = {turn: [] for turn in turns}
    for number in range(options.warm_up + options.rounds):
        # Backwards every other time: neither version is always the first.
        for turn in turns if number % 2 else turns[::-1]:
            found = workers[turn[0]].step(turn[1])
            if number >= options.warm_up:
                seconds[turn].append(found)
    for worker in workers.values():
        worker.close()
    ratios = {}
    for label, (name, other, goal) in RATIOS.items():
        base = seconds["after", other]
        ratios[label] = {
            version: middle(seconds[version, name], base) for version in folders
        }
        ratios[label]["goal"] = goal
    per_row = {
        version: middle(seconds[version, "ours"], seconds[version, "features"])
        for version in folders
    }
    ratios["rows a second: frozen features / training"] = {
        **{v: round(r * TEXTS / ROWS, 3) for v, r in per_row.items()},
        "goal": 5.0,
    }
    for name in OURS:
        ratios[f"{name}: after / before"] = {
            "before": 1.0,
            "after": middle(seconds["after", name], seconds["before", name]),
            "goal": None,
        }
    own = statistics.median(imports["keras"])
    ratios["seconds of import beyond Keras"] = {
        **{v: round(statistics.median(imports[v]) - own, 2) for v in folders},
        "goal": 0.7,
    }
    for label, row in ratios.items():
        print(f"{label:42} {row}", flush=True)
    if options.json:
        import results

        result = {
            "seconds": {
                f"{version} {name}": [round(s, 4) for s in times]
                for (version, name), times in seconds.items()
            },
            "imports": imports,
            "ratios": ratios,
        }
        results.write(options.json, result, ("peft", "transformers"))


if __name__ == "__main__":
    sys.exit(main())
