"""How far is EDGE with a kept ratio of norms from the exact one?

MiniLM with LoRA is fine-tuned on biased SNLI (torch). The first part trains
with the exact `EDGE(scope="global")`, takes down the ratio of the two gradient
norms and their cosine at every step, and works out from them the cosine of
the exact update to the one with the ratio of up to n - 1 steps before. The
second part trains with `refresh=n` and tests on the shifted set.

    python benchmarks/edge_refresh.py --json benchmarks/edge_refresh.json

Needs the set `snli`: a folder named by KERAS_DEBIAS_DATA, or the hub.
"""

import argparse
import math
import os
import statistics
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import results  # noqa: E402
import torch  # noqa: E402

import keras_debias as kd  # noqa: E402

BATCH_SIZE = 32
SEQUENCE_LENGTH = 40
REFRESH = (1, 4, 8, 16, 32)
ALPHA = 1.0
RANK = 8
LEARNING_RATE = 1e-3


@keras.saving.register_keras_serializable("benchmarks")
class Recording(kd.projections.EDGE):
    """EDGE, and what it sees."""

    def project(self, gradients, variables):
        task, bias = (
            torch.cat([g.float().flatten() for g in gradients[name]])
            for name in ("task", "bias")
        )
        sizes = task.norm().item(), bias.norm().item()
        self.ratios.append(sizes[1] / sizes[0])
        self.cosines.append((task @ bias).item() / (sizes[0] * sizes[1]))
        return super().project(gradients, variables)


def train(projection, seed, steps):
    keras.utils.set_random_seed(seed)
    classifier = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=3
    )
    classifier.preprocessor.sequence_length = SEQUENCE_LENGTH
    kd.adapters.apply(classifier, kd.adapters.LoRA(rank=RANK))
    model = kd.DebiasedModel(classifier, projection=projection, seed=seed)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                0.0,
                steps,
                warmup_target=LEARNING_RATE,
                warmup_steps=steps // 10,
            )
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    rows = kd.data.load("snli", "train").sample(
        steps * BATCH_SIZE, seed=seed, balance_labels=True
    )
    rows = kd.data.inject_token(rows, "entailment", 0.25, 0.90, seed=seed)
    model.fit(rows, batch_size=BATCH_SIZE, epochs=1, verbose=0)
    return model


def update_cosine(cosine, exact, kept):
    """Of two updates `(1 + a r / 2) G - (a / 2) B` with |G| = 1, |B| = r."""
    b = -ALPHA / 2
    first, second = 1 + ALPHA * exact / 2, 1 + ALPHA * kept / 2
    gb, bb = cosine * exact, exact * exact

    def product(x, y):
        return x * y + (x + y) * b * gb + b * b * bb

    return product(first, second) / math.sqrt(
        product(first, first) * product(second, second)
    )


def drift(steps, seed):
    projection = Recording(ALPHA, scope="global")
    projection.ratios, projection.cosines = [], []
    train(projection, seed, steps)
    ratios, cosines = projection.ratios, projection.cosines
    found = {}
    for n in REFRESH[1:]:
        each = [
            update_cosine(cosines[t], ratios[t], ratios[t - t % n])
            for t in range(len(ratios))
        ]
        found[str(n)] = {
            "mean": round(statistics.fmean(each), 7),
            "lowest": round(min(each), 7),
        }
        print(f"refresh={n:<3} cosine to the exact update: {found[str(n)]}")
    return {
        "updates": found,
        "ratio": [round(r, 4) for r in ratios],
        "gradient_cosine": [round(c, 4) for c in cosines],
    }


def effect(steps, seeds, test_rows):
    test = kd.data.inject_token(
        kd.data.load("snli", "test"), "entailment", 0.66, 0.50, seed=2
    ).sample(test_rows, seed=0, balance_groups=True)
    found = {}
    for n in REFRESH:
        runs = []
        for seed in seeds:
            edge = kd.projections.EDGE(ALPHA, scope="global", refresh=n)
            model = train(edge, seed, steps)
            scores = kd.evaluate(model, {"shifted": test}, batch_size=64)
            split = scores["shifted"]
            runs.append(
                {
                    "seed": seed,
                    "accuracy": round(split.accuracy, 4),
                    "worst_group": round(split.worst_group_accuracy, 4),
                }
            )
        found[str(n)] = runs
        mean = {
            name: round(statistics.fmean(r[name] for r in runs), 4)
            for name in ("accuracy", "worst_group")
        }
        print(f"refresh={n:<3} shifted test, mean over seeds: {mean}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=125)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test-rows", type=int, default=600)
    parser.add_argument("--json", help="where to write the results")
    options = parser.parse_args()
    result = {
        "command": "python benchmarks/edge_refresh.py --json "
        "benchmarks/edge_refresh.json",
        "setting": {
            "alpha": ALPHA,
            "steps": options.steps,
            "batch_size": BATCH_SIZE,
            "learning_rate": LEARNING_RATE,
            "rank": RANK,
            "test_rows": options.test_rows,
        },
        "drift": drift(options.steps, options.seeds[0]),
        "effect": effect(options.steps, options.seeds, options.test_rows),
    }
    results.write(options.json, result)


if __name__ == "__main__":
    sys.exit(main())
