"""
Title: Fine-tuning bias terms
Author: The keras_debias authors
Date created: 2026/11/23
Last modified: 2026/11/23
Description: Train value biases only: what they can do, counts, merging, files.
Accelerator: None
"""

"""
## Introduction

We have three hundred labeled sentences and a pretrained model of a hundred
million weights. Training all of them takes memory for all of them, and each
task needs a copy of the model. An attention layer adds a bias to its queries,
its keys and its values, one number for each output of a projection. Each of
the three is 0.01 % of the weights of BERT-base, and one of them, says BEFT
(bias-efficient fine-tuning), is worth training alone: the value bias.

In this guide we see on attention layers what each of the three biases can do.
We train the value biases of a classifier with one line, inject biases into a
decoder that has none, write them in fewer numbers, merge them, and keep them
in a file.
"""

"""
## Setup

```shell
pip install "keras-debias[torch]"
```

One line chooses the backend: `"torch"`, `"tensorflow"` or `"jax"`. It has to
stand before Keras is imported.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import re
import tempfile

import keras
import keras_hub
import numpy as np
from keras import ops

import keras_debias as kd

BATCH_SIZE = 32
EPOCHS = 4
LEARNING_RATE = 1e-2
RANK = 2

"""
## What a bias term can do

We take one attention layer of Keras, add something to one of its biases, and
look at how its output changes, token by token.
"""

keras.utils.set_random_seed(0)
tokens = np.random.default_rng(0).normal(size=(1, 6, 16)).astype("float32")
attention = keras.layers.MultiHeadAttention(num_heads=2, key_dim=8)
attention(tokens, tokens)
projections = {
    "query": attention.query_dense,
    "key": attention.key_dense,
    "value": attention.value_dense,
}


def output():
    return ops.convert_to_numpy(attention(tokens, tokens))


def change_of_output(name):
    """How the output of each token changes with a bias of normal numbers."""
    bias = projections[name].bias
    before = output()
    bias.assign(np.random.default_rng(1).normal(size=bias.shape))
    change = output() - before
    bias.assign(np.zeros(bias.shape))
    return change


changes = {name: change_of_output(name) for name in projections}
for name, change in changes.items():
    print(
        f"{name:<5}  largest change: {np.abs(change).max():.7f}  "
        f"difference between tokens: {np.ptp(change, axis=1).max():.7f}"
    )

"""
Three very different rows:

- A **key bias** changes nothing. It adds the same number to all scores of a
  query, and the softmax does not see that. What is left is rounding.
- A **query bias** changes which tokens are looked at, so its effect depends on
  the token. It acts inside the softmax only.
- A **value bias** adds the same vector to every token, whatever the scores:
  the attention weights of a token sum to one. It adds freely.
"""

assert np.abs(changes["key"]).max() < 1e-5
assert np.ptp(changes["query"], axis=1).max() > 1e-2
assert np.abs(changes["value"]).max() > 0.1
assert np.ptp(changes["value"], axis=1).max() < 1e-5

"""
That vector is known: it is the bias times the kernel of the output projection.
A value bias `b` is therefore the same as a larger bias of the output
projection, which is how we merge it later. (Attention dropout breaks the sum
of one while training.)
"""

bias = np.random.default_rng(1).normal(size=(2, 8))
kernel = ops.convert_to_numpy(attention.output_dense.kernel)
expected = np.einsum("hd,hdo->o", bias, kernel)
print("largest error:", np.abs(changes["value"] - expected).max())

assert np.abs(changes["value"] - expected).max() < 1e-5

"""
### Rotary positions

Llama, SmolLM2, Gemma, Mistral and Qwen rotate queries and keys by an angle
that depends on the position. A key bias is rotated too, and adds another
number at each position. The argument of the paper does not cover this: in
these models a key bias acts. (So does one before a normalization of the keys.)

