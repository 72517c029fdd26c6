"""The kinds of data that `keras.Model.fit` takes: as Keras, row by row."""

import functools

import keras
import keras_hub
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import torch
from keras import ops

import keras_debias as kd
from tests.combinations import part

# What Keras says of every stream whose end it could not foresee.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")
BACKEND = keras.config.backend()
ROWS, SIZE = 20, 8
RNG = np.random.default_rng(0)
A, B = (RNG.normal(size=(ROWS, 4)).astype("float32") for _ in range(2))
Y = RNG.integers(0, 3, ROWS).astype("int32")
Z = RNG.normal(size=(ROWS, 1)).astype("float32")
W = RNG.uniform(0.5, 2, ROWS).astype("float32")


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def one_input():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(3)(inputs))


def two_inputs(names=None):
    a, b = (keras.Input((4,), name=n) for n in names or (None, None))
    inputs = [a, b] if names is None else dict(zip(names, (a, b)))
    total = keras.layers.Dense(3)(keras.layers.Concatenate()([a, b]))
    return keras.Model(inputs, total)


def nested_inputs():
    a, b = keras.Input((4,), name="one"), keras.Input((4,), name="more")
    total = keras.layers.Dense(3)(keras.layers.Concatenate()([a, b]))
    return keras.Model({"one": a, "more": [b]}, total)


def two_outputs():
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(3)(inputs), keras.layers.Dense(1)(inputs)]
    return keras.Model(inputs, outputs)


def two_losses():
    return [cross_entropy(), "mse"]


