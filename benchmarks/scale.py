"""Time and peak memory from a CSV file of many comments to scores by group.

    python benchmarks/scale.py --rows 1000000

Comments as in `audit_scale.py`, with 24 columns of identities that overlap,
are written to a CSV file. A process of its own reads it with
`Split.from_csv`, audits it, and evaluates known predictions by group, with
1,000 resamples for the intervals. Each stage's seconds and the peak memory
after it are printed, and written with `--json`.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import audit_scale
import numpy as np
import pandas as pd
import results

GROUPS = tuple(f"identity_{i}" for i in range(24))
RESAMPLES = 1000


def write(path, n, seed=0):
    """The file, and the probabilities of a model beside it."""
    texts, y, predictions = audit_scale.comments(n, seed)
    rng = np.random.default_rng(seed + 1)
    frame = pd.DataFrame({"comment": texts, "toxic": y})
    for i, name in enumerate(GROUPS):
        frame[name] = (rng.random(n) < 0.02 + 0.01 * i).astype("int8")
    frame.to_csv(path, index=False)
    share = np.where(predictions == 1, 0.75, 0.25)
    share += 0.2 * (rng.random(n) - 0.5)
    np.save(path.with_suffix(".npy"), np.stack([1 - share, share], axis=1))


class Known:
    """A model whose probabilities are known."""

    def __init__(self, probabilities):
        self.probabilities = probabilities

    def predict(self, x, batch_size=None, verbose=0):
        return self.probabilities


def measure(path):
    """All stages in this process."""
    import keras_debias as kd

    stages, begun = [], time.perf_counter()

    def done(stage):
        nonlocal begun
        stages.append(
            {
                "stage": stage,
                "seconds": time.perf_counter() - begun,
                "peak_gib": audit_scale.peak_gib(),
            }
        )
        print(
            f"{stage}: {stages[-1]['seconds']:.0f} s, peak "
            f"{stages[-1]['peak_gib']:.2f} GiB",
            file=sys.stderr,
            flush=True,
        )
        begun = time.perf_counter()

    split = kd.data.Split.from_csv(
        path, "comment", "toxic", GROUPS, overlapping=True
    )
    done("Split.from_csv")
    report = kd.audit(split.with_groups(None))
    assert report.findings[0].feature.token == "update"
    done("audit")
    model = Known(np.load(path.with_suffix(".npy")))
    for metrics in ((), ("auroc", "log_loss")):
        scores = kd.evaluate(
            model,
            split,
            metrics=metrics,
            from_logits=False,
            bootstrap=RESAMPLES,
        )
        assert len(scores["test"].groups) == len(GROUPS)
        done("evaluate" + "".join(f" + {name}" for name in metrics))
    return {"rows": len(split), "groups": len(GROUPS), "stages": stages}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", help="path of the file to be written")
    parser.add_argument("--file", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.file:
        print(json.dumps(measure(pathlib.Path(arguments.file))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "comments.csv"
        write(path, arguments.rows)
        command = [sys.executable, __file__, "--file", str(path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout.decode().splitlines()[-1])
    results.write(arguments.json, {"scale": found}, ["scipy", "sklearn"])


if __name__ == "__main__":
    main()
