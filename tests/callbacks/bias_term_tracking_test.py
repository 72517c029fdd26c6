import keras
import numpy as np
import pytest

from keras_debias import DebiasedModel
from keras_debias.adapters import AllBiases
from keras_debias.adapters import LoRA
from keras_debias.adapters import ValueBias
from keras_debias.adapters import apply
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.selection import variable_paths
from keras_debias.analysis import FisherInformation
from keras_debias.analysis import MagnitudeChange
from keras_debias.analysis import ProjectionChange
from keras_debias.analysis import rank_bias_terms
from keras_debias.callbacks import BiasTermTracking
from tests.architectures import ARCHITECTURES

TABLE = {a.name: a for a in ARCHITECTURES}
THREE = ("query", "key", "value")


# KerasHub's tasks make datasets of arrays: `fit` warns when told to shuffle.
def compiled(model):
    model.compile(
        optimizer=keras.optimizers.SGD(0.5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def seen_logs(monitor):
    """A later callback, as `EarlyStopping` and the like."""
    seen = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(logs[monitor])
    )
    return keep, seen


@pytest.mark.parametrize(
    ("wrap", "measure"),
    [(DebiasedModel, None), (lambda model: model, MagnitudeChange())],
    ids=["debiased", "plain"],
)
def test_logs_are_the_totals_of_the_ranking(wrap, measure):
    model = apply(TABLE["bert"].build(), AllBiases())
    x, y = TABLE["bert"].data()
    keep, seen = seen_logs("value_bias_change")
    history = compiled(wrap(model)).fit(
        x,
        y,
        epochs=3,
        batch_size=4,
        callbacks=[BiasTermTracking(measure), keep],
        shuffle=False,
        verbose=0,
    )
    ranking = rank_bias_terms(model, measure, terms=None)
    logs = {k: v for k, v in history.history.items() if "_bias_" in k}
    assert list(logs) == [f"{term}_bias_change" for term in ranking.terms]
    assert len(logs) == 8
    for term in ranking.terms:
        values = logs[f"{term}_bias_change"]
        assert len(values) == 3 and all(type(v) is float for v in values)
        assert values[-1] == ranking.totals[term]
    assert logs["value_bias_change"] == seen
    assert 0 < seen[0] != seen[1]


def test_chosen_terms_and_early_stopping():
    model = compiled(apply(TABLE["bert"].build(), AllBiases()))
    x, y = TABLE["bert"].data()
    stopping = keras.callbacks.EarlyStopping(
        monitor="query_bias_change", mode="max", min_delta=5, patience=1
    )
    history = model.fit(
        x,
        y,
        epochs=4,
        callbacks=[BiasTermTracking(terms=THREE), stopping],
        shuffle=False,
        verbose=0,
    ).history
    logs = [name for name in history if "_bias_" in name]
    assert logs == [f"{term}_bias_change" for term in THREE]
    # no epoch is better by 5: it stops after the patience
    assert stopping.stopped_epoch == 1
    # the softmax does not feel a key bias
    assert history["key_bias_change"][-1] < 1e-6


def test_only_what_trains_is_logged():
    x, y = TABLE["llama"].data()
    model = compiled(apply(TABLE["llama"].build(), ValueBias()))
    tracking = BiasTermTracking(MagnitudeChange())
    history = model.fit(
        x, y, callbacks=[tracking], shuffle=False, verbose=0
    ).history
    assert [k for k in history if "bias" in k] == ["value_bias_change"]
    assert history["value_bias_change"][0] > 0
    with pytest.raises(ValueError, match=r"that train: \['value'\]"):
        model.fit(
            x,
            y,
            callbacks=[BiasTermTracking(terms=THREE)],
            shuffle=False,
            verbose=0,
        )


def test_full_fine_tuning_counts_from_the_start_of_fit():
    model = compiled(TABLE["functional"].build())
    x, y = TABLE["functional"].data()
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    path = "attention_0/value/bias"
    starts = [
        as_array(variable_paths(model)[path.replace("0", str(i))])
        for i in range(2)
    ]
    tracking = BiasTermTracking(terms="value")
    history = model.fit(
        x, y, callbacks=[tracking], shuffle=False, verbose=0
    ).history
    expected = 0
    for i, start in enumerate(starts):
        end = as_array(variable_paths(model)[path.replace("0", str(i))])
        pair = (a.reshape(-1).astype("float64") for a in (start, end))
        expected += ProjectionChange().change(*pair)
    assert expected > 0
    assert np.isclose(history["value_bias_change"][0], expected)


@pytest.mark.once
def test_fisher_information_while_training():
    x, y = TABLE["functional"].data()
    measure = FisherInformation((x, y), samples=2)
    tracking = BiasTermTracking(measure, terms=THREE)
    results, histories = [], []
    for callbacks in ([], [tracking]):
        model = compiled(TABLE["functional"].build())
        history = model.fit(
            x, y, batch_size=4, callbacks=callbacks, shuffle=False, verbose=0
        )
        results.append([as_array(v) for v in model.trainable_variables])
        histories.append(history.history)
    plain, logs = histories
    assert len(logs["value_bias_fisher"]) == 1
    last = rank_bias_terms(model, measure).totals["value"]
    assert np.isclose(logs["value_bias_fisher"][-1], last, rtol=1e-5)
    # the passes in between leave training alone
    np.testing.assert_allclose(logs["loss"], plain["loss"], rtol=1e-5)
    for alone, tracked in zip(*results, strict=True):
        np.testing.assert_allclose(tracked, alone, atol=1e-6)


def test_nothing_to_track():
    x, y = TABLE["bert"].data()
    model = compiled(apply(TABLE["bert"].build(), LoRA(rank=2)))
    with pytest.raises(ValueError, match="bias terms that train. Received"):
        model.fit(
            x, y, callbacks=[BiasTermTracking()], shuffle=False, verbose=0
        )
    model = compiled(TABLE["sequential"].build())
    x, y = TABLE["sequential"].data()
    with pytest.raises(ValueError, match="a model with attention layers"):
        model.fit(
            x, y, callbacks=[BiasTermTracking()], shuffle=False, verbose=0
        )
    with pytest.raises(TypeError, match="measure='projection'"):
        BiasTermTracking("projection")
