"""Models and data in which a factor of a known direction is planted."""

import keras
import numpy as np

import keras_debias as kd
from tests import real_models

WIDTH = 48


def network(seed=0):
    """A residual network with random weights, the same on every backend."""
    inputs = keras.Input((WIDTH,))
    x = inputs
    for i in range(6):
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


def table(n, correlation, pairs=4, seed=0, shuffle=None):
    """`(x, y, direction)`: a hard task, and a factor that goes with it.

    The label is the sign of a sum of `pairs` products of features, or of one
    feature for `pairs=0`. The factor is 1 instead of -1 along `direction`
    where the label is 0, in a share `correlation` of the rows, and random in
    the others. `shuffle="factor"` or `"labels"` makes it say nothing.
    """
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(
        np.random.default_rng(99).standard_normal((WIDTH, WIDTH))
    )[0]
    direction, features = basis[:, 0], basis[:, 1:]
    x = generator.standard_normal((n, WIDTH))
    x -= np.outer(x @ direction, direction)
    score = x @ features
    if pairs:
        first, second = score[:, : 2 * pairs : 2], score[:, 1 : 2 * pairs : 2]
        score = (first * second).sum(axis=1)
    else:
        score = score[:, 0]
    y = (score > 0).astype("int32")
    factor = np.where(
        generator.random(n) < correlation, y == 0, generator.random(n) < 0.5
    )
    if shuffle == "factor":
        factor = generator.permutation(factor)
    x += np.outer(np.where(factor, 1, -1), direction)
    if shuffle == "labels":
        y = generator.permutation(y)
    return x.astype("float32"), y, direction


def fine_tune(x, y, projection=None):
    model = network()
    kd.adapters.apply(
        model,
        kd.adapters.LoRA(4, targets=("hidden_*",)),
        also_train=("logits",),
    )
    debiased = kd.DebiasedModel(model, projection, seed=0)
    debiased.compile(
        keras.optimizers.Adam(3e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    debiased.fit(x, y, batch_size=64, epochs=5, verbose=0)
    return model


def minilm(n, correlation, shuffle=False, length=20):
    """MiniLM with a direction planted behind the second segment's id.

    Returns `(classifier, x, y, truth)`; `truth` is the mean difference that
    the id makes to what enters the first block.
    """
    keras.utils.set_random_seed(0)
    classifier = real_models.minilm(length=length)
    segments = classifier.backbone.get_layer("segment_embedding")
    rows = np.array(keras.ops.convert_to_numpy(segments.embeddings))
    generator = np.random.default_rng(1)
    noise = generator.standard_normal(rows.shape[1])
    rows[1] = rows[0] + noise / np.linalg.norm(noise)
    segments.embeddings.assign(rows)
    split = kd.data.generated_nli(n)
    factor = np.where(
        generator.random(n) < correlation,
        split.y == 0,
        generator.random(n) < 0.5,
    )
    if shuffle:
        factor = generator.permutation(factor)
    x = classifier.preprocessor(split.x)
    x = x[0] if isinstance(x, tuple) else x
    x = {
        name: np.array(keras.ops.convert_to_numpy(value))
        for name, value in x.items()
    }
    x["segment_ids"] = (factor[:, None] * x["padding_mask"]).astype("int32")
    norm = classifier.backbone.get_layer("embeddings_layer_norm")
    embed = keras.Model(classifier.backbone.inputs, norm.output)
    names = [tensor.name for tensor in embed.inputs]
    entering = [
        keras.ops.convert_to_numpy(
            keras.ops.cast(
                embed(
                    {
                        **{n: x[n] for n in names},
                        "segment_ids": np.full_like(x["segment_ids"], value),
                    }
                ),
                "float32",
            )
        )
        for value in (0, 1)
    ]
    present = x["padding_mask"].astype(bool)
    truth = (entering[1] - entering[0])[present].mean(axis=0)
    return classifier, x, split.y.astype("int32"), truth
