"""
Title: Finding a shortcut in the weights, and keeping it out: GRASP
Author: The keras_debias authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Read a direction from a fine-tune, and fine-tune again without it.
Accelerator: None
"""

"""
## Introduction

We fine-tune a model on data in which something goes with the label that has
nothing to do with it: an exclamation mark, a tone, a persona. We know that
something of the kind may be there, but not what it is, and we have no groups to
measure it by. The model takes it up all the same, because it is easier than the
task.

What it took up is in its weights. If many layers have begun to read the same
direction of the residual stream, that direction is a suspect, and it can be
found without data and without labels. GRASP does this, and then fine-tunes
again from the pretrained weights, with every update kept orthogonal to the
direction. The input still holds the factor and the pretrained model still uses
it as it did; fine-tuning cannot add to that.

In this guide we plant a factor whose direction we know, find it, see when it
can and cannot be found, keep it out, and compare with the opposite advice: to
erase the direction from the activations.
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

import tempfile

import keras
import numpy as np
from keras import ops

import keras_debias as kd

WIDTH = 48
ROWS = 1024
BATCH_SIZE = 64
EPOCHS = 5
LEARNING_RATE = 3e-3
RANK = 4
READERS = ("hidden_*", "logits")

"""
The inputs are vectors. The label is the sign of a sum of four products of
features, which takes a network some effort. The factor is a step along one more
direction, in most rows toward one side when the label is 0 and toward the other
when it is 1.
"""

basis = np.linalg.qr(np.random.default_rng(99).normal(size=(WIDTH, WIDTH)))[0]
planted, features = basis[:, 0], basis[:, 1:]


def table(correlation, pairs=4, seed=0, shuffle_labels=False):
    """Rows `x`, labels `y`; the factor follows `y` in a share of the rows."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(ROWS, WIDTH))
    x -= np.outer(x @ planted, planted)
    score = x @ features
    if pairs:
        score = score[:, 0 : 2 * pairs : 2] * score[:, 1 : 2 * pairs : 2]
        score = score.sum(axis=1)
    else:
        score = score[:, 0]
    y = (score > 0).astype("int32")
    follows = generator.random(ROWS) < correlation
    factor = np.where(follows, y == 0, generator.random(ROWS) < 0.5)
    x += np.outer(np.where(factor, 1, -1), planted)
    if shuffle_labels:
        y = generator.permutation(y)
    return x.astype("float32"), y


"""
The network is a small residual one: each block reads the stream with a layer
`hidden_*` and writes to it with a layer `output_*`, as a transformer does.
"""


def network():
    inputs = keras.Input((WIDTH,))
    x = inputs
    for i in range(6):
        h = keras.layers.Dense(64, activation="tanh", name=f"hidden_{i}")(x)
        x = x + keras.layers.Dense(WIDTH, name=f"output_{i}")(h)
    outputs = keras.layers.Dense(2, name="logits")(x)
    model = keras.Model(inputs, outputs)
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 2:
            small = "output" in weight.path
            scale = 0.05 if small else weight.shape[0] ** -0.5
            weight.assign(generator.normal(0, scale, weight.shape))
    return model


def lora():
    return kd.adapters.LoRA(rank=RANK, targets=("hidden_*",))


def settings():
    return {
        "optimizer": keras.optimizers.Adam(LEARNING_RATE),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }


def fine_tune(x, y, projection=None, prepare=None):
    keras.utils.set_random_seed(0)
    model = network()
    kd.adapters.apply(model, lora(), also_train=("logits",))
    if prepare is not None:
        prepare(model)
    debiased = kd.DebiasedModel(model, projection, seed=0)
    debiased.compile(**settings())
    debiased.fit(x, y, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0)
    return model


"""
## Measure the shortcut

We fine-tune plainly on data in which the factor follows the label in nine rows
of ten, and look at new rows twice: with the factor on one side, and on the
other. Nothing else changes between the two, so a model that does not rely on
the factor gives the same answers. `kd.evaluation.reliance()` counts.
"""

x, y = table(correlation=0.9)
test_x, test_y = table(correlation=0.0, seed=1)
test_x -= np.outer(test_x @ planted, planted).astype("float32")
one_side, other_side = (
    kd.data.Split((test_x + side * planted).astype("float32"), test_y)
    for side in (-1, 1)
)


def probe(model):
    return kd.evaluation.reliance(model, one_side, other_side, target=0)


