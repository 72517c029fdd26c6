"""CorDA, LoRA-GA, LoftQ and random entries against their equations."""

import dataclasses
import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias import _keras_internals
from keras_debias.adapters.selection import layer_paths
from tests import toy_language
from tests.architectures import ARCHITECTURES

# Keras says so of every layer that has nothing to quantize.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have a `quantize` method:UserWarning"
)

adapters = kd.adapters
TEXTS = next(a for a in ARCHITECTURES if a.name == "bert_text")
ON_TORCH = pytest.mark.skipif(
    keras.config.backend() != "torch",
    reason="imports of PEFT, and a trace for every layer, take seconds",
)


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def network(loss=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "tanh", name="one"),
            keras.layers.Dense(7, "tanh", name="two"),
            keras.layers.Dense(3, name="head"),
        ]
    )
    if loss is not None:
        model.compile(loss=loss)
    return model


def rows(count=40):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, 6)) * np.arange(1, 7)
    return x.astype("float32"), np.arange(count) % 3


def logits_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def first_query(model):
    return next(path for path in layer_paths(model) if "query" in path)


def start_of(layer):
    return layer.scaling * array(layer.lora_a) @ array(layer.lora_b)


class TestCorDA:
    @pytest.mark.parametrize("preserve", [True, False])
    def test_it_starts_from_components_of_the_data(self, preserve):
        x, _ = rows()
        model = network()
        start = array(model(x))
        inputs = {"one": x, "two": array(model.get_layer("one")(x))}
        adapter = adapters.CorDA(
            *(2, preserve, 16), alpha=6, targets=["one", "two"]
        )
        adapters.apply(model, adapter, also_train="head", data=x)
        np.testing.assert_allclose(array(model(x)), start, atol=1e-5)
        for name, seen in inputs.items():
            layer = model.get_layer(name)
            moment = seen.T.astype("float64") @ seen / len(seen)
            moment += 0.01 * np.mean(np.diag(moment)) * np.eye(len(moment))
            u, s, vt = np.linalg.svd(
                moment @ array(layer.kernel), full_matrices=False
            )
            part = slice(len(s) - 2, None) if preserve else slice(2)
            expected = np.linalg.solve(moment, u[:, part] * s[part]) @ vt[part]
            np.testing.assert_allclose(start_of(layer), expected, atol=1e-4)

    @ON_TORCH
    @pytest.mark.parametrize("preserve", [True, False])
    def test_it_starts_as_in_peft(self, preserve, monkeypatch):
        peft = pytest.importorskip("peft")
        import torch

        # PEFT takes nothing but the decorator from `attr`.
        monkeypatch.setitem(sys.modules, "attr", dataclasses)
        from peft.tuners.lora.config import CordaConfig
        from peft.tuners.lora.corda import preprocess_corda

        x, _ = rows()
        model = network()
        layer = model.get_layer("one")
        linear = torch.nn.Linear(6, 8)
        linear.weight.data = torch.tensor(array(layer.kernel).T.copy())
        plain = torch.nn.Sequential()
        plain.add_module("one", linear)
        config = peft.LoraConfig(
            r=2,
            lora_alpha=6,
            target_modules=["one"],
            init_lora_weights="corda",
            corda_config=CordaConfig(corda_method="kpm" if preserve else "ipm"),
        )
        preprocess_corda(plain, config, lambda: plain(torch.tensor(x)))
        twin = peft.get_peft_model(plain, config).base_model.model.one
        theirs = 3 * (
            twin.lora_B["default"].weight @ twin.lora_A["default"].weight
        )
        adapter = adapters.CorDA(2, preserve, alpha=6, targets="one")
        adapters.apply(model, adapter, also_train="head", data=x)
        np.testing.assert_allclose(
            start_of(layer).T, theirs.detach().numpy(), atol=1e-4
        )

    def test_padding_does_not_count(self):
        def build():
            keras.utils.set_random_seed(0)
            inputs = {
                name: keras.Input((5,), dtype="int32", name=name)
                for name in ("token_ids", "padding_mask")
            }
            x = keras.layers.Embedding(9, 6)(inputs["token_ids"])
            x = keras.layers.Dense(8, name="one")(x)
            mask = keras.layers.Reshape((5, 1))(inputs["padding_mask"])
            x = keras.layers.Multiply()([x, mask])
            return keras.Model(inputs, x)

        generator = np.random.default_rng(0)
        mask = np.tile([1, 1, 1, 0, 0], (12, 1)).astype("int32")
        starts = []
        for seed in range(2):
            tokens = np.random.default_rng(0).integers(0, 9, (12, 5))
            if seed:
                tokens[:, 3:] = generator.integers(0, 9, (12, 2))
            data = {"token_ids": tokens, "padding_mask": mask}
            model = build()
            adapters.apply(
                model, adapters.CorDA(2, targets="one"), (), data=data
            )
            starts.append(start_of(model.get_layer("one")))
        np.testing.assert_allclose(*starts, atol=1e-6)

    @ON_TORCH
    def test_padding_of_prompts_of_label_words_does_not_count(self):
        starts = []
        for pad_to_multiple in (None, 1):
            model = kd.models.LabelWordClassifier(
                toy_language.gpt2(),
                toy_language.LABELS,
                "Review: {text}\nEmotion:",
                sequence_length=40,
                pad_to_multiple=pad_to_multiple,
            )
            adapter = adapters.CorDA(2, targets="*/feedforward_output_dense")
            # Of one length: without padding in the second pass.
            data = np.array(["a dog", "a day", "the dog"], object)
            adapters.apply(model, adapter, data=data)
            starts.append(
                [
                    start_of(layer)
                    for layer in layer_paths(model).values()
                    if hasattr(layer, "lora_a")
                ]
            )
        for first, second in zip(*starts, strict=True):
            np.testing.assert_allclose(first, second, atol=1e-4)


