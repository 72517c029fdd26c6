import json

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.apply import adapted_layers
from keras_debias.analysis import UpdateSpectrum
from keras_debias.analysis import kernels
from keras_debias.analysis import latent_factors
from tests import planted
from tests.architectures import ARCHITECTURES
from tests.architectures import HIDDEN_DIM
from tests.combinations import spread

BERT = next(a for a in ARCHITECTURES if a.name == "bert")
TARGETS = ("query", "value", "attention_output", "feedforward_output_dense")


def adapted(adapter, seed=0):
    """A model whose factors are random instead of trained."""
    model = BERT.build()
    kd.adapters.apply(model, adapter)
    generator = np.random.default_rng(seed)
    for layer in adapted_layers(model).values():
        for variable in layer.trainable_variables:
            noise = generator.standard_normal(variable.shape)
            variable.assign_add((0.3 * noise).astype("float32"))
    return model


def written_out(model, start, side):
    """Eigenvalues and eigenvectors from full matrices."""
    total, count = np.zeros((HIDDEN_DIM, HIDDEN_DIM)), 0
    for path, after in kernels(model).items():
        update = after.astype("float64") - start[path]
        writes = path.endswith(("attention_output", "output_dense"))
        if not update.any() or side not in (
            "both",
            "write" if writes else "read",
        ):
            continue
        update = update / np.linalg.norm(update)
        total += update.T @ update if writes else update @ update.T
        count += 1
    values, vectors = np.linalg.eigh(total)
    return values[::-1] / count, vectors[:, ::-1]


@pytest.mark.parametrize(
    ("adapter", "side"),
    spread(["LoRA", "PiSSA", "DoRA"], ["read", "write", "both"]),
)
def test_it_is_the_sum_written_out(adapter, side):
    create = getattr(kd.adapters, adapter)
    model = adapted(create(2, targets=TARGETS))
    start = kernels(BERT.build())
    values, vectors = written_out(model, start, side)
    found = latent_factors(model, k=2, side=side, null_draws=3)
    size = len(found.spectrum)
    np.testing.assert_allclose(found.spectrum, values[:size], atol=1e-5)
    assert found.spectrum.sum() == pytest.approx(1.0, abs=1e-5)
    v = found.directions.vectors
    np.testing.assert_allclose(
        v @ v.T, vectors[:, :2] @ vectors[:, :2].T, atol=1e-3
    )
    assert found.gap == pytest.approx(values[1] / values[2], rel=1e-3)
    assert found.share == pytest.approx(values[:2].sum(), abs=1e-5)
    # The mean of the layers' shares is the share of all.
    mean = np.mean(list(found.layer_shares.values()))
    assert mean == pytest.approx(found.share, abs=1e-5)
    # The same from the two models, without adapters.
    merged = kd.adapters.merge(model)
    again = latent_factors(merged, k=2, base=start, side=side, null_draws=3)
    np.testing.assert_allclose(again.spectrum[:size], values[:size], atol=1e-4)


def test_directions_of_each_layer():
    model = adapted(kd.adapters.LoRA(2, targets=TARGETS))
    found = latent_factors(model, k=1, side="both", scope="layer", null_draws=3)
    start = kernels(BERT.build())
    assert len(found.directions.vectors) == 8
    for path, v in found.directions.vectors.items():
        update = kernels(model)[path].astype("float64") - start[path]
        if path.endswith(("attention_output", "output_dense")):
            update = update.T
        u, s, _ = np.linalg.svd(update)
        assert abs(u[:, 0] @ v[:, 0]) == pytest.approx(1.0, abs=1e-3)
        share = s[0] ** 2 / np.sum(s**2)
        assert found.layer_shares[path] == pytest.approx(share, abs=1e-4)


def test_random_adapters_do_not_stand_out():
    """Independent factors share no direction, whatever the seed."""
    for seed in range(3):
        model = adapted(kd.adapters.LoRA(2, targets=("query", "value")), seed)
        assert latent_factors(model).detected == 0


def test_a_network_too_small_for_any_direction_says_so():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    kd.adapters.apply(
        model, kd.adapters.LoRA(1, targets="dense*"), also_train=()
    )
    (layer,) = adapted_layers(model).values()
    for variable in layer.trainable_variables:
        variable.assign(ops.ones(variable.shape))
    found = latent_factors(model, k=1, null_draws=3)
    # The one update of rank one lies in one direction, as any such does.
    assert found.threshold == pytest.approx(1.5) and found.detected == 0
    assert "no direction can: already random adapters" in str(found)
    assert "no direction can" not in str(
        latent_factors(
            adapted(kd.adapters.LoRA(2, targets=TARGETS)), k=2, null_draws=3
        )
    )


def test_a_planted_factor_is_found_and_a_shuffled_one_is_not():
    """Known truth: the direction, and networks on which it says nothing."""
    shuffled = planted.fine_tune(
        *planted.table(1024, 0.9, shuffle="labels")[:2]
    )
    null = [latent_factors(shuffled)]
    x, y, direction = planted.table(1024, 0.9)
    found = latent_factors(planted.fine_tune(x, y), null=null)
    assert found.directions.overlap(direction) > 0.75
    assert found.directions.random().overlap(direction) < 0.5
    assert found.detected == 1
    x, y, direction = planted.table(1024, 0.9, shuffle="factor")
    nothing = latent_factors(planted.fine_tune(x, y), null=null)
    assert nothing.directions.overlap(direction) < 0.4
    assert nothing.spectrum[0] < found.spectrum[0]


