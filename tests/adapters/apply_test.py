"""Choosing layers, what trains, and everything `apply` refuses."""

import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.selection import variable_paths
from keras_debias.adapters.summary import TrainableSummary
from keras_debias.linalg import kernel_view
from tests.architectures import ARCHITECTURES
from tests.real_models import minilm

TABLE = {a.name: a for a in ARCHITECTURES}


def unnamed():
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(8),
            keras.layers.Dense(3),
        ]
    )


def adapted_paths(model):
    return sorted(
        p for p, x in layer_paths(model).items() if hasattr(x, "lora_a")
    )


class TestSelection:
    @pytest.mark.parametrize(
        ("targets", "count"),
        [
            ("query", 2),
            (("query", "key", "value"), 6),
            ("transformer_layer_0/*", 6),
            ("*/self_attention_layer/*", 8),
            (lambda layer: layer.name == "key", 2),
            (("query", "transformer_layer_1/self_attention_layer/key"), 3),
        ],
    )
    def test_names_globs_and_predicates(self, targets, count):
        model = TABLE["bert"].build()
        kd.adapters.apply(model, kd.adapters.LoRA(rank=2, targets=targets))
        assert len(adapted_paths(model)) == count

    def test_one_role_has_other_names_elsewhere(self):
        model = TABLE["t5"].build()
        kd.adapters.apply(model, kd.adapters.LoRA(rank=2), also_train="logits")
        assert all("_projector" in path for path in adapted_paths(model))

    def test_paths_do_not_depend_on_what_was_built_before(self):
        first = list(variable_paths(unnamed()))
        keras.layers.Dense(3)
        assert list(variable_paths(unnamed())) == first
        assert sum("dense_1" in path for path in first) == 2

    @pytest.mark.parametrize("targets", ["nothing", ("query", "nothing"), ()])
    def test_no_match_lists_the_layers(self, targets):
        model = TABLE["bert"].build()
        names = list(variable_paths(model))
        trainable = [v.trainable for v in model.weights]
        error = "self_attention_layer/query" if targets else "."
        with pytest.raises((ValueError, TypeError), match=error):
            kd.adapters.apply(model, kd.adapters.LoRA(rank=2, targets=targets))
        with pytest.raises(ValueError, match="has these layers"):
            kd.adapters.apply(
                model, kd.adapters.LoRA(targets=lambda layer: False)
            )
        assert list(variable_paths(model)) == names
        assert [v.trainable for v in model.weights] == trainable

    def test_a_number_is_no_selector(self):
        with pytest.raises(TypeError, match="layer name or glob"):
            kd.adapters.apply(
                TABLE["bert"].build(), kd.adapters.LoRA(targets=3)
            )


class WithAPartCalledModel(keras.Model):
    """A network that keeps its body as `model`, beside a head."""

    def __init__(self):
        super().__init__()
        self.model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(5, name="query"),
                keras.layers.Dense(5, name="value"),
            ]
        )
        self.head = keras.layers.Dense(2, activation="softmax", name="head")

    def call(self, inputs):
        return self.head(self.model(inputs))


