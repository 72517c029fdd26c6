import sys
import types

import keras
import numpy as np
import pytest

from keras_debias import DebiasedModel
from keras_debias.callbacks.ood_evaluation import OODEvaluation
from keras_debias.callbacks.ood_evaluation import check_callback_order
from keras_debias.data import Groups
from keras_debias.data import Split
from keras_debias.evaluation import evaluate

# Keras' own `predict` on torch
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)


def make_split(seed, n=60):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    return Split(x, y, groups={"side": x[:, 1] > 0}, label_names=("no", "yes"))


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def fit(model, callbacks, epochs=3, **options):
    train = make_split(0)
    history = model.fit(
        train.x,
        train.y,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,
        **options,
    )
    return history.history


def test_later_callbacks_and_history_see_the_logs(model, tmp_path):
    hans = make_split(1)
    path = tmp_path / "best.keras"
    monitor = dict(monitor="hans_worst_group_accuracy", mode="max")
    stopping = keras.callbacks.EarlyStopping(
        patience=2, min_delta=2.0, restore_best_weights=True, **monitor
    )
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, save_best_only=True, **monitor
    )
    history = fit(
        model,
        [OODEvaluation({"hans": hans}), stopping, checkpoint],
        epochs=20,
    )
    # no epoch is better by 2: it stops after the patience
    assert stopping.stopped_epoch == 2 and path.exists()
    for suffix in ("accuracy", "worst_group_accuracy", "gap", "weighted_f1"):
        values = history[f"hans_{suffix}"]
        assert len(values) == 3
        assert all(type(value) is float for value in values)
    assert stopping.best in history["hans_worst_group_accuracy"]


def test_values_are_those_of_evaluate(model):
    hans = make_split(1)
    history = fit(model, [OODEvaluation({"hans": hans})])
    after = evaluate(model, {"hans": hans}, bootstrap=0)["hans"]
    assert history["hans_accuracy"][-1] == after.accuracy
    assert history["hans_gap"][-1] == after.gap
    assert history["hans_weighted_f1"][-1] == after.weighted_f1


def test_every_repeats_the_last_values(model):
    calls = []
    hans = make_split(1)
    callback = OODEvaluation({"hans": hans}, every=3)
    inner = callback._evaluate
    callback._evaluate = lambda: calls.append(1) or inner()
    history = fit(model, [callback], epochs=7)
    assert len(calls) == 3  # epochs 0, 3 and 6
    values = history["hans_accuracy"]
    assert values[0] == values[1] == values[2] and len(values) == 7
    # a fit that starts between two turns has nothing to repeat
    calls.clear()
    fit(model, [callback], initial_epoch=1, epochs=3)
    assert len(calls) == 1


def test_splits_without_groups_write_less(model):
    plain = make_split(1).with_groups(None)
    history = fit(model, [OODEvaluation({"plain": plain})], epochs=1)
    assert {k for k in history if k.startswith("plain")} == {
        "plain_accuracy",
        "plain_weighted_f1",
    }


def test_empty_group_warns_once(model):
    split = make_split(1)
    groups = Groups(split.groups.ids, [*split.groups.names, "nobody"])
    with pytest.warns(UserWarning, match="nobody") as caught:
        callback = OODEvaluation({"hans": split.with_groups(groups)})
        fit(model, [callback], epochs=2)
    assert sum(w.category is UserWarning for w in caught) == 1


def test_bad_arguments():
    split = make_split(0)
    with pytest.raises(ValueError, match="at least one split"):
        OODEvaluation({})
    with pytest.raises(ValueError, match="non-empty strings"):
        OODEvaluation({" ": split})
    with pytest.raises(ValueError, match="'val'"):
        OODEvaluation({"val": split})
    with pytest.raises(ValueError, match="needs a name"):
        OODEvaluation(split)
    with pytest.raises(ValueError, match="every=0"):
        OODEvaluation({"a": split}, every=0)
    with pytest.raises(TypeError, match="every=1.5"):
        OODEvaluation({"a": split}, every=1.5)
    with pytest.raises(ValueError, match="logs of its own"):
        OODEvaluation({"a": split, "a_worst_group": split})


def test_order():
    ood = OODEvaluation({"hans": make_split(0)})
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss")
    reduce = keras.callbacks.ReduceLROnPlateau(monitor="hans_gap")
    check_callback_order(None)
    check_callback_order([ood, stopping, reduce])
    check_callback_order(
        [keras.callbacks.ReduceLROnPlateau(monitor="loss"), ood]
    )
    for callbacks in (
        [stopping, ood],
        [reduce, ood],
        [[reduce], [ood]],
        keras.callbacks.CallbackList([stopping, ood]),
    ):
        with pytest.raises(ValueError, match="put `OODEvaluation` before"):
            check_callback_order(callbacks)


def test_tensorboard_gets_the_groups(model, tmp_path, monkeypatch):
    """What Keras' own callback would draw; files need `tensorboard`."""
    written = {}

    def scalar(name, data, step, description=None):
        written.setdefault(name, []).append((int(step), float(data)))

    for name in ("tensorboard", "tensorboard.summary"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    writers = types.SimpleNamespace(scalar=scalar)
    monkeypatch.setitem(sys.modules, "tensorboard.summary.v2", writers)
    debiased = DebiasedModel(model, seed=0)
    debiased.compile()
    history = debiased.fit(
        make_split(0),
        epochs=2,
        verbose=0,
        callbacks=[
            OODEvaluation({"hans": make_split(1)}, metrics=["auroc"]),
            keras.callbacks.TensorBoard(tmp_path),
        ],
    ).history
    for name in ("hans_worst_group_accuracy", "hans_worst_group_auroc"):
        (first, second) = written[f"epoch_{name}"]
        assert (first[0], second[0]) == (0, 1)
        values = [first[1], second[1]]
        assert values == pytest.approx(history[name])


WRONG = {
    "labels": ({"y": np.where(np.arange(60) % 2, 3, 8)}, "label_names"),
    "names": ({"label_names": ("no", "yes", "who")}, "which output is which"),
    "inputs": ({"x": np.zeros((60, 5))}, r"\(None, 4\)"),
    "numbers": ({"y": np.linspace(0, 1, 60)}, "cross entropy"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_splits_fail_before_the_first_step(model, kind):
    changes, message = WRONG[kind]
    right = make_split(1)
    wrong = {"x": right.x, "y": right.y, **changes}
    debiased = DebiasedModel(model, seed=0)
    debiased.compile()
    before = keras.ops.convert_to_numpy(model.weights[0])
    train = Split(right.x, right.y)
    with pytest.raises(ValueError, match=message):
        debiased.fit(
            train,
            verbose=0,
            callbacks=[OODEvaluation({"hans": Split(**wrong)})],
        )
    after = keras.ops.convert_to_numpy(model.weights[0])
    np.testing.assert_array_equal(before, after)


def test_metrics_of_another_task_fail_before_the_first_step(model):
    watch = OODEvaluation({"hans": make_split(1)}, metrics=["rmse"])
    debiased = DebiasedModel(model, seed=0)
    debiased.compile()
    with pytest.raises(ValueError, match="'rmse'"):
        debiased.fit(make_split(0), verbose=0, callbacks=[watch])
    assert int(debiased.optimizer.iterations) == 0
