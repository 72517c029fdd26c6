"""`compare` in several processes, against one process."""

import os
import re

import pandas as pd
import pytest

import keras_debias as kd
from keras_debias.comparison import workers
from tests.comparison.compare_test import arguments
from tests.comparison.compare_test import assert_same
from tests.recipes import toy

R = kd.recipes


def test_processes_make_the_runs_of_one(tmp_path, capsys):
    methods = {
        "plain": R.FineTuning(),
        "balanced": R.BalancedSampling(),
        "broken": toy.Instant(1.0, 0),
    }
    budget = R.Budget(updates=12, batch_size=20)
    settings = arguments(methods=methods, seeds=[0], budget=budget)
    with pytest.warns(UserWarning, match="'broken' with seed 0 is broken"):
        one = kd.compare(**settings)
    folder = tmp_path / "runs"
    settings |= {"folder": folder, "workers": 2, "verbose": 1}
    before = dict(os.environ)
    with pytest.warns(UserWarning, match="'broken' with seed 0 is broken"):
        several = kd.compare(**settings)
    assert dict(os.environ) == before
    assert_same(several, one)
    said = capsys.readouterr().out
    assert re.search(r"^\[3/3\] ", said, re.MULTILINE)
    assert "broken, seed 0: broken" in said
    # The errors are those of one process, the last line at least.
    last = {k: e.strip().splitlines()[-1] for k, e in one.errors.items()}
    found = {k: e.strip().splitlines()[-1] for k, e in several.errors.items()}
    assert found == last
    # Nothing is left to do for what is kept.
    del settings["methods"]["broken"]
    again = kd.compare(**settings)
    assert capsys.readouterr().out.count("cached") == 2
    pd.testing.assert_frame_equal(again.summary(), one.summary())


def test_each_process_gets_its_share_of_the_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    with workers._environment(dict.fromkeys(workers.THREADS, "1")):
        assert all(os.environ[name] == "1" for name in workers.THREADS)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "TF_NUM_INTRAOP_THREADS" not in os.environ


def test_what_cannot_be_sent_is_refused_before_training():
    with pytest.raises(ValueError, match="Received: model_fn=.*in a file"):
        kd.compare(
            **arguments(workers=2, model_fn=lambda updates: toy.build(updates))
        )
    with pytest.raises(ValueError, match="workers"):
        kd.compare(**arguments(workers=0))


def test_a_busy_machine_is_named(monkeypatch, capsys):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (5.26, 1.0, 1.0))
    kd.compare(**arguments(methods={"plain": toy.Instant()}, verbose=1))
    assert "load 5.3 on 2 processors" in capsys.readouterr().out
    monkeypatch.setattr(os, "getloadavg", lambda: (1.9, 9.0, 9.0))
    kd.compare(**arguments(methods={"plain": toy.Instant()}, verbose=1))
    assert "load" not in capsys.readouterr().out