class TestWhatTrains:
    def test_a_part_called_model_is_not_the_whole_network(self, tmp_path):
        x = np.ones((2, 4), "float32")

        def build():
            keras.utils.set_random_seed(0)
            network = WithAPartCalledModel()
            network(x)
            return network

        network = build()
        adapter = kd.adapters.LoRA(rank=2)
        kd.adapters.apply(network, adapter, also_train=())
        trained = {v.path.split("/")[-1] for v in network.trainable_variables}
        assert trained == {"lora_a", "lora_b"}
        total = network.count_params()
        gates = len(adapted_paths(network))
        assert kd.adapters.summary(network).total == total - gates
        network = build()
        kd.adapters.apply(network, adapter, also_train="head")
        network.head.bias.assign([3.0, -3.0])
        after = ops.convert_to_numpy(network(x))
        kd.adapters.save(network, tmp_path / "adapter")
        loaded = kd.adapters.load(build(), tmp_path / "adapter")
        np.testing.assert_allclose(
            ops.convert_to_numpy(loaded(x)), after, atol=1e-6
        )

    def test_biases_only_when_asked_for(self):
        for asked in (False, True):
            model = TABLE["bert"].build()
            kd.adapters.apply(model, kd.adapters.LoRA(rank=2, train_bias=asked))
            biases = [
                v
                for p, v in variable_paths(model).items()
                if p.endswith("query/bias")
            ]
            assert len(biases) == 2
            assert all(v.trainable == asked for v in biases)

    def test_also_train_adds_whole_layers(self):
        model = TABLE["bert"].build()
        kd.adapters.apply(
            model, kd.adapters.LoRA(rank=2), also_train="pooled_dense"
        )
        names = {p for p, v in variable_paths(model).items() if v.trainable}
        assert {"pooled_dense/kernel", "logits/bias"} <= names
        assert "token_embedding/embeddings" not in names

    def test_without_a_backbone_the_head_must_be_named(self):
        model = unnamed()
        with pytest.raises(ValueError, match="also_train.*\n.*dense"):
            kd.adapters.apply(model, kd.adapters.LoRA(rank=2, targets="dense"))
        assert not adapted_paths(model)
        kd.adapters.apply(
            model, kd.adapters.LoRA(rank=2, targets="dense"), also_train=()
        )
        names = {p for p, v in variable_paths(model).items() if v.trainable}
        assert names == {
            "dense/lora_a",
            "dense/lora_b",
        }

    def test_a_second_adapter_elsewhere_keeps_the_first(self):
        model = TABLE["bert"].build()
        kd.adapters.apply(model, kd.adapters.LoRA(rank=2, targets="query"))
        kd.adapters.apply(model, kd.adapters.PiSSA(rank=1, targets="value"))
        assert len(adapted_paths(model)) == 4
        trainable = [p for p, v in variable_paths(model).items() if v.trainable]
        assert sum("query/lora_" in p for p in trainable) == 4
        assert sum("value/lora_" in p for p in trainable) == 4
        assert "logits/kernel" in trainable
        with pytest.raises(ValueError, match="without a low-rank adapter"):
            kd.adapters.apply(model, kd.adapters.PiSSA(targets="query"))

    def test_a_list_of_adapters(self):
        model = TABLE["llama"].build()
        kd.adapters.apply(
            model,
            [
                kd.adapters.LoRA(rank=1, targets="query"),
                kd.adapters.PiSSA(rank=2, targets="feedforward_*"),
            ],
        )
        assert len(adapted_paths(model)) == 8
        fresh = TABLE["llama"].build()
        with pytest.raises(ValueError, match="at most one adapter"):
            kd.adapters.apply(
                fresh, [kd.adapters.LoRA(rank=1), kd.adapters.PiSSA(rank=1)]
            )
        assert not adapted_paths(fresh)

    def test_a_long_summary_merges_layers(self):
        rows = tuple(
            (f"layer_{i}/{kind}/lora_a", (8, 2), 16)
            for i in range(30)
            for kind in ("query", "value")
        )
        summary = TrainableSummary((*rows, ("head", (8,), 8)), 10_000)
        text = str(summary)
        assert "layer_*/query/lora_a (30)" in text and "480" in text
        assert "head" in text and len(text.splitlines()) < 10
        assert "968 of 10,000" in text and len(repr(summary)) < 100

    def test_summary_counts(self):
        model = TABLE["bert"].build()
        total = model.count_params()
        kd.adapters.apply(model, kd.adapters.LoRA(rank=2))
        summary = kd.adapters.summary(model)
        # Two layers, two kernels of 8 x 8 each, and a head of 8 x 3 + 3.
        assert summary.trainable == 2 * 2 * 2 * (8 + 8) + 27
        assert summary.total == total + 128
        assert summary.share == summary.trainable / summary.total
        text = str(summary)
        assert "logits/kernel" in text
        assert "155 of" in text

    def test_frozen_backbone_does_not_freeze_the_adapter(self):
        model = TABLE["bert"].build()
        model.backbone.trainable = False
        kd.adapters.apply(model, kd.adapters.LoRA(rank=2))
        assert len(model.trainable_variables) == 10

    @pytest.mark.parametrize(
        "create",
        [
            lambda names: kd.adapters.IA3(targets=(), feedforward=names),
            lambda names: kd.adapters.IA3(targets=names, feedforward=()),
            lambda names: kd.adapters.AllBiases(targets=names),
            lambda names: kd.adapters.ValueBias(targets=names),
            lambda names: kd.adapters.LoRA(2, targets=names),
        ],
    )
    def test_globs_leave_out_what_trains_whole(self, create):
        def build():
            names = ("one", "two", "head")
            layers = [keras.layers.Dense(4, name=name) for name in names]
            return keras.Sequential([keras.Input((4,)), *layers])

        model = build()
        kd.adapters.apply(model, create("*"), also_train="head")
        head = model.get_layer("head")
        assert not hasattr(head, "adapters")
        assert all(v.trainable for v in head.weights)
        head.bias.assign([1.0, 2.0, 3.0, 4.0])
        with kd.adapters.disabled(model):
            bias = ops.convert_to_numpy(head.bias).tolist()
        assert bias == [1.0, 2.0, 3.0, 4.0]
        model = build()
        with pytest.raises(ValueError, match=r"names \['head'\]"):
            kd.adapters.apply(model, create(("one", "head")), "head")

    def test_a_bottleneck_after_a_block_that_trains_whole(self):
        model = TABLE["bert"].build()
        block = "transformer_layer_1/*"
        with pytest.raises(ValueError, match="train whole"):
            kd.adapters.apply(model, kd.adapters.Pfeiffer(2), also_train=block)
        targets = "transformer_layer_0/feedforward_output_dense"
        adapter = kd.adapters.Pfeiffer(2, targets=targets)
        kd.adapters.apply(model, adapter, also_train=block)


