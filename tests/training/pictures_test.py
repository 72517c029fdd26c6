"""Pictures: batch normalization under EDGE, KerasHub's image classifiers."""

import keras
import keras_hub
import numpy as np
import pytest

import keras_debias as kd

ROWS, WIDTH, CLASSES = 12, 5, 3
Q, ALPHA, MOMENTUM = 0.7, 0.5, 0.9


def network():
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(WIDTH, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, name="norm")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="head")(x))


def cross_entropy(y_true, y_pred):
    return keras.losses.sparse_categorical_crossentropy(
        y_true, y_pred, from_logits=True
    )


def amplified(y_true, y_pred):
    loss = cross_entropy(y_true, y_pred)
    return (1.0 - keras.ops.exp(-Q * loss)) / Q


def by_layer(weights):
    """Values by layer and weight, such as `"conv/kernel"`."""
    return {"/".join(v.path.split("/")[-2:]): np.array(v) for v in weights}


def one_step(start, x, y, loss, projection=None):
    """Weights after one SGD step at rate one from `start`."""
    model = network()
    model.set_weights(start)
    trained = kd.DebiasedModel(model, projection, seed=0)
    trained.compile(keras.optimizers.SGD(1.0), loss=loss)
    trained.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
    return by_layer(model.weights)


def test_edge_through_batch_normalization():
    """The update is (9) to (12) of the two gradients in training mode, and
    the moving statistics take one step, as of one forward pass."""
    rng = np.random.default_rng(0)
    x = rng.normal(1.0, 2.0, (ROWS, 4, 4, 2)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS).astype("int32")
    model = network()
    start = model.get_weights()
    names = set(by_layer(model.trainable_weights))
    before = by_layer(model.weights)
    task = one_step(start, x, y, cross_entropy)
    bias = one_step(start, x, y, amplified)
    edge = one_step(start, x, y, cross_entropy, kd.projections.EDGE(ALPHA, Q))
    assert len(names) == 6
    for name in names:
        g, b = before[name] - task[name], before[name] - bias[name]
        if np.linalg.norm(g) < 1e-6:
            # The bias before batch normalization has no gradient.
            assert name == "conv/bias"
            continue
        common = g / np.linalg.norm(g) + b / np.linalg.norm(b)
        extra = b - np.sum(b * common) / np.sum(common**2) * common
        assert np.abs(extra).max() > 1e-4
        np.testing.assert_allclose(
            before[name] - edge[name], g - ALPHA * extra, atol=1e-5
        )
    # The convolution's outputs in NumPy, as (windows, inputs) x kernel.
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    outputs = np.einsum("nhwcij,ijco->nhwo", windows, before["conv/kernel"])
    outputs = outputs + before["conv/bias"]
    for statistic, value in (
        ("moving_mean", outputs.mean((0, 1, 2))),
        ("moving_variance", outputs.var((0, 1, 2))),
    ):
        name = f"norm/{statistic}"
        expected = MOMENTUM * before[name] + (1 - MOMENTUM) * value
        np.testing.assert_allclose(edge[name], expected, atol=1e-5)


def resnet_18():
    """The published ResNet-18, for small pictures in bytes."""
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(32, 32), scale=1 / 255
    )
    return keras_hub.models.ResNetImageClassifier(
        backbone,
        num_classes=2,
        preprocessor=keras_hub.models.ResNetImageClassifierPreprocessor(
            converter
        ),
    )


def vit():
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(32, 32, 3),
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
    )
    converter = keras_hub.layers.ViTImageConverter(
        image_size=(32, 32), scale=1 / 255
    )
    return keras_hub.models.ViTImageClassifier(
        backbone,
        num_classes=2,
        preprocessor=keras_hub.models.ViTImageClassifierPreprocessor(converter),
    )


def small():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 5, strides=4)(x)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.ReLU()(x))
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def to_create():
    """KerasHub's on torch; elsewhere they take minutes to compile, and the
    contract tests train small ones."""
    if keras.config.backend() == "torch":
        return [small, resnet_18, vit]
    return [small]


def two_kinds(rows=48):
    """Bright and dark noise, mostly with a green and a blue border."""
    rng = np.random.default_rng(0)
    y = np.arange(rows) % 2
    place = np.where(rng.random(rows) < 0.9, y, 1 - y)
    x = rng.integers(0, 60, (rows, 32, 32, 3))
    x[:, 8:24, 8:24] += np.where(y, 190, 0)[:, None, None, None]
    x[np.arange(rows), :4, :, 1 + place] += 190
    return kd.data.Split(
        x.astype("uint8"), y, label_names=("dark", "bright")
    ).with_label_groups({"place": place.astype(bool)})


@pytest.mark.parametrize("create", to_create())
def test_full_fine_tuning_on_bytes(create):
    split = two_kinds()
    model = kd.DebiasedModel(create(), kd.projections.EDGE(), seed=0)
    model.compile(
        keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    before = [np.array(v) for v in model.model.weights]
    history = model.fit(split, batch_size=16, epochs=4, verbose=0).history
    after = [np.array(v) for v in model.model.weights]
    changed = [not np.array_equal(a, b) for a, b in zip(before, after)]
    # All of it trains; the moving statistics of ResNet have moved, too.
    assert np.mean(changed) > 0.95
    assert history["loss"][-1] < history["loss"][0]
    scores = kd.evaluate(model, {"train": split}, min_group_size=1)
    assert scores["train"].n == 48 and len(scores["train"].groups) == 4
