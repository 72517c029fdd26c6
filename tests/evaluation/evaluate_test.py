import re

import keras
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score
from sklearn.metrics import f1_score

from keras_debias.data import Groups
from keras_debias.data import Split
from keras_debias.data import generated_overlap
from keras_debias.data import load
from keras_debias.evaluation import evaluate

NLI = ("entailment", "neutral", "contradiction")
TWO = ("entailment", "non-entailment")


class Outputs:
    """A model that returns given outputs, and counts its calls."""

    def __init__(self, outputs, label_names=None):
        self.outputs = np.asarray(outputs)
        self.label_names = label_names
        self.calls = []

    def predict(self, x, batch_size=None, verbose="auto"):
        self.calls.append((x, batch_size, verbose))
        return self.outputs


def split_of(y, label_names=None, **options):
    return Split(np.zeros((len(y), 1)), y, label_names=label_names, **options)


@pytest.fixture
def random_case():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    groups = {"side": rng.choice(["left", "right"], 400)}
    logits = rng.normal(size=(400, 3)) + 1.5 * np.eye(3)[y]
    return split_of(y, NLI, groups=groups), logits


def test_against_sklearn(random_case):
    split, logits = random_case
    model = Outputs(logits)
    scores = evaluate(model, {"test": split}, batch_size=7)
    assert model.calls == [(split.x, 7, 0)]
    predicted = logits.argmax(axis=1)
    test = scores["test"]
    assert test.n == 400
    assert test.accuracy == pytest.approx(accuracy_score(split.y, predicted))
    assert test.weighted_f1 == pytest.approx(
        f1_score(split.y, predicted, average="weighted")
    )
    table = pd.DataFrame(
        {
            "group": np.array(split.groups.names)[split.groups.ids],
            "right": split.y == predicted,
        }
    )
    by_group = table.groupby("group")["right"].mean()
    assert {g.name: g.accuracy for g in test.groups} == pytest.approx(
        by_group.to_dict()
    )
    assert test.worst_group == by_group.idxmin()
    assert test.worst_group_accuracy == pytest.approx(by_group.min())
    assert test.gap == pytest.approx(test.accuracy - by_group.min())
    frame = scores.predictions
    assert list(frame) == ["split", "row", "label", "prediction", "group"]
    assert (frame["label"] == frame["prediction"]).mean() == test.accuracy


def test_intervals_are_seeded_and_optional(random_case):
    split, logits = random_case
    model = Outputs(logits)
    one = evaluate(model, split, seed=3).to_dict()
    assert evaluate(model, split, seed=3).to_dict() == one
    assert evaluate(model, split, seed=4).to_dict() != one
    test = evaluate(model, {"test": split})["test"]
    # Exact intervals need no resampling, whatever the seed.
    right = round(test.accuracy * 400)
    expected = stats.binomtest(right, 400).proportion_ci(method="exact")
    assert test.accuracy_interval == pytest.approx(tuple(expected))
    for group in test.groups:
        hits = round(group.accuracy * group.n)
        expected = stats.binomtest(hits, group.n).proportion_ci(method="exact")
        assert group.interval == pytest.approx(tuple(expected))
    bare = evaluate(model, {"test": split}, bootstrap=0)["test"]
    assert bare.accuracy_interval is None and bare.gap_interval is None
    assert bare.groups[0].interval is None
    wide = evaluate(model, split, confidence=0.99)["test"].accuracy_interval
    narrow = evaluate(model, split, confidence=0.5)["test"].accuracy_interval
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_labels_align_by_name():
    # the model's classes stand in another order and spelling
    model = Outputs(
        np.eye(3)[[2, 0, 1]], ("Neutral", "contradiction", "entailment")
    )
    split = split_of([0, 1, 2], NLI)
    assert evaluate(model, {"t": split})["t"].accuracy == 1.0
    named = Outputs(np.eye(3)[[0, 1, 2]], ("x", "y", "z"))
    wins = evaluate(named, {"t": split}, label_names=NLI)
    assert wins["t"].accuracy == 1.0
    by_train = Outputs(np.eye(3)[[2, 0, 1]])
    train = split_of([0, 1], ("neutral", "contradiction", "entailment"))
    assert evaluate(by_train, {"t": split}, train=train)["t"].accuracy == 1.0
    # the split knows fewer labels than the model: the rest is wrong
    fewer = split_of([0, 1, 0], ("entailment", "neutral"))
    found = evaluate(Outputs(np.eye(3), NLI), {"t": fewer})
    assert found["t"].accuracy == pytest.approx(2 / 3)
    assert found.predictions["prediction"].tolist() == list(NLI)