class Batched(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return -(-len(self.parts[-1]) // SIZE)

    def __getitem__(self, i):
        part = slice(i * SIZE, (i + 1) * SIZE)
        return tuple(each[part] for each in self.parts)


def generated(*parts, endless=False):
    while True:
        batches = Batched(*parts)
        for i in range(len(batches)):
            yield batches[i]
        if not endless:
            return


class Mapped(torch.utils.data.Dataset):
    def __init__(self, *parts):
        self.parts = parts

    def __len__(self):
        return len(self.parts[-1])

    def __getitem__(self, row):
        return tuple(each[row] for each in self.parts)


class Streamed(torch.utils.data.IterableDataset):
    def __init__(self, *parts):
        self.parts = parts

    def __iter__(self):
        return zip(*self.parts)


def loader(dataset):
    return torch.utils.data.DataLoader(dataset, batch_size=SIZE)


def sliced(*parts):
    return tf.data.Dataset.from_tensor_slices(parts).batch(SIZE)


# name: (network, loss, arguments of Keras, ours where they differ)
KINDS = {
    "arrays": (one_input, cross_entropy, lambda: {"x": A, "y": Y}, None),
    "tensors": (
        one_input,
        cross_entropy,
        lambda: {"x": ops.convert_to_tensor(A), "y": ops.convert_to_tensor(Y)},
        None,
    ),
    "weights": (
        one_input,
        cross_entropy,
        lambda: {"x": A, "y": Y, "sample_weight": W},
        None,
    ),
    "frame": (
        one_input,
        cross_entropy,
        lambda: {"x": pd.DataFrame(A), "y": pd.Series(Y)},
        None,
    ),
    "list of inputs": (
        two_inputs,
        cross_entropy,
        lambda: {"x": [A, B], "y": Y},
        None,
    ),
    "tuple of inputs": (
        two_inputs,
        cross_entropy,
        lambda: {"x": (A, B), "y": Y},
        None,
    ),
    "dict of inputs": (
        lambda: two_inputs(("one", "two")),
        cross_entropy,
        lambda: {"x": {"one": A, "two": B}, "y": Y},
        None,
    ),
    "inputs called as ours were": (
        lambda: two_inputs(("inputs", "index")),
        cross_entropy,
        lambda: {"x": {"inputs": A, "index": B}, "y": Y},
        None,
    ),
    "inputs called groups": (
        lambda: two_inputs(("groups", "inputs")),
        cross_entropy,
        lambda: {"x": {"groups": A, "inputs": B}, "y": Y},
        None,
    ),
    "nested inputs": (
        nested_inputs,
        cross_entropy,
        lambda: {"x": {"one": A, "more": [B]}, "y": Y},
        None,
    ),
    "list of outputs": (
        two_outputs,
        two_losses,
        lambda: {"x": A, "y": [Y, Z]},
        None,
    ),
    "PyDataset": (
        one_input,
        cross_entropy,
        lambda: {"x": Batched(A, Y)},
        None,
    ),
    "PyDataset with weights": (
        one_input,
        cross_entropy,
        lambda: {"x": Batched(A, Y, W)},
        None,
    ),
    "finite generator": (
        one_input,
        cross_entropy,
        lambda: {"x": generated(A, Y)},
        None,
    ),
    "endless generator": (
        one_input,
        cross_entropy,
        lambda: {"x": generated(A, Y, endless=True), "steps": 3},
        None,
    ),
    "tf.data": (one_input, cross_entropy, lambda: {"x": sliced(A, Y)}, None),
    "DataLoader": (
        one_input,
        cross_entropy,
        lambda: {"x": loader(Mapped(A, Y))},
        None,
    ),
    "IterableDataset": (
        one_input,
        cross_entropy,
        lambda: {"x": loader(Streamed(A, Y))},
        None,
    ),
    "torch Dataset": (
        one_input,
        cross_entropy,
        lambda: {"x": loader(Mapped(A, Y))},
        lambda: {"x": Mapped(A, Y)},
    ),
    "torch IterableDataset alone": (
        one_input,
        cross_entropy,
        lambda: {"x": loader(Streamed(A, Y))},
        lambda: {"x": Streamed(A, Y)},
    ),
}


def same(first, second):
    first, second = keras.tree.flatten(first), keras.tree.flatten(second)
    assert len(first) == len(second)
    for one, other in zip(first, second):
        np.testing.assert_allclose(one, other, atol=2e-5)


def is_batched(x):
    return not isinstance(
        x, (np.ndarray, list, tuple, dict, pd.DataFrame)
    ) and not ops.is_tensor(x)


def checked(build, loss, theirs, ours, alone):
    """`fit`, `evaluate` and `predict` of a model, beside Keras' own."""
    results = []
    ours = ours or theirs
    start = build().get_weights()
    for debiased, data in ((False, theirs), (True, ours)):
        network = build()
        network.set_weights(start)
        model = kd.DebiasedModel(network) if debiased else network
        model.compile(keras.optimizers.SGD(0.1), loss())
        given = data()
        steps = given.pop("steps", None)
        # Of the kinds that have none, Keras takes no batch size.
        has_rows = is_batched(given["x"])
        size = {} if has_rows and not debiased else {"batch_size": SIZE}
        model.fit(
            **given, **size, steps_per_epoch=steps, shuffle=False, verbose=0
        )
        found = [model.evaluate(**{**data(), **size}, verbose=0)]
        rows = {k: v for k, v in data().items() if k in ("x", "steps")}
        if not has_rows:
            found.append(model.predict(**rows, **size, verbose=0))
        else:
            found.append(model.predict(alone(), verbose=0))
        results.append((found, network.get_weights()))
    same(results[0], results[1])
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(start, results[1][1]))


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_and_batches_of_them(kind):
    build, loss, theirs, ours = KINDS[kind]
    checked(build, loss, theirs, ours, lambda: Batched(A))


# Raw text, through the preprocessor of a KerasHub task.

WORDS = ["a", "fine", "film", "no", "good", "at", "all"]
TEXTS = [
    " ".join(RNG.choice(WORDS, int(RNG.integers(2, 6)))) for _ in range(ROWS)
]
PAIRS = TEXTS, TEXTS[::-1]
OBJECTS = np.array(TEXTS, object)


def task():
    keras.utils.set_random_seed(0)
    tokenizer = keras_hub.models.BertTokenizer(
        vocabulary=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    )
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=12,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=12,
        dropout=0.0,
    )
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        tokenizer, sequence_length=12
    )
    return keras_hub.models.BertTextClassifier(
        backbone, num_classes=3, preprocessor=preprocessor, dropout=0.0
    )


def text_rows():
    return {"x": sliced(OBJECTS, Y)}


