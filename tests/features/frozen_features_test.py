"""`FrozenFeatures` against the encoder itself, and its caches."""

import tracemalloc

import keras
import numpy as np
import pytest

import keras_debias as kd
from keras_debias.features import FrozenFeatures
from tests import toy_language
from tests.architectures import ARCHITECTURES
from tests.architectures import WORDS
from tests.architectures import _bert_text


@pytest.fixture(autouse=True)
def empty_memory():
    FrozenFeatures._memory.clear()


def texts(rows=37, seed=0):
    generator = np.random.default_rng(seed)
    return [
        " ".join(generator.choice(WORDS, generator.integers(1, 6)))
        for _ in range(rows)
    ]


def mean_of_states(task, rows):
    """The mean of hidden states, text by text, without any padding."""
    found = []
    for text in rows:
        inputs = task.preprocessor(np.array([text], dtype=object))
        inputs = {k: np.asarray(v) for k, v in inputs.items()}
        states = np.asarray(
            keras.ops.convert_to_numpy(
                task.backbone(inputs, training=False)["sequence_output"]
            )
        )
        mask = inputs["padding_mask"][0].astype(bool)
        found.append(states[0, mask].mean(axis=0))
    return np.stack(found)


def test_texts_are_means_of_hidden_states():
    task = _bert_text(0.0)
    rows = texts()
    found = FrozenFeatures(task, batch_size=8)(kd.data.Split(rows))
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, mean_of_states(task, rows), atol=1e-5)


def test_a_long_text_does_not_widen_all_others():
    task = _bert_text(0.0)
    split = kd.data.Split([*texts(200), WORDS[0] + 100_000 * " "])
    features = FrozenFeatures(task)
    features(kd.data.Split(texts(3)))
    tracemalloc.start()
    features(split)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 201 * 100_000  # less than one byte a character


def test_pairs_are_two_vectors_and_how_they_differ():
    task = _bert_text(0.0)
    first, second = texts(9), texts(9, seed=1)
    found = FrozenFeatures(task, batch_size=4)(kd.data.Split((first, second)))
    u, v = mean_of_states(task, first), mean_of_states(task, second)
    expected = np.concatenate([u, v, abs(u - v), u * v], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_language_model_gives_the_mean_of_its_states():
    (row,) = [row for row in ARCHITECTURES if row.name == "llama"]
    network = row.build().backbone
    inputs = {
        "token_ids": np.arange(18, dtype="int32").reshape(3, 6) % 7,
        "padding_mask": np.ones((3, 6), "int32"),
    }
    states = np.asarray(
        keras.ops.convert_to_numpy(network(inputs, training=False))
    )
    found = FrozenFeatures(network)(kd.data.Split(inputs))
    np.testing.assert_allclose(found, states.mean(axis=1), atol=1e-5)


def test_texts_of_a_language_model():
    """Raw texts, in byte pairs; each alone, without the next-token shift."""
    model = toy_language.gpt2(length=16)
    rows = ["a dog was glad", "the storm", "it was sad and very mad"]
    expected = []
    for row in rows:
        ids = model.preprocessor.generate_preprocess([row])
        ids = {k: np.asarray(v) for k, v in ids.items()}
        mask = ids["padding_mask"][0].astype(bool)
        states = model.backbone(ids, training=False)
        states = keras.ops.convert_to_numpy(states)[0]
        expected.append(states[mask].mean(axis=0))
    found = FrozenFeatures(model, batch_size=2)(kd.data.Split(rows))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_other_networks_give_the_inputs_of_the_last_layer():
    network = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).standard_normal((11, 3)).astype("float32")
    kernel, bias = network.layers[0].get_weights()
    found = FrozenFeatures(network, batch_size=4)(kd.data.Split(x))
    np.testing.assert_allclose(found, np.tanh(x @ kernel + bias), atol=1e-5)


def count_calls(features, monkeypatch):
    calls = []
    compute = features._compute

    def counted(x):
        calls.append(len(x))
        return compute(x)

    monkeypatch.setattr(features, "_compute", counted)
    return calls


def test_the_same_rows_and_weights_are_encoded_once(monkeypatch, tmp_path):
    task = _bert_text(0.0)
    split = kd.data.Split(texts(12))
    first = FrozenFeatures(task, cache_dir=tmp_path)
    expected = first(split)
    # Another object, the same content: from memory.
    second = FrozenFeatures(task, cache_dir=tmp_path)
    calls = count_calls(second, monkeypatch)
    np.testing.assert_array_equal(second(split), expected)
    # Another process: from disk.
    FrozenFeatures._memory.clear()
    np.testing.assert_array_equal(second(split), expected)
    assert calls == []
    # A damaged file is replaced.
    FrozenFeatures._memory.clear()
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"not features")
    np.testing.assert_array_equal(second(split), expected)
    assert calls == [12] and path.stat().st_size > 100
    # Other rows, and other weights, are encoded.
    second(kd.data.Split(texts(12, seed=1)))
    assert calls == [12, 12]
    table = task.backbone.trainable_variables[0]
    noise = np.random.default_rng(0).standard_normal(table.shape)
    table.assign(table + noise)
    # The same object: it sees that the model was trained.
    changed = second(split)
    assert abs(changed - expected).max() > 1e-3
    third = FrozenFeatures(task, cache_dir=tmp_path)
    np.testing.assert_array_equal(third(split), changed)


