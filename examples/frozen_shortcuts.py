"""Every method on natural shortcuts, with a frozen encoder: seconds a run.

The encoder computes its features once; a method trains the last layer on
them. Texts: MiniLM. Photos (`bar`, `cifar10_95`): EfficientNet-Lite0. Methods
see the rows themselves as well, so that a shallow model reads words. What
helps here is then fine-tuned, see `natural_shortcuts.py`. Colored digits are
too far from photos: a small convolutional network is trained on them.

    python examples/frozen_shortcuts.py                       # resumable
    python examples/frozen_shortcuts.py --sets mdsd --draws 0 1
    python examples/frozen_shortcuts.py --table               # from kept runs

Sets from files need the folder named by KERAS_DEBIAS_DATA. A draw is the
sample of rows and the seed of the last layer. Runs, with their predictions,
are kept in `--folder` and not repeated; `--table` writes
`examples/frozen_shortcuts.json` and `.md`, in which sets without kept runs
keep their figures.
"""

import hashlib
import pathlib
import sys

import common  # chooses the backend
import compare_colored_digits
import natural_shortcuts as natural
import shortcut_tables

import keras_debias as kd

import keras  # isort: skip
import keras_hub  # isort: skip
import numpy as np  # isort: skip

HERE = pathlib.Path(__file__)
DRAWS = (0, 1, 2, 3, 4)
BATCH_SIZE = 64
UPDATES = 400
LEARNING_RATE = 1e-2
PENALTY = 1e-3
WITH_TRUE_GROUPS = ("true groups", "GroupDRO, true groups")
METHODS = {
    "plain": kd.recipes.FineTuning(),
    "recommended": kd.recipes.Recommended(),
    "true groups": kd.recipes.BalancedSampling(),
    "GroupDRO, true groups": kd.recipes.GroupDRO(),
    "classes": kd.recipes.BalancedSampling(groups=kd.recipes.ClassLabels()),
    "clusters": kd.recipes.BalancedSampling(groups=kd.recipes.Clusters(8)),
    "shallow hint": kd.recipes.BalancedSampling(
        groups=kd.recipes.ShallowHint()
    ),
    "probe hint": kd.recipes.BalancedSampling(groups=kd.recipes.ProbeHint()),
    "XRM": kd.recipes.BalancedSampling(groups=kd.recipes.XRM()),
    "EDGE 1": kd.recipes.FineTuning(kd.projections.EDGE(alpha=1.0)),
    "EDGE 32": kd.recipes.FineTuning(kd.projections.EDGE(alpha=32.0)),
    "JTT": kd.recipes.JTT(),
    "DFR": kd.recipes.DFR(groups=kd.recipes.Clusters(8)),
    "AFR": kd.recipes.AFR(),
    "product of experts": kd.recipes.ProductOfExperts(),
    "REW": kd.recipes.Reweighting(),
    "LM": kd.recipes.LearnedMixin(),
}


def digits(draw):
    return (
        kd.data.colored_digits(0.95, seed=draw),
        {"test": kd.data.colored_digits(0.1, "test", seed=draw)},
    )


def cifar10(draw):
    train = kd.data.load("cifar10", "train").sample(4000, seed=draw)
    test = kd.data.load("cifar10", "test").sample(2000, seed=draw)
    return (
        kd.data.corrupted(train, 0.95, seed=draw),
        {"test": kd.data.corrupted(test, 0.1, seed=draw)},
    )


def bar(draw):
    # Every training photo shows the usual place: groups are classes.
    del draw
    return kd.data.load("bar", "train"), {"test": kd.data.load("bar", "test")}


# Set -> how to load a draw, and what encodes its rows, if anything.
SETS = {
    **{name: (values[0], "text") for name, values in natural.SETS.items()},
    "colored_digits_95": (digits, None),
    "cifar10_95": (cifar10, "photo"),
    "bar": (bar, "photo"),
}