class TestRefusals:
    @pytest.mark.parametrize(
        "create",
        [
            lambda: kd.adapters.LoRA(rank=0),
            lambda: kd.adapters.LoRA(rank=-1),
            lambda: kd.adapters.LoRA(rank=2.5),
            lambda: kd.adapters.LoRA(rank=True),
            lambda: kd.adapters.LoRA(alpha=0.0),
            lambda: kd.adapters.LoRA(alpha=-1.0),
            lambda: kd.adapters.LoRA(alpha=float("nan")),
            lambda: kd.adapters.LoRA(dropout=1.0),
            lambda: kd.adapters.LoRA(dropout=-0.1),
            lambda: kd.adapters.PiSSA(rank=0),
        ],
    )
    def test_arguments(self, create):
        with pytest.raises(ValueError, match="Expected .*Received: "):
            create()

    def test_rank_beyond_the_kernel_changes_nothing(self):
        model = TABLE["bert"].build()
        names = list(variable_paths(model))
        with pytest.raises(ValueError, match=r"at most 8.*rank=9"):
            kd.adapters.apply(model, kd.adapters.LoRA(rank=9))
        assert list(variable_paths(model)) == names
        assert all(v.trainable for v in model.weights)

    def test_not_an_adapter(self):
        with pytest.raises(TypeError, match="`adapter` to be an adapter"):
            kd.adapters.apply(TABLE["bert"].build(), "lora")
        with pytest.raises(TypeError, match="`adapter` to be an adapter"):
            kd.adapters.apply(TABLE["bert"].build(), [])

    def test_unbuilt_model(self):
        model = keras.Sequential([keras.layers.Dense(3)])
        with pytest.raises(ValueError, match="Expected a built model"):
            kd.adapters.apply(model, kd.adapters.LoRA(), also_train=())

    def test_keras_own_lora_and_quantization(self):
        model = unnamed()
        model.layers[0].enable_lora(2)
        with pytest.raises(ValueError, match="enable_lora"):
            kd.adapters.apply(
                model, kd.adapters.LoRA(rank=2, targets="dense"), also_train=()
            )
        model = unnamed()
        model.layers[0].quantize("float8")
        with pytest.raises(ValueError, match="float8"):
            kd.adapters.apply(
                model, kd.adapters.LoRA(rank=2, targets="dense"), also_train=()
            )

    def test_a_subclass_with_its_own_call(self):
        class Doubled(keras.layers.Dense):
            def call(self, inputs, training=None):
                return 2 * super().call(inputs)

        model = keras.Sequential([keras.Input((4,)), Doubled(3, name="own")])
        with pytest.raises(ValueError, match="subclass `Doubled`"):
            kd.adapters.apply(
                model, kd.adapters.LoRA(rank=2, targets="own"), also_train=()
            )

    def test_pissa_of_a_kernel_that_is_not_finite(self):
        model = unnamed()
        kernel = np.array(ops.convert_to_numpy(model.layers[1].kernel))
        kernel[0, 0] = np.nan
        model.layers[1].kernel.assign(kernel)
        with pytest.raises(ValueError, match="1 that are not"):
            kd.adapters.apply(
                model,
                kd.adapters.PiSSA(rank=2, targets=("dense", "dense_1")),
                also_train=(),
            )
        assert not adapted_paths(model)

    def test_nothing_to_merge_disable_or_save(self, tmp_path):
        model = TABLE["bert"].build()
        for act in (
            lambda: kd.adapters.merge(model),
            lambda: kd.adapters.disabled(model).__enter__(),
            lambda: kd.adapters.save(model, tmp_path / "a"),
        ):
            with pytest.raises(ValueError, match="has none"):
                act()

    def test_merge_of_what_is_not_finite_or_disabled(self):
        model = TABLE["bert"].build()
        kd.adapters.apply(model, kd.adapters.LoRA(rank=2))
        with kd.adapters.disabled(model):
            with pytest.raises(ValueError, match="is disabled"):
                kd.adapters.merge(model)
        path = adapted_paths(model)[-1]
        layer = layer_paths(model)[path]
        layer.lora_b.assign(np.full(layer.lora_b.shape, np.inf, "float32"))
        before = [np.array(w) for w in model.get_weights()]
        with pytest.raises(ValueError, match="NaN or infinity"):
            kd.adapters.merge(model)
        for a, b in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)