def test_three_classes_fold_into_two():
    # probabilities .4 .3 .3: arg-max entailment, summed non-entailment
    model = Outputs([[0.4, 0.3, 0.3], [0.2, 0.2, 0.6], [0.8, 0.1, 0.1]], NLI)
    split = split_of([1, 1, 0], TWO)
    folded = evaluate(model, {"hans": split})
    assert folded.predictions["prediction"].tolist() == [
        "entailment",
        "non-entailment",
        "entailment",
    ]
    summed = evaluate(
        model, {"hans": split}, sum_probabilities=True, from_logits=False
    )
    assert summed["hans"].accuracy == 1.0
    logits = Outputs(np.log(model.outputs) + 5, NLI)
    summed = evaluate(
        logits, {"hans": split}, sum_probabilities=True, from_logits=True
    )
    assert summed["hans"].accuracy == 1.0
    # a split of the negative class alone, in yet another spelling
    only = split_of([0, 0], ("Not Entailment",))
    found = evaluate(Outputs(model.outputs[:2], NLI), {"is_cs": only})
    assert found["is_cs"].accuracy == 0.5
    # and a two-way model on three labels
    binary = Outputs(np.eye(2)[[0, 1, 1]], TWO)
    assert evaluate(binary, {"t": split_of([0, 1, 2], NLI)})["t"].accuracy == 1


def test_names_that_do_not_fit():
    with pytest.raises(ValueError, match="which output is which"):
        evaluate(Outputs(np.eye(3)), split_of([0, 1, 1], TWO))
    with pytest.raises(ValueError, match="'hateful'"):
        evaluate(
            Outputs(np.eye(2), ("not-hate", "hate")),
            split_of([0, 1], ("non-hateful", "hateful")),
        )
    with pytest.raises(ValueError, match="3 classes but 2 label names"):
        evaluate(Outputs(np.eye(3)), split_of([0, 1, 2], NLI), label_names=TWO)
    with pytest.raises(ValueError, match="from 0 to 3"):
        evaluate(Outputs(np.eye(3)), split_of([0, 1, 3]))


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.4, 0.6, 0.9, 0.1], [0, 1, 1, 0]), ([-1, 0.2, 3, -2], [0, 1, 1, 0])],
)
def test_single_output(shape, values, expected):
    scores = evaluate(
        Outputs(np.reshape(values, shape)),
        {"t": split_of([0, 1, 1, 1])},
        from_logits=min(values) < 0,
    )
    assert scores["t"].accuracy == 0.75
    assert scores.predictions["prediction"].tolist() == list(map(str, expected))


def test_one_hot_and_multi_label():
    one_hot = split_of(np.eye(3)[[0, 2]], NLI)
    assert evaluate(Outputs(np.eye(3)[[0, 1]]), one_hot)["test"].accuracy == 0.5
    y = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]], dtype="float32")
    outputs = np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.3], [0.1, 0.9, 0.2]])
    scores = evaluate(
        Outputs(outputs),
        {"t": split_of(y, ("a", "b", "c"))},
        from_logits=False,
    )
    assert scores["t"].accuracy == pytest.approx(2 / 3)
    assert scores["t"].weighted_f1 == pytest.approx(
        f1_score(y, outputs > 0.5, average="weighted", zero_division=0)
    )
    assert scores.predictions["prediction"].tolist() == ["a|b", "", "b"]
    moved = Outputs(outputs[:, [2, 0, 1]], ("c", "a", "b"))
    again = evaluate(
        moved, {"t": split_of(y, ("a", "b", "c"))}, from_logits=False
    )
    assert again.predictions.equals(scores.predictions)


@pytest.mark.parametrize(
    ("loss", "activation", "said"),
    [
        (keras.losses.BinaryCrossentropy(from_logits=True), None, "a|b"),
        ("binary_crossentropy", "sigmoid", "a|b"),
        (None, "sigmoid", "a|b"),
        (keras.losses.CategoricalCrossentropy(from_logits=True), None, "b"),
        ("binary_crossentropy", "softmax", "b"),
    ],
)
def test_rows_that_happen_to_have_one_label(loss, activation, said):
    """How they are read is for the model to say."""
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3, activation)]
    )
    model.set_weights([np.eye(3), np.zeros(3)])
    if loss is not None:
        model.compile(loss=loss)
    x = np.array([[2.0, 3.0, -4.0], [-1.0, 4.0, -2.0]], "float32")
    split = Split(x, np.eye(3)[[0, 1]], label_names=("a", "b", "c"))
    scores = evaluate(model, {"t": split}, bootstrap=0)
    assert scores.predictions["prediction"].tolist() == [said, "b"]
    assert scores["t"].accuracy == 0.5