def test_another_preprocessor_gives_other_features(tmp_path):
    task = _bert_text(0.0)
    split = kd.data.Split(texts(12))
    features = FrozenFeatures(task, cache_dir=tmp_path)
    features(split)
    tokenizer = task.preprocessor.tokenizer
    words = list(tokenizer.get_vocabulary())
    tokenizer.set_vocabulary([*words[:5], *words[:4:-1]])
    found = features(split)
    FrozenFeatures._memory.clear()
    expected = FrozenFeatures(task)(split)
    np.testing.assert_array_equal(found, expected)
    tokenizer.set_vocabulary(words)
    FrozenFeatures._memory.clear()
    assert np.abs(features(split) - expected).max() > 1e-3
    # The first vocabulary again: from its file.
    assert len(list(tmp_path.iterdir())) == 2


def test_the_memory_is_not_the_callers_array():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    split = kd.data.Split(np.arange(12, dtype="float32").reshape(4, 3))
    features = FrozenFeatures(network)
    found = features(split)
    found -= found.mean(axis=0)
    np.testing.assert_array_equal(features(split), split.x)
    kept = features(split)
    kept *= 0.0
    np.testing.assert_array_equal(features(split), split.x)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"activation": "relu"}, {"activation": "tanh"}),
        ({}, {"dtype": "mixed_bfloat16"}),
    ],
    ids=["activation", "policy"],
)
def test_equal_weights_of_other_layers_give_other_features(first, second):
    def network(arguments):
        layers = [keras.Input((3,)), keras.layers.Dense(4, **arguments)]
        made = keras.Sequential([*layers, keras.layers.Dense(2)])
        made.set_weights([np.full(w.shape, 0.3) for w in made.weights])
        return made

    x = np.linspace(-1, 1, 15, dtype="float32").reshape(5, 3)
    split = kd.data.Split(x)
    one, other = network(first), network(second)
    FrozenFeatures(one)(split)
    expected = other.layers[0](x)
    np.testing.assert_array_equal(
        FrozenFeatures(other)(split),
        np.asarray(keras.ops.convert_to_numpy(expected), "float32"),
    )
    assert len(FrozenFeatures._memory) == 2
    FrozenFeatures(network(first))(split)  # the same layers, with new names
    assert len(FrozenFeatures._memory) == 2


def test_memory_is_bounded(monkeypatch):
    from keras_debias.features import frozen_features

    monkeypatch.setattr(frozen_features, "MEMORY_BYTES", 1)
    features = FrozenFeatures(_bert_text(0.0))
    for seed in range(3):
        features(kd.data.Split(texts(4, seed)))
    assert len(FrozenFeatures._memory) == 1


def test_a_function_gives_features_of_its_own():
    split = kd.data.Split(np.arange(6.0).reshape(3, 2))
    found = FrozenFeatures(lambda s: 2 * s.x)(split)
    np.testing.assert_array_equal(found, 2 * split.x)
    with pytest.raises(ValueError, match=r"\(3, width\).*another split"):
        FrozenFeatures(lambda s: s.x[:2])(split)
    with pytest.raises(ValueError, match="1 of 3 rows with NaN"):
        FrozenFeatures(lambda s: np.where(s.x == 2, np.nan, s.x))(split)


def test_wrong_arguments_say_what_to_pass():
    with pytest.raises(TypeError, match="model='minilm'"):
        FrozenFeatures("minilm")
    with pytest.raises(TypeError, match="batch_size=2.5"):
        FrozenFeatures(_bert_text(0.0), batch_size=2.5)
    with pytest.raises(ValueError, match="batch_size=0"):
        FrozenFeatures(_bert_text(0.0), batch_size=0)
    with pytest.raises(TypeError, match="kd.data.Split"):
        FrozenFeatures(_bert_text(0.0))(["a text"])
    ends_in_softmax = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, activation="softmax")]
    )
    with pytest.raises(ValueError, match="Pass a function of a split"):
        FrozenFeatures(ends_in_softmax)


def test_a_long_computation_shows_a_bar(monkeypatch, capsys):
    from keras_debias.features import frozen_features

    monkeypatch.setattr(frozen_features, "PROGRESS_AFTER_SECONDS", 0.0)
    task = _bert_text(0.0)
    FrozenFeatures(task, batch_size=4)(kd.data.Split(texts(9)))
    assert "example" in capsys.readouterr().out
    FrozenFeatures(task, batch_size=4, verbose=0)(
        kd.data.Split(texts(9, seed=1))
    )
    assert capsys.readouterr().out == ""


def test_trained_adapters_are_part_of_the_features():
    task = _bert_text(0.0)
    split = kd.data.Split(texts(8))
    before = FrozenFeatures(task)(split)
    kd.adapters.apply(task, kd.adapters.LoRA(rank=2))
    # A new adapter changes nothing.
    np.testing.assert_allclose(FrozenFeatures(task)(split), before, atol=1e-5)
    generator = np.random.default_rng(0)
    for variable in task.trainable_variables:
        noise = generator.standard_normal(variable.shape)
        variable.assign(variable + noise)
    assert abs(FrozenFeatures(task)(split) - before).max() > 1e-3
