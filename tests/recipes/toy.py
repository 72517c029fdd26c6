"""Data with a planted shortcut, and networks small enough to hold."""

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
