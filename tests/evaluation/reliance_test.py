import numpy as np
import pytest

import keras_debias as kd


class Fixed:
    def __init__(self, without, with_factor):
        self.outputs = {0: without, 1: with_factor}

    from_logits = False

    def predict(self, x, batch_size=None, verbose=0):
        return np.array(self.outputs[int(np.asarray(x)[0, 0])])


def splits(labels):
    x = np.zeros((len(labels), 1), "float32")
    names = ("a", "b")
    return (
        kd.data.Split(x, labels, label_names=names),
        kd.data.Split(x + 1, labels, label_names=names),
    )


def test_the_figures_written_out():
    model = Fixed(
        [[0.5, 0.5], [0.2, 0.8], [0.4, 0.6]],
        [[0.9, 0.1], [0.6, 0.4], [0.4, 0.6]],
    )
    without, marked = splits([0, 1, 1])
    found = kd.evaluation.reliance(model, without, marked, "a")
    assert found.n == 3
    assert found.flipped == pytest.approx(1 / 3)
    assert found.toward == pytest.approx(0.8 / 3)
    before = -np.log([0.5, 0.8, 0.6]).mean()
    after = -np.log([0.9, 0.4, 0.6]).mean()
    assert found.loss == pytest.approx(after - before)
    # Without: all right; with: the second row is wrong.
    assert found.accuracy == pytest.approx(5 / 6)
    assert found.worst_group_accuracy == pytest.approx(0.5)
    assert found.to_dict()["n"] == 3
    assert kd.evaluation.reliance(model, without, marked, 0) == found


def test_a_model_that_does_not_look():
    outputs = [[0.7, 0.3], [0.1, 0.9]]
    found = kd.evaluation.reliance(
        Fixed(outputs, outputs), *splits([0, 1]), "b"
    )
    assert (found.flipped, found.toward, found.loss) == (0.0, 0.0, 0.0)


def test_labels_are_compared_by_name():
    """The model's outputs are "a", "b"; one split counts from "b"."""
    outputs = (
        [[0.5, 0.5], [0.2, 0.8], [0.4, 0.6]],
        [[0.9, 0.1], [0.6, 0.4], [0.4, 0.6]],
    )
    without, marked = splits([0, 1, 1])
    expected = kd.evaluation.reliance(Fixed(*outputs), without, marked, "a")
    turned = [split.align_labels(["b", "a"]) for split in (without, marked)]
    named = Fixed(*outputs)
    named.label_names = ("a", "b")
    for target in ("a", 0):
        assert kd.evaluation.reliance(named, *turned, target) == expected
    other = kd.evaluation.reliance(Fixed(*outputs), without, turned[1], "a")
    assert other == expected


def test_misuse():
    model = Fixed([[0.7, 0.3]] * 2, [[0.7, 0.3]] * 2)
    without, marked = splits([0, 1])
    with pytest.raises(ValueError, match="same rows"):
        kd.evaluation.reliance(model, without, splits([1, 0])[1], "a")
    with pytest.raises(ValueError, match="one of the model's classes"):
        kd.evaluation.reliance(model, without, marked, "c")
    with pytest.raises(ValueError, match="one of the model's classes"):
        kd.evaluation.reliance(model, without, marked, 5)
