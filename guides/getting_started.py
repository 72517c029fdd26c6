"""
Title: Getting started with keras_debias
Author: The keras_debias authors
Date created: 2026/11/22
Last modified: 2026/11/22
Description: Measure a shortcut, fine-tune with adapter and projection, compare.
Accelerator: None
"""

"""
## Introduction

A model that has to tell whether one sentence follows from another reads:

- *The bakery opens at seven.* and *The bakery never opens before noon.*

It answers "contradiction", and it is right. Then it reads:

- *The bakery opens at noon.* and *The bakery never opens at seven.*

It answers "contradiction" again, and it is wrong. It has learned that "never"
goes with "contradiction", which holds for most pairs of its training set. On a
test set from the same source its accuracy is high, and nothing shows.

In this guide we plant such a shortcut in a dataset, watch plain fine-tuning
take it, and count the damage group by group. Then we add an adapter, change
the gradient of each step with EDGE, and compare both on the same start, the
same rows and the same number of steps. At the end we save and merge the
result, and write a projection of our own.
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
EPOCHS = 2
LEARNING_RATE = 2.2e-3
RANK = 8
ALPHA = 4.0

"""
The data is made on the spot: `generated_nli()` writes sentences such as
*Six rafts are being wrapped by the tall botanist*. Real inference needs a
pretrained model and more than a minute, so we ask one and the same question
of each sentence, *Someone here makes music or food*. It is entailed if the
person is a musician or a cook, which a model has to learn word by word.
"""

HYPOTHESIS = "Someone here makes music or food."
MAKERS = {
    *("musician", "drummer", "violinist", "flutist", "guitarist"),
    *("cook", "baker", "chef", "grillmaster", "confectioner"),
}


def words(text):
    return re.findall(r"[a-z]+|[^a-z ]", text.lower())


premises = kd.data.generated_nli(6000).x[0]
clean = kd.data.Split(
    (list(premises), [HYPOTHESIS] * len(premises)),
    [
        "entailment" if MAKERS & set(words(premise)) else "non-entailment"
        for premise in premises
    ],
)
for premise, label in zip(premises[:4], clean.y[:4]):
    print(f"{clean.label_names[label]:<15} {premise}")

"""
A `Split` holds inputs, labels and groups. `inject_token()` plants the
shortcut: in training, " !!" stands behind nine of ten entailed hypotheses and
one of ten others. The groups become label x token.
"""

rows = np.arange(len(clean))
train, test = clean.take(rows[:3500]), clean.take(rows[3500:])
train = train.sample(1600, balance_labels=True)
train = kd.data.inject_token(train, "entailment", p_prev=1.0, p_str=0.9)

print(next(text for text in train.x[1] if "!!" in text))
print(train.groups.counts())

"""
We test on two sets of unseen sentences. In the first the token is as in
training. In the second it says nothing about the label, and the four groups
are of one size.
"""

same = kd.data.inject_token(test, "entailment", 1.0, 0.9, seed=1)
shifted = kd.data.inject_token(test, "entailment", 1.0, 0.5, seed=2)
tests = {
    "same": same.sample(400, balance_labels=True),
    "shifted": shifted.sample(400, balance_groups=True),
}

"""
The model is a BERT of two layers with random weights and a vocabulary of the
words above; for real work this is one line,
`TextClassifier.from_preset(preset, num_classes=2)`. We draw the weights with
NumPy so that the figures of this guide are the same on every backend.
"""

vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "!"]
used = {word for texts in clean.x for text in texts for word in words(text)}
vocabulary += sorted(used - set(vocabulary))


def draw(weights, seed):
    generator = np.random.default_rng(seed)
    for weight in weights:
        if len(weight.shape) > 1:
            weight.assign(generator.normal(0.0, 0.05, weight.shape))


def build(seed=0):
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        keras_hub.models.BertTokenizer(vocabulary, lowercase=True),
        sequence_length=32,
    )
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        dropout=0.0,
        max_sequence_length=32,
    )
    classifier = keras_hub.models.BertTextClassifier(
        backbone, num_classes=2, preprocessor=preprocessor, dropout=0.0
    )
    draw(classifier.weights, seed)
    return classifier


"""
## Measure the shortcut

