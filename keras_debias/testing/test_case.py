import functools
import os
import random
import tempfile
import unittest
from unittest import mock

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias import adapters
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.selection import variable_paths
from keras_debias.layers.low_rank import LowRankUpdate
from keras_debias.layers.prefixed_attention import PrefixedAttention
from keras_debias.layers.prompted_block import PromptedBlock
from keras_debias.layers.transformed_layer import TransformedLayer
from keras_debias.linalg import kernel_view
from keras_debias.projections import EDGE
from keras_debias.projections import Projection
from keras_debias.testing.gradients import value_and_gradient
from keras_debias.training import DebiasedModel


def values(model) -> dict[str, np.ndarray]:
    """All weights of a model by path, as copies."""
    return {
        path: np.array(ops.convert_to_numpy(variable))
        for path, variable in variable_paths(model).items()
    }


class DenseGradients(Projection):
    """Checks at trace time that every gradient is there and dense."""

    def project(self, gradients, variables):
        for name, found in gradients.items():
            for gradient, variable in zip(found, variables, strict=True):
                if not ops.is_tensor(gradient):
                    raise TypeError(
                        f"Expected dense gradients. Received: {gradient!r} "
                        f"of '{name}' for {variable.path}"
                    )
                np.testing.assert_equal(
                    tuple(gradient.shape), tuple(variable.shape)
                )
        return gradients["task"]