class TestLoRAGA:
    @pytest.mark.parametrize("weigh", ["rows", "outputs"])
    def test_what_weighs_nothing_has_no_part_in_the_start(self, weigh):
        """Weights of a `Split`, and those of losses."""
        x, y = rows(16)

        def start(data, loss_weights=None):
            keras.utils.set_random_seed(0)
            inputs = keras.Input((6,))
            hidden = keras.layers.Dense(8, "tanh", name="one")(inputs)
            outputs = {
                name: keras.layers.Dense(3, name=name)(hidden) for name in "ab"
            }
            if weigh == "rows":
                outputs = outputs["a"]
            model = keras.Model(inputs, outputs)
            loss = {name: logits_loss() for name in "ab"}
            model.compile(
                loss=logits_loss() if weigh == "rows" else loss,
                loss_weights=loss_weights,
            )
            adapter = adapters.LoRAGA(2, targets="one", batch_size=16)
            adapters.apply(model, adapter, also_train=(), data=data)
            return start_of(model.get_layer("one"))

        if weigh == "rows":
            weights = (np.arange(16) < 8).astype("float32")
            found = start(kd.data.Split(x, y, sample_weight=weights))
            expected = start((x[:8], y[:8]))
            other = start((x, y))
        else:
            only = {"a": 1.0, "b": 0.0}
            found = start((x, {"a": y, "b": y[::-1]}), only)
            expected = start((x, {"a": y, "b": y}), only)
            other = start((x, {"a": y, "b": y[::-1]}))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.abs(other - expected).max() > 1e-3

    @pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
    def test_every_row_weighs_the_same_also_in_the_last_batch(self, reduction):
        data = rows(17)
        starts = []
        for batch_size in (16, 17):
            loss = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction=reduction
            )
            model = network(loss)
            adapter = adapters.LoRAGA(2, targets="one", batch_size=batch_size)
            adapters.apply(model, adapter, also_train=(), data=data)
            starts.append(start_of(model.get_layer("one")))
        np.testing.assert_allclose(*starts, atol=1e-4)

    @ON_TORCH
    def test_labels_of_a_split_are_aligned_by_name(self):
        x, y = toy_language.texts(6)
        names = toy_language.LABELS
        starts = []
        for order in (names, names[::-1]):
            model = kd.models.LabelWordClassifier(
                toy_language.gpt2(), names, "Review: {text}\nEmotion:"
            )
            split = kd.data.Split(x, y, label_names=names)
            adapter = adapters.LoRAGA(2, targets="*/query")
            adapters.apply(model, adapter, data=split.align_labels(order))
            starts.append(start_of(layer_paths(model)[first_query(model)]))
        np.testing.assert_allclose(*starts, atol=1e-6)

    def test_it_starts_from_the_gradient(self):
        x, y = rows()
        inputs = keras.Input((6,))
        layer = keras.layers.Dense(8, name="one")
        model = keras.Model(inputs, layer(inputs))
        kernel = array(layer.kernel)
        logits = x.astype("float64") @ kernel
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        gradient = x.T @ (shares - np.eye(8)[y]) / len(x)
        u, _, vt = np.linalg.svd(gradient)

        model.compile(loss=logits_loss())
        adapter = adapters.LoRAGA(2, targets="one", gamma=9, batch_size=10)
        adapters.apply(model, adapter, also_train=(), data=(x, y))
        a, b = array(layer.lora_a), array(layer.lora_b)
        # Up to the signs of singular vectors.
        scale = 8**0.5 / 9
        np.testing.assert_allclose(
            a @ a.T, scale * u[:, :2] @ u[:, :2].T, atol=1e-4
        )
        np.testing.assert_allclose(
            b.T @ b, scale * vt[2:4].T @ vt[2:4], atol=1e-4
        )
        assert layer.scaling == 16 / 2**0.5
        np.testing.assert_array_equal(array(layer.kernel), kernel)
        np.testing.assert_array_equal(array(layer.delta()), 0.0)
        assert {v.name for v in model.trainable_variables} == {
            *("lora_a", "lora_b")
        }

    @ON_TORCH
    def test_a_compiled_task_with_raw_text(self):
        x, y = TEXTS.data(seed=0)
        model = TEXTS.build()
        model.compile(loss=TEXTS.loss(), optimizer="sgd")
        tokens = model.preprocess_samples(x)
        start = array(model(tokens))
        split = kd.data.Split(x, np.asarray(y))
        adapters.apply(model, adapters.LoRAGA(2), data=split)
        np.testing.assert_allclose(array(model(tokens)), start, atol=1e-5)
        assert all(
            np.abs(array(layer.lora_b)).max() > 0
            for layer in model._flatten_layers()
            if hasattr(layer, "lora_b")
        )