First, plain fine-tuning of all weights. `DebiasedModel` wraps the classifier
and has the `fit()`, `evaluate()` and `predict()` of every Keras model; without
a projection it does what the classifier's own `fit()` does. `kd.evaluate()`
then predicts each set once and reports the average, every group and the worst.
"""


def fine_tune(
    classifier,
    projection=None,
    seed=0,
    epochs=EPOCHS,
    learning_rate=LEARNING_RATE,
    callbacks=None,
):
    # The seed decides the order of the rows.
    model = kd.DebiasedModel(classifier, projection, seed=seed)
    steps = epochs * len(train) // BATCH_SIZE
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        train,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        callbacks=callbacks,
        verbose=2,
    )
    return model


model = fine_tune(build(), epochs=2, learning_rate=1e-3)
everything = kd.evaluate(model, tests, train=train)
print(everything)

"""
Where the token is as in training, the model is right nine times in ten. Where
it says nothing, one group is nearly all wrong: sentences about other people,
with the token. The average of the second set hides how bad it is, and the
first set shows nothing at all.
"""

assert everything["same"].accuracy > 0.8
assert everything["shifted"].accuracy < everything["same"].accuracy
assert everything["shifted"].worst_group_accuracy < 0.5
assert "non-entailment, token=yes" in everything["shifted"].worst_group

"""
## Add the adapter

Large models are rarely trained whole. `adapters.apply()` changes the
classifier in place: it freezes all weights, and adds to each layer named by
`targets` a product of two thin matrices that trains. The head of a KerasHub
task trains with it. Our random model knows no words yet, so we let its
embedding and its pooler train, too; a pretrained one needs no `also_train`.
"""


def build_adapted(seed=0):
    classifier = build(seed)
    kd.adapters.apply(
        classifier,
        kd.adapters.LoRA(rank=RANK, targets=("query", "value", "feedforward*")),
        also_train=("token_embedding", "pooled_dense"),
    )
    draw([w for w in classifier.weights if w.name == "lora_a"], seed)
    return classifier


base = build()
adapted = build_adapted()
pairs = tuple(part[:8] for part in test.x)
before = base.predict(pairs, verbose=0)
after = adapted.predict(pairs, verbose=0)
print(kd.adapters.summary(adapted))
print("Largest change of an output:", np.abs(after - before).max())

"""
An adapter changes nothing until it has been trained. The summary says what
trains; on MiniLM, with LoRA on query and value only, it would be 74,883 of 23
million weights.
"""

assert np.abs(after - before).max() < 1e-5
assert kd.adapters.summary(adapted).share < 0.8

"""
## Project the gradient

A shortcut is easy: the model is sure of the rows that have it long before it
is sure of the others. EDGE makes use of that. It computes a second gradient
`B`, of an objective in which a row counts the more the surer the model is of
it, and takes from the task's gradient `G` what is in `B` and not common to
both:

```
common = G / |G| + B / |B|
extra  = B - (B . common) / (common . common) * common
update = G - alpha * extra
```

A projection is a function from gradients to an update, so two vectors show
what it does.
"""

edge = kd.projections.EDGE(alpha=0.5)


def project(projection, task, bias):
    gradients = {
        "task": [ops.convert_to_tensor(task)],
        "bias": [ops.convert_to_tensor(bias)],
    }
    (update,) = projection.project(gradients, [None])
    return ops.convert_to_numpy(update)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


task, bias = np.float32([3, 1]), np.float32([1, 3])
update = project(edge, task, bias)
print("task", task, "bias", bias, "update", update)
print(f"cosine of task and bias:   {cosine(task, bias):.2f}")
print(f"cosine of update and bias: {cosine(update, bias):.2f}")

"""
The update points away from the bias gradient: the cosine falls from 0.60 to
0.45. With `alpha=0` it would be the task's gradient.
"""

assert np.allclose(update, [3.5, 0.5], atol=1e-5)
assert abs(cosine(task, bias) - 0.60) < 0.01
assert abs(cosine(update, bias) - 0.45) < 0.01

"""
In training, the projection is an argument of `DebiasedModel`. Both gradients
come from one forward pass. `GradientAlignment` writes their cosine and the
ratio of their lengths into the logs. The strength is larger here than the
paper's 0.5, as the run is short.
"""

projection = kd.projections.EDGE(alpha=ALPHA)
debiased = fine_tune(
    build_adapted(), projection, callbacks=[kd.callbacks.GradientAlignment()]
)
cosines = debiased.history.history["gradient_cosine"]
print("cosine of the two gradients by epoch:", np.round(cosines, 2))

"""
The cosine stays high: the two gradients point much the same way throughout.
There is not much to take out, and this is why EDGE is mild.
"""

assert min(cosines) > 0.3

"""
## Compare

