"""Several processes or devices give what one gives with the whole batch."""

import os
from unittest import mock

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.layers.low_rank import LowRankUpdate
from tests import processes
from tests.training import replicas
from tests.training.step_test import logits_loss
from tests.training.step_test import network

# Processes of torch; devices of jax, by what is spread over them.
KINDS = {"torch": ["three_processes"], "jax": ["data", "model"]}


def start(output, *arguments):
    flags = os.environ.get("XLA_FLAGS", "")
    flags += " --xla_force_host_platform_device_count=2"
    return processes.start(
        "tests.training.replicas",
        *arguments,
        output=output,
        environ={"XLA_FLAGS": flags},
    )


def run(folder, kind):
    """The folders that the processes of a kind have written to."""
    if kind != "three_processes":
        folders = [folder]
        started = [start(folder / "output", folder, kind)]
    else:
        folders = [folder / str(rank) for rank in range(3)]
        for each in folders:
            each.mkdir()
        started = [
            start(each / "output", each, folder / "meeting", rank, 3)
            for rank, each in enumerate(folders)
        ]
    codes = [processes.end(process, 400) for process in started]
    failed = [
        (each / "output").read_text(errors="replace")[-4000:]
        for code, each in zip(codes, folders, strict=True)
        if code != 0
    ]
    assert not failed, "\n\n".join(failed)
    return folders


def read(path):
    with np.load(path) as file:
        return dict(file)


def check_all_are_one(kind, tmp_path):
    folders = run(tmp_path, kind)
    alone = tmp_path / "alone"
    alone.mkdir()
    for case in replicas.CASES:
        if kind == "model" and case != "language_model":
            continue
        replicas.write(alone, case)
        expected = read(alone / f"{case}.npz")
        assert "log_gradient_cosine" in expected
        for folder in folders:
            found = read(folder / f"{case}.npz")
            assert set(found) == set(expected)
            for name in expected:
                np.testing.assert_allclose(
                    found[name],
                    expected[name],
                    atol=2e-5,
                    rtol=2e-5,
                    err_msg=f"{folder.name}, {case}, {name}",
                )


if keras.config.backend() in KINDS:

    @pytest.mark.parametrize("kind", KINDS[keras.config.backend()])
    def test_all_of_them_are_one(kind, tmp_path):
        check_all_are_one(kind, tmp_path)

    if keras.config.backend() == "jax":

        def test_a_ragged_last_batch_is_named(monkeypatch):
            debiased, _ = replicas.train("classifier")
            monkeypatch.setattr(type(debiased), "batch_parts", 2)
            x, y = np.zeros((15, 5), "float32"), np.zeros(15, "int32")
            with pytest.raises(ValueError, match="the last of 7"):
                debiased.fit(x, y, batch_size=8, verbose=0)

else:

    def test_a_strategy_of_several_devices_is_refused():
        import tensorflow as tf

        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            with pytest.raises(ValueError, match="2 replicas"):
                kd.DebiasedModel(network())
        # Made outside of the scope, trained inside of it.
        model, x, y, _ = replicas.classifier()
        debiased = kd.DebiasedModel(model)
        debiased.compile("sgd", loss=logits_loss())
        before = [np.array(v) for v in debiased.get_weights()]
        with strategy.scope():
            with pytest.raises(ValueError, match="2 replicas"):
                debiased.fit(x, y, verbose=0)
        for value, old in zip(debiased.get_weights(), before, strict=True):
            np.testing.assert_array_equal(value, old)


def test_rematerialized_activations():
    """`keras.RematScope` recomputes them, and changes nothing else."""
    # Keras' own "full" mode cannot trace a layer with keywords there.
    on_tensorflow = keras.config.backend() == "tensorflow"
    recomputed = "activations" if on_tensorflow else "full"
    calls, found = [], []
    update = LowRankUpdate._update
    for mode in (None, recomputed):
        count = []
        with (
            mock.patch.object(
                LowRankUpdate,
                "_update",
                lambda *args: count.append(1) or update(*args),
            ),
            keras.RematScope(mode=mode),
        ):
            debiased, logs = replicas.train("classifier")
        calls.append(len(count))
        found.append(
            [ops.convert_to_numpy(v) for v in debiased.trainable_variables]
        )
    for plain, rematerialized in zip(*found, strict=True):
        np.testing.assert_allclose(rematerialized, plain, atol=1e-5)
    if keras.config.backend() == "torch":
        # The other two recompute inside a compiled step.
        assert calls[1] > calls[0]