# name: (Keras' arguments, ours)
TEXT_KINDS = {
    "list": (text_rows, lambda: {"x": TEXTS, "y": Y}),
    "array": (text_rows, lambda: {"x": np.array(TEXTS), "y": Y}),
    "objects": (text_rows, lambda: {"x": OBJECTS, "y": Y}),
    "bytes": (
        text_rows,
        lambda: {"x": np.array([t.encode() for t in TEXTS]), "y": Y},
    ),
    "strings of tensorflow": (
        text_rows,
        lambda: {"x": tf.constant(TEXTS), "y": Y},
    ),
    "pairs": (
        lambda: {
            "x": tf.data.Dataset.from_tensor_slices((PAIRS, Y)).batch(SIZE)
        },
        lambda: {"x": PAIRS, "y": Y},
    ),
    "weights": (
        lambda: {"x": sliced(OBJECTS, Y, W)},
        lambda: {"x": TEXTS, "y": Y, "sample_weight": W},
    ),
    "Split": (text_rows, lambda: {"x": kd.data.Split(TEXTS, Y)}),
    "PyDataset": (text_rows, lambda: {"x": Batched(OBJECTS, Y)}),
    "finite generator": (text_rows, lambda: {"x": generated(OBJECTS, Y)}),
    "endless generator": (
        text_rows,
        lambda: {"x": generated(OBJECTS, Y, endless=True), "steps": 3},
    ),
    "tf.data": (text_rows, text_rows),
    "tf.data with weights": (
        lambda: {"x": sliced(OBJECTS, Y, W)},
        lambda: {"x": sliced(OBJECTS, Y, W)},
    ),
    "DataLoader": (text_rows, lambda: {"x": loader(Mapped(TEXTS, Y))}),
    "IterableDataset": (text_rows, lambda: {"x": loader(Streamed(TEXTS, Y))}),
    "torch Dataset": (text_rows, lambda: {"x": Mapped(TEXTS, Y)}),
    "torch IterableDataset alone": (
        text_rows,
        lambda: {"x": Streamed(TEXTS, Y)},
    ),
}


def trained(data, debiased):
    network = task()
    model = kd.DebiasedModel(network) if debiased else network
    model.compile(keras.optimizers.SGD(0.1), cross_entropy(), metrics=None)
    size = {"batch_size": SIZE} if debiased else {}
    given = data()
    steps = given.pop("steps", None)
    model.fit(**given, **size, steps_per_epoch=steps, shuffle=False, verbose=0)
    # The loss: KerasHub's own metrics come after it.
    found = model.evaluate(**{**data(), **size}, verbose=0)
    return np.ravel(found)[0], network.get_weights()


@functools.cache
def keras_result(data):
    """Keras' own result, once for all kinds that hold the same rows."""
    return trained(data, debiased=False)


@pytest.mark.parametrize("kind", part(TEXT_KINDS))
def test_raw_text(kind):
    theirs, ours = TEXT_KINDS[kind]
    same(keras_result(theirs), trained(ours, debiased=True))


@pytest.mark.parametrize(
    "texts",
    [
        lambda: TEXTS,
        lambda: loader(TEXTS),
        lambda: tf.data.Dataset.from_tensor_slices(TEXTS).batch(SIZE),
        lambda: (TEXTS[i : i + SIZE] for i in range(0, ROWS, SIZE)),
    ],
    ids=["list", "DataLoader", "tf.data", "generator"],
)
def test_predictions_of_texts_alone(texts):
    network = task()
    expected = network.predict(TEXTS, batch_size=SIZE, verbose=0)
    model = kd.DebiasedModel(network)
    found = model.predict(texts(), verbose=0)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_one_text_is_no_list_of_them():
    model = kd.DebiasedModel(task())
    with pytest.raises(TypeError, match=r"list of one: `\[text\]`"):
        model.predict("a fine film")


# Strings that a network takes as they are.


@pytest.mark.skipif(BACKEND != "tensorflow", reason="strings are tensorflow's")
@pytest.mark.parametrize("form", ["tensor", "objects", "list"])
def test_strings_into_the_network_itself(form):
    def build():
        vectorize = keras.layers.TextVectorization(
            vocabulary=WORDS, output_sequence_length=3
        )
        inputs = keras.Input((), dtype="string")
        embedded = keras.layers.Embedding(20, 4)(vectorize(inputs))
        pooled = keras.layers.GlobalAveragePooling1D()(embedded)
        return keras.Model(inputs, keras.layers.Dense(3)(pooled))

    forms = {
        "tensor": lambda: tf.constant(TEXTS),
        "objects": lambda: OBJECTS,
        "list": lambda: TEXTS,
    }
    checked(
        build,
        cross_entropy,
        lambda: {"x": OBJECTS, "y": Y},
        lambda: {"x": forms[form](), "y": Y},
        None,
    )


# Order, labels and weights.


class Noted(Batched):
    seen: list = []

    def __getitem__(self, i):
        self.seen.append(i)
        return super().__getitem__(i)


