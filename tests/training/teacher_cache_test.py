"""The teacher's features, once for each training set."""

import keras
import numpy as np
import pytest

import keras_debias as kd
from keras_debias.regularizers import Consistency
from keras_debias.regularizers import TeacherCache
from tests.architectures import ARCHITECTURES
from tests.combinations import part
from tests.training.regularized_step_test import adapted
from tests.training.regularized_step_test import compiled
from tests.training.regularized_step_test import moved
from tests.training.step_test import logits_loss
from tests.training.step_test import network
from tests.training.step_test import rows

TABLE = {a.name: a for a in ARCHITECTURES}


def run(name, cache, epochs=3):
    architecture = TABLE[name]
    model = architecture.build()
    kd.adapters.apply(
        model, kd.adapters.PiSSA(rank=2), also_train=architecture.also_train
    )
    debiased = compiled(
        [Consistency(0.8, cache=cache)],
        moved(model),
        optimizer=keras.optimizers.SGD(0.05),
    )
    x, y = architecture.data()
    logs = debiased.fit(
        x, y, batch_size=3, epochs=epochs, verbose=0, shuffle=True
    ).history
    return debiased, logs


@pytest.mark.parametrize("name", part(["functional", "roberta", "bert_text"]))
def test_the_same_run_as_without(name):
    """Shuffled rows, a head that trains, raw strings."""
    cache = TeacherCache()
    (plain, logs), (cached, found) = run(name, None), run(name, cache)
    for key, expected in logs.items():
        np.testing.assert_allclose(found[key], expected, atol=1e-5)
    for a, b in zip(
        plain.model.get_weights(), cached.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(b, a, atol=1e-5)
    x, y = TABLE[name].data()
    assert len(cache.features) == len(y)
    # Other adapter weights, same rows and base: the cache still serves.
    features = cache.features
    cached.fit(x, y, batch_size=4, verbose=0)
    assert cache.features is features


def test_the_encoder_runs_for_the_student_only():
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, inputs):
            calls.append(1)
            return inputs

    inputs = keras.Input((5,))
    x = keras.layers.Dense(4, name="hidden")(Counting()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    kd.adapters.apply(
        model,
        kd.adapters.LoRA(rank=2, targets=("hidden",)),
        also_train=("logits",),
    )
    cache = TeacherCache()
    debiased = compiled([Consistency(cache=cache)], model, run_eagerly=True)
    x, y = rows()
    debiased.fit(x, y, batch_size=12, verbose=0)
    calls.clear()
    debiased.fit(x, y, batch_size=12, epochs=3, verbose=0)
    # Three steps, and one look whether the cache is this teacher's.
    assert len(calls) <= 3 + 2


def test_stale_caches_are_refused():
    x, y = rows()
    cache = TeacherCache()
    model = compiled([Consistency(cache=cache)])
    model.fit(x, y, verbose=0)
    for other in (x[::-1], x[:-1], x + 1e-3):
        with pytest.raises(ValueError, match="stale one, of 12 rows"):
            model.fit(other, y[: len(other)], verbose=0)
    kernel = model.model.layers[1].kernel
    kernel.assign(2 * np.array(keras.ops.convert_to_numpy(kernel)))
    with pytest.raises(ValueError, match="cache of this teacher"):
        model.fit(x, y, verbose=0)
    cache.clear()
    model.fit(x, y, verbose=0)


@pytest.mark.parametrize("policy", ["float32", "bfloat16", "mixed_float16"])
def test_a_cache_in_a_file(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    x, y = rows()
    path = tmp_path / "teacher.npz"
    compiled([Consistency(cache=TeacherCache(path))]).fit(x, y, verbose=0)
    cache = TeacherCache(path)
    assert cache.load()
    model = compiled([Consistency(cache=cache)])
    model.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="stale"):
        model.fit(x[:6], y[:6], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.regularizers[0].cache.path == str(path)
    loaded.fit(x, y, verbose=0)
    cache.clear()
    assert not path.exists()


def test_what_has_no_fixed_features():
    x, y = rows()
    model = adapted()
    model.layers[1].bias.trainable = True
    frozen = compiled([Consistency(cache=TeacherCache())], model)
    with pytest.warns(UserWarning, match="bias trains"):
        with pytest.raises(ValueError, match="only adapters|be cut there"):
            frozen.fit(x, y, verbose=0)
    subclassed = TABLE["subclassed"]
    model = subclassed.build()
    kd.adapters.apply(
        model, kd.adapters.LoRA(rank=2), also_train=subclassed.also_train
    )
    with pytest.raises(ValueError, match="cannot be cut"):
        compiled([Consistency(cache=TeacherCache())], model).fit(
            *subclassed.data(), verbose=0
        )
    batches = [(x[:4], y[:4])]

    class Dataset(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return batches[index]

    with pytest.raises(ValueError, match="Expected rows with `cache=`"):
        compiled([Consistency(cache=TeacherCache())]).fit(Dataset(), verbose=0)
    with pytest.raises(ValueError, match="not both"):
        Consistency(cache=TeacherCache(), teacher=network())
    with pytest.raises(ValueError, match="TeacherCache"):
        Consistency(cache=True)


def test_one_batch_by_hand_runs_the_teacher():
    x, y = rows()
    model = compiled([Consistency(cache=TeacherCache())])
    model.compile(keras.optimizers.SGD(0.0), loss=logits_loss())
    by_hand = model.train_on_batch(x, y, return_dict=True)
    logs = model.fit(x, y, batch_size=12, verbose=0).history
    np.testing.assert_allclose(
        logs["consistency"], by_hand["consistency"], atol=1e-5
    )
