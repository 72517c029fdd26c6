"""`compare`: equal budgets, kept runs, and what may not be compared."""

import dataclasses
import gzip
import json
import re
import signal
import textwrap

import numpy as np
import pandas as pd
import pytest

import keras_debias as kd
from tests.processes import end
from tests.processes import start
from tests.recipes import toy

R = kd.recipes


def arguments(**changes):
    return {
        "methods": {
            "plain": toy.Instant(),
            "balanced": toy.NeedsGroups(0.5),
        },
        "train": toy.numbers(120),
        "splits": {"test": toy.numbers(80, 0.5, seed=1)},
        "seeds": [0, 1],
        "model_fn": toy.build,
        "budget": R.Budget(epochs=2, batch_size=20),
        "bootstrap": 50,
        "verbose": 0,
        **changes,
    }


def without_time(comparison):
    """All that a second run must repeat."""
    summary = comparison.summary()
    return summary, comparison.predictions


def assert_same(one, other):
    for a, b in zip(without_time(one), without_time(other), strict=True):
        pd.testing.assert_frame_equal(a, b)


def counting(calls, limit=None):
    def build(updates):
        calls.append(updates)
        if limit is not None and len(calls) > limit:
            raise KeyboardInterrupt
        return toy.build(updates)

    return build


def test_runs_are_kept_and_not_repeated(tmp_path, capsys):
    folder = tmp_path / "runs"
    calls = []
    first = kd.compare(**arguments(folder=folder, model_fn=counting(calls)))
    assert len(calls) == 5  # one to look at, four to train
    assert set(calls) == {12}
    again = kd.compare(
        **arguments(folder=folder, model_fn=counting(calls), verbose=1)
    )
    assert len(calls) == 6
    assert capsys.readouterr().out.count("cached") == 4
    assert_same(again, first)
    assert_same(kd.comparison.Comparison.load(folder), first)
    # More seeds and methods only add to it.
    methods = {**arguments()["methods"], "other": toy.Instant(2.0)}
    more = kd.compare(
        **arguments(
            folder=folder,
            model_fn=counting(calls),
            methods=methods,
            seeds=[0, 1, 2],
        )
    )
    assert len(calls) == 6 + 1 + 2 + 3
    assert len(more.runs) == 9
    # What was kept says what it took.
    run = more.runs[0]
    assert run.updates == 12 and run.peak_memory > 2**20
    assert run.selection == "last update"
    assert run.environment["keras_debias"] == kd.__version__
    assert run.environment["accelerator"] is None
    assert run.accelerator_memory is None


def test_same_table_after_an_interruption(tmp_path):
    whole = kd.compare(**arguments())
    folder = tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        kd.compare(**arguments(folder=folder, model_fn=counting([], 3)))
    assert len(list(folder.glob("*-seed*.json"))) == 2
    assert_same(kd.compare(**arguments(folder=folder)), whole)


def test_same_table_after_a_kill(tmp_path):
    """SIGKILL in a step of the second run, in a process of its own."""
    folder = tmp_path / "runs"
    changes = {"methods": {"plain": R.FineTuning()}}
    script = textwrap.dedent(
        """
        import os, signal, sys
        import keras_debias as kd
        from tests.comparison import compare_test
        from tests.recipes import toy

        calls = []

        def build(updates):
            calls.append(updates)
            if len(calls) == 3:
                def killed(self, *data):
                    os.kill(os.getpid(), signal.SIGKILL)
                kd.DebiasedModel.train_step = killed
            return toy.build(updates)

        methods = {"plain": kd.recipes.FineTuning()}
        kd.compare(
            **compare_test.arguments(
                methods=methods, folder=sys.argv[1], model_fn=build
            )
        )
        """
    )
    path, output = tmp_path / "script.py", tmp_path / "output"
    path.write_text(script)
    process = start(path, folder, output=output)
    code = end(process, 300)
    assert code == -signal.SIGKILL, output.read_text()[-2000:]
    assert len(list(folder.glob("*-seed*.json"))) == 1
    resumed = kd.compare(**arguments(folder=folder, **changes))
    assert_same(resumed, kd.compare(**arguments(**changes)))
    for run in resumed.runs:
        assert run.seconds > 0 and run.seconds_per_update > 0