To see it we need a decoder, here a Llama of one layer with random weights. It
has no biases; `adapters.apply()` injects them, at zero.
"""


def build_decoder(num_layers=1):
    keras.utils.set_random_seed(0)
    return keras_hub.models.LlamaBackbone(
        vocabulary_size=50,
        num_layers=num_layers,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
    )


batch = {
    "token_ids": np.arange(1, 9)[None, :],
    "padding_mask": np.ones((1, 8), "int32"),
}


def change_of_decoder(adapter):
    decoder = build_decoder()
    before = decoder.predict(batch, verbose=0)
    kd.adapters.apply(decoder, adapter, also_train=())
    at_start = decoder.predict(batch, verbose=0)
    for weight in decoder.trainable_variables:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    after = decoder.predict(batch, verbose=0)
    return np.abs(at_start - before).max(), np.abs(after - before).max()


rotary = {}
for adapter in (
    kd.adapters.ValueBias(),
    kd.adapters.QueryBias(),
    kd.adapters.KeyBias(),
):
    at_start, rotary[type(adapter).__name__] = change_of_decoder(adapter)
    print(
        f"{type(adapter).__name__:<9}  at the start: {at_start:.7f}  "
        f"with a bias: {rotary[type(adapter).__name__]:.7f}"
    )
    assert at_start < 1e-6

"""
The injected biases change nothing until they train, and with rotary positions
the key bias is no longer inert.
"""

assert rotary["KeyBias"] > 1e-3
assert rotary["ValueBias"] > rotary["KeyBias"]

"""
## Train the value biases

Now a classifier. Real work takes a pretrained one,
`TextClassifier.from_preset(kd.presets.minilm(), num_classes=2)`; here it is a
BERT of two layers that we pretrain ourselves on generated sentences, by asking
whether the person in them is a musician or a cook.
"""

MUSICIANS = {"musician", "drummer", "violinist", "flutist", "guitarist"}
COOKS = {"cook", "baker", "chef", "grillmaster", "confectioner"}


def words(text):
    return re.findall(r"[a-z]+", text.lower())


sentences = list(dict.fromkeys(kd.data.generated_nli(6000).x[0]))
vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
vocabulary += sorted({word for text in sentences for word in words(text)})


def about(people, texts):
    labels = ["yes" if people & set(words(text)) else "no" for text in texts]
    return kd.data.Split(texts, labels)


def draw(weights, seed):
    """Draws weights with NumPy: the same on every backend."""
    generator = np.random.default_rng(seed)
    for weight in weights:
        if len(weight.shape) > 1:
            weight.assign(generator.normal(0.0, 0.05, weight.shape))


def build():
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        keras_hub.models.BertTokenizer(vocabulary, lowercase=True),
        sequence_length=20,
    )
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        dropout=0.0,
        max_sequence_length=20,
    )
    classifier = keras_hub.models.BertTextClassifier(
        backbone, num_classes=2, preprocessor=preprocessor, dropout=0.0
    )
    draw(classifier.weights, 0)
    return classifier


def fit(classifier, train, epochs, learning_rate):
    model = kd.DebiasedModel(classifier, seed=0)
    steps = epochs * len(train) // BATCH_SIZE
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(train, batch_size=BATCH_SIZE, epochs=epochs, verbose=2)
    return model


pretrained = build()
fit(
    pretrained,
    about(MUSICIANS | COOKS, sentences[:2000]).sample(
        1600, balance_labels=True
    ),
    epochs=2,
    learning_rate=3e-3,
)
weights = [ops.convert_to_numpy(w) for w in pretrained.backbone.weights]


def build_pretrained():
    classifier = build()
    for weight, value in zip(classifier.backbone.weights, weights):
        weight.assign(value)
    return classifier


"""
The task is another one, with a new head and little data: is the person a
musician? `low_data()` draws training sets of the sizes of the paper's study,
with the shares of the labels kept. The low regime of RTE is 300 rows.
"""

rows = about(MUSICIANS, sentences[2000:])
pool = rows.take(np.arange(1500)).sample(400, balance_labels=True)
test = rows.take(np.arange(1500, len(rows))).sample(400, balance_labels=True)
train = kd.data.low_data(pool, "rte", "low")
print(train)

assert len(train) == 300 and np.bincount(train.y).tolist() == [150, 150]

"""
One line makes the value biases train, and the head; all else is frozen.
"""

classifier = build_pretrained()
kd.adapters.apply(classifier, kd.adapters.ValueBias())
print(kd.adapters.summary(classifier))

assert kd.adapters.summary(classifier).trainable == 2 * 32 + 66

model = fit(classifier, train, EPOCHS, LEARNING_RATE)
value_accuracy = kd.evaluate(model, test, bootstrap=0)["test"].accuracy
print(f"accuracy, value bias: {value_accuracy:.2f}")

assert 0.85 < value_accuracy < 0.97

"""
Nine rows in ten are right. The model was pretrained to tell musicians and
cooks from everybody else, never one from the other, and this is what is left
to get wrong. Value biases move what a model already tells apart; of that, a
large model has more.

