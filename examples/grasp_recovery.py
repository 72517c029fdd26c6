"""When can a planted direction be read from a fine-tune's weights?

A small residual network with random weights is fine-tuned with LoRA on vectors
in which a factor of known direction goes with the label. Two things vary: how
often it does (the correlation), and how many directions the task itself needs
(its complexity: the label is the sign of one feature, or of a sum of products
of two). Drawn is the cosine between the leading direction of the updates and
the true one, against random directions.

    python examples/grasp_recovery.py             # 3 seeds, about 2 minutes
    python examples/grasp_recovery.py --table     # rebuild table and plot

Needs no data. Finished runs are kept in `examples/grasp_recovery.json`.
"""

import argparse
import pathlib
import sys

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import numpy as np  # isort: skip
import common  # isort: skip

WIDTH = 48
ROWS = 1024
BATCH_SIZE = 64
EPOCHS = 5
LEARNING_RATE = 3e-3
RANK = 4
BLOCKS = 6
CORRELATIONS = (0.9, 0.6, 0.3, 0.0)
PAIRS = (0, 1, 4, 8)
PATH = pathlib.Path(__file__).with_suffix(".json")


def table(correlation, pairs, seed):
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.normal(size=(WIDTH, WIDTH)))[0]
    planted, features = basis[:, 0], basis[:, 1:]
    x = generator.normal(size=(ROWS, WIDTH))
    x -= np.outer(x @ planted, planted)
    score = x @ features
    if pairs:
        score = score[:, 0 : 2 * pairs : 2] * score[:, 1 : 2 * pairs : 2]
        score = score.sum(axis=1)
    else:
        score = score[:, 0]
    y = (score > 0).astype("int32")
    follows = generator.random(ROWS) < correlation
    factor = np.where(follows, y == 0, generator.random(ROWS) < 0.5)
    x += np.outer(np.where(factor, 1, -1), planted)
    return x.astype("float32"), y, planted


def network(seed):
    inputs = keras.Input((WIDTH,))
    x = inputs
    for i in range(BLOCKS):
        h = keras.layers.Dense(64, activation="tanh", name=f"hidden_{i}")(x)
        x = x + keras.layers.Dense(WIDTH, name=f"output_{i}")(h)
    outputs = keras.layers.Dense(2, name="logits")(x)
    model = keras.Model(inputs, outputs)
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if len(weight.shape) == 2:
            small = "output" in weight.path
            scale = 0.05 if small else weight.shape[0] ** -0.5
            weight.assign(generator.normal(0, scale, weight.shape))
    return model


def run(correlation, pairs, seed):
    x, y, planted = table(correlation, pairs, seed)
    keras.utils.set_random_seed(seed)
    model = network(seed)
    kd.adapters.apply(
        model,
        kd.adapters.LoRA(RANK, targets=("hidden_*",)),
        also_train=("logits",),
    )
    debiased = kd.DebiasedModel(model, seed=seed)
    debiased.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = debiased.fit(
        x, y, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0
    ).history
    found = kd.analysis.latent_factors(model, k=4, null_draws=20)
    random = [
        found.directions.first(1).random(i).overlap(planted) for i in range(100)
    ]
    return {
        "correlation": correlation,
        "pairs": pairs,
        "seed": seed,
        "cosine": round(found.directions.first(1).overlap(planted), 4),
        "cosine_of_4": round(found.directions.overlap(planted), 4),
        "random_95": round(float(np.percentile(random, 95)), 4),
        "share": round(float(found.spectrum[0]), 4),
        "training_accuracy": round(float(history["accuracy"][-1]), 4),
    }


def read():
    return common.read(PATH)["runs"] if PATH.exists() else []


def write(runs):
    result = {
        "command": "python examples/grasp_recovery.py",
        "setting": {
            "width": WIDTH,
            "rows": ROWS,
            "epochs": EPOCHS,
            "learning_rate": LEARNING_RATE,
            "rank": RANK,
            "blocks": BLOCKS,
        },
        "versions": common.versions(),
        "runs": runs,
    }
    common.write(PATH, result)


def show(runs):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    colors = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
    print("| task | " + " | ".join(map(str, CORRELATIONS)) + " |")
    print("|---" * (len(CORRELATIONS) + 1) + "|")
    for pairs, color in zip(PAIRS, colors):
        name = f"{pairs} products" if pairs else "one feature"
        means, stds = [], []
        for correlation in CORRELATIONS:
            values = [
                r["cosine"]
                for r in runs
                if r["pairs"] == pairs and r["correlation"] == correlation
            ]
            means.append(np.mean(values))
            stds.append(np.std(values, ddof=len(values) > 1))
        cells = [f"{m:.2f} ± {s:.2f}" for m, s in zip(means, stds)]
        print(f"| {name} | " + " | ".join(cells) + " |")
        axes.errorbar(
            CORRELATIONS, means, stds, color=color, marker="o", label=name
        )
    null = np.mean([r["random_95"] for r in runs])
    axes.axhline(
        null, color="#333333", linestyle=":", label="random directions, 95 %"
    )
    axes.set_xlabel("Share of the rows in which the factor follows the label")
    axes.set_ylabel("Cosine of found and true direction")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(PATH.with_suffix(".png"))
    print(f"Random directions stay below {null:.2f} in 95 of 100 draws.")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    runs = read()
    done = {(r["correlation"], r["pairs"], r["seed"]) for r in runs}
    for seed in options.seeds:
        for pairs in PAIRS:
            for correlation in CORRELATIONS:
                if options.table or (correlation, pairs, seed) in done:
                    continue
                runs.append(run(correlation, pairs, seed))
                write(runs)
                print(runs[-1], flush=True)
    show(runs)


if __name__ == "__main__":
    sys.exit(main())
