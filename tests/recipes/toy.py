"""Data with a planted shortcut, and networks small enough to hold."""

import dataclasses

import keras
import numpy as np

import keras_debias as kd
from tests.architectures import WORDS
from tests.architectures import _bert_text


def numbers(rows=400, strength=0.95, seed=0, noise=1.0):
    """Two columns: a loud cue that goes with the label, and the quiet task."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, rows)
    cue = np.where(generator.random(rows) < strength, y, 1 - y)
    x = np.stack([3.0 * (2 * cue - 1), 1.0 * (2 * y - 1)], axis=1)
    x += generator.standard_normal((rows, 2)) * [0.3, noise]
    split = kd.data.Split(
        x.astype("float32"), y.astype("int32"), label_names=("no", "yes")
    )
    return split.with_label_groups({"cue": cue})


def texts(rows=64, strength=0.9, seed=0):
    """Pairs of texts; the word "slept" goes with the last class."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 3, rows)
    honest = generator.random(rows) < strength
    cue = np.where(honest, y == 2, generator.random(rows) < 0.5)
    others = [word for word in WORDS if word != "slept"]

    def sentences():
        return [" ".join(generator.choice(others, 3)) for _ in range(rows)]

    hypotheses = [
        f"{text} slept" if has else text
        for text, has in zip(sentences(), cue, strict=True)
    ]
    split = kd.data.Split(
        (sentences(), hypotheses),
        y.astype("int32"),
        label_names=("a", "b", "c"),
    )
    return split.with_label_groups({"cue": cue})


def logits_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def build(updates, rate=0.02):
    network = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(6, activation="tanh"),
            keras.layers.Dense(2),
        ]
    )
    network.compile(keras.optimizers.Adam(rate), logits_loss())
    return network


def build_text(updates):
    network = _bert_text(0.0)
    network.compile(keras.optimizers.Adam(0.01), logits_loss())
    return network


def trainer(updates=12, model_fn=build, **kwargs):
    return kd.recipes.Trainer(
        model_fn, kd.recipes.Budget(updates=updates, batch_size=32), **kwargs
    )


class Reader:
    """Reads the task's column, and adds noise."""

    label_names = ("no", "yes")

    def __init__(self, noise, seed):
        self.noise, self.seed = noise, seed

    def predict(self, x, batch_size=None, verbose=0):
        generator = np.random.default_rng(self.seed)
        yes = x[:, 1] + self.noise * generator.standard_normal(len(x))
        return np.stack([-yes, yes], axis=-1)


@dataclasses.dataclass(frozen=True)
class Instant(kd.recipes.Recipe):
    """Builds a network and trains nothing: for what goes on around it."""

    noise: float = 1.0
    broken_seed: int | None = None

    def fit(self, trainer, train):
        trainer.updates += trainer.claim_updates(None, train)
        trainer.model_fn(trainer.updates)
        if trainer.seed == self.broken_seed:
            raise RuntimeError("out of luck")
        return Reader(self.noise + train.x[0, 0] / 100, trainer.seed)


class NeedsGroups(Instant):
    needs_groups = True
