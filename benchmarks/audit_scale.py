"""Time and peak memory of an audit of many short texts.

    python benchmarks/audit_scale.py --rows 200000 1000000

Comments of 4 to 16 words, drawn from a vocabulary with Zipf's frequencies, in
two classes. Each size runs in a process of its own, with the predictions of a
model; what it took is printed, and written with `--json`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import results

VOCABULARY = 200_000
# Rows that are made at a time.
CHUNK = 50_000


def comments(n, seed=0):
    """Texts, labels and predictions; "update" goes with class 1."""
    rng = np.random.default_rng(seed)
    words = np.array([f"w{i:x}" for i in range(VOCABULARY)], dtype=object)
    frequency = 1 / np.arange(2, VOCABULARY + 2)
    cumulative = np.cumsum(frequency / frequency.sum())
    y = rng.integers(0, 2, n)
    cue = rng.random(n) < np.where(y == 1, 0.3, 0.1)
    texts = []
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        lengths = rng.integers(4, 17, size)
        drawn = np.searchsorted(cumulative, rng.random(lengths.sum()))
        drawn = words[np.minimum(drawn, VOCABULARY - 1)]
        for row, part in enumerate(np.split(drawn, np.cumsum(lengths)[:-1])):
            text = " ".join(part)
            texts.append(text + " update" if cue[start + row] else text)
    wrong = rng.random(n) < np.where(cue & (y == 0), 0.4, 0.1)
    return texts, y, np.where(wrong, 1 - y, y)


def measure(n):
    """Runs both audits of `n` rows in this process."""
    import keras_debias as kd

    texts, y, predictions = comments(n)
    split = kd.data.Split(texts, y, name="comments")
    del texts
    before = peak_gib()
    start = time.perf_counter()
    report = kd.audit(split, predictions=predictions)
    labels = time.perf_counter() - start
    first = report.by_harm().findings[0]
    assert first.feature.token == "update" and first.harm.significant
    start = time.perf_counter()
    errors = kd.audit(split, target="errors", predictions=predictions)
    assert errors.findings[0].feature.token == "update"
    return {
        "rows": n,
        "tests": report.tests,
        "minutes": labels / 60,
        "minutes_errors": (time.perf_counter() - start) / 60,
        "peak_gib_before": before,
        "peak_gib": peak_gib(),
    }


def peak_gib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[200_000, 1_000_000]
    )
    parser.add_argument("--json", help="path of the file to be written")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    measured = []
    for rows in arguments.rows:
        command = [sys.executable, __file__, "--one", str(rows)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        measured.append(json.loads(done.stdout.decode().splitlines()[-1]))
        print(
            "{rows:,} rows: {minutes:.1f} minutes, errors "
            "{minutes_errors:.1f} minutes, peak {peak_gib:.2f} GiB (with the "
            "texts alone {peak_gib_before:.2f})".format(**measured[-1]),
            flush=True,
        )
    results.write(arguments.json, {"audit": measured}, ["scipy", "sklearn"])


if __name__ == "__main__":
    main()
