"""Whether training says that it shares its processors."""

import os
import sys
import time

import keras
import numpy as np
import pytest

import keras_debias as kd
from keras_debias.training import run_callbacks
from keras_debias.training.run_callbacks import SayIfOversubscribed


@pytest.fixture
def clock(monkeypatch):
    """Times that a test sets, on four processors."""
    times = {"now": (0.0, 0.0, 0.0)}
    monkeypatch.setattr(run_callbacks, "_processor_times", lambda: times["now"])
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(SayIfOversubscribed, "said", False)
    keras.config.enable_interactive_logging()
    return times


def run(clock, threads, *epochs):
    """An epoch for each `(seconds, all busy, own)` since the beginning."""
    callback = SayIfOversubscribed(threads)
    clock["now"] = (100.0, 1000.0, 10.0)
    callback.on_train_begin()
    for number, times in enumerate(epochs):
        callback.on_epoch_begin(number)
        clock["now"] = tuple(
            a + b for a, b in zip((100.0, 1000.0, 10.0), times)
        )
        callback.on_epoch_end(number)
    callback.on_train_end()


def test_it_says_how_much_others_take(clock, capsys):
    run(clock, 4, (20.0, 80.0, 30.0))
    said = capsys.readouterr().out
    # (80 - 30) / 20 of others, on four processors that are all busy.
    assert said.startswith("Other programs keep 2.5 of 4 processors busy, ")
    assert "4 threads" in said and "OMP_NUM_THREADS" in said
    # Once in a process.
    run(clock, 4, (20.0, 80.0, 30.0))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("threads", "times"),
    [
        (4, (20.0, 80.0, 79.0)),  # all busy, by this process
        (4, (20.0, 60.0, 30.0)),  # others, and a processor is idle
        (1, (20.0, 80.0, 20.0)),  # one thread waits for no other
        (4, (5.0, 20.0, 5.0)),  # too short
    ],
)
def test_it_says_nothing(clock, capsys, threads, times):
    run(clock, threads, times)
    assert capsys.readouterr().out == ""


def test_it_looks_at_the_first_epoch_that_ends_late_enough(clock, capsys):
    run(clock, 4, (5.0, 20.0, 5.0), (12.0, 48.0, 12.0), (90.0, 90.0, 90.0))
    assert "keep 3.0 of 4" in capsys.readouterr().out


def test_it_needs_no_psutil(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "psutil", None)
    callback = SayIfOversubscribed(4)
    callback.on_train_begin()
    callback.on_epoch_end(0)
    callback.on_train_end()
    assert capsys.readouterr().out == ""


def test_times_are_those_of_the_machine():
    before = run_callbacks._processor_times()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    seconds, busy, own = np.subtract(run_callbacks._processor_times(), before)
    assert own >= 0.3 and seconds >= 0.29
    # Counted in hundredths of a second, once a tick.
    assert own - 0.1 <= busy <= seconds * os.cpu_count() + 0.1


def test_fit_asks_with_its_threads(monkeypatch):
    seen = []

    class Noted(SayIfOversubscribed):
        def __init__(self, threads):
            super().__init__(threads)
            seen.append(threads)

    monkeypatch.setattr(
        "keras_debias.training.network_wrapper.SayIfOversubscribed", Noted
    )
    model = kd.DebiasedModel(
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    model.fit(np.eye(3), np.array([0, 1, 1]), verbose=0)
    if keras.config.backend() == "torch":
        import torch

        expected = torch.get_num_threads()
    else:
        chosen = os.environ.get("TF_NUM_INTRAOP_THREADS", 0)
        is_tensorflow = keras.config.backend() == "tensorflow"
        expected = int(is_tensorflow and chosen) or os.cpu_count()
    assert seen == [expected]
