"""VeRA, LoRA-FA, MiLoRA and OLoRA against their equations."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias import adapters
from keras_debias.linalg import kernel_view

NAMES = {"read": "readers", "write": "writers"}
DIRECTION = np.eye(6, 1, dtype="float32")


def create(units=(6, 6, 4)):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,))])
    for index, size in enumerate(units):
        model.add(keras.layers.Dense(size, name=f"part_{index}"))
    return model


def adapted(adapter, **kwargs):
    model = create(**kwargs)
    return adapters.apply(model, adapter, also_train=())


def matrix(layer):
    return ops.convert_to_numpy(kernel_view(layer).to_matrix(layer.kernel))


def directions_on(side):
    chosen = {NAMES[side]: ("part_0",)}
    return kd.Directions(DIRECTION, side, **chosen)


def values(layer):
    return {
        k: np.array(ops.convert_to_numpy(v))
        for k, v in layer.low_rank_state.items()
    }


class TestMiLoRA:
    def test_it_starts_from_the_last_singular_vectors(self):
        model = adapted(adapters.MiLoRA(2, alpha=6, targets="part_*"))
        for layer in model.layers:
            start = values(layer)
            product = 3 * start["lora_a"] @ start["lora_b"]
            u, s, vt = np.linalg.svd(matrix(layer).astype("float64"))
            count = len(s)
            expected = (u[:, count - 2 : count] * s[-2:]) @ vt[
                count - 2 : count
            ]
            np.testing.assert_allclose(product, expected, atol=1e-5)
            # The two factors have equal shares.
            np.testing.assert_allclose(
                np.linalg.norm(start["lora_a"], axis=0),
                np.linalg.norm(start["lora_b"], axis=1),
                rtol=1e-4,
            )

    def test_directions_that_a_kernel_lacks_are_left_out(self):
        model = create((6,))
        (layer,) = model.layers
        kernel = matrix(layer)
        kernel[:, -3:] = 0.0
        layer.kernel.assign(kernel)
        with pytest.raises(ValueError, match="rank 4.*'part_0' of rank 3"):
            adapters.apply(
                model, adapters.MiLoRA(4, targets="*"), also_train=()
            )
        adapters.apply(model, adapters.MiLoRA(2, targets="*"), also_train=())
        start = values(layer)
        found = np.linalg.svd(start["lora_a"] @ start["lora_b"])[1][:2]
        expected = np.linalg.svd(kernel)[1][1:3]
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_olora_starts_from_an_orthonormal_basis():
    model = adapted(adapters.OLoRA(3, targets="part_*"))
    for layer in model.layers:
        start = values(layer)
        a, b = start["lora_a"], start["lora_b"]
        np.testing.assert_allclose(b @ b.T, np.eye(3), atol=1e-5)
        # Kernels in the span of `Q` are the product of both.
        np.testing.assert_allclose(a, matrix(layer) @ b.T, atol=1e-5)


class TestVeRA:
    def test_layers_of_one_size_share_the_random_factors(self):
        model = adapted(adapters.VeRA(8, targets="part_*"))
        first, second, third = (x.low_rank_constants for x in model.layers)
        assert first["vera_a"] is second["vera_a"] is third["vera_a"]
        assert first["vera_b"] is second["vera_b"]
        # The smaller one is cut.
        np.testing.assert_array_equal(
            ops.convert_to_numpy(first["vera_b"])[:, :4],
            ops.convert_to_numpy(third["vera_b"]),
        )
        other = adapted(adapters.VeRA(8, targets="part_*", seed=1))
        assert not np.allclose(
            ops.convert_to_numpy(other.layers[0].low_rank_constants["vera_a"]),
            ops.convert_to_numpy(first["vera_a"]),
        )
        # Not weights: 8 + 6, 8 + 6 and 8 + 4 are all that there is.
        summary = adapters.summary(model)
        assert summary.trainable == 40
        assert summary.total == 40 + sum(
            v.shape[0] * v.shape[-1] if len(v.shape) == 2 else v.shape[0]
            for v in create().weights
        )

    def test_the_update_is_that_of_the_paper(self):
        model = adapted(adapters.VeRA(8, targets="part_0"))
        layer = model.layers[0]
        generator = np.random.default_rng(0)
        d, b = generator.normal(size=8), generator.normal(size=6)
        layer.vera_lambda_d.assign(d)
        layer.vera_lambda_b.assign(b)
        a, c = (
            ops.convert_to_numpy(layer.low_rank_constants[name])
            for name in ("vera_a", "vera_b")
        )
        expected = a @ np.diag(d) @ c @ np.diag(b)
        p, q = layer.factors()
        np.testing.assert_allclose(p @ q, expected, atol=1e-5)
        np.testing.assert_allclose(
            ops.convert_to_numpy(layer.delta()), expected, atol=1e-5
        )

    def test_a_folder_holds_vectors_and_knows_the_random_factors(
        self, tmp_path
    ):
        model = adapted(adapters.VeRA(8, targets="part_*"))
        adapters.save(model, tmp_path / "adapter")
        config = json.loads((tmp_path / "adapter" / "adapter.json").read_text())
        assert {p.split("/")[-1] for p in config["variables"]} == {
            "vera_lambda_d",
            "vera_lambda_b",
        }
        config["adapters"][0]["adapter"]["config"]["seed"] = 1
        from keras_debias.adapters import store

        arrays = store.read_arrays(
            tmp_path / "adapter" / "adapter.safetensors", model
        )
        config["checksum"] = store.checksum(config, arrays)
        (tmp_path / "adapter" / "adapter.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="base weights that the adapter"):
            adapters.load(create(), tmp_path / "adapter")

    @pytest.mark.parametrize("side", ["read", "write"])
    def test_a_subspace_cannot_be_protected(self, side):
        model = adapted(adapters.VeRA(8, targets="part_0"))
        directions = kd.Directions(
            DIRECTION, side, **{NAMES[side]: ("part_0",)}
        )
        with pytest.raises(ValueError, match="fixed at random.*Use `LoRA`"):
            kd.DebiasedModel(
                model, projection=kd.projections.Subspace(directions)
            )


@pytest.mark.parametrize(
    ("kind", "side"),
    [
        *(("LoRAFA", "read"), ("MiLoRA", "write"), ("OLoRA", "read")),
        *(("AdaLoRA", "read"), ("AdaLoRA", "write")),
    ],
)
def test_updates_stay_out_of_a_protected_subspace(kind, side):
    model = adapted(getattr(adapters, kind)(2, targets="part_0"))
    layer = model.layers[0]
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    y = np.arange(8) % 4
    before = ops.convert_to_numpy(model(x))
    directions = directions_on(side)
    debiased = kd.DebiasedModel(
        model, projection=kd.projections.Subspace(directions)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(x)), before, atol=1e-5
    )
    debiased.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    debiased.fit(x, y, epochs=4, verbose=0)
    p, q = layer.factors()
    update = p @ q
    along = update[:1] if side == "read" else update[:, :1]
    assert np.abs(update).max() > 1e-2
    assert np.abs(along).max() < 1e-5 * np.abs(update).max()
