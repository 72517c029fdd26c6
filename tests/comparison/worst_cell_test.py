"""`WorstCell`, as a criterion and in the logs of `fit`."""

import keras
import numpy as np
import pandas as pd
import pytest

import keras_debias as kd
from tests.recipes import toy


def predictions(n=300, seed=0):
    generator = np.random.default_rng(seed)
    label = generator.choice(["no", "yes"], n)
    right = generator.random(n) < 0.7
    other = np.where(label == "no", "yes", "no")
    frame = pd.DataFrame(
        {"label": label, "prediction": np.where(right, label, other)}
    )
    return frame, generator.choice(["a", "b", "c"], n, p=[0.6, 0.35, 0.05])


@pytest.mark.parametrize("min_rows", [1, 25, 60])
def test_it_is_the_lowest_accuracy_of_a_cell_that_is_large_enough(min_rows):
    frame, cells = predictions()
    expected = []
    for label in ("no", "yes"):
        for cell in "abc":
            member = (frame["label"] == label) & (cells == cell)
            if member.sum() >= min_rows:
                right = frame["prediction"][member] == label
                expected.append(right.mean())
    found = kd.comparison.WorstCell(cells, min_rows).score(frame, None)
    assert found == pytest.approx(min(expected))


def test_rows_count_by_their_weights():
    frame, cells = predictions()
    weight = np.random.default_rng(1).integers(0, 4, len(frame))
    repeated = np.repeat(np.arange(len(frame)), weight)
    criterion = kd.comparison.WorstCell(cells, 1)
    found = criterion.score(frame.assign(weight=weight.astype(float)), None)
    expected = kd.comparison.WorstCell(cells[repeated], 1)
    assert found == pytest.approx(expected.score(frame.iloc[repeated], None))


def test_wrong_cells_are_refused():
    frame, cells = predictions(30)
    with pytest.raises(ValueError, match="30.*Received: 29.*another split"):
        kd.comparison.WorstCell(cells[:29]).score(frame, None)
    with pytest.raises(ValueError, match="at least 31 rows.*min_rows"):
        kd.comparison.WorstCell(cells, 31).score(frame, None)
    with pytest.raises(TypeError, match="Received: str"):
        kd.comparison.WorstCell("cells")
    with pytest.raises(TypeError, match="min_rows"):
        kd.comparison.WorstCell(cells, 2.5)
    with pytest.raises(ValueError, match="min_rows"):
        kd.comparison.WorstCell(cells, 0)


def test_the_config_makes_an_equal_criterion():
    frame, cells = predictions()
    one = kd.comparison.WorstCell(cells, 10)
    config = keras.saving.serialize_keras_object(one)
    two = keras.saving.deserialize_keras_object(config)
    assert two.score(frame, None) == one.score(frame, None)


def test_it_is_in_the_logs_and_stops_training():
    train, dev = toy.numbers(200), toy.numbers(300, strength=0.6, seed=1)
    cells = (dev.x[:, 0] > 0).astype(int)
    criterion = kd.comparison.WorstCell(cells, 10)
    model = kd.DebiasedModel(toy.build(1))
    model.compile()
    history = model.fit(
        train,
        epochs=6,
        verbose=0,
        callbacks=[
            kd.callbacks.ValidationCriterion(dev, criterion),
            keras.callbacks.EarlyStopping(
                "val_worst_cell", mode="max", patience=1, min_delta=1.0
            ),
        ],
    )
    values = history.history["val_worst_cell"]
    # Nothing improves by a whole point: it stops after two epochs.
    assert len(values) == 2
    scores = kd.evaluate(model, {"dev": dev}, bootstrap=0)
    assert values[-1] == criterion.score(scores.predictions, dev)
    with pytest.raises(TypeError, match="criterion='WorstCell'"):
        kd.callbacks.ValidationCriterion(dev, "WorstCell")
    with pytest.raises(TypeError, match="validation=None"):
        kd.callbacks.ValidationCriterion(None, criterion)


def test_compare_selects_and_chooses_by_it():
    train, dev = toy.numbers(120), toy.numbers(200, strength=0.6, seed=1)
    cells = (dev.x[:, 0] > 0).astype(int)
    criterion = kd.comparison.WorstCell(cells, 10)
    comparison = kd.compare(
        {
            "noisy": toy.Instant(noise=3.0),
            "clean": toy.Instant(noise=0.1),
        },
        train,
        {"test": dev},
        seeds=[0],
        model_fn=toy.build,
        budget=kd.recipes.Budget(updates=1),
        validation=dev,
        criteria=[criterion],
        bootstrap=0,
        verbose=0,
    )
    assert comparison.choose("WorstCell") == "clean"