naive = fine_tune(x, y)
plain = probe(naive)
print(f"answers that flip with the factor: {plain.flipped:.0%}")
print(f"accuracy over both sides: {plain.accuracy:.2f}")
assert plain.flipped > 0.8
assert plain.accuracy < 0.6

"""
Nearly every answer follows the factor, and accuracy is that of a coin. On data
like the training set nobody would have noticed.

## Read the direction from the weights

`latent_factors()` takes the model and nothing else. Each layer's update votes
for the directions that it reads; the votes are added up, and the leading
eigenvectors are the answer, with the share of all updates that each of them
holds.
"""

found = kd.analysis.latent_factors(naive, k=1, readers=READERS)
print(found)
print("cosine to the planted direction:", found.directions.overlap(planted))
assert found.directions.overlap(planted) > 0.75

"""
Here we know the truth, so we can compare. A random direction in 48 dimensions
has a cosine of about 0.1.

Does a strong direction mean that there is a factor? Two classes and a nearly
linear network always give one: whatever is learned moves one difference of
logits. The way to know what is usual is to fine-tune once more on shuffled
labels. With `null=`, a direction counts as detected only if its share is larger
than anything found there.
"""

shuffled = fine_tune(*table(correlation=0.9, shuffle_labels=True))
null = [kd.analysis.latent_factors(shuffled)]
found = kd.analysis.latent_factors(naive, k=1, readers=READERS, null=null)
nothing = kd.analysis.latent_factors(shuffled, k=1, null=null)
print("detected:", found.detected, "on shuffled labels:", nothing.detected)
assert found.detected == 1
assert nothing.detected == 0

"""
### When it can be found

The paper proves that such a factor can be identified if the correlation is
strong enough and the task complex enough. We vary both.
"""

print("correlation   task            cosine")
cosines = {}
for correlation, pairs in ((0.9, 4), (0.6, 4), (0.3, 4), (0.9, 0)):
    model = (
        naive
        if (correlation, pairs) == (0.9, 4)
        else fine_tune(*table(correlation, pairs))
    )
    cosine = kd.analysis.latent_factors(model).directions.overlap(planted)
    cosines[correlation, pairs] = cosine
    task = f"{pairs} products" if pairs else "one feature"
    print(f"{correlation:<12}  {task:<14}  {cosine:.2f}")
assert cosines[0.9, 4] > cosines[0.6, 4] > cosines[0.3, 4]
assert cosines[0.9, 0] < cosines[0.9, 4] - 0.15

"""
Both conditions are real. As the correlation weakens, the direction turns away
from the factor. And where the task itself is a single direction, the leading
direction is a mixture of the two: keeping updates out of it would take away a
part of the task.

## Keep updates out of a direction

The second fine-tune must not change what the layers read along the direction
`v`: the update `U` of a kernel must keep `v' U = 0`. The gradients are
projected, but this is not enough. Adam scales each entry of a gradient by
itself, which turns it back toward `v`. On one matrix:
"""

v = found.directions.vectors
generator = np.random.default_rng(0)
target = generator.normal(size=(WIDTH, 8)).astype("float32")
leaks = {}
for constraint in (None, kd.constraints.OrthogonalUpdate(v)):
    weight = keras.Variable(np.zeros((WIDTH, 8), "float32"))
    weight.constraint = constraint
    optimizer = keras.optimizers.Adam(0.01)
    for _ in range(50):
        gradient = ops.convert_to_numpy(weight) - target
        gradient -= v @ (v.T @ gradient)
        optimizer.apply([ops.convert_to_tensor(gradient)], [weight])
    update = ops.convert_to_numpy(weight)
    leak = np.linalg.norm(v.T @ update) / np.linalg.norm(update)
    leaks[constraint is not None] = leak
    name = "with the constraint" if constraint else "projected gradients alone"
    print(f"{name}: {leak:.1e} of the update lies along the direction")
assert leaks[False] > 0.01
assert leaks[True] < 1e-6

"""
So `kd.projections.Subspace(directions)` does both: it projects gradients, and
`DebiasedModel` puts a constraint on each weight, which Keras optimizers apply
after each update, after weight decay and accumulation, on every backend. It
works with LoRA, PiSSA, DoRA, one target layer and full fine-tuning.

## Both stages in one call

`kd.grasp()` fine-tunes, reads the directions, restarts from the pretrained
weights and fine-tunes again.
"""