class TestLoftQ:
    def build(self):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(8, name="one"),
                keras.layers.Dense(3, name="head"),
            ]
        )
        return model

    def quantized(self, mode):
        model = self.build()
        model.quantize(mode, filters=lambda layer: layer.name == "one")
        return model

    @pytest.mark.parametrize("mode", ["int8", "int4"])
    def test_it_starts_from_what_rounding_lost(self, mode, tmp_path):
        x, _ = rows()
        original, model = self.build(), self.quantized(mode)
        layer = model.get_layer("one")
        before = array(model(x))
        lost = array(original.get_layer("one").kernel) - array(
            _keras_internals.dequantized_kernel(layer)
        )
        adapter = adapters.LoftQ(3, alpha=6, targets="one")
        adapters.apply(model, adapter, also_train="head", data=original)
        u, s, vt = np.linalg.svd(lost, full_matrices=False)
        np.testing.assert_allclose(
            start_of(layer), (u[:, :3] * s[:3]) @ vt[:3], atol=1e-6
        )
        exact = np.abs(array(model(x)) - array(original(x))).mean()
        assert exact < 0.9 * np.abs(before - array(original(x))).mean()
        with adapters.disabled(model):
            np.testing.assert_allclose(array(model(x)), before, atol=1e-6)
        now = array(model(x))
        adapters.save(model, tmp_path / "adapter")
        again = adapters.load(self.quantized(mode), tmp_path / "adapter")
        np.testing.assert_allclose(array(again(x)), now, atol=1e-6)

    def test_what_it_refuses(self):
        adapter = adapters.LoftQ(2, targets="one")
        model = self.quantized("int8")
        with pytest.raises(TypeError, match="before it was quantized"):
            adapters.apply(model, adapter, also_train=(), data=rows()[0])
        with pytest.raises(ValueError, match="'one' in floats"):
            adapters.apply(
                self.build(), adapter, also_train=(), data=self.build()
            )
        for other in (network(), self.quantized("int8"))[1:]:
            with pytest.raises(ValueError, match="original model, in floats"):
                adapters.apply(model, adapter, also_train=(), data=other)
        assert not hasattr(model.get_layer("one"), "adapters")