class TestProgress:
    @pytest.mark.parametrize(
        ("patience", "verbose", "shown"),
        [(-1.0, 1, True), (-1.0, 0, False), (60.0, 1, False)],
    )
    def test_a_slow_start_shows_a_bar(
        self, patience, verbose, shown, monkeypatch, capsys
    ):
        module = sys.modules["keras_debias.adapters.apply"]
        monkeypatch.setattr(module, "_PROGRESS_AFTER_SECONDS", patience)
        model = TABLE["bert"].build()
        capsys.readouterr()
        kd.adapters.apply(model, kd.adapters.PiSSA(rank=2), verbose=verbose)
        assert ("4/4" in capsys.readouterr().out) == shown
        assert len(adapted_paths(model)) == 4


class TestPiSSA:
    @pytest.mark.parametrize("exact", [True, False])
    def test_start_is_the_leading_part_of_each_kernel(self, exact):
        model = TABLE["gemma"].build()
        kernels = {
            path: ops.convert_to_numpy(layer.kernel)
            for path, layer in layer_paths(model).items()
            if path.endswith("query")
        }
        adapter = kd.adapters.PiSSA(
            rank=2, alpha=5, targets="query", exact=exact
        )
        kd.adapters.apply(model, adapter)
        for path, kernel in kernels.items():
            layer = layer_paths(model)[path]
            matrix = ops.convert_to_numpy(kernel_view(layer).to_matrix(kernel))
            u, s, vt = np.linalg.svd(matrix, full_matrices=False)
            leading = (u[:, :2] * s[:2]) @ vt[:2]
            a, b = (
                ops.convert_to_numpy(v) for v in (layer.lora_a, layer.lora_b)
            )
            np.testing.assert_allclose(2.5 * a @ b, leading, atol=1e-5)
            # Both factors carry the root of the singular values.
            np.testing.assert_allclose(
                np.linalg.norm(a, axis=0),
                np.linalg.norm(b, axis=1),
                rtol=1e-4,
            )
            np.testing.assert_array_equal(
                ops.convert_to_numpy(layer.kernel), kernel
            )

    def test_start_of_a_real_model_is_near_the_best(self):
        """Eckart and Young: no product of this rank holds more."""
        classifier = minilm()
        kd.adapters.apply(classifier, kd.adapters.PiSSA(rank=4))
        layers = layer_paths(classifier)
        for path in adapted_paths(classifier):
            layer = layers[path]
            matrix = kernel_view(layer).to_matrix(layer.kernel)
            values = np.linalg.svd(
                ops.convert_to_numpy(matrix), compute_uv=False
            )
            a, b = (
                ops.convert_to_numpy(v) for v in (layer.lora_a, layer.lora_b)
            )
            held = np.linalg.norm(a @ b) / np.linalg.norm(values[:4])
            assert 0.99 < held < 1 + 1e-5

    def test_dropout_and_rank_stabilized_scale(self):
        model = unnamed()
        adapter = kd.adapters.PiSSA(
            rank=4, alpha=2, rank_stabilized=True, dropout=0.5, targets="dense"
        )
        kd.adapters.apply(model, adapter, also_train=())
        layer = model.layers[0]
        assert layer.scaling == 2 / 4**0.5
        x = np.random.default_rng(0).standard_normal((64, 6)).astype("float32")
        still = ops.convert_to_numpy(layer(x, training=False))
        moved = ops.convert_to_numpy(layer(x, training=True))
        assert np.abs(still - moved).max() > 0.01
        a, b = (ops.convert_to_numpy(v) for v in (layer.lora_a, layer.lora_b))
        matrix = ops.convert_to_numpy(layer.kernel)
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        np.testing.assert_allclose(
            a @ b, (u[:, :4] * s[:4]) @ vt[:4], atol=1e-5
        )