def test_bad_outputs():
    split = split_of([0, 1, 1])
    with pytest.raises(ValueError, match="NaN in 2 of 3 rows"):
        evaluate(Outputs([[0, np.nan], [np.nan, np.nan], [1, 0]]), split)
    with pytest.raises(ValueError, match=r"per token"):
        evaluate(Outputs(np.zeros((3, 4, 5))), split)
    with pytest.raises(ValueError, match="2 rows for the 3 rows"):
        evaluate(Outputs(np.zeros((2, 2))), split)
    two = Outputs(0)
    two.outputs = [np.zeros((3, 2))] * 2
    with pytest.raises(TypeError, match="one output"):
        evaluate(two, split)


def test_bad_arguments():
    split, model = split_of([0, 1]), Outputs(np.eye(2))
    with pytest.raises(ValueError, match="at least one split"):
        evaluate(model, {})
    with pytest.raises(ValueError, match="non-empty strings"):
        evaluate(model, {"": split})
    with pytest.raises(TypeError, match="Split"):
        evaluate(model, {"a": np.zeros(3)})
    with pytest.raises(ValueError, match="no labels"):
        evaluate(model, Split(["a"]))
    with pytest.raises(ValueError, match="names of metrics"):
        evaluate(model, split, metrics={"": "auroc"})
    with pytest.raises(TypeError, match="predict"):
        evaluate("model", split)
    with pytest.raises(ValueError, match="confidence=95"):
        evaluate(model, split, confidence=95)
    assert model.calls == []


def test_empty_groups_warn_and_do_not_count():
    groups = Groups([0, 0, 2], ["a", "empty", "b"])
    split = split_of([0, 1, 1], groups=groups)
    model = Outputs(np.eye(2)[[0, 0, 1]])
    with pytest.warns(UserWarning, match=r"1 of 3 groups.*\['empty'\]"):
        scores = evaluate(model, {"t": split}, min_group_size=1)
    assert scores["t"].worst_group == "a"
    empty = scores["t"].groups[1]
    assert (empty.n, empty.accuracy, empty.interval) == (0, None, None)
    line = next(s for s in str(scores).splitlines() if "empty" in s)
    assert line.split()[-2:] == ["0", "-"]


def test_training_shares():
    split = split_of([0, 0, 0, 0], ("no", "yes"), groups=list("aabb"))
    model = Outputs(np.eye(2)[[0, 1, 0, 0]])
    train = split_of([0, 1] * 5, ("no", "yes"), groups=list("a" * 8 + "bb"))
    options = dict(train=train, min_group_size=1)
    found = evaluate(model, {"t": split}, **options)["t"]
    assert found.train_weighted_accuracy == pytest.approx(0.8 * 0.5 + 0.2)
    other = train.with_groups(["c"] * 10)
    options["train"] = other
    found = evaluate(model, {"t": split}, **options)["t"]
    assert found.train_weighted_accuracy is None


def test_sample_weights_count():
    y = np.array([0, 0, 0, 0, 1])
    weight = np.array([1.0, 1.0, 1.0, 1.0, 16.0])
    model = Outputs(np.eye(2)[[0] * 5])
    split = split_of(
        y, ("no", "yes"), groups=list("aabbb"), sample_weight=weight
    )
    scores = evaluate(model, split, min_group_size=1)
    found = scores["test"]
    options = dict(sample_weight=weight)
    assert found.accuracy == pytest.approx(
        accuracy_score(y, [0] * 5, **options)
    )
    assert found.weighted_f1 == pytest.approx(
        f1_score(y, [0] * 5, average="weighted", zero_division=0, **options)
    )
    assert {g.name: g.accuracy for g in found.groups} == pytest.approx(
        {"a": 1.0, "b": 2 / 18}
    )
    assert "Rows count by their sample weights." in found.notes
    assert scores.predictions["weight"].tolist() == weight.tolist()
    # A row of weight 0 counts for nothing, equal weights change nothing.
    none = evaluate(model, split_of(y, sample_weight=[1, 1, 1, 1, 0]))
    assert none["test"].accuracy == 1.0
    equal = evaluate(model, split_of(y, sample_weight=[3.0] * 5))["test"]
    plain = evaluate(model, split_of(y))["test"]
    assert equal.accuracy == plain.accuracy and not equal.notes[1:]
    assert equal.accuracy_interval == pytest.approx(plain.accuracy_interval)
    with pytest.raises(ValueError, match="not all zero"):
        evaluate(model, split_of(y, sample_weight=[0.0] * 5))


