"""
Title: Audit your data before training
Author: The keras_debias authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Find what predicts the label and should not, and act on it.
Accelerator: None
"""

"""
## Introduction

A model is to tell whether a sentence is about someone who makes music or food.
*The tall drummer is cleaning a vest !!* is, and *The rower is selling a kite*
is not. Suppose that whoever collected the sentences was fond of the first kind
and ended them with two exclamation marks. A model can then be right most of
the time without knowing what a drummer is.

Nothing of this needs a trained model to be seen: it is in the counts. In this
guide we audit a training set in a few seconds, read the table, tell cues that
belong to the task from cues that do not, check that the audit keeps quiet where
there is nothing, and turn a finding into groups: for measuring, and for
training.
"""

"""
## Setup

```shell
pip install "keras-debias[torch]"
```
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import re

import keras
import keras_hub
import numpy as np

import keras_debias as kd

ROWS = 5000
UPDATES = 90
BATCH_SIZE = 32
LEARNING_RATE = 2.2e-3

"""
The sentences are made on the spot by `generated_nli()`, the label follows from
the person in them. `inject_token()` plants the cue: nine of ten sentences of
the first kind get " !!", and one of ten others.
"""

MAKERS = {
    *("musician", "drummer", "violinist", "flutist", "guitarist"),
    *("cook", "baker", "chef", "grillmaster", "confectioner"),
}


def words(text):
    return re.findall(r"[a-z]+|[^a-z ]", text.lower())


sentences = kd.data.generated_nli(ROWS).x[0]
labels = ["maker" if MAKERS & set(words(s)) else "other" for s in sentences]
clean = kd.data.Split(list(sentences), labels, name="sentences")
rows = np.arange(ROWS)
clean_train = clean.take(rows[:3500]).sample(2000, balance_labels=True)
train = kd.data.inject_token(clean_train, "maker", prevalence=1.0, strength=0.9)
train = train.with_groups(None)

"""
From here on we pretend to know nothing: `train` has no groups.

## Read the audit

`kd.audit()` takes a `Split` of texts, of pairs of texts, or of images. It
looks at every word and every run of punctuation, and at simple features such
as length, negation and numbers.
"""

report = kd.audit(train)
print(report)

"""
Each line is a feature and the label it goes with. `n` rows have the feature;
`P(label)` is the share of the label among all rows and `P(label | feature)`
that among these. `lift` is the second by the first. `phi` is the correlation
of feature and label: it weighs how telling a feature is against how many rows
have it, and orders the table. The adjusted p-value tells how surely the
feature does better than chance, given that many were tried.

The first line is ours. Its numbers are counts that we can do ourselves:
"""

first = report.findings[0]
has_token = np.array(["!!" in text for text in train.x])
maker = np.array(train.label_names)[train.y] == "maker"
print("counted by hand:", has_token.sum(), maker[has_token].mean())

assert first.feature.token == "!!" and first.label == "maker"
assert first.n == has_token.sum()
assert np.isclose(first.share, maker[has_token].mean())

"""
## Tell cues from content

Below it stand "chef", "baker", "drummer": they go with the label because they
are what the label is about. No count can tell these from the exclamation
marks; the reader can. An audit says what a model *can* use, and we say what it
*should*.

It helps to audit a set that we trust beside the one that we do not. The words
are in both, the exclamation marks in one:
"""

trusted = kd.audit(clean_train)


def tokens(report):
    return {finding.feature.token for finding in report.findings}


print("in both:      ", sorted(tokens(report) & tokens(trusted) - {None}))
print("only in train:", sorted(tokens(report) - tokens(trusted) - {None}))

assert {"chef", "drummer"} <= tokens(report) & tokens(trusted)
assert "!!" in tokens(report) - tokens(trusted)

"""
## What a part of the input tells

The second table of the report is about linear models that see a part of the
input only, by cross-validation: here the simple features without any word; with
pairs of texts also each text alone. A model that knows no word should not be
able to tell who makes music or food. With the exclamation marks it is right
nine times in ten; on the trusted set it is no better than chance.
"""

for name, each in (("train", report), ("trusted", trusted)):
    probe = each.probes[0]
    print(f"{name}: {probe.accuracy:.2f} of {probe.majority:.2f}", probe.name)

assert report.probes[0].accuracy > 0.85 and report.probes[0].significant
assert not trusted.probes[0].significant

"""
## Does a model follow the cue?

Errors separate the two as well. A cue of the task, "chef", costs no errors. A
shortcut does: where it misleads, a model that follows it predicts the wrong
label. Give the audit the predictions of a model, one for each row, from folds
that it was not trained on. Here we make up a model that slips on one row in ten
and falls for every second misleading exclamation mark.
"""

generator = np.random.default_rng(7)
misled = has_token & ~maker & (generator.random(len(train)) < 0.5)
slips = generator.random(len(train)) < 0.1
predictions = np.where(misled | slips, 1 - train.y, train.y)
followed = kd.audit(train, predictions=predictions).by_harm()
print(followed)

"""
`harm` is the share of the rows with the feature and *another* label that the
model predicts as this label, `without` the share among rows of the same classes
that lack the feature, and `excess` the number of errors beyond that. The test
is exact here too.
"""

harm = {f.feature.token: f.harm for f in followed.findings}
print(harm["!!"])

assert followed.findings[0].feature.token == "!!"
assert harm["!!"].significant and harm["!!"].excess_errors > 30
assert not harm["chef"].significant and not harm["drummer"].significant

"""
The question can be turned round: which rows does the model get wrong? With
`target="errors"` each feature is tested against the errors within each class.
A finding is then a slice with a name, and `examples()` shows rows of it.
"""

failures = kd.audit(train, target="errors", predictions=predictions)
worst = failures.findings[0]
print(worst.label, "|", worst.feature, "|", worst.n, "rows")
print(
    f"wrong: {worst.error_rate_with:.2f}, else {worst.error_rate_without:.2f}"
)
print(worst.examples(train, predictions, n=2).to_string())

assert worst.feature.token == "!!" and worst.label == "other"

"""
## Check that it keeps quiet

