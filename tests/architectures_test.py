import keras
import numpy as np
import pytest

from keras_debias import _keras_internals
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.selection import variable_paths
from tests import architectures

ALL = pytest.mark.parametrize(
    "architecture", architectures.ARCHITECTURES, ids=str
)


def test_names_are_unique():
    names = [a.name for a in architectures.ARCHITECTURES]
    assert len(set(names)) == len(names)


@ALL
def test_predicts(architecture):
    model = architecture.build(seed=1)
    x, y = architecture.data(seed=1)
    if getattr(model, "preprocessor", None) is not None:
        x = model.preprocess_samples(x)
    outputs = keras.ops.convert_to_numpy(model(x, training=False))
    last = (
        architectures.VOCABULARY_SIZE
        if architecture.task == architectures.CAUSAL_LM
        else architectures.NUM_CLASSES
    )
    assert outputs.shape == (*np.shape(y), last)
    assert np.all(np.isfinite(outputs))
    # Rows differ, and by more than a tolerance: nothing passes by accident.
    assert np.ptp(outputs, axis=0).max() > 0.05


@ALL
def test_build_is_a_function_of_the_seed(architecture):
    first = architecture.build(seed=1).get_weights()
    again = architecture.build(seed=1).get_weights()
    other = architecture.build(seed=2).get_weights()
    for weight, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(weight, same)
    assert not all(np.array_equal(a, b) for a, b in zip(first, other))


@ALL
def test_dropout_is_passed_on(architecture):
    model = architecture.build(dropout=0.5)
    rates = [
        layer.rate
        for layer in _keras_internals.flatten_layers(model)
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert 0.5 in rates


@ALL
def test_paths_exist(architecture):
    model = architecture.build()
    assert set(architecture.target_paths) <= set(layer_paths(model))
    assert bool(architecture.target_paths) == architecture.adaptable
    variables = variable_paths(model)
    assert set(architecture.head) <= set(variables)
    backbone = getattr(model, "backbone", None)
    if backbone is not None:
        inside = {id(v) for v in backbone.variables}
        outside = {
            path
            for path, v in variables.items()
            if v.trainable and id(v) not in inside
        }
        assert outside == set(architecture.head)


def test_grouped_queries_have_fewer_keys_and_values():
    grouped = ("llama", "gemma", "gemma3", "mistral", "qwen3", "subclassed")
    for architecture in architectures.ARCHITECTURES:
        if architecture.name in grouped:
            model = architecture.build()
            shapes = {v.path: v.shape for v in model.variables}
            query, value = architecture.target_paths[:2]
            assert np.prod(shapes[f"{query}/kernel"]) == 2 * np.prod(
                shapes[f"{value}/kernel"]
            )