### A warning about key biases

Key biases train with one line, too. In BERT they are inert. Their gradient is
nothing but rounding, and Adam, which divides by the size of the gradient,
makes large steps of it: the biases move, and nothing happens. Only the head
learns.
"""

keys = build_pretrained()
kd.adapters.apply(keys, kd.adapters.KeyBias())
model = fit(keys, train, EPOCHS, LEARNING_RATE)
key_accuracy = kd.evaluate(model, test, bootstrap=0)["test"].accuracy
texts = list(test.x[:16])
trained = keys.predict(texts, verbose=0)
biases = keys.backbone.trainable_variables
moved = max(np.abs(ops.convert_to_numpy(w)).max() for w in biases)
for weight in biases:
    weight.assign(np.zeros(weight.shape))
without = keys.predict(texts, verbose=0)
print(f"accuracy, key bias: {key_accuracy:.2f}")
print(f"the biases have moved by up to {moved:.4f}")
print("effect of that on the logits:", np.abs(trained - without).max())

assert moved > 1e-3
assert abs(value_accuracy - key_accuracy) < 0.1
assert np.abs(trained - without).max() < 1e-4

"""
The head alone does as well here as the head with value biases: our task is too
small to rank anything. `examples/beft_low_data.py` compares them on real ones.

## Count

One number for each output of a value projection: width times layers in a
model with as many value heads as query heads. Grouped queries need fewer. All
biases (BitFit) are ten times as many in our BERT.
"""


def count_of(backbone, adapter):
    kd.adapters.apply(backbone, adapter, also_train=())
    return kd.adapters.summary(backbone)


for adapter in (kd.adapters.ValueBias(), kd.adapters.AllBiases()):
    count = count_of(build().backbone, adapter).trainable
    print(f"{type(adapter).__name__}: {count}")
decoder = build_decoder(num_layers=2)
print("grouped:", count_of(decoder, kd.adapters.ValueBias()).trainable)

bert_base = 12 * 768
print(f"BERT-base: {bert_base:,} of 109 million, {bert_base / 109e6:.3%}")

assert count_of(build().backbone, kd.adapters.ValueBias()).trainable == 2 * 32
assert count == 10 * 2 * 32
assert kd.adapters.summary(decoder).trainable == 2 * 2 * 8
assert bert_base == 9216

"""
## Fewer numbers still

A bias of 768 numbers can be read as a matrix of 24 x 32, and that matrix can
be updated with a low rank. The form is an argument of the adapter.
"""

forms = (
    kd.adapters.VectorBias(),
    kd.adapters.LoRABias(rank=RANK),
    kd.adapters.VeRABias(rank=RANK),
    kd.adapters.VeRAScalarBias(),
)
counts = {}
for form in forms:
    name = type(form).__name__
    adapted = build_pretrained()
    kd.adapters.apply(adapted, kd.adapters.ValueBias(form=form))
    # Without the head.
    counts[name] = kd.adapters.summary(adapted).trainable - 66
    print(f"{name:<14} {counts[name]} weights")

"""
With 32 numbers a layer and a rank of 2 there is little to save; with 768 and
a rank of 8, `LoRABias` takes 448 and `VeRABias` 32. `DoRABias` and `PiSSABias`
start from the bias there is and refuse one of zeros.
"""

assert counts == {
    "VectorBias": 64,
    "LoRABias": 2 * RANK * (4 + 8),
    "VeRABias": 2 * (4 + RANK),
    "VeRAScalarBias": 2,
}
assert 8 * (24 + 32) == 448 and 24 + 8 == 32

"""
## Save and load