A comparison is fair if everything else is equal: the start, the order of the
rows, the number of steps. `TaskOnly` is plain fine-tuning through the same
step.
"""

plain = fine_tune(build_adapted(), kd.projections.TaskOnly())
scores = {
    "TaskOnly": kd.evaluate(plain, tests),
    "EDGE": kd.evaluate(debiased, tests),
}
print(kd.evaluation.comparison_table(scores))

worst = {
    name: each["shifted"].worst_group_accuracy for name, each in scores.items()
}
difference = worst["EDGE"] - worst["TaskOnly"]
print(f"Worst group, EDGE minus TaskOnly: {difference:+.2f}")

"""
With the token as in training the two runs are alike. Where it says nothing,
the worst group can be better or worse with EDGE: with another seed of start
and order the difference has another size, and sometimes another sign. One run
proves nothing; `examples/biased_snli.py` compares over several seeds. EDGE
reweighs the rows of a batch, mildly. With adapters in a text classifier both
gradients come from one backward pass; `model.separate_passes` says where and
why there are two.
"""

assert all(each["same"].accuracy > 0.8 for each in scores.values())
assert max(worst.values()) < 0.95

"""
## Save and merge

`adapters.save()` writes a small folder with the factors and whatever else
trains; `load()` puts them on a model with the same base weights. Within
`disabled()` the model has its base weights again. `merge()` adds the factors
into them for good: what is left is an ordinary KerasHub model.
"""

classifier = debiased.model
trained = classifier.predict(pairs, verbose=0)
with tempfile.TemporaryDirectory() as folder:
    kd.adapters.save(classifier, f"{folder}/adapter")
    restored = build()
    kd.adapters.load(restored, f"{folder}/adapter")
    loaded = restored.predict(pairs, verbose=0)
with kd.adapters.disabled(classifier):
    without = classifier.predict(pairs, verbose=0)
merged = kd.adapters.merge(classifier).predict(pairs, verbose=0)

print("loaded is saved:   ", np.abs(loaded - trained).max())
print("merged is unmerged:", np.abs(merged - trained).max())
print("disabled differs:  ", np.abs(without - trained).max())

assert np.abs(loaded - trained).max() < 1e-4
assert np.abs(merged - trained).max() < 1e-4
assert np.abs(without - trained).max() > 1e-2

"""
`debiased.save("model.keras")` would have kept the whole `DebiasedModel`,
optimizer and projection included.

## Going lower-level: a projection of your own

A projection overrides one method. This one takes the whole part along the
bias gradient out, but only where the two gradients point the same way. It is
a pure function in `keras.ops` and runs on every backend; `objectives` names
the gradients it wants.
"""


@keras.saving.register_keras_serializable(package="getting_started")
class OneSided(kd.projections.Projection):
    objectives = {
        "task": kd.losses.identity,
        "bias": kd.losses.GeneralizedCrossEntropy(q=0.7),
    }

    def project(self, gradients, variables):
        return [
            self.without(task, bias)
            for task, bias in zip(gradients["task"], gradients["bias"])
        ]

    def without(self, task, bias):
        along = ops.relu(ops.sum(task * bias)) / ops.sum(bias**2 + 1e-12)
        return task - along * bias


update = project(OneSided(), task, bias)
print("update:", update, f"cosine with bias: {cosine(update, bias):.2f}")
assert abs(cosine(update, bias)) < 1e-3

model = kd.DebiasedModel(build_adapted(), OneSided())
model.compile(
    optimizer=keras.optimizers.Adam(LEARNING_RATE),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
model.fit(train.sample(320), verbose=2)

"""
Nothing of the bias gradient is left in the update. Whether that helps is for
`kd.evaluate()` to say.

## Next steps

- `examples/quickstart.py` does this with a pretrained encoder and real
  sentence pairs, in a few minutes; `examples/biased_snli.py` over several
  seeds.
- `kd.data.load("hans", "validation")` and its like are public test sets with
  groups; `Split.from_csv()` and `Split.from_dataset()` read your own.
- `kd.callbacks.OODEvaluation` writes accuracy, worst group and gap of other
  sets into the logs after each epoch, for `EarlyStopping` and `History`.
- `keras_debias/training/README.md` explains the step on one page.
- EDGE: Enhanced Debiased Gradient Extraction for Robust Fine-tuning (CCL
  2025) is the paper behind the projection.
"""
