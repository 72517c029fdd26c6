"""Regression and several labels, each from `fit` to the report."""

import keras
import numpy as np
import pytest

import keras_debias as kd
from keras_debias.evaluation.predicted import task_of
from tests import toy_language

MSE = keras.losses.MeanSquaredError


def numbers(n=96, seed=0):
    """A target of the first column; the second goes with it on one side."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype("float32")
    y = (x[:, 0] + 0.1 * rng.normal(size=n)).astype("float32")
    return kd.data.Split(x, y, groups={"side": x[:, 2] > 0})


def build(updates=0):
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    network.compile(keras.optimizers.Adam(0.1), MSE())
    return network


def test_regression_from_fit_to_report(tmp_path):
    train, dev, test = numbers(), numbers(60, 1), numbers(60, 2)
    model = kd.DebiasedModel(build(), seed=0)
    model.compile()
    watch = kd.callbacks.OODEvaluation(
        {"dev": dev}, metrics=["rmse", keras.metrics.MeanAbsoluteError()]
    )
    history = model.fit(
        train,
        epochs=4,
        batch_size=16,
        callbacks=[
            watch,
            keras.callbacks.EarlyStopping(
                "dev_worst_group_rmse", mode="min", patience=4
            ),
        ],
        verbose=0,
    ).history
    assert set(watch.log_names) == {
        *("dev_rmse", "dev_worst_group_rmse", "dev_rmse_gap"),
        *("dev_mean_absolute_error", "dev_worst_group_mean_absolute_error"),
        "dev_mean_absolute_error_gap",
    }
    assert set(watch.log_names) <= set(history)
    assert history["dev_rmse"][-1] < history["dev_rmse"][0]
    said = model.predict(dev.x, verbose=0)[:, 0]
    assert history["dev_rmse"][-1] == pytest.approx(
        np.sqrt(np.mean((said - dev.y) ** 2)), rel=1e-4
    )
    assert history["dev_mean_absolute_error"][-1] == pytest.approx(
        np.mean(abs(said - dev.y)), rel=1e-4
    )
    scores = kd.evaluate(model, {"test": test}, bootstrap=30)
    assert scores["test"].metrics["spearman"].value > 0.5
    assert str(scores).count("rmse") > 1
    scores.to_html(tmp_path / "page.html")
    assert "spearman" in (tmp_path / "page.html").read_text()


def test_values_every_so_many_steps_and_their_picture(tmp_path):
    train, dev = numbers(), numbers(60, 1)
    model = kd.DebiasedModel(build(), seed=0)
    model.compile()
    watch = kd.callbacks.OODEvaluation(
        {"dev": dev}, metrics=["rmse"], every_steps=2
    )
    history = model.fit(
        train, epochs=2, batch_size=16, callbacks=[watch], verbose=0
    )
    # 6 steps an epoch; the end of an epoch is not evaluated twice.
    steps = [line["step"] for line in watch.history]
    assert steps == [2, 4, 6, 8, 10, 12]
    curve = [line["dev_rmse"] for line in watch.history]
    assert curve[2] == history.history["dev_rmse"][0]
    assert curve[-1] < curve[0]
    figure = kd.evaluation.plot_history(
        watch.history, ["dev_rmse"], tmp_path / "curve.png"
    )
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), curve)
    np.testing.assert_allclose(line.get_xdata(), steps)
    assert (tmp_path / "curve.png").stat().st_size > 5000
    figure = kd.evaluation.plot_history(history)
    assert len(figure.axes[0].lines) == len(history.history)


@pytest.mark.once
def test_compare_and_recommended_of_a_regression(tmp_path):
    train, dev, test = numbers(), numbers(60, 1), numbers(60, 2)
    recommended = kd.recommended(train)
    assert isinstance(recommended.recipe, kd.recipes.FineTuning)
    assert "numbers" in recommended.reason
    options = dict(
        methods={
            "plain": kd.recipes.FineTuning(),
            "recommended": kd.recipes.Recommended(),
        },
        train=train,
        splits={"test": test},
        seeds=[0],
        model_fn=build,
        budget=kd.recipes.Budget(updates=16, batch_size=16, checks=2),
        validation=dev,
        selection=kd.comparison.MetricCriterion("rmse", worst_group=True),
        bootstrap=20,
        folder=tmp_path / "runs",
        verbose=0,
    )
    found = kd.compare(**options)
    assert not found.errors
    summary = found.summary().set_index(["method", "measure"])
    assert summary.loc[("recommended", "rmse")]["difference"] == 0.0
    assert "worst_group_spearman" in summary.loc["plain"].index
    assert "test rmse worst group" in str(found)
    assert {run.learned for run in found.runs} == {True}
    assert set(found.runs[0].validation) == {"rmse", "worst_group_rmse"}
    assert found.choose("worst_group_rmse") in found.methods
    assert found.plot().axes
    again = kd.comparison.Comparison.load(tmp_path / "runs")
    assert [r.scores["test"] for r in again.runs] == [
        r.scores["test"] for r in found.runs
    ]
    file = next((tmp_path / "runs").glob("plain*.csv.gz"))
    file.with_name(file.name.replace(".csv.gz", ".json")).write_text("{}")
    with pytest.warns(UserWarning, match="left out"):
        assert len(kd.comparison.Comparison.load(tmp_path / "runs").runs) == 1


@pytest.mark.parametrize(
    "loss", ["mse", keras.losses.Huber(), keras.losses.hinge]
)
def test_edge_needs_a_probability(loss):
    model = kd.DebiasedModel(build(), projection=kd.projections.EDGE(), seed=0)
    with pytest.raises(ValueError, match=r"no probability.*bias_probab"):
        model.compile(loss=loss)
    with pytest.raises(ValueError, match="'mean_squared_error'"):
        model.compile()
    # A loss of one's own is taken for a negative log-likelihood.
    model.compile("sgd", lambda y_true, y_pred: (y_true - y_pred) ** 2)


def test_edge_with_known_weights_takes_a_regression():
    train = numbers(32)
    projection = kd.projections.EDGE(
        bias_probabilities=np.linspace(0.1, 0.9, 32)
    )
    model = kd.DebiasedModel(build(), projection=projection, seed=0)
    model.compile()
    history = model.fit(train, epochs=4, batch_size=16, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_ba_lora_on_one_output():
    one = np.zeros((4, 1), "float32")
    with pytest.warns(UserWarning, match="the model has one output"):
        kd.regularizers.Consistency().call(None, one, one)
    with pytest.warns(UserWarning, match="one output has no other"):
        kd.regularizers.Diversity().call(None, one)
    with pytest.warns(UserWarning, match="share is 1"):
        kd.regularizers.SpectralConcentration().call(None, one)
    with pytest.raises(ValueError, match="`k`"):
        kd.regularizers.TopKEntropy(k=2).call(None, one)


def test_float_classes_of_a_classifier_are_refused_before_training():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    network.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    x = np.zeros((4, 3), "float32")
    with pytest.warns(UserWarning, match="targets of a regression"):
        split = kd.data.Split(x, np.array([0.0, 1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"cross entropy.*astype"):
        kd.evaluate(network, split)
    weights = network.get_weights()
    with pytest.raises(ValueError, match="cross entropy"):
        network.fit(
            x,
            np.zeros((4, 1)),
            callbacks=[kd.callbacks.OODEvaluation({"dev": split})],
            verbose=0,
        )
    for old, new in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def several(n, seed=0):
    """Texts with one or two of three labels."""
    texts, y = toy_language.texts(n, seed)
    rng = np.random.default_rng(seed + 100)
    labels = np.eye(3, dtype="int32")[y]
    labels[np.arange(n), rng.integers(0, 3, n)] = 1
    return kd.data.Split(
        texts,
        labels,
        label_names=toy_language.LABELS,
        groups={"even": np.arange(n) % 2 == 0},
    )


def multi_label_words():
    return kd.models.LabelWordClassifier(
        toy_language.gpt2(),
        toy_language.LABELS,
        "Review: {text}\nEmotion:",
        multi_label=True,
        instruction=False,
        sequence_length=40,
    )


@pytest.mark.once
def test_several_labels_of_label_words_from_fit_to_report(tmp_path):
    classifier = multi_label_words()
    model = kd.DebiasedModel(classifier, seed=0)
    model.compile(keras.optimizers.Adam(0.01))
    train, dev, test = several(20), several(20, 1), several(20, 2)
    # Nothing is cut at 0: a model without a threshold is refused at once.
    with pytest.raises(ValueError, match="tune_threshold"):
        kd.evaluate(model, test)
    with pytest.raises(ValueError, match="tune_threshold"):
        model.fit(
            train,
            callbacks=[kd.callbacks.OODEvaluation({"t": test})],
            verbose=0,
        )
    watch = kd.callbacks.OODEvaluation(
        {"test": test},
        metrics=["macro_f1"],
        tune_threshold_on=dev,
        min_group_size=1,
    )
    history = model.fit(
        train, epochs=1, batch_size=20, callbacks=[watch], verbose=0
    ).history
    scores = model.predict(test.x, verbose=0)
    among = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    threshold = kd.evaluation.tune_threshold(
        model.predict(dev.x, verbose=0), dev.y
    )
    assert classifier.threshold == pytest.approx(threshold, abs=1e-5)
    found = kd.evaluate(
        model,
        {"test": test},
        metrics=["exact_match"],
        bootstrap=0,
        min_group_size=1,
    )["test"]
    report = kd.evaluation.label_report(
        scores, test.y, threshold=classifier.threshold
    )
    assert found.kind == "multi_label"
    assert found.weighted_f1 == pytest.approx(report.weighted_f1)
    assert found.metrics["exact_match"].value == pytest.approx(
        report.exact_match
    )
    assert found.metrics["argmax_weighted_f1"].value == pytest.approx(
        report.argmax_weighted_f1
    )
    assert found.metrics["argmax_accuracy"].value == pytest.approx(
        report.accuracy
    )
    assert history["test_weighted_f1"][-1] == pytest.approx(found.weighted_f1)
    assert history["test_argmax_weighted_f1"][-1] == pytest.approx(
        report.argmax_weighted_f1
    )
    assert set(watch.log_names) <= set(history)
    # Another threshold, which says half of the labels.
    classifier.threshold = float(np.median(among))
    half = kd.evaluate(model, test, bootstrap=0, min_group_size=1)["test"]
    report = kd.evaluation.label_report(
        scores, test.y, threshold=classifier.threshold
    )
    assert half.weighted_f1 == pytest.approx(report.weighted_f1)
    assert half.accuracy == pytest.approx(report.exact_match)
    # Rows that happen to have one label each are read the same way.
    alone = test.take(test.y.sum(axis=1) == 1)
    assert task_of(model, alone) == "multi_label"
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.model.threshold == classifier.threshold


@pytest.mark.once
def test_the_best_weights_come_with_their_threshold():
    class First(kd.comparison.Criterion):
        seen = 0

        def score(self, predictions, split):
            self.seen += 1
            return -self.seen

    def build(updates):
        classifier = multi_label_words()
        classifier.compile(keras.optimizers.Adam(0.05))
        return classifier

    dev = several(12, 1)
    trainer = kd.recipes.Trainer(
        build,
        kd.recipes.Budget(updates=2, batch_size=8, checks=2),
        validation=dev,
        selection=First(),
    )
    model = trainer.fit(several(16))
    assert trainer.notes["selected_update"] == 1
    expected = kd.evaluation.tune_threshold(
        model.predict(dev.x, verbose=0), dev.y
    )
    assert model.model.threshold == pytest.approx(expected, abs=1e-5)


def test_a_threshold_is_for_several_labels():
    classifier = kd.models.LabelWordClassifier(
        toy_language.gpt2(),
        toy_language.LABELS,
        "Review: {text}\nEmotion:",
        sequence_length=40,
    )
    with pytest.raises(ValueError, match="multi_label=True"):
        classifier.tune_threshold(several(4))
    watch = kd.callbacks.OODEvaluation(
        {"t": several(4)}, tune_threshold_on=several(4), min_group_size=1
    )
    watch.set_model(classifier)
    with pytest.raises(ValueError, match="Leave out `tune_threshold_on`"):
        watch.on_train_begin()
