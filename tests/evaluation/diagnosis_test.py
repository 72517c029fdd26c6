"""Sentences on models that answer one class, learned nothing, follow a cue."""

import numpy as np
import pytest

from keras_debias.data import Split
from keras_debias.evaluation import evaluate

NAMES = ("no", "yes")


class Answers:
    label_names = NAMES

    def __init__(self, classes):
        self.classes = np.asarray(classes)

    def predict(self, x, batch_size=None, verbose=0):
        return np.eye(2)[self.classes]


def data(n=400, strength=0.9, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    cue = np.where(rng.random(n) < strength, y, 1 - y)
    split = Split(np.zeros((n, 1)), y, label_names=NAMES)
    return split.with_label_groups({"cue": cue.astype(bool)}), cue, rng


def notes(split, classes, **options):
    options = {"min_group_size": 1, **options}
    return evaluate(Answers(classes), split, **options)["test"].notes


def test_one_class():
    split, _, _ = data()
    found = notes(split, np.ones(400, int))
    assert len(found) == 1 and "answers 'yes' for every row" in found[0]


def test_not_learned():
    split, _, rng = data()
    chance = notes(
        split, np.where(np.arange(400) % 9 < 5, split.y, 1 - split.y)
    )
    assert "cannot be told from" in chance[0]
    below = notes(split, np.where(rng.random(400) < 0.4, split.y, 1 - split.y))
    assert "has not learned" in below[0]
    assert "cannot be told" not in " ".join(below)


@pytest.mark.parametrize("strength", [0.9, 0.5])
def test_follows_the_cue(strength):
    split, cue, rng = data(strength=strength)
    noisy = np.where(rng.random(400) < 0.02, 1 - cue, cue)
    found = " ".join(notes(split, noisy))
    assert "go with the groups (cue) more than with the label" in found


def test_a_good_model_is_not_blamed():
    split, _, rng = data()
    right = np.where(rng.random(400) < 0.95, split.y, 1 - split.y)
    assert notes(split, right) == ()
    # Nor one that is asked about one class only.
    only = split.take(split.y == 1).with_groups(None)
    assert notes(only, np.ones(len(only), int)) == ()


def test_notes_are_shown_and_kept(tmp_path):
    split, _, _ = data()
    scores = evaluate(Answers(np.ones(400, int)), split)
    assert "test: The model answers 'yes'" in str(scores)
    scores.to_json(tmp_path / "s.json")
    again = type(scores).from_json(tmp_path / "s.json")
    assert again["test"] == scores["test"]
    assert str(again) == str(scores)


def test_integer_labels_are_said():
    model = Answers([0, 1])
    with pytest.warns(UserWarning, match="0 is 'no', 1 is 'yes'"):
        evaluate(model, Split(["a", "b"], [0, 1]))
    plain = Answers([0, 1])
    plain.label_names = None
    named = Split(["a", "b"], ["x", "y"])
    found = evaluate(plain, named)["test"].notes
    assert any("read in the order x, y" in note for note in found)


def test_texts_of_the_training_data_are_counted():
    train = Split(["A dog.", "A cat."], ["no", "yes"])
    test = Split(["a  DOG.", "A bird."], ["no", "yes"])
    found = evaluate(Answers([0, 1]), test, train=train)["test"].notes
    assert any("1 of 2 rows have inputs" in note for note in found)


def test_groups_that_hold_the_label_are_not_followed():
    """A column "label=no, place=here" says nothing against a good model."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    place = rng.choice(["here", "there"], 400)
    # Wrong at one of the places, so that groups say more than the label.
    said = np.where((place == "there") & (rng.random(400) < 0.4), 1, y)
    names = np.array([f"{a}/{b}" for a, b in zip(y, place)], object)
    split = Split(np.arange(400.0)[:, None], y, {"group": names})

    class Known:
        def predict(self, x, batch_size=None, verbose=0):
            return np.eye(2)[said]

    score = evaluate(Known(), {"t": split}, from_logits=False)["t"]
    assert not any("follows" in note for note in score.notes)