def test_a_broken_run_does_not_stop_the_rest(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    methods = {"plain": toy.Instant(), "broken": toy.Instant(1.0, 1)}
    with pytest.warns(UserWarning, match="out of luck"):
        found = kd.compare(**arguments(folder=folder, methods=methods))
    assert len(found.runs) == 3
    assert "RuntimeError: out of luck" in found.errors["broken", 1]
    assert "broken, seed 1: RuntimeError: out of luck" in str(found)
    line = found.summary().set_index("method").loc["broken"].iloc[0]
    assert line["seeds"] == 1 and line["pairs"] == 1
    loaded = kd.comparison.Comparison.load(folder)
    assert loaded.errors == found.errors
    # Tried again, and forgotten when it works.
    original = toy.Instant.fit

    def fit(self, trainer, train):
        return original(
            dataclasses.replace(self, broken_seed=None), trainer, train
        )

    monkeypatch.setattr(toy.Instant, "fit", fit)
    repaired = kd.compare(**arguments(folder=folder, methods=methods))
    assert len(repaired.runs) == 4 and not repaired.errors
    assert not kd.comparison.Comparison.load(folder).errors


def test_training_data_may_depend_on_the_seed(tmp_path):
    seen = []

    def train(seed):
        seen.append(seed)
        return toy.numbers(100, seed=seed)

    folder = tmp_path / "runs"
    kd.compare(**arguments(train=train, folder=folder))
    assert seen == [0, 1]
    with pytest.raises(ValueError, match="training data of seed 1"):
        kd.compare(
            **arguments(
                train=lambda seed: toy.numbers(100, seed=2 * seed),
                folder=folder,
            )
        )


def test_all_methods_get_the_same_updates():
    """Also those that hold rows out, or train on parts of them."""
    found = kd.compare(
        **arguments(
            seeds=[0],
            train=toy.numbers(200, 0.8),
            methods={
                "plain": R.FineTuning(),
                "DFR": R.DFR(held_out=0.5),
                "XRM": R.BalancedSampling(groups=R.XRM(rounds=1)),
                "JTT": R.JTT(),
            },
        )
    )
    assert [run.updates for run in found.runs] == [20] * 4


def test_all_methods_start_alike():
    """A method that changes nothing gives the first method's results."""
    found = kd.compare(
        **arguments(
            seeds=[1],
            methods={
                "plain": kd.projections.TaskOnly(),
                "same": kd.projections.EDGE(alpha=0.0),
            },
        )
    )
    summary = found.summary()
    assert abs(summary["difference"]).max() < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0, 1, 0]}, "to be different"),
        ({"seeds": []}, "at least one integer"),
        ({"seeds": [0.5]}, "at least one integer"),
        (
            {"train": toy.numbers(40).with_groups(None)},
            r"\['balanced'\] need groups.*XRM",
        ),
        (
            {"train": toy.numbers(40)._replace(y=np.zeros(40, "int32"))},
            "at least two classes",
        ),
        ({"splits": {"test": kd.data.Split(np.zeros((3, 2)))}}, "no labels"),
        ({"methods": {" ": R.FineTuning()}}, "non-empty strings"),
        (
            {"selection": kd.comparison.WorstGroup()},
            "needs `validation` data",
        ),
        (
            {
                "selection": kd.comparison.WorstGroup(),
                "validation": toy.numbers(40).with_groups(None),
            },
            "data with groups",
        ),
    ],
)
def test_refused_before_anything_is_trained(changes, message, tmp_path):
    calls = []
    folder = tmp_path / "runs"
    with pytest.raises(ValueError, match=message):
        kd.compare(
            **arguments(**changes, model_fn=counting(calls), folder=folder)
        )
    assert not calls and not folder.exists()