def test_random_entries_of_a_kernel_train():
    x, y = rows()
    model = network()
    kernels = [array(layer.kernel) for layer in model.layers]
    adapter = adapters.RandomEntries(5, targets=["one", "two"], seed=3)
    adapters.apply(model, adapter, also_train="head")
    assert adapters.summary(model).trainable == 5 + 5 + 7 * 3 + 3
    debiased = kd.DebiasedModel(model, projection=kd.projections.EDGE())
    debiased.compile(keras.optimizers.Adam(0.1), logits_loss())
    assert debiased.separate_passes is None
    debiased.fit(x, y, epochs=2, verbose=0)
    trained = array(model(x))
    changes = [array(layer.delta()) for layer in model.layers[:2]]
    for layer, change in zip(model.layers, changes):
        entries = np.sort(array(layer.entries))
        np.testing.assert_allclose(np.sort(change[change != 0]), entries)
        assert len(entries) == 5
    # Drawn by shape and seed, not all in the same places of the matrix.
    assert len({tuple(np.argwhere(c)[0]) for c in changes}) == 2
    adapters.merge(model)
    np.testing.assert_allclose(array(model(x)), trained, atol=1e-5)
    for layer, kernel, change in zip(model.layers, kernels, changes):
        np.testing.assert_allclose(
            array(layer.kernel) - kernel, change, atol=1e-6
        )


def test_updates_from_data_stay_out_of_directions():
    x, y = rows()
    model = network()
    adapter = adapters.CorDA(2, targets="one")
    adapters.apply(model, adapter, also_train="head", data=x)
    start = array(model(x))
    vector = np.eye(6, 1, dtype="float32")
    directions = kd.Directions(vector, "read", readers=("one",))
    debiased = kd.DebiasedModel(
        model, projection=kd.projections.Subspace(directions)
    )
    np.testing.assert_allclose(array(model(x)), start, atol=1e-5)
    debiased.compile(keras.optimizers.Adam(0.05), logits_loss())
    debiased.fit(x, y, epochs=3, verbose=0)
    change = array(model.get_layer("one").delta())
    assert np.abs(change).max() > 1e-3
    assert np.abs(change[0]).max() < 1e-5 * np.abs(change).max()


@pytest.mark.parametrize(
    ("make", "data", "match"),
    [
        (lambda: adapters.CorDA(2, targets="one"), None, "without `data`"),
        (lambda: adapters.LoRA(2, targets="one"), rows(), "with `data`"),
        (
            lambda: adapters.CorDA(2, targets="one"),
            np.full((4, 6), np.nan, "float32"),
            "finite inputs",
        ),
        (
            lambda: adapters.LoRAGA(2, targets="one"),
            rows()[0],
            "with labels",
        ),
        (lambda: adapters.LoRAGA(2, targets="one"), rows(), "not compiled"),
        (
            lambda: adapters.LoRAGA(4, targets="one"),
            rows(),
            "at most half",
        ),
        (
            lambda: adapters.LoRAGA(2, targets="one"),
            (rows()[0], np.zeros(3, "int32")),
            "some rows",
        ),
        (lambda: adapters.RandomEntries(49, "one"), None, "at most 48"),
    ],
)
def test_what_is_refused_changes_nothing(make, data, match):
    model = network(None if "compiled" in match else logits_loss())
    before = {v.path: (array(v), v.trainable) for v in model.weights}
    with pytest.raises(ValueError, match=match):
        adapters.apply(model, make(), also_train="head", data=data)
    for variable in model.weights:
        value, trainable = before[variable.path]
        np.testing.assert_array_equal(array(variable), value)
        assert variable.trainable == trainable
    assert type(model.get_layer("one")) is keras.layers.Dense
    assert "call" not in model.get_layer("one").__dict__