def test_a_planted_feature_of_a_real_model():
    """MiniLM; the factor goes with the label, or is shuffled."""
    if keras.config.backend() != "torch":
        return  # half a minute of training, and the weights are the same
    for shuffle in (False, True):
        classifier, x, y, truth = planted.minilm(192, 0.95, shuffle)
        kd.adapters.apply(classifier, kd.adapters.LoRA(rank=8))
        model = kd.DebiasedModel(classifier, seed=0)
        model.compile(
            keras.optimizers.AdamW(1e-3),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit(x, y, batch_size=16, epochs=3, verbose=0)
        found = latent_factors(classifier, k=4)
        print(shuffle, found, found.directions.overlap(truth))
        cosine = found.directions.first(1).overlap(truth)
        if shuffle:
            assert found.detected == 0
            assert cosine < 0.3
        else:
            assert found.detected >= 1
            # A random direction of width 384: 0.05.
            assert cosine > 0.45
            assert found.directions.overlap(truth) > 0.7


def test_save_load_and_plot(tmp_path):
    model = adapted(kd.adapters.LoRA(2, targets=TARGETS))
    for scope in ("shared", "layer"):
        found = latent_factors(model, side="both", scope=scope, null_draws=3)
        found.save(tmp_path / scope)
        again = UpdateSpectrum.load(tmp_path / scope)
        assert again.directions == found.directions
        np.testing.assert_allclose(again.spectrum, found.spectrum)
        assert again.threshold == pytest.approx(found.threshold)
        assert again.layer_shares == found.layer_shares
        assert str(again) == str(found)
        found.plot(tmp_path / f"{scope}.png")
        assert (tmp_path / f"{scope}.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="overwrite"):
        found.save(tmp_path / "shared")
    config = tmp_path / "shared" / "spectrum.json"
    text = json.loads(config.read_text())
    config.write_text(json.dumps({**text, "format": "another"}))
    with pytest.raises(ValueError, match="UpdateSpectrum.save"):
        UpdateSpectrum.load(tmp_path / "shared")
    with pytest.raises(ValueError, match="UpdateSpectrum.save"):
        UpdateSpectrum.load(tmp_path / "nowhere")


def test_a_broken_layer_is_not_left_out():
    """One of four updates is NaN: the others say nothing of the model."""
    model = adapted(kd.adapters.LoRA(2))
    with pytest.raises(ValueError, match="`null_draws` to be a positive"):
        latent_factors(model, null_draws=0)
    path, layer = list(adapted_layers(model).items())[1]
    broken = np.array(ops.convert_to_numpy(layer.lora_b))
    broken[0, 0] = np.nan
    layer.lora_b.assign(broken)
    with pytest.raises(ValueError, match=f"1 of 4 layers, first '{path}'"):
        latent_factors(model)
    with pytest.raises(ValueError, match="Expected finite updates"):
        kd.analysis.truncate_update(model, k=1)


def test_misuse():
    untrained = BERT.build()
    with pytest.raises(ValueError, match="which has none"):
        latent_factors(untrained)
    with pytest.raises(ValueError, match="without any update"):
        latent_factors(untrained, base=BERT.build())
    other = next(a for a in ARCHITECTURES if a.name == "gpt2").build()
    with pytest.raises(ValueError, match="same dense layers"):
        latent_factors(untrained, base=other)
    kd.adapters.apply(untrained, kd.adapters.LoRA(2))
    with pytest.raises(ValueError, match="without any update"):
        latent_factors(untrained)
    model = adapted(kd.adapters.LoRA(1))
    for arguments, message in (
        ({"k": 5}, "at most 4, the rank"),
        ({"k": 0}, "positive integer"),
        ({"side": "inside"}, "`side`"),
        ({"scope": "global"}, "`scope`"),
        ({"side": "write"}, "layers on the side"),
        ({"k": 2, "scope": "layer"}, "rank of the update of"),
    ):
        with pytest.raises(ValueError, match=message):
            latent_factors(model, **arguments)
    wide = adapted(
        kd.adapters.LoRA(1, targets=("query", "feedforward_output_dense"))
    )
    with pytest.raises(ValueError, match="one width"):
        latent_factors(wide, writers=())


def test_kernels_are_merged_and_follow_disabled():
    model = adapted(kd.adapters.LoRA(2))
    start = kernels(BERT.build())
    path = "transformer_layer_0/self_attention_layer/query"
    with kd.adapters.disabled(model):
        np.testing.assert_array_equal(kernels(model)[path], start[path])
    layer = adapted_layers(model)[path]
    a, b = (ops.convert_to_numpy(v) for v in (layer.lora_a, layer.lora_b))
    np.testing.assert_allclose(
        kernels(model)[path], start[path] + a @ b, atol=1e-6
    )
