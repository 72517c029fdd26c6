"""What `fit`, `evaluate` and `predict` take, and what they refuse."""

import inspect
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from keras import ops

import keras_debias as kd
from keras_debias.data.batches import GROUPS
from keras_debias.data.batches import INDEX
from keras_debias.data.batches import INPUTS
from keras_debias.data.batches import Batches
from tests.architectures import ARCHITECTURES
from tests.combinations import part
from tests.training.step_test import CLASSES
from tests.training.step_test import ROWS
from tests.training.step_test import WIDTH
from tests.training.step_test import compiled
from tests.training.step_test import logits_loss
from tests.training.step_test import network
from tests.training.step_test import rows

TABLE = {a.name: a for a in ARCHITECTURES}


class Pairs(keras.utils.PyDataset):
    def __init__(self, x, y, size):
        super().__init__()
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return len(self.y) // self.size

    def __getitem__(self, index):
        part = slice(index * self.size, (index + 1) * self.size)
        return self.x[part], self.y[part]


def forms(x, y, size):
    """The same batches in every form that `fit` takes."""
    tensors = torch.utils.data.TensorDataset(
        torch.from_numpy(x), torch.from_numpy(y)
    )
    return {
        "split": (kd.data.Split(x, y), {"batch_size": size}),
        "tf.data": (tf.data.Dataset.from_tensor_slices((x, y)).batch(size), {}),
        "torch": (torch.utils.data.DataLoader(tensors, size), {}),
        "pydataset": (Pairs(x, y, size), {}),
        "generator": (
            (
                (x[i : i + size], y[i : i + size])
                for _ in range(2)
                for i in range(0, len(y), size)
            ),
            {"steps_per_epoch": len(y) // size},
        ),
    }


@pytest.mark.parametrize("form", list(forms(*rows(), 4)))
def test_every_form_of_data_trains_alike(form):
    x, y = rows()
    expected = compiled(kd.projections.EDGE())
    expected.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    model = compiled(kd.projections.EDGE())
    data, kwargs = forms(x, y, 4)[form]
    model.fit(data, epochs=2, shuffle=False, verbose=0, **kwargs)
    for a, b in zip(
        model.model.get_weights(), expected.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_evaluate_and_predict_take_them_too():
    x, y = rows()
    model = compiled(metrics=["accuracy"])
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    outputs = model.predict(x, verbose=0)
    np.testing.assert_allclose(
        outputs, network().predict(x, verbose=0), atol=1e-6
    )
    for name, (data, kwargs) in forms(x, y, 4).items():
        steps = {"steps": 3} if "steps_per_epoch" in kwargs else {}
        found = model.evaluate(data, verbose=0, return_dict=True, **steps)
        for key in expected:
            np.testing.assert_allclose(
                found[key], expected[key], atol=1e-5, err_msg=name
            )
    np.testing.assert_allclose(
        model.predict(kd.data.Split(x, y), verbose=0), outputs, atol=1e-6
    )


@pytest.mark.parametrize("pair", part([False, True], period=2))
def test_raw_strings_are_preprocessed_and_shuffled(pair):
    architecture = TABLE["bert_text"]
    x, y = architecture.data(seed=0)
    if not pair:
        x = x[0]
    found = {}
    for seed in (1, 1, 2):
        model = kd.DebiasedModel(architecture.build(), seed=seed)
        model.compile(keras.optimizers.SGD(0.1), loss=logits_loss())
        model.fit(x, y, batch_size=2, epochs=2, verbose=0)
        weights = np.concatenate([w.ravel() for w in model.model.get_weights()])
        if seed in found:
            np.testing.assert_array_equal(weights, found[seed])
        found[seed] = weights
    assert np.abs(found[1] - found[2]).max() > 1e-5

    # Without shuffling: the task's own fit, which cannot shuffle.
    trained = []
    for debiased in (False, True):
        task = architecture.build()
        model = kd.DebiasedModel(task) if debiased else task
        model.compile(keras.optimizers.SGD(0.1), loss=logits_loss())
        kwargs = {"shuffle": False} if debiased else {}
        with warnings.catch_warnings():
            # KerasHub passes a dataset and `shuffle=True` on to Keras.
            warnings.filterwarnings("ignore", "`shuffle=True` was passed")
            model.fit(x, y, batch_size=4, verbose=0, **kwargs)
        trained.append(task.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.once
def test_strings_in_other_forms():
    architecture = TABLE["bert_text"]
    (premises, hypotheses), y = architecture.data(seed=0)
    pairs = (premises.tolist(), hypotheses.tolist())
    split = kd.data.Split(pairs, y)

    class Texts(torch.utils.data.Dataset):
        def __len__(self):
            return len(y)

        def __getitem__(self, i):
            return (pairs[0][i], pairs[1][i]), int(y[i])

    def texts():
        return tf.data.Dataset.from_tensor_slices((pairs, y)).batch(4)

    weights = {}
    for name, data, kwargs in (
        ("split", split, {"batch_size": 4}),
        ("tf.data", texts(), {}),
        ("torch", torch.utils.data.DataLoader(Texts(), 4), {}),
    ):
        model = kd.DebiasedModel(architecture.build(), seed=0)
        model.compile(keras.optimizers.SGD(0.1), loss=logits_loss())
        model.fit(
            data,
            epochs=2,
            shuffle=False,
            verbose=0,
            validation_data=split,
            **kwargs,
        )
        weights[name] = model.model.get_weights()
    for name in ("tf.data", "torch"):
        for a, b in zip(weights[name], weights["split"], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6, err_msg=name)


def test_batches_carry_indices_and_groups():
    seen = []
    groups = np.arange(ROWS, dtype="int32") % 2
    x, y = rows()
    batches = Batches(
        x, y, groups=groups, batch_size=5, shuffle=True, seed=3, with_index=True
    )
    for epoch in (0, 1):
        batches.epoch = epoch
        order = []
        for i in range(batches.num_batches):
            inputs, targets = batches[i]
            index = inputs[INDEX]
            np.testing.assert_array_equal(inputs[INPUTS], x[index])
            np.testing.assert_array_equal(inputs[GROUPS], groups[index])
            np.testing.assert_array_equal(targets, y[index])
            order += index.tolist()
        assert sorted(order) == list(range(ROWS))
        seen.append(order)
    assert seen[0] != seen[1]
    batches.epoch = 0
    assert batches[0][0][INDEX].tolist() == seen[0][:5]
    # An epoch of so many steps goes on where the one before ended.
    stepped = Batches(
        x, y, batch_size=5, shuffle=True, seed=3, steps=2, with_index=True
    )
    order = []
    for epoch in range(3):
        stepped.epoch = epoch
        order += [r for i in range(2) for r in stepped[i][0][INDEX].tolist()]
    assert order == seen[0] + seen[1]


def test_groups_do_not_reach_the_network():
    x, y = rows()
    split = kd.data.Split(x, y, groups=np.arange(ROWS) % 2)
    model = compiled(metrics=["accuracy"])
    history = model.fit(split, validation_data=split, epochs=2, verbose=0)
    assert set(history.history) == {
        "accuracy",
        "loss",
        "val_accuracy",
        "val_loss",
    }


def test_validation_split_takes_the_last_rows():
    x, y = rows()
    model = compiled(optimizer=keras.optimizers.SGD(0.0))
    history = model.fit(x, y, validation_split=0.25, verbose=0).history
    expected = model.evaluate(x[9:], y[9:], verbose=0)
    np.testing.assert_allclose(history["val_loss"], expected, rtol=1e-5)
    split = kd.data.Split(x, y)
    history = model.fit(split, validation_split=0.25, verbose=0).history
    np.testing.assert_allclose(history["val_loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_networks_own_optimizer_decays_the_same_weights(policy):
    keras.config.set_dtype_policy(policy)
    model = network()
    optimizer = keras.optimizers.AdamW(0.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, logits_loss())
    before = [np.array(w) for w in model.get_weights()]
    debiased = kd.DebiasedModel(model, seed=0)
    debiased.compile()
    debiased.optimizer.learning_rate = 0.1
    frozen = {id(v) for v in model.weights if v.name == "bias"}
    zeros = [ops.zeros(v.shape) for v in model.trainable_variables]
    debiased.optimizer.build(model.trainable_variables)
    # Of half precision the inner one: jax steps the outer without state only.
    made = debiased.optimizer
    made = getattr(made, "inner_optimizer", made)
    made.apply(zeros, model.trainable_variables)
    for variable, start in zip(model.weights, before, strict=True):
        share = 1.0 if id(variable) in frozen else 0.95
        found = ops.convert_to_numpy(variable)
        np.testing.assert_allclose(found, share * start, rtol=1e-5)


def test_a_refused_split_does_not_name_the_labels():
    x, y = rows()
    model = compiled()
    wrong = kd.data.Split(x, np.array([f"row {i}" for i in range(ROWS)]))
    with pytest.raises(ValueError, match="out of range"):
        model.fit(wrong, verbose=0)
    assert model.label_names is None
    names = ("a", "b", "c")
    right = kd.data.Split(x, np.array(names)[y], label_names=names)
    model.fit(right, validation_data=right, verbose=0)
    assert model.label_names == names


def test_validation_split_of_a_split():
    x, y = rows()
    split, model = kd.data.Split(x, y), compiled()
    for extra in ({"y": y}, {"sample_weight": np.ones(ROWS)}):
        with pytest.raises(ValueError, match="inside the Split"):
            model.fit(split, validation_split=0.25, verbose=0, **extra)
    with pytest.raises(ValueError, match="on both sides.*1 rows"):
        model.fit(split.take([0]), validation_split=0.25, verbose=0)


@pytest.mark.parametrize(
    "form",
    [
        lambda callback: callback,
        lambda callback: (callback,),
        lambda callback: [[callback]],
        lambda callback: keras.callbacks.CallbackList([callback]),
    ],
    ids=["one", "tuple", "nested", "CallbackList"],
)
def test_callbacks_in_every_form_that_keras_takes(form):
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(epoch)
    )
    x, y = rows()
    history = compiled().fit(
        x, y, epochs=2, callbacks=form(callback), verbose=0
    )
    assert seen == history.epoch == [0, 1]


def test_single_batches():
    x, y = rows()
    one, many = compiled(), compiled()
    loss = one.train_on_batch(x, y)
    many.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
    for a, b in zip(
        one.model.get_weights(), many.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert float(loss) > 0
    assert one.predict_on_batch(x).shape == (ROWS, CLASSES)
    assert np.isfinite(float(one.test_on_batch(x, y)))


def test_compile_without_arguments_takes_the_tasks_own():
    architecture = TABLE["bert"]
    task = architecture.build()
    task.compile()
    model = kd.DebiasedModel(task)
    model.compile()
    assert type(model.optimizer).__name__ == type(task.optimizer).__name__
    assert model.optimizer is not task.optimizer
    x, y = architecture.data(seed=0)
    history = model.fit(x, y, verbose=0).history
    assert set(history) == {"loss", "sparse_categorical_accuracy"}
    plain = kd.DebiasedModel(network())
    with pytest.raises(ValueError, match="is not compiled itself"):
        plain.compile()


def test_token_losses_of_a_causal_lm():
    architecture = TABLE["gpt2"]
    x, y = architecture.data(seed=0)
    weights = x["padding_mask"].astype("float32")
    found = []
    for debiased in (False, True):
        task = architecture.build()
        model = kd.DebiasedModel(task) if debiased else task
        model.compile(keras.optimizers.SGD(0.1), loss=logits_loss())
        model.fit(
            x, y, sample_weight=weights, batch_size=4, shuffle=False, verbose=0
        )
        found.append(task.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    model = kd.DebiasedModel(architecture.build(), kd.projections.EDGE())
    model.compile(keras.optimizers.SGD(0.1), loss=logits_loss())
    history = model.fit(x, y, sample_weight=weights, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    def build():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((WIDTH,))
        x = keras.layers.Dense(8, activation="tanh", dtype=policy)(inputs)
        outputs = keras.layers.Dense(CLASSES, dtype=policy)(x)
        model = keras.Model(inputs, outputs)
        model.dtype_policy = policy
        generator = np.random.default_rng(0)
        model.set_weights(
            [generator.standard_normal(w.shape) for w in model.get_weights()]
        )
        return model

    x, y = rows()
    found = {}
    for name, projection in (
        ("task", None),
        ("edge", kd.projections.EDGE(alpha=1.0)),
    ):
        model = kd.DebiasedModel(build(), projection, seed=0)
        model.compile(keras.optimizers.SGD(0.1), loss=logits_loss())
        scaled = isinstance(
            model.optimizer, keras.optimizers.LossScaleOptimizer
        )
        assert scaled == (policy == "mixed_float16")
        before = model.model.get_weights()
        model.fit(x, y, batch_size=ROWS, shuffle=False, epochs=1, verbose=0)
        found[name] = [
            b - a
            for a, b in zip(model.model.get_weights(), before, strict=True)
        ]
        assert all(v.dtype == "float32" for v in model.model.weights)
    # Close to the float32 step, and free of the loss scale.
    plain = compiled(
        None, _copied(build()), optimizer=keras.optimizers.SGD(0.1)
    )
    before = plain.model.get_weights()
    plain.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
    for a, b, c in zip(
        plain.model.get_weights(), before, found["task"], strict=True
    ):
        np.testing.assert_allclose(c, b - a, atol=5e-3)
    assert any(
        np.abs(a - b).max() > 1e-4
        for a, b in zip(found["task"], found["edge"], strict=True)
    )


def _copied(model):
    copy = keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "dtype": "float32"}
        ),
    )
    copy.set_weights(model.get_weights())
    return copy


def test_infinite_float16_gradients_are_the_loss_scalers_business():
    inputs = keras.Input((WIDTH,))
    model = keras.Model(
        inputs, keras.layers.Dense(CLASSES, dtype="mixed_float16")(inputs)
    )
    model.dtype_policy = "mixed_float16"
    debiased = kd.DebiasedModel(model, kd.projections.EDGE(), seed=0)
    debiased.compile(
        keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), initial_scale=2.0**40
        ),
        loss=logits_loss(),
    )
    x, y = rows()
    before = model.get_weights()
    debiased.fit(x, y, batch_size=ROWS, verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    scale = float(ops.convert_to_numpy(debiased.optimizer.dynamic_scale))
    assert scale == 2.0**39


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="A function of tensorflow that makes variables is traced twice.",
)
@pytest.mark.parametrize("first", ["fit", "evaluate"])
def test_a_step_is_traced_once(first):
    model = network()
    debiased = kd.DebiasedModel(model, kd.projections.EDGE(), seed=0)
    debiased.compile(
        keras.optimizers.Adam(),
        loss=logits_loss(),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)],
    )
    traced, call = [], model.call

    def counted(*args, **kwargs):
        traced.append(tf.inside_function())
        return call(*args, **kwargs)

    model.call = counted
    x, y = rows()
    for method in (first, "fit", "evaluate"):
        getattr(debiased, method)(x, y, batch_size=ROWS // 2, verbose=0)
    assert traced == [True, True]
    found = debiased.evaluate(x, y, verbose=0, return_dict=True)
    answers = model.predict(x, verbose=0).argmax(-1)
    assert found["accuracy"] == pytest.approx((answers == y).mean())


@pytest.mark.skipif(
    keras.config.backend() != "torch",
    reason="Elsewhere a step is traced once, and `compile` makes it anew.",
)
def test_a_layer_frozen_between_epochs_stays_as_it_is():
    model = compiled()
    layer = model.model.layers[1]
    seen = []

    class Switch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            layer.trainable = epoch != 1

        def on_epoch_end(self, epoch, logs=None):
            seen.append(np.array(ops.convert_to_numpy(layer.kernel)))

    x, y = rows()
    start = np.array(ops.convert_to_numpy(layer.kernel))
    model.fit(x, y, epochs=3, verbose=0, callbacks=[Switch()])
    moved = [
        np.abs(b - a).max() > 0
        for a, b in zip([start, *seen], seen, strict=False)
    ]
    assert moved == [True, False, True]


class TestNonFinite:
    def model(self):
        inputs = keras.Input((WIDTH,))
        x = keras.layers.BatchNormalization(momentum=0.5)(inputs)
        x = keras.layers.Dense(CLASSES)(x)
        return keras.Model(inputs, x)

    @pytest.mark.parametrize("where", ["input", "weight"])
    def test_stops_with_the_batch_and_the_weights_before_it(self, where):
        x, y = rows()
        weights = np.ones(ROWS, "float32")
        bad = 9  # in the third batch of four rows
        if where == "input":
            x = x.copy()
            x[bad, 0] = np.inf
        else:
            weights[bad] = np.nan
        model = compiled(
            kd.projections.EDGE(),
            self.model(),
            optimizer=keras.optimizers.Adam(0.1),
        )
        start = model.model.get_weights()
        with pytest.raises(ValueError, match="batch 2 of epoch 0"):
            model.fit(
                x,
                y,
                sample_weight=weights,
                batch_size=4,
                shuffle=False,
                verbose=0,
            )
        expected = compiled(
            kd.projections.EDGE(),
            self.model(),
            optimizer=keras.optimizers.Adam(0.1),
        )
        expected.model.set_weights(start)
        expected.fit(x[:8], y[:8], batch_size=4, shuffle=False, verbose=0)
        for a, b in zip(
            model.model.get_weights(),
            expected.model.get_weights(),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, atol=1e-6)
        assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 2


class TestRefusals:
    def test_labels_out_of_range(self):
        x, y = rows()
        y = y.copy()
        y[:2] = 7
        model = compiled()
        before = model.model.get_weights()
        with pytest.raises(ValueError, match="labels from 0 to 2.*2 of them"):
            model.fit(x, y, verbose=0)
        with pytest.raises(ValueError, match="labels from"):
            model.fit(x, y - 9, verbose=0)
        for a, b in zip(model.model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_labels_of_another_type(self):
        x, y = rows()
        with pytest.raises(TypeError, match="integer labels"):
            compiled().fit(x, y + 0.5, verbose=0)
        with pytest.raises(TypeError, match="takes label names"):
            compiled().fit(x, y.astype(str), verbose=0)

    def test_lengths_differ(self):
        x, y = rows()
        with pytest.raises(ValueError, match="of one length"):
            compiled().fit(x, y[:-1], verbose=0)
        with pytest.raises(ValueError, match="inside the Split"):
            compiled().fit(kd.data.Split(x, y), y, verbose=0)
        with pytest.raises(ValueError, match="not both"):
            compiled().fit(
                x,
                y,
                class_weight={0: 1.0},
                sample_weight=np.ones(ROWS),
                verbose=0,
            )

    def test_nothing_trains(self):
        model = network()
        model.trainable = False
        with pytest.raises(ValueError, match="at least one trainable weight"):
            compiled(model=model).fit(*rows(), verbose=0)

    def test_what_trains_changed(self):
        model = compiled()
        model.fit(*rows(), verbose=0)
        model.model.layers[1].trainable = False
        with pytest.raises(ValueError, match="Call `compile` again"):
            model.fit(*rows(), verbose=0)
        model.compile(keras.optimizers.SGD(0.1), loss=logits_loss())
        model.fit(*rows(), verbose=0)

    def test_not_a_model_or_projection(self):
        with pytest.raises(TypeError, match="`model` to be a `keras.Model`"):
            kd.DebiasedModel("bert")
        with pytest.raises(TypeError, match="`projection` to be"):
            kd.DebiasedModel(network(), projection="edge")
        unbuilt = keras.Sequential([keras.layers.Dense(3)])
        with pytest.raises(ValueError, match="built `model`"):
            kd.DebiasedModel(unbuilt)

    def test_ood_evaluation_after_early_stopping(self):
        split = kd.data.Split(*rows())
        callbacks = [
            keras.callbacks.EarlyStopping("ood_accuracy"),
            kd.callbacks.OODEvaluation({"ood": split}),
        ]
        with pytest.raises(ValueError, match="OODEvaluation"):
            compiled().fit(*rows(), callbacks=callbacks, verbose=0)

    def test_edge_without_a_loss(self):
        model = compiled(kd.projections.EDGE(), loss=None)
        with pytest.raises(ValueError):
            model.fit(*rows(), verbose=0)


def test_the_model_names_its_arguments_and_its_parts():
    parameters = inspect.signature(kd.DebiasedModel).parameters
    assert list(parameters) == [
        *("model", "projection", "regularizers", "objective", "seed", "name")
    ]
    assert parameters["model"].default is inspect.Parameter.empty
    assert parameters["seed"].default is None
    inner = network()
    paths = [layer.name for layer in inner.layers if layer.weights]
    adapter = kd.adapters.LoRA(rank=2, targets=paths[0])
    kd.adapters.apply(inner, adapter, also_train=())
    model = kd.DebiasedModel(
        inner, kd.projections.EDGE(alpha=0.25), kd.regularizers.Diversity()
    )
    text = repr(model)
    assert text.startswith("DebiasedModel(model=<") and "\n" not in text
    assert f"[{adapter!r} on 1 layers]" in text
    for each in (*model.projections, *model.regularizers):
        assert repr(each) in text
    assert len(text) < 600


class Counts(keras.layers.Layer):
    """A layer with a metric of its own: how many batches it has seen."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen = keras.metrics.Sum(name=f"seen_by_{self.name}")

    def call(self, x):
        self.seen.update_state(1.0)
        return x


@pytest.mark.skipif(
    keras.config.backend() == "jax",
    reason="Keras refuses such a layer there, also in `Model.fit`.",
)
def test_metrics_of_layers_are_logged():
    x, y = rows()
    inner = keras.Sequential([Counts(name="inner")])
    network = keras.Sequential(
        [keras.Input((WIDTH,)), inner, keras.layers.Dense(CLASSES)]
    )
    model = compiled(model=network, metrics=["accuracy"])
    for _ in range(2):
        logs = model.fit(x, y, batch_size=4, epochs=2, verbose=0).history
        assert set(logs) == {"loss", "accuracy", "seen_by_inner"}
        # Reset with the others when an epoch begins.
        assert logs["seen_by_inner"] == [len(y) // 4] * 2