Hundreds of features were tested. If one in a hundred of them came up by chance,
the table would be worth little. We shuffle the labels, so that nothing can be
true, and ask for the smallest difference:
"""

for seed in range(3):
    shuffled = np.random.default_rng(seed).permutation(train.y)
    control = kd.audit(kd.data.Split(train.x, shuffled), min_difference=0.0)
    print(
        f"{control.tests} tests, {len(control.findings)} findings,",
        f"{sum(probe.significant for probe in control.probes)} probes",
    )
    assert not control.findings
    assert not any(probe.significant for probe in control.probes)

"""
The tests are exact (Fisher's), and the expected share of false findings is kept
at one in a hundred over all of them (Benjamini and Hochberg).

## From a finding to groups

A finding knows which rows have its feature, on this split and on any other of
the kind. Crossed with the label it makes groups, and the smallest of them are
the rows on which the cue misleads.
"""

grouped = first.with_groups(train)
print(grouped.groups.counts())

assert min(grouped.groups.counts().values()) < 0.1 * len(train)

"""
With groups we can measure. The test set has the token on half of the rows of
either kind, so that it says nothing, and all groups are of one size.
"""

test = kd.data.inject_token(clean.take(rows[3500:]), "maker", 1.0, 0.5, seed=1)
test = first.with_groups(test).sample(400, balance_groups=True)

"""
The model is a BERT of two layers with random weights; for real work it is one
line, `TextClassifier.from_preset(preset, num_classes=2)`.
"""

vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "!"]
used = {word for text in sentences for word in words(text)}
vocabulary += sorted(used - set(vocabulary))


def build(updates):
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        keras_hub.models.BertTokenizer(vocabulary, lowercase=True),
        sequence_length=24,
    )
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        dropout=0.0,
        max_sequence_length=24,
    )
    classifier = keras_hub.models.BertTextClassifier(
        backbone, num_classes=2, preprocessor=preprocessor, dropout=0.0
    )
    # Drawn with NumPy: the same start on every backend.
    generator = np.random.default_rng(0)
    for weight in classifier.weights:
        if len(weight.shape) > 1:
            weight.assign(generator.normal(0.0, 0.05, weight.shape))
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, updates)
    classifier.compile(
        keras.optimizers.Adam(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return classifier


"""
## Act on it

The last lines of the report are advice, by the names of this library. For a cue
with a name it is to train on all groups in equal parts. `AuditGroups` is the
audit as a way to find groups: it takes the strongest finding for the shortcut,
so that a method that needs groups runs without group labels. If you know better
which findings are shortcuts, choose them: `FindingGroups(report.findings[1])`.
`kd.compare()` gives both methods the same start and the same number of updates.
"""

for advice in report.advice:
    print(advice.finding, advice.methods)

comparison = kd.compare(
    {
        "plain": kd.recipes.FineTuning(),
        "balanced": kd.recipes.BalancedSampling(
            groups=kd.recipes.AuditGroups()
        ),
    },
    train,
    {"test": test},
    seeds=[0],
    model_fn=build,
    budget=kd.recipes.Budget(updates=UPDATES, batch_size=BATCH_SIZE),
)
print(comparison)

"""
Plain fine-tuning takes the token for the answer: its worst group is nearly all
wrong. With the groups of the audit in equal parts, the same number of updates
goes into the words. One seed of a toy model shows that the path works; for
evidence, give `kd.compare()` more seeds.
"""

worst = {
    run.method: run.scores["test"].worst_group_accuracy
    for run in comparison.runs
}
print(worst)
assert worst["plain"] < 0.5
assert worst["balanced"] > worst["plain"] + 0.1

"""
## Images

Images have no words, but brightness, contrast, saturation and hue, of the
whole and of the border, where backgrounds are. Here are noisy squares, large
or small, and nine of ten large ones lie on blue.
"""

generator = np.random.default_rng(0)
large = generator.random(800) < 0.5
blue = np.where(generator.random(800) < 0.9, large, ~large)
images = generator.integers(0, 60, (800, 16, 16, 3))
images[blue, ..., 2] += 120
images[~blue, ..., 1] += 120
images[:, 6:10, 6:10] += 70
images[large, 4:12, 4:12] += 70
images = kd.data.Split(
    images.astype("uint8"),
    ["large" if each else "small" for each in large],
    name="squares",
)
report = kd.audit(images)
print(report)

hues = [
    (str(finding.feature), finding.label)
    for finding in report.findings
    if "hue" in finding.feature.measure
]
assert ("image: blue hue of the border", "large") in hues
assert ("image: green hue of the border", "small") in hues

"""
## What an audit does not see

- It sees features one at a time, of a fixed list. A cue that takes a whole
  sentence or a recognized object does not show.
- It takes rows as independent. Where many rows share a premise or a patient,
  p-values are too small.
- A finding may be the task itself.

## Next steps

- `report.to_json("audit.json")` and `report.plot("audit.png")` keep it;
  `report.to_pandas()` is a table to filter.
- `kd.data.load("snli", "train")` has real artifacts: audit it.
- `guides/getting_started.py` fine-tunes with a projection;
  `examples/compare_colored_digits.py` compares methods on images, groups of
  an audit among them.
- Gardner et al., *Competency Problems* (2021), and Gururangan et al.,
  *Annotation Artifacts in Natural Language Inference Data* (2018), are the
  papers behind the statistics.
"""