class Encoded:
    """Features of rows that an encoder has seen, by the rows' content.

    A network of one layer takes texts and photos with `rows` in place of a
    preprocessor. All rows have to be known before.
    """

    def __init__(self, kind, folder):
        self.known = {}
        if kind == "text":
            task = keras_hub.models.TextClassifier.from_preset(
                kd.presets.minilm(), num_classes=2, dtype=common.fast_policy()
            )
            task.preprocessor.sequence_length = 64
        else:
            task = keras_hub.models.ImageClassifier.from_preset(
                kd.presets.efficientnet_lite0(), num_classes=2
            )
        features = kd.features.FrozenFeatures(task, cache_dir=folder, verbose=0)
        self.encode = lambda x: features(kd.data.Split(x))

    def add(self, x):
        """Encodes what is new."""
        if isinstance(x, tuple):
            for part in x:
                self.add(part)
            return
        new = {
            key: row
            for key, row in zip(keys(x), x[:], strict=True)
            if key not in self.known
        }
        if new:
            rows = list(new.values())
            found = self.encode(rows if is_text(rows) else np.stack(rows))
            self.known.update(zip(new, found, strict=True))

    def of(self, split):
        return self.rows(split.x)

    def rows(self, x):
        if isinstance(x, tuple):
            u, v = map(self.rows, x)
            # The vector of a pair, as in `kd.features.FrozenFeatures`.
            return np.concatenate([u, v, np.abs(u - v), u * v], axis=1)
        return np.stack([self.known[key] for key in keys(x)])


def is_text(x):
    return isinstance(x[0], str)


def keys(x):
    """One key a row: a text, or a hash of the pixels."""
    if is_text(x):
        return list(x)
    return [hashlib.sha1(np.asarray(row).tobytes()).digest() for row in x[:]]


def builder(encoded, train):
    """A last layer on the features, with the features as preprocessor."""
    features = encoded.of(train)
    mean, scale = features.mean(0), features.std(0).mean()

    def preprocess(x, y=None, sample_weight=None):
        found = encoded.rows(x)
        return keras.utils.pack_x_y_sample_weight(
            ((found - mean) / scale).astype("float32"), y, sample_weight
        )

    def build(updates):
        network = keras.Sequential(
            [
                keras.Input((features.shape[1],)),
                keras.layers.Dense(
                    len(train.label_names),
                    kernel_regularizer=keras.regularizers.L2(PENALTY),
                ),
            ]
        )
        network.compile(
            keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(LEARNING_RATE, updates)
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        # Past Keras' tracking: neither is a layer.
        network.__dict__["preprocessor"] = preprocess
        network.__dict__["preprocess_samples"] = preprocess
        return network

    return build


def run(name, draw, methods, folder, encoders):
    load, kind = SETS[name]
    train, tests = load(draw)
    features, build = None, compare_colored_digits.build
    if kind is not None:
        if kind not in encoders:
            encoders[kind] = Encoded(kind, folder / "features")
        encoded = encoders[kind]
        for split in (train, *tests.values()):
            encoded.add(split.x)
        features, build = encoded.of, builder(encoded, train)
    if train.groups is None:
        methods = [each for each in methods if each not in WITH_TRUE_GROUPS]
    every = METHODS | natural.SWEEP
    kd.compare(
        {method: every[method] for method in methods},
        train,
        tests,
        seeds=[draw],
        model_fn=build,
        budget=kd.recipes.Budget(updates=UPDATES, batch_size=BATCH_SIZE),
        batch_size=1024,
        bootstrap=0,
        features=features,
        folder=folder / "runs" / name / str(draw),
        verbose=0,
    )


def main():
    chosen = natural.options(__doc__, SETS, METHODS, DRAWS, "results/frozen")
    encoders = {}
    if not chosen.table:
        for draw in chosen.draws:
            for name in chosen.sets:
                print(f"== {name}, draw {draw}", flush=True)
                run(name, draw, chosen.methods, chosen.folder, encoders)
        return 0
    loaders = {name: load for name, (load, _) in SETS.items()}
    shortcut_tables.write(
        HERE,
        chosen.folder / "runs",
        loaders,
        "Percent, means over draws (lowest to highest). "
        "The last layer on frozen features.",
        {
            "model": "all-MiniLM-L6-v2; EfficientNet-Lite0 for photos",
            "trained": f"the last layer, L2 {PENALTY}; on digits a small "
            "convolutional network, learning rate 1e-3",
            "learning_rate": LEARNING_RATE,
            "batch_size": BATCH_SIZE,
            "updates": UPDATES,
        },
        METHODS,
        natural.SWEEP,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