def outside(split):
    """The same rows with labels that the network has no output for."""
    return kd.data.Split(split.x, np.where(split.y, 8, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": outside(toy.numbers(40))}, "'train'.*label_names"),
        ({"splits": outside(toy.numbers(40))}, "'test'.*from 3 to 8"),
        (
            {"splits": {"wide": kd.data.Split(np.zeros((9, 5)), [0] * 9)}},
            r"\(None, 2\).*'wide'",
        ),
        ({"metrics": ["rmse"]}, "'rmse'"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_any_run(
    changes, message, tmp_path
):
    calls = []
    folder = tmp_path / "runs"
    methods = {"plain": R.FineTuning()}
    with pytest.raises(ValueError, match=message):
        kd.compare(
            **{
                **arguments(model_fn=counting(calls), folder=folder),
                "methods": methods,
                **changes,
            }
        )
    assert len(calls) == 1 and not folder.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {}}, "non-empty dict"),
        ({"methods": {"plain": "ERM"}}, "kd.recipes.Recipe"),
        ({"budget": 3}, "kd.recipes.Budget"),
        ({"selection": "worst"}, "to be criteria"),
        ({"train": np.zeros(3)}, "kd.data.Split"),
        ({"model_fn": lambda updates: 3}, "compiled"),
    ],
)
def test_wrong_types(changes, message):
    with pytest.raises(TypeError, match=message):
        kd.compare(**arguments(**changes))


def test_each_file_of_a_folder_is_read_once(tmp_path, monkeypatch):
    from keras_debias.comparison import run_folder

    read = []

    def counted(file, limit):
        read.append(file)
        return original(file, limit)

    original = run_folder.read_regular
    monkeypatch.setattr(run_folder, "read_regular", counted)
    changes = {"folder": tmp_path, "seeds": range(4)}
    first = kd.compare(**arguments(**changes))
    read.clear()
    assert_same(first, kd.compare(**arguments(**changes)))
    runs = [file for file in read if "-seed" in file.name]
    assert len(runs) == len(set(runs)) == 8
    read.clear()
    assert_same(first, kd.comparison.Comparison.load(tmp_path))
    runs = [file for file in read if "-seed" in file.name]
    assert len(runs) == len(set(runs)) == 8


def test_a_folder_of_another_configuration(tmp_path):
    folder = tmp_path / "runs"
    kd.compare(**arguments(folder=folder, seeds=[0]))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    others = {
        "budget": {"budget": R.Budget(epochs=1, batch_size=20)},
        "splits": {"splits": {"test": toy.numbers(80, 0.5, seed=2)}},
        "network": {"model_fn": lambda updates: toy.build(updates, 0.5)},
        "validation": {"validation": toy.numbers(20, seed=4)},
    }
    for name, changes in others.items():
        with pytest.raises(ValueError, match=rf"differs in \['{name}'\]"):
            kd.compare(**arguments(folder=folder, seeds=[0], **changes))
    methods = {"plain": toy.Instant(3.0)}
    with pytest.raises(ValueError, match="settings of the method 'plain'"):
        kd.compare(**arguments(folder=folder, seeds=[0], methods=methods))
    with pytest.raises(ValueError, match="`min_group_size=10`.*=5"):
        kd.compare(**arguments(folder=folder, seeds=[0], min_group_size=5))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.json").write_text("{}")
    with pytest.raises(ValueError, match="other JSON files"):
        kd.compare(**arguments(folder=other))
    with pytest.raises(ValueError, match="that `kd.compare` made"):
        kd.comparison.Comparison.load(other)


