import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.selection import variable_paths
from keras_debias.callbacks.target_layer_freezing import over
from tests import toy_language


def classifier():
    return kd.models.LabelWordClassifier(
        toy_language.gpt2(),
        toy_language.LABELS,
        "Review: {text}\nEmotion:",
        sequence_length=24,
    )


def values(model):
    return {
        path: np.array(ops.convert_to_numpy(v))
        for path, v in variable_paths(model).items()
    }


class Snapshots(keras.callbacks.Callback):
    """Weights and optimizer state at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.weights, self.slots = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(values(self.model.model))
        self.slots.append(
            {
                v.path: np.array(ops.convert_to_numpy(v))
                for v in self.model.optimizer.variables
            }
        )


class AtBegin(Snapshots):
    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_end(epoch)

    def on_epoch_end(self, epoch, logs=None):
        pass


# The search covers more; what takes long to compile runs once.
@pytest.mark.parametrize(
    "given", [False, True] if keras.config.backend() == "torch" else [False]
)
def test_all_but_one_layer_freezes(given):
    x, y = toy_language.texts(16)
    split = kd.data.Split(x, y, label_names=toy_language.LABELS)
    network = classifier()
    targets = ("query", "value", "feedforward_*_dense")
    kd.adapters.apply(network, kd.adapters.LoRA(2, targets=targets))
    model = kd.DebiasedModel(network, seed=0)
    model.compile(keras.optimizers.Adam(0.01))
    freezing = kd.callbacks.TargetLayerFreezing(
        1,
        layer=0 if given else None,
        data=None if given else split,
        samples=8,
    )
    begins, ends = AtBegin(), Snapshots()
    model.fit(
        split,
        batch_size=8,
        epochs=3,
        verbose=0,
        callbacks=[freezing, begins, ends],
    )
    if not given:
        found = kd.analysis.find_target_layer(model, split, 8)
        assert len(found.curve) == 2
        assert freezing.search.layer == freezing.layer
    chosen = f"transformer_layer_{freezing.layer}/"

    def changed(before, after):
        return {p for p in before if not np.array_equal(before[p], after[p])}

    first = changed(begins.weights[0], ends.weights[0])
    later = changed(ends.weights[0], ends.weights[2])
    assert len(first) == 16
    assert later == {path for path in first if path.startswith(chosen)}
    assert {p for p, v in variable_paths(network).items() if v.trainable} == (
        later
    )
    # What goes on keeps its moments and the number of updates.
    kept = begins.slots[1]
    assert len(kept) == 2 + 2 * 8
    for path, value in kept.items():
        np.testing.assert_array_equal(value, ends.slots[0][path])
    assert int(model.optimizer.iterations) == 6
    # Training again goes on with the same set.
    model.fit(split, batch_size=8, epochs=1, verbose=0)
    assert int(model.optimizer.iterations) == 8


@pytest.mark.once
def test_a_run_that_begins_later_freezes_as_well():
    x, y = toy_language.texts(8)
    network = classifier()
    kd.adapters.apply(network, kd.adapters.LoRA(2))
    model = kd.DebiasedModel(network, seed=0)
    model.compile(keras.optimizers.Adam(0.01))
    freezing = kd.callbacks.TargetLayerFreezing(1, layer=0)
    model.fit(
        x,
        y,
        batch_size=8,
        initial_epoch=2,
        epochs=4,
        verbose=0,
        callbacks=[freezing],
    )
    trained = {p for p, v in variable_paths(network).items() if v.trainable}
    assert trained
    assert all(path.startswith("transformer_layer_0/") for path in trained)


class Interrupts(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.once
def test_an_interrupted_run_goes_on_with_the_layer(tmp_path):
    x, y = toy_language.texts(16)
    split = kd.data.Split(x, y, label_names=toy_language.LABELS)

    def run(*more):
        keras.utils.set_random_seed(0)
        network = classifier()
        kd.adapters.apply(network, kd.adapters.LoRA(2))
        model = kd.DebiasedModel(network, seed=0)
        model.compile(keras.optimizers.Adam(0.01))
        freezing = kd.callbacks.TargetLayerFreezing(1, data=split, samples=8)
        model.fit(
            split,
            batch_size=8,
            epochs=3,
            verbose=0,
            callbacks=[freezing, *more],
        )
        return values(network), freezing.layer

    expected, layer = run()
    backup = kd.callbacks.BackupAndRestore
    with pytest.raises(KeyboardInterrupt):
        run(backup(tmp_path), Interrupts())
    found, resumed = run(backup(tmp_path))
    assert resumed == layer
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


@pytest.mark.once
def test_each_model_is_searched(monkeypatch):
    x, y = toy_language.texts(8)
    split = kd.data.Split(x, y, label_names=toy_language.LABELS)
    layers = iter((1, 0))

    class Search:
        def __init__(self):
            self.layer = next(layers)

    monkeypatch.setattr(
        "keras_debias.callbacks.target_layer_freezing.find_target_layer",
        lambda *arguments: Search(),
    )
    freezing = kd.callbacks.TargetLayerFreezing(1, data=split)
    for layer in (1, 0):
        network = classifier()
        kd.adapters.apply(network, kd.adapters.LoRA(2))
        model = kd.DebiasedModel(network, seed=0)
        model.compile(keras.optimizers.Adam(0.01))
        arguments = {"batch_size": 8, "verbose": 0, "callbacks": [freezing]}
        # Fitted again, the model keeps its layer.
        for _ in range(2):
            model.fit(split, epochs=2, **arguments)
        assert freezing.layer == freezing.search.layer == layer
        assert all(
            path.startswith(f"transformer_layer_{layer}/")
            for path, v in variable_paths(network).items()
            if v.trainable
        )


def test_the_new_optimizer_decays_the_same_weights():
    variables = [keras.Variable(np.ones(3), name=name) for name in ("a", "b")]
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=variables[:1])
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    # The inner one: jax takes a step of the outer one only without state.
    inner = over(optimizer, variables).inner_optimizer
    inner.apply([ops.zeros(3), ops.zeros(3)], variables)
    found = [ops.convert_to_numpy(v)[0] for v in variables]
    np.testing.assert_allclose(found, [1.0, 0.95], rtol=1e-6)


@pytest.mark.once
def test_bad_input():
    for arguments in ({"samples": 0}, {"seed": -1}, {"after_epoch": True}):
        with pytest.raises(ValueError, match=f"`{next(iter(arguments))}`"):
            kd.callbacks.TargetLayerFreezing(
                **{"after_epoch": 1, "layer": 1, **arguments}
            )
    with pytest.raises(ValueError, match="at least 1"):
        kd.callbacks.TargetLayerFreezing(0, layer=1)
    with pytest.raises(ValueError, match="either `layer`"):
        kd.callbacks.TargetLayerFreezing(1)
    x, y = toy_language.texts(8)
    network = classifier()
    kd.adapters.apply(network, kd.adapters.TargetLayer(1))
    model = kd.DebiasedModel(network)
    model.compile()
    with pytest.raises(ValueError, match="from 0 to 1"):
        model.fit(
            x,
            y,
            verbose=0,
            callbacks=[kd.callbacks.TargetLayerFreezing(1, layer=2)],
        )
    with pytest.raises(ValueError, match="Adapt all layers"):
        model.fit(
            x,
            y,
            epochs=2,
            verbose=0,
            callbacks=[kd.callbacks.TargetLayerFreezing(1, layer=0)],
        )