def test_small_groups_cannot_be_the_worst():
    y = np.zeros(41, int)
    ids = np.r_[np.zeros(30, int), np.ones(10, int), 2]
    split = split_of(y, groups=Groups(ids, ["many", "ten", "one"]))
    wrong = np.r_[np.zeros(30, int), np.ones(2, int), np.zeros(8, int), 1]
    model = Outputs(np.eye(2)[wrong])
    with pytest.warns(UserWarning, match=r"1 of 3 groups.*'one': 1"):
        scores = evaluate(model, split)
    found = scores["test"]
    assert found.worst_group == "ten" and found.worst_group_accuracy == 0.8
    # It is reported all the same, with an interval that says how little.
    one = found.groups[2]
    assert (one.n, one.accuracy) == (1, 0.0) and one.interval[1] > 0.9
    assert "cannot be the worst: one" in str(scores)
    lax = evaluate(model, split, min_group_size=1)["test"]
    assert lax.worst_group == "one" and lax.notes == ()
    with pytest.warns(UserWarning, match="No group of the split"):
        strict = evaluate(model, split, min_group_size=100)["test"]
    assert strict.worst_group == "one"


def test_overlapping_groups():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    female, muslim = rng.random(300) < 0.4, rng.random(300) < 0.2
    split = split_of(y, ("fine", "toxic")).with_label_groups(
        {"female": female, "muslim": muslim}, overlapping=True
    )
    right = rng.random(300) < np.where(muslim, 0.5, 0.9)
    model = Outputs(np.eye(2)[np.where(right, y, 1 - y)])
    scores = evaluate(model, split, min_group_size=5)
    found = scores["test"]
    expected = {
        f"label={label}, {name}": right[(y == i) & inside].mean()
        for i, label in enumerate(("fine", "toxic"))
        for name, inside in (("female", female), ("muslim", muslim))
    }
    assert {g.name: g.accuracy for g in found.groups} == pytest.approx(expected)
    assert sum(g.n for g in found.groups) == (female.sum() + muslim.sum())
    assert found.worst_group_accuracy == pytest.approx(min(expected.values()))
    both = np.flatnonzero(female & muslim & (y == 0))[0]
    assert scores.predictions["group"][both] == (
        "label=fine, female|label=fine, muslim"
    )
    with pytest.raises(ValueError, match="overlap.*not trained on"):
        split.groups.ids


def test_without_groups():
    scores = evaluate(Outputs(np.eye(2)), {"t": split_of([0, 1])})
    assert scores["t"].worst_group_accuracy is None
    assert scores["t"].groups == () and "\n\ngroup" not in str(scores)


def words(text):
    return set(re.findall(r"[\w']+", text.lower()))


class SaysEntailment:
    """Judges by the share of hypothesis words found in the premise."""

    label_names = NLI

    def predict(self, x, batch_size=None, verbose=0):
        shares = [
            len(words(p) & words(h)) / len(words(h))
            for p, h in zip(*x, strict=True)
        ]
        return np.stack([np.array(shares), np.full(len(shares), 0.7)], 1)[
            :, [0, 1, 1]
        ]


def test_overlap_heuristic_fails_by_group(data_folder):
    split = (
        load("hans", "validation", data_folder)
        if data_folder
        else generated_overlap(2000)
    )
    model = SaysEntailment()
    hans = evaluate(model, {"hans": split}, bootstrap=100)["hans"]
    by_label = {"entailment": [], "non-entailment": []}
    for group in hans.groups:
        label = group.name.split(",")[0].removeprefix("label=")
        by_label[label].append(group.accuracy)
    assert min(by_label["entailment"]) > 0.95
    assert max(by_label["non-entailment"]) < 0.05
    assert hans.worst_group.startswith("label=non-entailment")
    assert hans.gap > 0.4