keras.utils.set_random_seed(0)
model = network()
result = kd.grasp(
    model,
    lora(),
    x,
    y,
    also_train=("logits",),
    readers=READERS,
    k=1,
    batch_size=BATCH_SIZE,
    epochs=EPOCHS,
    verbose=0,
    **settings(),
)
again = kd.analysis.latent_factors(model).directions.vectors
print("cosine of old and new direction:", abs(float((v.T @ again)[0, 0])))

"""
## Compare

The controls and rivals are as easy to run. A random direction of the same rank
shows what any constraint costs. *Ablation* takes the direction out of all
activations before training; *steering* takes it out of the naive model
afterwards. *Truncation* keeps the leading (or trailing) singular components of
the naive model's updates, after a claim that shortcuts sit in the tail.
"""

directions = result.directions
four = kd.analysis.latent_factors(naive, k=4, readers=READERS).directions
rows = {"naive": plain, "GRASP, k=1": probe(model)}
rows["GRASP, k=4"] = probe(fine_tune(x, y, kd.projections.Subspace(four)))
rows["random, k=4"] = probe(
    fine_tune(x, y, kd.projections.Subspace(four.random()))
)
rows["ablation, k=1"] = probe(
    fine_tune(
        x,
        y,
        kd.projections.Subspace(directions),
        prepare=lambda model: kd.analysis.ablate(model, directions),
    )
)
with kd.analysis.ablated(naive, directions):
    rows["steering, k=1"] = probe(naive)
with tempfile.TemporaryDirectory() as folder:
    kd.adapters.save(naive, f"{folder}/naive")
    for keep in ("top", "bottom"):
        copy = kd.adapters.load(network(), f"{folder}/naive")
        kd.analysis.truncate_update(copy, k=2, keep=keep)
        rows[f"{keep} 2 of {RANK}"] = probe(copy)

print(f"{'':<16}flipped  toward  accuracy")
for name, row in rows.items():
    print(
        f"{name:<16}{row.flipped:7.0%}  {row.toward:+.2f}  {row.accuracy:8.2f}"
    )

toward = {name: row.toward for name, row in rows.items()}
assert toward["GRASP, k=1"] < 0.6 * toward["naive"]
assert toward["GRASP, k=4"] < 0.6 * toward["naive"]
assert toward["random, k=4"] > 0.9 * toward["naive"]
assert toward["top 2 of 4"] > 0.9 * toward["naive"]
assert toward["bottom 2 of 4"] < 0.6 * toward["naive"]

"""
`toward` is how much the probability of label 0 rises when the factor flips.
Kept from the direction it found, fine-tuning relies on the factor about half as
much; kept from four random directions, as much as ever. What remains is not new
reading along the direction: it is what the pretrained layers make of the factor
elsewhere in the stream, and the angle between the found direction and the true
one. GRASP does not promise to undo either.

The singular components say the same: here the shortcut sits in the two leading
components of each update, not in the tail. Keeping the top keeps it, keeping
the bottom loses it. That is one toy with a dominant shortcut. On a real model
with a weaker one the answer can be another, so both claims have their functions
here, and both their controls.

Accuracy is that of a coin in every row: five epochs do not teach this network
the task, they only teach it the shortcut or not. A debiasing method does not
make a hard task easy.

## Going lower-level

`Subspace` is a projection like any other and composes with them,
`projection=[EDGE(), Subspace(directions)]`, and with the regularizers.
Directions need not be found: any matrix with orthonormal columns will do, such
as the difference of mean activations with and without a factor that you know.
"""

known = kd.Directions(planted[:, None], readers=READERS)
told = probe(
    fine_tune(x, y, [kd.projections.EDGE(), kd.projections.Subspace(known)])
)
print(f"with EDGE, and the true direction: toward {told.toward:+.2f}")
assert told.toward < 0.6 * toward["naive"]

"""
## Next steps

- `examples/grasp_planted_shortcut.py` does the comparison on MiniLM and SNLI,
  `examples/grasp_persona_drift.py` on SmolLM2 with a style that leaks.
- `found.plot("spectrum.png")` draws the spectrum, `found.save("found")` keeps
  it; `kd.grasp(..., naive="folder")` keeps the first stage.
- The paper is GRASP ([arXiv 2605.27676](https://arxiv.org/abs/2605.27676)). We
  know its abstract; what is our reading, the docstrings say.
"""