class Prefers(kd.comparison.Criterion):
    """Likes the n-th model that it sees."""

    def __init__(self, number=0):
        self.number = number
        self.seen = 0

    def score(self, predictions, split):
        self.seen += 1
        return float(self.seen - 1 == self.number)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_criterion_picks_the_weights(number):
    train, test = toy.numbers(120), toy.numbers(60, seed=1)
    chosen = R.Trainer(
        toy.build,
        R.Budget(updates=9, batch_size=20, checks=3),
        validation=test,
        selection=Prefers(number),
    )
    found = chosen.fit(train).predict(test.x, verbose=0)
    assert chosen.notes["selected_update"] == 3 * (number + 1)
    # The same weights as a run that ends there.
    plain = R.Trainer(
        toy.build, R.Budget(updates=3 * (number + 1), batch_size=20)
    )
    expected = plain.fit(train).predict(test.x, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("number", [1, 3])
def test_checks_do_not_change_the_order_of_the_rows(number):
    """Also where the updates between two checks are not equally many."""
    train, test = toy.numbers(200), toy.numbers(60, seed=1)
    chosen = R.Trainer(
        toy.build,
        R.Budget(updates=10, batch_size=20, checks=4),
        validation=test,
        selection=Prefers(number),
    )
    model = chosen.fit(train)
    updates = chosen.notes["selected_update"]
    assert updates == [2, 5, 8, 10][number]
    plain = R.Trainer(toy.build, R.Budget(updates=updates, batch_size=20))
    np.testing.assert_allclose(
        model.predict(test.x, verbose=0),
        plain.fit(train).predict(test.x, verbose=0),
        atol=1e-6,
    )


def test_criteria_are_part_of_the_result():
    validation = toy.numbers(80, seed=3)
    # A biased model that follows the cue alone.
    wrong = np.where(validation.x[:, 0] > 0, "yes", "no")
    found = kd.compare(
        **arguments(
            methods={
                "plain": R.FineTuning(),
                "EDGE": kd.projections.EDGE(),
            },
            seeds=[0],
            validation=validation,
            selection=kd.comparison.WorstClass(),
            budget=R.Budget(updates=20, batch_size=20, checks=2),
            criteria=[kd.comparison.BiasedDisagreement(wrong)],
        )
    )
    for run in found.runs:
        assert run.selection == "WorstClass"
        assert set(run.validation) == {
            *("Average", "WorstClass", "WorstGroup", "BiasedDisagreement")
        }
        assert run.notes["selected_update"] in (10, 20)
    assert found.choose("WorstGroup") in found.methods
    with pytest.raises(ValueError, match="Received: criterion='Luck'"):
        found.choose("Luck")


def test_criteria_against_hand_counts():
    predictions = pd.DataFrame(
        {
            "label": ["a", "a", "a", "b"],
            "prediction": ["a", "a", "b", "b"],
            "group": ["x", "y", "y", "x"],
        }
    )
    assert kd.comparison.Average().score(predictions, None) == 0.75
    assert kd.comparison.WorstClass().score(predictions, None) == 2 / 3
    assert kd.comparison.WorstGroup().score(predictions, None) == 0.5
    # Wrong in rows 0 and 2, of which the model has the first.
    biased = kd.comparison.BiasedDisagreement(["b", "a", "b", "b"])
    assert biased.score(predictions, None) == 0.5
    with pytest.raises(ValueError, match="all 4 right"):
        kd.comparison.BiasedDisagreement(["a", "a", "a", "b"]).score(
            predictions, None
        )
    with pytest.raises(ValueError, match="Received: 1"):
        kd.comparison.BiasedDisagreement(["a"]).score(predictions, None)


def test_an_altered_run_is_named_and_made_again(tmp_path):
    """By its checksum, by its predictions, and if it cannot be read."""
    folder = tmp_path / "runs"
    first = kd.compare(**arguments(folder=folder))
    files = sorted(folder.glob("*-seed*.json"))
    assert len(files) == 4

    def with_text(file, text):
        file.write_text(text)

    def with_value(file, change, keep_checksum=True):
        content = json.loads(file.read_text())
        change(content)
        if not keep_checksum:
            del content["checksum"]
        file.write_text(json.dumps(content))

    def accuracy(content):
        content["scores"]["splits"][0]["accuracy"] = 17.5

    def seconds(content):
        content["seconds"] = 1e9

    def cut(file):
        path = file.with_name(file.name.removesuffix(".json") + ".csv.gz")
        path.write_bytes(path.read_bytes()[:-20])

    def swap(file):
        path = file.with_name(file.name.removesuffix(".json") + ".csv.gz")
        with gzip.open(path, "rt") as lines:
            text = lines.read()
        with gzip.open(path, "wt") as lines:
            lines.write(text.replace(",yes,no,", ",yes,yes,"))
        with_value(file, lambda content: None, keep_checksum=False)

    alterations = [
        lambda file: with_text(file, "{"),
        lambda file: with_text(file, "[]"),
        lambda file: with_text(file, '{"method": 3}'),
        lambda file: with_value(file, accuracy),
        lambda file: with_value(file, accuracy, keep_checksum=False),
        lambda file: with_value(file, seconds),
        lambda file: with_value(file, lambda c: c.pop("scores")),
        lambda file: with_value(file, lambda c: c.update(validation=[])),
        cut,
        swap,
    ]
    for number, alter in enumerate(alterations):
        file = files[number % 4]
        whole = {p: p.read_bytes() for p in folder.iterdir()}
        alter(file)
        with pytest.warns(UserWarning, match=re.escape(file.name)):
            loaded = kd.comparison.Comparison.load(folder)
        assert len(loaded.runs) == 3, number
        with pytest.warns(UserWarning, match=re.escape(file.name)):
            again = kd.compare(**arguments(folder=folder))
        assert_same(again, first)
        assert len(list(folder.glob("*-seed*.json"))) == 4
        for path, content in whole.items():
            path.write_bytes(content)


def test_a_configuration_that_cannot_be_read(tmp_path):
    folder = tmp_path / "runs"
    kd.compare(**arguments(folder=folder, seeds=[0]))
    for text in ("", "[]", '{"configuration": 3, "methods": []}'):
        (folder / "comparison.json").write_text(text)
        with pytest.raises(ValueError, match="comparison.json.*cannot be read"):
            kd.compare(**arguments(folder=folder, seeds=[0]))
        with pytest.raises(ValueError, match="comparison.json.*cannot be read"):
            kd.comparison.Comparison.load(folder)


def test_names_that_differ_in_signs_only(tmp_path):
    methods = {
        name: toy.Instant(noise)
        for name, noise in (("a+b", 0.1), ("a-b", 2.0), ("a b", 4.0))
    }
    methods["x" * 99 + "1"] = toy.Instant(6.0)
    methods["x" * 99 + "2"] = toy.Instant(8.0)
    folder = tmp_path / "runs"
    first = kd.compare(**arguments(folder=folder, methods=methods, seeds=[0]))
    assert len(list(folder.glob("*-seed0.json"))) == 5
    again = kd.compare(**arguments(folder=folder, methods=methods, seeds=[0]))
    assert_same(again, first)
    noises = {run.method: run.settings["config"]["noise"] for run in again.runs}
    assert noises == {name: m.noise for name, m in methods.items()}


@dataclasses.dataclass(frozen=True)
class Says(toy.Instant):
    """A method whose model answers one class."""

    def fit(self, trainer, train):
        super().fit(trainer, train)

        class Constant:
            label_names = ("no", "yes")

            def predict(self, x, batch_size=None, verbose=0):
                return np.eye(2)[np.ones(len(x), int)]

        return Constant()


def test_choose_refuses_a_constant_model():
    found = kd.compare(
        **arguments(
            methods={"constant": Says()},
            validation=toy.numbers(60, 0.5, seed=3),
        )
    )
    assert not any(run.learned for run in found.runs)
    assert "answers 'yes' for every row" in str(found)
    assert "constant has not learned" in str(found)
    for criterion in ("Average", "WorstClass", "WorstGroup"):
        with pytest.raises(ValueError, match="best constant answer"):
            found.choose(criterion)
    good = kd.compare(
        **arguments(
            methods={"constant": Says(), "reads": toy.Instant(0.1)},
            validation=toy.numbers(60, 0.5, seed=3),
        )
    )
    assert good.choose("Average") == "reads"
