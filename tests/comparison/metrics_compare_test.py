"""Any metric in `compare`: columns, paired tests, criteria, folders."""

import json

import numpy as np
import pytest
from scipy import stats

import keras_debias as kd
from keras_debias.comparison.statistics import paired_tests
from tests.recipes import toy

R = kd.recipes


class Reader(toy.Reader):
    from_logits = True


class Instant(toy.Instant):
    def fit(self, trainer, train):
        super().fit(trainer, train)
        return Reader(self.noise, trainer.seed)


def by_cue(split):
    return split.with_groups({"cue": split.x[:, 0] > 0})


def arguments(**changes):
    return {
        "methods": {"plain": Instant(2.0), "better": Instant(0.2)},
        "train": toy.numbers(60),
        "splits": {"test": by_cue(toy.numbers(120, 0.5, seed=1))},
        "seeds": [0, 1, 2],
        "model_fn": toy.build,
        "budget": R.Budget(epochs=1, batch_size=20),
        "bootstrap": 20,
        "verbose": 0,
        **changes,
    }


def test_columns_differences_and_tests(tmp_path):
    found = kd.compare(**arguments(metrics=["auroc", "log_loss"]))
    summary = found.summary().set_index(["method", "measure"])
    values = {
        (run.method, run.seed): run.scores["test"].metrics["auroc"].value
        for run in found.runs
    }
    pairs = np.array(
        [values["better", s] - values["plain", s] for s in (0, 1, 2)]
    )
    line = summary.loc[("better", "auroc")]
    assert line["difference"] == pytest.approx(pairs.mean())
    assert line["t_test"] == pytest.approx(
        stats.ttest_rel(
            [values["better", s] for s in (0, 1, 2)],
            [values["plain", s] for s in (0, 1, 2)],
        ).pvalue
    )
    assert line["wilcoxon"] == pytest.approx(stats.wilcoxon(pairs).pvalue)
    assert line["better"] == 3
    # Of a loss the lowest is best.
    assert summary.loc[("better", "log_loss")]["better"] == 3
    assert summary.loc[("better", "log_loss")]["rank"] == 1
    text = str(found)
    assert "test auroc" in text and "test log_loss worst group" in text
    assert "Student's t-test" in text
    figure = found.plot(metric="log_loss")
    assert figure.axes[0].get_xlim()[1] < 20  # not in percent
    with pytest.raises(ValueError, match="'auroc'"):
        found.plot(metric="rmse")
    found.report(tmp_path / "report.html")
    assert "Paired tests over seeds" in (tmp_path / "report.html").read_text()


def test_paired_tests_of_nothing():
    assert np.isnan(paired_tests(np.array([0.3]))).all()
    assert np.isnan(paired_tests(np.array([0.1, 0.1]))).all()
    t_test, wilcoxon = paired_tests(np.array([-0.1, 0.1, 0.2, -0.2]))
    assert t_test == pytest.approx(1.0) and wilcoxon > 0.8


def test_metrics_are_kept_in_the_folder(tmp_path):
    folder = tmp_path / "runs"
    first = kd.compare(**arguments(folder=folder, metrics=["auroc"], seeds=[0]))
    again = kd.comparison.Comparison.load(folder)
    for one, other in zip(first.runs, again.runs, strict=True):
        assert other.scores["test"] == one.scores["test"]
    with pytest.raises(ValueError, match=r"differs in \['metrics'\]"):
        kd.compare(**arguments(folder=folder, metrics=["ece"], seeds=[0]))
    with pytest.raises(ValueError, match="Leave them out"):
        kd.compare(**arguments(metrics=["accuracy"]))
    file = next(folder.glob("*.json"))
    json.loads(file.read_text())


def test_parameters_are_counted():
    methods = {"all": R.FineTuning()}
    found = kd.compare(**arguments(methods=methods, seeds=[0]))
    run = found.runs[0]
    assert run.trainable_parameters == 2 * 6 + 6 + 6 * 2 + 2
    assert f"{run.trainable_parameters} (" in str(found)


def test_a_metric_as_criterion():
    split = by_cue(toy.numbers(80, 0.7, seed=3))
    good, bad = Reader(0.1, 0), Reader(5.0, 0)
    rises = kd.comparison.MetricCriterion("auroc")
    falls = kd.comparison.MetricCriterion("log_loss", worst_group=True)
    assert (rises.name, falls.name) == ("auroc", "worst_group_log_loss")
    for criterion in (rises, falls):
        judged = []
        for model in (good, bad):
            scores = kd.evaluate(
                model,
                {"validation": split},
                metrics=criterion.metrics,
                bootstrap=0,
            )
            judged.append(criterion.judge(scores, split))
        assert judged[0] > judged[1]
    worst = scores["validation"].metrics["log_loss"].worst
    assert judged[1] == -worst
    with pytest.raises(ValueError, match="more than predictions"):
        rises.score(scores.predictions, split)
    found = kd.compare(
        **arguments(
            methods={"plain": R.FineTuning()},
            seeds=[0],
            validation=split,
            selection=kd.comparison.MetricCriterion("auroc"),
            budget=R.Budget(updates=8, batch_size=20, checks=2),
        )
    )
    (run,) = found.runs
    assert run.selection == "auroc" and run.notes["selected_update"] in (4, 8)
    assert 0.5 < run.validation["auroc"] <= 1
    assert found.choose("auroc") == "plain"
    logs = {}
    callback = kd.callbacks.ValidationCriterion(split, falls)
    callback.set_model(bad)
    callback.on_epoch_end(0, logs)
    assert logs == {"val_worst_group_log_loss": -worst}