class TestCase(unittest.TestCase):
    """Contract tests of adapters, projections, regularizers and training.

    Example:

    ```python
    TestCase().run_adapter_test(
        lambda: MyAdapter(),
        build=build_model,
        data=(x, y),
        expected_trainable={"dense/lora_a"},
    )
    ```
    """

    def assert_close(self, actual, expected, tolerance=1e-5, message=""):
        """Checks agreement to `tolerance * max(1, max|expected|)`.

        Args:
            actual: array.
            expected: array of the same shape.
            tolerance: float. Defaults to `1e-5`.
            message: string, for the error. Defaults to `""`.

        Raises:
            AssertionError: If an entry differs by more.
        """
        limit = tolerance * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(
            actual, expected, rtol=0, atol=limit, err_msg=message
        )

    def run_adapter_test(
        self,
        create,
        build,
        data,
        expected_trainable,
        loss=None,
        also_train=None,
        reference=None,
        merges=True,
        learning_rate=0.1,
        changes_nothing=True,
        tolerance=1e-5,
    ) -> dict:
        """The nine invariants of an adapter on one architecture.

        Args:
            create: function without arguments that makes the adapter.
            build: function without arguments that makes the same built,
                uncompiled model each time.
            data: `(x, y)`, a batch of an even number of rows.
            expected_trainable: set of paths of exactly the variables that
                must train.
            loss: Keras loss. Defaults to `None`: sparse cross entropy from
                logits.
            also_train: as for `adapters.apply`. Defaults to `None`.
            reference: array, the expected outputs after ten steps. Defaults to
                `None`: that check is left to the caller.
            merges: bool. Whether `merge` can keep the architecture; it must
                raise otherwise. Defaults to `True`.
            learning_rate: float, for the ten steps. Defaults to `0.1`.
            changes_nothing: bool. Whether applying it does not change the
                outputs. Otherwise they must be unchanged while it is disabled.
                Defaults to `True`.
            tolerance: float. How far outputs after ten steps may lie from
                `reference`, see `assert_close`. Defaults to `1e-5`.

        Returns:
            A dict: `"invariants"`, the numbers of those that held, and
            `"outputs"`, the outputs after ten steps.
        """
        x, y = data
        loss = loss or keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        )
        held = []
        model = build()
        plain_names = set(values(model))
        start = call(model, x)

        # 9. No effect at a distance.
        state = (random.getstate(), np.random.get_state()[1].copy())
        policy = keras.config.dtype_policy()
        adapter = create()
        self.assertEqual(random.getstate(), state[0])
        np.testing.assert_array_equal(np.random.get_state()[1], state[1])
        self.assertIs(keras.config.dtype_policy(), policy)
        held.append(9)

        # 8. Typed values with a config.
        config = keras.saving.serialize_keras_object(adapter)
        again = keras.saving.deserialize_keras_object(config)
        self.assertIs(type(again), type(adapter))
        self.assertEqual(again.get_config(), adapter.get_config())
        self.assertIn(">", config["registered_name"])
        held.append(8)

        # 4. A selector without a match raises, and a failure changes nothing.
        wrong_targets = create()
        wrong_targets.targets = ("no_such_layer",)
        with self.assertRaisesRegex(ValueError, "has these layers"):
            apply(model, wrong_targets, also_train, data, loss)
        self.assertEqual(set(values(model)), plain_names)

        # 1. Applying changes nothing.
        apply(model, adapter, also_train, data, loss)
        generator = np.random.default_rng(0)
        for layer in adapted_layers(model).values():
            if isinstance(layer, LowRankUpdate) and not layer.form.has_start:
                # The same start on every backend.
                for factor in layer.factors_of("read") + layer.factors_of(
                    "write"
                ):
                    if not np.any(ops.convert_to_numpy(factor)):
                        continue
                    noise = generator.standard_normal(factor.shape)
                    factor.assign((0.3 * noise).astype("float32"))
            if isinstance(
                layer, (TransformedLayer, PrefixedAttention, PromptedBlock)
            ):
                for variable in layer.adapter_state().values():
                    if np.ptp(ops.convert_to_numpy(variable)) > 0:
                        noise = generator.standard_normal(variable.shape)
                        variable.assign((0.3 * noise).astype("float32"))
        if changes_nothing:
            self.assert_close(call(model, x), start, message="apply")
        else:
            self.assertGreater(np.abs(call(model, x) - start).max(), 1e-4)
            with adapters.disabled(model):
                self.assert_close(call(model, x), start, message="apply")
        held.append(1)

        taken = "without a(dapters| low)|not train"
        with self.assertRaisesRegex(ValueError, taken):
            apply(model, create(), also_train, data, loss)
        held.append(4)

        # 2. Exactly the declared variables train, through the model's fit.
        # 3. No full-size update is formed on the way.
        trainable = {p for p, v in variable_paths(model).items() if v.trainable}
        self.assertEqual(trainable, set(expected_trainable))
        # Adam moves whatever has a gradient, however small.
        model.compile(keras.optimizers.Adam(0.01), loss=loss)
        # Built in the compiled step, it takes longer than all the rest.
        model.optimizer.build(model.trainable_variables)
        before = values(model)
        with mock.patch.object(
            LowRankUpdate, "delta", side_effect=RuntimeError("full-size update")
        ):
            fit(model, x, y, batch_size=len(y) // 2, epochs=2)
        after = values(model)
        changed = {p for p in before if not np.array_equal(before[p], after[p])}
        state = {
            id(v)
            for layer in _keras_internals.flatten_layers(model)
            for v in _keras_internals.own_non_trainable_variables(layer)
        }
        paths = variable_paths(model)
        changed -= {p for p in changed if id(paths[p]) in state}
        self.assertEqual(changed, set(expected_trainable))
        for path, variable in variable_paths(model).items():
            variable.assign(before[path])
        held.append(2)
        self._check_factors(model)
        held.append(3)

        # 7. Dense gradients; a batch that is not finite changes nothing.
        debiased = DebiasedModel(
            model, projection=[EDGE(alpha=1.0), DenseGradients()], seed=0
        )
        debiased.compile(keras.optimizers.SGD(learning_rate), loss=loss)
        self._check_non_finite(debiased, x, y)
        held.append(7)

        # 5. One trajectory on every backend.
        self._train(debiased, x, y)
        trained = predict(model, x)
        self.assertGreater(np.abs(trained - start).max(), 1e-3)
        if reference is not None:
            self.assert_close(trained, reference, tolerance, "trajectory")
            held.append(5)

        # 6. Save, load, disable and merge are exact.
        self._check_saving(model, build, x, trained, merges)
        held.append(6)
        return {"invariants": sorted(held), "outputs": trained}

    def _train(self, debiased, x, y):
        """Ten steps on the same batch."""
        debiased.fit(
            x,
            y,
            # Weights of one: the step is already compiled for weights.
            sample_weight=np.ones(np.shape(y), "float32"),
            batch_size=len(y),
            epochs=10,
            shuffle=False,
            verbose=0,
        )

    def _check_factors(self, model):
        for path, layer in adapted_layers(model).items():
            if any(
                {"kernel", "refine", "prefix"} & each.exclusive_parts(layer)
                for each in layer.adapters
            ):
                continue
            if not isinstance(layer, LowRankUpdate):
                for variable in layer.trainable_variables:
                    self.assertLessEqual(len(variable.shape), 2, path)
                continue
            update = np.asarray(ops.convert_to_numpy(layer.delta()))
            view = kernel_view(layer)
            a, b = layer.form.factors(layer.low_rank_values)
            self.assertEqual(tuple(a.shape), (view.inputs, layer.rank))
            self.assertEqual(tuple(b.shape), (layer.rank, view.outputs))
            self.assertEqual(update.shape, tuple(layer.kernel.shape), path)
            self.assertFalse(layer.kernel.trainable, path)

    def _check_non_finite(self, debiased, x, y):
        before = values(debiased.model)
        weights = np.ones(np.shape(y), "float32")
        weights[0] = np.nan
        with self.assertRaisesRegex(ValueError, "batch 0 of epoch 0"):
            debiased.fit(
                x, y, sample_weight=weights, batch_size=len(y), verbose=0
            )
        after = values(debiased.model)
        for path in before:
            np.testing.assert_array_equal(after[path], before[path], path)
        iterations = ops.convert_to_numpy(debiased.optimizer.iterations)
        self.assertEqual(int(iterations), 0)

    def _check_saving(self, model, build, x, trained, merges):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "adapter")
            adapters.save(model, path)
            base = build()
            # The head, which stays as it is now.
            owned = {
                id(v)
                for layer in adapted_layers(model).values()
                for each in layer.adapters
                for v in each.state(layer).values()
            }
            targets = variable_paths(base)
            for name, variable in variable_paths(model).items():
                if variable.trainable and id(variable) not in owned:
                    value = np.array(ops.convert_to_numpy(variable))
                    targets[name].assign(value)
            pretrained = call(base, x)
            with adapters.disabled(model):
                self.assert_close(
                    predict(model, x), pretrained, message="disabled"
                )
            self.assert_close(predict(model, x), trained, message="enabled")
            loaded = adapters.load(build(), path)
            self.assert_close(call(loaded, x), trained, message="loaded")
            self.assertEqual(loaded.trainable_variables, [])
        names = set(values(base))
        if not merges:
            before = values(model)
            with self.assertRaisesRegex(ValueError, "Keep the adapter"):
                adapters.merge(model)
            for path, value in values(model).items():
                np.testing.assert_array_equal(value, before[path])
            return
        adapters.merge(model)
        self.assert_close(predict(model, x), trained, message="merged")
        self.assertEqual(set(values(model)), names)
        with self.assertRaisesRegex(ValueError, "has none"):
            adapters.merge(model)

    def run_training_test(self, build, data, loss=None, reference=None) -> dict:
        """Checks full fine-tuning in a `DebiasedModel`.

        The invariants that make sense without an adapter: see
        `run_adapter_test`.

        Args:
            build: function without arguments that makes the same built,
                uncompiled model each time.
            data: `(x, y)`, one batch.
            loss: Keras loss. Defaults to `None`: sparse cross entropy from
                logits.
            reference: array, the expected outputs after ten steps. Defaults to
                `None`: that check is left out.

        Returns:
            A dict: `"invariants"`, the numbers of those that hold, and
            `"outputs"`, the outputs after ten steps.
        """
        x, y = data
        loss = loss or keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        )
        model = build()
        start = call(model, x)
        state = np.random.get_state()[1].copy()
        debiased = DebiasedModel(
            model, projection=[EDGE(alpha=1.0), DenseGradients()], seed=0
        )
        np.testing.assert_array_equal(np.random.get_state()[1], state)
        self.assert_close(predict(debiased, x), start)
        debiased.compile(keras.optimizers.SGD(0.005), loss=loss)
        trainable = {p for p, v in variable_paths(model).items() if v.trainable}
        self._check_non_finite(debiased, x, y)
        before = values(model)
        self._train(debiased, x, y)
        after = values(model)
        changed = {
            p
            for p in before
            if p in trainable and not np.array_equal(before[p], after[p])
        }
        # Some weights are out of reach, such as a key bias in a softmax.
        self.assertGreater(len(changed), 0.7 * len(trainable))
        trained = predict(debiased, x)
        if reference is not None:
            self.assert_close(trained, reference, 2e-5, "trajectory")
        for variable in model.weights:
            variable.trainable = False
        with self.assertRaisesRegex(ValueError, "at least one trainable"):
            debiased.fit(x, y, verbose=0)
        with self.assertRaisesRegex(ValueError, "has none"):
            adapters.merge(model)
        return {"invariants": list(range(1, 10)), "outputs": trained}

    def run_projection_test(self, projection, idempotent=False) -> None:
        """What every projection must keep.

        Args:
            projection: the projection.
            idempotent: bool. Whether projecting twice must equal projecting
                once. Defaults to `False`.
        """
        generator = np.random.default_rng(0)
        config = keras.saving.serialize_keras_object(projection)
        again = keras.saving.deserialize_keras_object(config)
        self.assertEqual(again.get_config(), projection.get_config())
        self.assertIn("task", projection.objectives)
        names = list(projection.objectives)
        shapes = [(), (3,), (4, 2), (2, 3, 2)]

        def gradients(scale=1.0, dtype="float32"):
            return {
                name: [
                    ops.cast(scale * generator.standard_normal(s), dtype)
                    for s in shapes
                ]
                for name in names
            }

        variables = [keras.Variable(np.zeros(s, "float32")) for s in shapes]
        for dtype in ("float32", "bfloat16"):
            found = projection.project(gradients(dtype=dtype), variables)
            self.assertEqual(len(found), len(shapes))
            for gradient, shape in zip(found, shapes):
                self.assertEqual(tuple(gradient.shape), shape)
                self.assertEqual(
                    keras.backend.standardize_dtype(gradient.dtype), dtype
                )
        # Zeros in either gradient, and sizes far from one.
        for name in names:
            given = gradients()
            given[name] = [ops.zeros_like(g) for g in given[name]]
            self._assert_finite(projection.project(given, variables))
        for scale in (1e-25, 1e15):
            self._assert_finite(projection.project(gradients(scale), variables))
        given = gradients()
        once = projection.project(given, variables)
        twice = projection.project({**given, "task": once}, variables)
        if idempotent:
            for a, b in zip(once, twice):
                self.assert_close(
                    ops.convert_to_numpy(b), ops.convert_to_numpy(a)
                )

    def run_regularizer_test(self, regularizer) -> None:
        """What every regularizer must keep.

        Args:
            regularizer: one that accepts 4 outputs and more.
        """
        config = keras.saving.serialize_keras_object(regularizer)
        again = keras.saving.deserialize_keras_object(config)
        self.assertEqual(again.get_config(), regularizer.get_config())
        self.assertIn(">", config["registered_name"])
        self.assertGreaterEqual(float(regularizer.weight_at(0)), 0.0)
        generator = np.random.default_rng(0)
        for shape in ((6, 4), (3, 5, 4)):
            z, teacher = generator.standard_normal((2, *shape)).astype(
                "float32"
            )
            mask = np.ones(shape[:-1], bool)
            mask.reshape(-1)[-2:] = False
            self._check_rows(regularizer, z, teacher, mask)

    def _check_rows(self, regularizer, z, teacher, mask):
        def run(z, mask, dtype="float32"):
            given = regularizer.needs_teacher or None
            function = functools.partial(
                regularizer.call,
                None,
                teacher_pred=given and ops.cast(teacher, dtype),
                mask=None if mask is None else ops.convert_to_tensor(mask),
            )
            return value_and_gradient(function, ops.cast(z, dtype))

        # A float32 scalar, repeatable, and not constant.
        value, gradient = run(z, None)
        self.assertEqual(value.shape, ())
        self.assertEqual(gradient.shape, z.shape)
        self.assertTrue(np.isfinite(gradient).all())
        self.assertGreater(np.abs(gradient).max(), 0.0)
        np.testing.assert_array_equal(run(z, None)[1], gradient)
        self.assert_close(run(z, np.ones_like(mask))[0], value)
        # Masked rows have no influence and no gradient.
        value, gradient = run(z, mask)
        elsewhere = np.where(mask[..., None], z, 7.0)
        self.assert_close(run(elsewhere, mask)[0], value)
        self.assertEqual(np.abs(gradient[~mask]).max(), 0.0)
        # Half precision outside, float32 inside.
        coarse = run(z, mask, "bfloat16")
        self.assert_close(coarse[0], value, 0.05)
        self.assert_close(coarse[1], gradient, 0.05)
        # Small and large logits.
        for scale in (0.0, 1e-4, 1e4):
            self._assert_finite(run(scale * z, mask))

    def _assert_finite(self, tensors):
        for tensor in tensors:
            self.assertTrue(np.isfinite(ops.convert_to_numpy(tensor)).all())


def apply(model, adapter, also_train, data, loss):
    """`adapters.apply`, with the data for an adapter that starts from some."""
    if not adapter.needs_data:
        return adapters.apply(model, adapter, also_train=also_train)
    model.compile(loss=loss)
    return adapters.apply(model, adapter, also_train=also_train, data=data)


def predict(model, x) -> np.ndarray:
    """The outputs of a compiled `predict`."""
    if isinstance(model, DebiasedModel):
        return np.asarray(model.predict(x, verbose=0))
    return np.asarray(
        keras.Model.predict(model, preprocessed(model, x), verbose=0)
    )


def call(model, x) -> np.ndarray:
    """The same outputs without compiling, which takes most of the time."""
    outputs = model(preprocessed(model, x), training=False)
    return np.asarray(ops.convert_to_numpy(outputs))


def preprocessed(model, x):
    """Inputs that went through a task's preprocessor.

    A new pipeline of `predict` takes seconds to do it; `fit` has one.
    """
    if getattr(model, "preprocessor", None) is None:
        return x
    return model.preprocess_samples(x)


def fit(model, x, y, **kwargs):
    """The model's own `fit`, in the order of the rows."""
    return model.fit(x, y, shuffle=False, verbose=0, **kwargs)
