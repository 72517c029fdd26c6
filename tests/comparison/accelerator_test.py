"""The memory of a GPU, which the machines of the tests do not have."""

import sys
import types

import keras
import pytest

from keras_debias.comparison.accelerator import Accelerator


def test_a_cpu_has_none():
    accelerator = Accelerator()
    accelerator.reset_peak()
    assert accelerator.name is None
    assert accelerator.peak() is None


def fake_torch(log):
    return types.SimpleNamespace(
        cuda=types.SimpleNamespace(
            is_available=lambda: True,
            get_device_name=lambda: "Card",
            reset_peak_memory_stats=lambda: log.append("reset"),
            max_memory_allocated=lambda: 7,
        )
    )


def fake_tensorflow(log):
    return types.SimpleNamespace(
        config=types.SimpleNamespace(
            list_physical_devices=lambda kind: [kind],
            experimental=types.SimpleNamespace(
                get_device_details=lambda _: {"device_name": "Card"},
                reset_memory_stats=lambda _: log.append("reset"),
                get_memory_info=lambda _: {"current": 3, "peak": 7},
            ),
        )
    )


def fake_jax(log):
    # There is nothing to reset.
    log.append("reset")
    device = types.SimpleNamespace(
        platform="gpu",
        device_kind="Card",
        memory_stats=lambda: {"bytes_in_use": 3, "peak_bytes_in_use": 7},
    )
    return types.SimpleNamespace(local_devices=lambda: [device])


FAKES = {"torch": fake_torch, "tensorflow": fake_tensorflow, "jax": fake_jax}


@pytest.mark.parametrize("backend", FAKES)
def test_what_each_backend_says_of_its_gpu(backend, monkeypatch):
    log = []
    monkeypatch.setattr(keras.config, "backend", lambda: backend)
    monkeypatch.setitem(sys.modules, backend, FAKES[backend](log))
    accelerator = Accelerator()
    accelerator.reset_peak()
    assert (accelerator.name, accelerator.peak()) == ("Card", 7)
    assert log == ["reset"]