The file holds the biases and the head. `load()` puts them on a model with the
same base weights.
"""

before = classifier.predict(texts, verbose=0)
with tempfile.TemporaryDirectory() as folder:
    kd.adapters.save(classifier, f"{folder}/adapter")
    size = sum(
        os.path.getsize(os.path.join(folder, "adapter", name))
        for name in os.listdir(f"{folder}/adapter")
    )
    restored = build_pretrained()
    kd.adapters.load(restored, f"{folder}/adapter")
loaded = restored.predict(texts, verbose=0)
print(f"{size / 1000:.0f} kB")
print("loaded is saved:", np.abs(loaded - before).max())

assert np.abs(loaded - before).max() < 1e-5

"""
## Merge

BERT has value biases, so the trained ones are where they belong, and
`merge()` only takes the adapter away.
"""

merged = kd.adapters.merge(classifier).predict(texts, verbose=0)
print("merged is unmerged:", np.abs(merged - before).max())

assert np.abs(merged - before).max() < 1e-5

"""
An injected bias has no place in the model it was made for. A value bias can go
into the bias of the output projection, as we saw above; Llama has none there
either, and `merge()` refuses.
"""

decoder = build_decoder()
kd.adapters.apply(decoder, kd.adapters.ValueBias(), also_train=())
for weight in decoder.trainable_variables:
    weight.assign(np.random.default_rng(1).normal(size=weight.shape))
try:
    kd.adapters.merge(decoder)
except ValueError as error:
    message = str(error)
print(message)

assert "change the architecture" in message

"""
There are two ways out. One is to keep the adapter and save it, as above; the
model is unchanged after the refusal and works on. The other is a model with
a bias on its output projection. Here is an attention layer of that kind, with
no other bias:
"""


@keras.saving.register_keras_serializable(package="bias_terms")
class Attention(keras.layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.query, self.key, self.value = (
            keras.layers.Dense(width, use_bias=False, name=name)
            for name in ("query", "key", "value")
        )
        self.attention_output = keras.layers.Dense(
            width, name="attention_output"
        )

    def build(self, input_shape):
        for layer in (self.query, self.key, self.value, self.attention_output):
            layer.build(input_shape)

    def call(self, x):
        scores = ops.matmul(self.query(x), ops.swapaxes(self.key(x), -1, -2))
        found = ops.matmul(ops.softmax(scores), self.value(x))
        return self.attention_output(found)


inputs = keras.Input((6, 16))
network = keras.Model(inputs, Attention(16, name="attention")(inputs))
kd.adapters.apply(network, kd.adapters.ValueBias(), also_train=())
(injected,) = network.trainable_variables
injected.assign(np.random.default_rng(1).normal(size=injected.shape))
before = network.predict(tokens, verbose=0)
kd.adapters.merge(network)
after = network.predict(tokens, verbose=0)
paths = [weight.path for weight in network.weights]
print("weights after merging:", paths)
print("merged is unmerged:", np.abs(after - before).max())

assert np.abs(after - before).max() < 1e-5
assert not any(path.endswith("value/bias") for path in paths)

"""
The value bias is gone from the value projection, and its effect is in the bias
of the output projection.

## Next steps

- `examples/beft_low_data.py` compares the three biases with LoRA and with
  training all weights, on real tasks with little data, over several seeds.
- `kd.adapters.apply(model, [ValueBias(), LoRA(targets="query")])` puts two
  adapters on one model.
- `kd.DebiasedModel(classifier, projection)` changes the gradient of each step
  as well; the guide `getting_started.py` shows how.
- The paper is BEFT, *Bias-Efficient Fine-Tuning of Language Models in Low-Data
  Regimes*. It trains for more epochs, on larger models.
"""
