"""
Title: Measure robustness: groups, seeds, budgets and a report
Author: The keras_debias authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Compare methods so that the answer is not luck, and hand it on.
Accelerator: None
"""

"""
## Introduction

A clinic trains a model that tells from sixteen measurements whether a patient
is ill. Most ill patients of its training data were measured with the portable
device, because they could not leave their beds. The device leaves a mark on
one of the measurements. The model learns to recognise the device, its accuracy
is 97 %, and it sends ill patients home who walked to the other device.

In this guide we ask three questions about such a model. Where does it fail?
Which method helps, at the same cost? And is it luck? At the end we have a table
over methods and seeds that a colleague can read without us, and we know which
of its figures to believe.
"""

"""
## Setup

```shell
pip install "keras-debias[torch]"
```

One line chooses the backend: `"torch"`, `"tensorflow"` or `"jax"`.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import dataclasses
import pathlib
import tempfile

import keras
import numpy as np

import keras_debias as kd

SEEDS = [0, 1, 2]
BATCH_SIZE = 32
EPOCHS = 4
FOLDER = pathlib.Path(tempfile.mkdtemp())

"""
We draw the patients. One measurement carries the mark of the device, loud and
clear; the others say a little about the illness each. `p_device` is how often
device and illness go together: 95 times in 100 where the training data was
collected.
"""


def patients(rows, p_device, seed):
    generator = np.random.default_rng(seed)
    ill = generator.integers(0, 2, rows)
    together = generator.random(rows) < p_device
    portable = np.where(together, ill, 1 - ill)
    x = generator.standard_normal((rows, 16))
    x[:, 0] = 3.0 * (2 * portable - 1) + 0.3 * x[:, 0]
    x[:, 1:] += 0.35 * (2 * ill - 1)[:, None]
    split = kd.data.Split(
        x.astype("float32"), ill.astype("int32"), label_names=("well", "ill")
    )
    return split.with_label_groups({"portable": portable.astype(bool)})


train = patients(1000, 0.95, seed=0)
validation = patients(400, 0.95, seed=1)
tests = {
    "same clinic": patients(1000, 0.95, seed=2),
    "other clinic": patients(1000, 0.5, seed=3),
}
print(train.groups.counts())

"""
## Where does it fail?

`model_fn` makes a compiled network. It gets the number of updates that lie
ahead, for learning rate schedules. A `Trainer` knows network, budget and seed,
and a recipe is a way of training: `FineTuning()` is the plain one.
"""


def build(updates):
    network = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(2),
        ]
    )
    network.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-2, updates)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return network


budget = kd.recipes.Budget(epochs=EPOCHS, batch_size=BATCH_SIZE)
trainer = kd.recipes.Trainer(build, budget, seed=0)
model = kd.recipes.FineTuning().fit(trainer, train)
scores = kd.evaluate(model, tests, train=train)
print(scores)

"""
In the same clinic the accuracy is high. The worst group tells the truth: of
the patients whose device misleads, ill ones on the fixed and well ones on the
portable, the model gets half wrong. In another clinic, where the device says
nothing, they are half of all.

Brackets are 95 % intervals over rows: what another sample of patients
would give. The worst group of the same clinic has some twenty patients, so
its interval is wide. Draw test sets with `sample(..., balance_groups=True)` if
the worst group is what you care about.
"""

same, other = scores["same clinic"], scores["other clinic"]
assert same.accuracy > 0.9
assert other.worst_group_accuracy < 0.6 < same.accuracy - 0.3
low, high = same.worst_group_accuracy_interval
assert high - low > 0.2

"""
## Which method helps, and is it luck?

`kd.compare()` runs every method with every seed. All get the same start, the
same rows and the same number of optimizer updates: a method of two stages
shares them between its stages. Nothing is gained by training longer.

The first method is what the others are compared with. `GroupDRO()` and
`BalancedSampling()` need the groups of the training rows. `JTT()` does not,
nor does balanced sampling over groups that `CrossMistakes()` infers: two
models, trained on one half each, and whether they get a row wrong.
"""

methods = {
    "plain": kd.recipes.FineTuning(),
    "EDGE": kd.recipes.FineTuning(kd.projections.EDGE(alpha=1.0)),
    "JTT": kd.recipes.JTT(),
    "balanced, inferred": kd.recipes.BalancedSampling(
        groups=kd.recipes.CrossMistakes()
    ),
    "balanced": kd.recipes.BalancedSampling(),
    "GroupDRO": kd.recipes.GroupDRO(),
}
comparison = kd.compare(
    methods,
    train,
    tests,
    seeds=SEEDS,
    model_fn=build,
    budget=budget,
    validation=validation,
    folder=FOLDER / "comparison",
)
print(comparison)

"""
Read the first table from left to right. A cell is the mean over seeds and,
after ±, their standard deviation: what another start and another order of the
rows would give. In parentheses is the difference to the first method, seed by
seed, and in how many seeds it is better. Two methods that differ by less than
the spread over seeds, or in two of three seeds only, have not been told apart.