def test_a_pydataset_is_shuffled_by_seed_and_epoch():
    orders = []
    for seed, epochs, first in ((0, 2, 0), (0, 2, 0), (1, 2, 0), (0, 2, 1)):
        Noted.seen = []
        model = kd.DebiasedModel(one_input(), seed=seed)
        model.compile("sgd", cross_entropy())
        data = Noted(np.repeat(A, 4, 0), np.repeat(Y, 4))
        model.fit(data, epochs=epochs, initial_epoch=first, verbose=0)
        # Keras looks at the first batches beforehand, on some backends.
        orders.append(Noted.seen[-10 * (epochs - first) :])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0][:10]) == list(range(10)) == sorted(orders[0][10:])
    assert orders[0][:10] != list(range(10))
    assert orders[0][:10] != orders[0][10:]
    # A resumed run goes on in the order of the epoch.
    assert orders[3] == orders[0][10:]


@pytest.mark.parametrize("as_batches", [False, True])
def test_labels_of_no_class_are_left_out(as_batches):
    y = np.where(np.arange(ROWS) % 4 == 0, -1, Y).astype("int32")

    def ignoring():
        return keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1
        )

    data = {"x": Batched(A, y)} if as_batches else {"x": A, "y": y}
    checked(
        one_input,
        ignoring,
        lambda: dict(data),
        # A `Split` drops such rows itself.
        None,
        lambda: Batched(A),
    )
    model = kd.DebiasedModel(one_input())
    model.compile("sgd", cross_entropy())
    with pytest.raises(ValueError, match="5 of them out of range"):
        model.fit(A, y, verbose=0)


def causal_lm():
    keras.utils.set_random_seed(0)
    words = [*"abcdefgh", "\u0120", "ab", "<|endoftext|>"]
    tokenizer = keras_hub.tokenizers.GPT2Tokenizer(
        vocabulary={word: i for i, word in enumerate(words)}, merges=["a b"]
    )
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=11,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=8,
        dropout=0,
    )
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(
        tokenizer, sequence_length=8
    )
    return keras_hub.models.GPT2CausalLM(
        backbone=backbone, preprocessor=preprocessor
    )


SENTENCES = ["abc def", "gh ab", "fed cba", "hhh"] * 2


@pytest.mark.once
@pytest.mark.parametrize("form", ["rows", "Split", "tf.data", "PyDataset"])
def test_weights_of_rows_weigh_the_tokens_of_a_causal_lm(form):
    weights = np.array([1, 0, 2, 1, 0, 0, 1, 3], "float32")
    forms = {
        "rows": lambda: {"x": SENTENCES, "sample_weight": weights},
        "Split": lambda: {
            "x": kd.data.Split(SENTENCES, None, sample_weight=weights)
        },
        "tf.data": lambda: {
            "x": tf.data.Dataset.from_tensor_slices(
                (SENTENCES, np.zeros(8), weights)
            ).batch(8)
        },
        "PyDataset": lambda: {
            "x": Batched(np.array(SENTENCES, object), np.zeros(8), weights)
        },
    }
    network = causal_lm()
    tokens = network.preprocessor(SENTENCES)
    x, y, mask = keras.utils.unpack_x_y_sample_weight(tokens)
    mask = ops.convert_to_numpy(mask) * weights[:, None]
    y = ops.convert_to_numpy(y)
    plain = causal_lm()
    plain.preprocessor = None
    plain.compile(keras.optimizers.SGD(0.5), cross_entropy(), sampler="greedy")
    x = keras.tree.map_structure(ops.convert_to_numpy, x)
    plain.fit(x, y, sample_weight=mask, batch_size=8, shuffle=False, verbose=0)
    model = kd.DebiasedModel(network, seed=0)
    model.compile(keras.optimizers.SGD(0.5), cross_entropy())
    size = {} if "sample_weight" not in forms[form]() else {"batch_size": 8}
    model.fit(**forms[form](), **size, shuffle=False, verbose=0)
    same(network.get_weights(), plain.get_weights())


def test_rows_of_weight_zero_train_nothing():
    network = causal_lm()
    before = network.get_weights()
    model = kd.DebiasedModel(network, seed=0)
    model.compile(keras.optimizers.SGD(0.5), cross_entropy())
    model.fit(SENTENCES, sample_weight=np.zeros(8, "float32"), verbose=0)
    for one, other in zip(network.get_weights(), before):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a format of tensorflow")
def test_export_computes_as_the_network(tmp_path):
    model = kd.DebiasedModel(one_input())
    model.compile("sgd", cross_entropy())
    model.fit(A, Y, verbose=0)
    model.export(tmp_path / "m", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    served = loaded.serve(A)  # its variables live as long as `loaded`
    np.testing.assert_allclose(served, model.predict(A, verbose=0), atol=1e-5)