The second table has the other kind of chance, that of the test rows. The two
are kept apart because they call for different things: more seeds, or more
rows.

Balanced sampling and GroupDRO, which know the groups, lift the worst group of
the other clinic by a lot. They pay for it in the same clinic, where relying on
the device was right more often than not.
"""

summary = comparison.summary().set_index(["method", "split", "measure"])
worst = "other clinic", "worst_group_accuracy"
for method in ("balanced", "GroupDRO"):
    line = summary.loc[(method, *worst)]
    assert line["difference"] > 0.15 and line["better"] == len(SEEDS)
    inside = summary.loc[(method, "same clinic", "accuracy")]
    assert inside["difference"] < 0
assert abs(summary.loc[("EDGE", *worst), "difference"]) < 0.15

"""
How good are the inferred groups? Where the training data has true ones, the
notes of a run say: `recall` is how much of a true group its best match holds,
`precision` how much of the match belongs to it.
"""

run = next(r for r in comparison.runs if r.method == "balanced, inferred")
for name, match in run.notes["agreement"]["matches"].items():
    print(
        f"{name:<26} {match['group']:<26} recall {match['recall']:.2f}, "
        f"precision {match['precision']:.2f}"
    )

"""
The groups in which the device misleads are found mostly, along with patients
who are merely hard to tell. Models that infer groups must be biased, not weak:
a weak model is wrong everywhere.
"""

found = run.notes["agreement"]["matches"]["label=ill, portable=no"]
assert found["group"] == "label=ill, mistake=yes"
assert found["recall"] > 0.5

"""
## What chooses the method?

We compared on the other clinic, which we would not have in earnest. Somebody
has to choose by validation data, and that comes from the same clinic. The
criteria are computed for every run: average accuracy, the worst class, and the
worst group, where the validation data has groups.
"""

for criterion in ("Average", "WorstClass", "WorstGroup"):
    print(f"{criterion:<12} {comparison.choose(criterion)}")

"""
The average prefers a method that uses the device. Only the worst group, which
needs labels of groups on validation rows, chooses one that does not. Say which
criterion you used when you report a result: it moves figures as much as a
method does. With `selection=kd.comparison.WorstGroup()` and
`Budget(..., checks=4)` a criterion also picks the weights within each run.
"""

assert comparison.choose("Average") not in ("balanced", "GroupDRO")
assert comparison.choose("WorstGroup") in ("balanced", "GroupDRO")

"""
## Interrupted, and started again

Every finished run is in the folder. If the process is killed, call the same
line again: finished runs are not repeated, and the table is the same. A run
that raises is recorded, does not stop the others, and is tried again next
time. Here is a recipe of our own, a frozen dataclass with one method, that
breaks for one seed. Half the rows, but not half the budget: it sees them twice
as often.
"""


@keras.saving.register_keras_serializable(package="guide")
@dataclasses.dataclass(frozen=True)
class HalfTheRows(kd.recipes.Recipe):
    share: float = 0.5

    def fit(self, trainer, train):
        if trainer.seed == 2:
            raise RuntimeError("power cut")
        part, _ = train.partition(self.share, seed=trainer.seed)
        return trainer.fit(part)


import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    more = kd.compare(
        {**methods, "half the rows": HalfTheRows()},
        train,
        tests,
        seeds=SEEDS,
        model_fn=build,
        budget=budget,
        validation=validation,
        folder=FOLDER / "comparison",
    )
print(list(more.errors))

assert len(more.runs) == len(methods) * len(SEEDS) + 2
assert len({run.updates for run in more.runs}) == 1
assert list(more.errors) == [("half the rows", 2)]
known = more.summary()
known = known[known["method"] == "JTT"]["mean"].tolist()
before = comparison.summary()
assert known == before[before["method"] == "JTT"]["mean"].tolist()

"""
The folder belongs to this comparison: with other test sets, another budget or
another network the call is refused, so that a table never mixes what cannot be
compared.

## Hand it on

A comparison is a table (`summary()`, a data frame), a text, and files. The
report is one HTML file with tables, pictures, settings, seeds and versions,
and needs nothing else.
"""

more.report(FOLDER / "report.html")
more.to_json(FOLDER / "comparison.json")
more.plot(FOLDER / "comparison.png")
print(more.to_markdown())
print(more.predictions.head())

assert (FOLDER / "report.html").stat().st_size > 20_000

"""
## Next steps

- `guides/audit_your_data.py` looks for shortcuts before anything is trained;
  `kd.recommended(train)` acts on what it finds.
- `kd.recipes` has more methods: `Reweighting` and `LearnedMixin` with a
  bias-only model, `LearningFromFailure`, `GradientAlignment`, `DFR`.
- `examples/compare_nli.py` and `examples/compare_colored_digits.py` do this on
  real text and real digits.
- Three seeds show a large effect and no more. For small differences use ten,
  and look at the paired differences, not at two means.
"""
