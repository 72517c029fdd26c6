import contextlib
import os
import warnings

import keras

from keras_debias import _keras_internals
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.apply import changed_trainable
from keras_debias.adapters.apply import note_training
from keras_debias.adapters.merge import require_enabled
from keras_debias.callbacks.ood_evaluation import check_callback_order
from keras_debias.callbacks.ood_evaluation import flat_callbacks
from keras_debias.data.split import Split
from keras_debias.training.inputs import Inputs
from keras_debias.training.inputs import network_inputs
from keras_debias.training.run_callbacks import SayIfOversubscribed
from keras_debias.training.run_callbacks import SetShuffleEpoch
from keras_debias.training.run_callbacks import TerminateOnNonFinite
from keras_debias.utils.files import atomic_write


class NetworkWrapper(keras.Model):
    """A Keras model around `self.model`, without a training step.

    `fit`, `evaluate` and `predict` take what those of Keras take, and also
    Splits and raw strings. The step is in `BaseDebiasedModel`.
    """

    # The network.

    # By this, functions of networks know that `model` is the whole of one.
    wraps_network = True

    def call(self, inputs, training=None):
        # Passed on by hand: on jax no call context reaches the network.
        return self.model(network_inputs(inputs), training=training)

    def build(self, input_shape=None):
        self.built = True

    @property
    def backbone(self):
        """The backbone of the network, if it is a KerasHub task."""
        return getattr(self.model, "backbone", None)

    @property
    def preprocessor(self):
        """The preprocessor of the network, if it is a KerasHub task."""
        return getattr(self.model, "preprocessor", None)

    def generate(self, *args, **kwargs):
        """Generates text with the network, a KerasHub causal LM."""
        return self.model.generate(*args, **kwargs)

    # How the backend takes strings that nothing preprocesses; see `Batches`.
    strings = None
    # The number of rows of every batch must be a multiple of it.
    batch_parts = 1
    # Whether `fit` runs.
    fitting = False
    # In `fit`: a train function, and what layers were asked for under it.
    _fit_answers = None, {}
    # The number of batches before the epoch, see `Batches`.
    first_batch = None

    @property
    def threads(self) -> int:
        """How many threads of the processor compute a step."""
        devices = keras.distribution.list_devices()
        on_cpu = all(device.startswith("cpu") for device in devices)
        return (os.cpu_count() or 1) if on_cpu else 1

    @property
    def writes_files(self) -> bool:
        """Whether this process, of several, writes the files of `fit`."""
        return True

    def local_callbacks(
        self, callbacks: list[keras.callbacks.Callback]
    ) -> list[keras.callbacks.Callback]:
        """The callbacks that run in this process, of several."""
        return callbacks

    def own_callbacks(self) -> list[keras.callbacks.Callback]:
        """Callbacks that must run before all others of `fit`."""
        return []

    def last_callbacks(self) -> list[keras.callbacks.Callback]:
        """Callbacks that must run after all others of `fit`."""
        return []

    # Keras' own methods, with our inputs.

    def export(self, filepath, *args, **kwargs):
        """Exports the network, as `keras.Model.export` does."""
        return self.model.export(filepath, *args, **kwargs)

    # Atomic writes: a file is complete or absent, old or new.

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """Saves to a `.keras` file, which is replaced atomically.

        Args:
            filepath: path, ending in `.keras`.
            overwrite: bool. Whether an existing file may be replaced.
                Defaults to `True`.
            zipped, **kwargs: as for `keras.Model.save`.

        Raises:
            ValueError: If the file exists and `overwrite` is `False`, or
                inside `adapters.disabled`.
        """
        path = str(filepath)
        single = path.endswith(".keras") and zipped in (None, True)
        with self._written(path, overwrite, single) as target:
            if target is not None:
                super().save(target, zipped=zipped, **kwargs)

    def save_weights(self, filepath, overwrite=True, **kwargs):
        """Saves to a `.weights.h5` file, which is replaced atomically.

        Arguments as for `keras.Model.save_weights`.
        """
        path = str(filepath)
        single = path.endswith(".weights.h5")
        single = single and kwargs.get("max_shard_size") is None
        with self._written(path, overwrite, single) as target:
            if target is not None:
                super().save_weights(target, **kwargs)

    @contextlib.contextmanager
    def _written(self, path, overwrite, single):
        """The path to write to; `None` where another process writes."""
        require_enabled(self.model)
        if not overwrite and os.path.exists(path):
            raise ValueError(
                f"Expected `filepath` not to exist yet. Received: "
                f"filepath={path!r}. Pass `overwrite=True` to replace it."
            )
        if not self.writes_files:
            yield None
        elif not single:
            yield path
        else:
            with atomic_write(path) as temporary:
                yield str(temporary)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
        sampler=None,
    ):
        """Trains the network; takes what `keras.Model.fit` takes, and a Split.

        Raw strings go through the preprocessor of a KerasHub task. Arrays
        and Splits are shuffled, as a function of the seed and the epoch, or
        drawn by a `sampler` such as `kd.data.BalancedSampler`, a function of
        a random generator and the number of the pass to its rows.

        Args:
            x: `kd.data.Split`, arrays, strings, or batches, such as a
                `keras.utils.PyDataset`.
            y, batch_size, epochs, verbose, callbacks, validation_split: as
                for `keras.Model.fit`, with its defaults.
            validation_data: a `Split` or as for Keras. Defaults to `None`.
            shuffle, class_weight, sample_weight, initial_epoch,
                steps_per_epoch, validation_steps, validation_batch_size,
                validation_freq: as for `keras.Model.fit`, with its defaults.
            sampler: function, see above. Defaults to `None`: every row once
                an epoch.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: If nothing trains, labels do not fit the network, an
                `OODEvaluation` comes too late among the callbacks, or the
                loss or the logits of a batch are not finite (the weights are
                then those before the batch).
            TypeError: If `x` is neither rows nor batches.

        Example:

        ```python
        network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model = kd.DebiasedModel(network, seed=0)
        model.compile(
            keras.optimizers.Adam(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        x, y = np.eye(3, dtype="float32"), np.array([0, 1, 1])
        history = model.fit(kd.data.Split(x, y), epochs=2, verbose=0)
        history.history["loss"]
        ```
        """
        _keras_internals.require_compiled(self, "fit")
        self._check_trainable()
        callbacks = flat_callbacks(callbacks)
        check_callback_order(callbacks)
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = Inputs.cut(
                x, y, sample_weight, validation_split
            )
        train = Inputs(
            self,
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            shuffle=shuffle,
            class_weight=class_weight,
            steps=steps_per_epoch,
            with_index=True,
            sampler=sampler,
        )
        if train.batches is not None:
            train.batches.first = self.first_batch
            self.check_tables(train.batches.rows)
        if self.objective is not None and train.batches is not None:
            self.objective.check_rows(train.batches.rows, train.batches.groups)
        self.regularization.prepare_cache(train.batches)
        if train.batches is not None:
            self.regularization.warn_if_idle(
                min(train.batches.rows, train.batches.batch_size)
            )
        # Not of a Split that was refused.
        if isinstance(x, Split) and self.label_names is None:
            self.label_names = x.label_names
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)):
                validation_data = (validation_data,)
            validation = Inputs(
                self,
                *validation_data,
                batch_size=validation_batch_size or batch_size,
                steps=validation_steps,
            )
            validation_data = validation.dataset
            validation_steps = validation.steps
        callbacks = self.local_callbacks(callbacks)
        if train.ordered is not None:
            callbacks.insert(0, SetShuffleEpoch(train.ordered))
        callbacks = [
            *self.own_callbacks(),
            *callbacks,
            SayIfOversubscribed(self.threads),
            TerminateOnNonFinite(),
        ]
        callbacks += self.last_callbacks()
        # Past Keras' tracking.
        self.__dict__["_fit_answers"] = None, {}
        self.fitting = True
        try:
            history = super().fit(
                train.dataset,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_data=validation_data,
                shuffle=False,
                class_weight=train.class_weight,
                initial_epoch=initial_epoch,
                steps_per_epoch=train.steps,
                validation_steps=validation_steps,
                validation_freq=validation_freq,
            )
        finally:
            self.fitting = False
            self.__dict__["_fit_answers"] = None, {}
            # For `GradientCosine`, also after an error, where Keras skips
            # `on_train_end`: later calls neither log nor compute it.
            if self.alignment_objective is not None:
                self.track_alignment(None)
        self._built_for = self._trainable_ids()
        return history

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
        **kwargs,
    ):
        """Loss and metrics; takes what `keras.Model.evaluate` takes."""
        self.evaluating = True
        try:
            if not kwargs.get("_use_cached_eval_dataset"):
                inputs = Inputs(
                    self,
                    x,
                    y,
                    sample_weight,
                    batch_size=batch_size,
                    steps=steps,
                )
                x, steps = inputs.dataset, inputs.steps
            return super().evaluate(
                x,
                verbose=verbose,
                steps=steps,
                callbacks=callbacks,
                return_dict=return_dict,
                **kwargs,
            )
        finally:
            self.evaluating = False

    def predict(
        self, x, batch_size=None, verbose="auto", steps=None, callbacks=None
    ):
        """Outputs of the network; takes what `keras.Model.predict` takes."""
        if isinstance(x, Split):
            x = x.x
        inputs = Inputs(self, x, batch_size=batch_size, steps=steps)
        return super().predict(
            inputs.dataset,
            verbose=verbose,
            steps=inputs.steps,
            callbacks=callbacks,
        )

    def train_on_batch(self, x, y=None, sample_weight=None, **kwargs):
        self._check_trainable(every_layer=False)
        x, y, sample_weight = Inputs.one_batch(self, x, y, sample_weight)
        return super().train_on_batch(x, y, sample_weight, **kwargs)

    def test_on_batch(self, x, y=None, sample_weight=None, **kwargs):
        x, y, sample_weight = Inputs.one_batch(self, x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, **kwargs)

    def predict_on_batch(self, x):
        x, _, _ = Inputs.one_batch(self, x, None, None)
        return super().predict_on_batch(x)

    def step_variables(self) -> list[keras.Variable]:
        """The variables that train in a step.

        Keras asks every layer for them. In `fit` the list of all variables is
        kept until compiled functions are dropped.
        """
        if not self.fitting:
            return self.trainable_variables
        variables = self._once_in_fit("variables", lambda: self.variables)
        return [v for v in variables if v.trainable]

    @property
    def metrics(self) -> list[keras.Metric]:
        """The metrics, as Keras lists them.

        Keras asks every layer, twice a step. In `fit` those of the layers are
        kept until compiled functions are dropped.
        """
        if not self.fitting:
            return super().metrics
        own = _keras_internals.own_metrics(self)
        of_layers = self._once_in_fit(
            "metrics",
            lambda: super(NetworkWrapper, self).metrics[len(own) :],
        )
        return [*own, *of_layers]

    def _once_in_fit(self, name, ask):
        """What `ask` returns, until compiled functions are dropped."""
        function, answers = self._fit_answers
        if function is not self.train_function:
            answers = {}
            self.__dict__["_fit_answers"] = self.train_function, answers
        if name not in answers:
            answers[name] = ask()
        return answers[name]

    def _trainable_ids(self):
        return [id(v) for v in self.trainable_variables]

    def _check_trainable(self, every_layer=True):
        """Checks and notes what trains.

        Args:
            every_layer: bool. Whether layers are looked at although the same
                weights train as before: it takes longer than a small step.
        """
        ids = self._trainable_ids()
        if not ids:
            raise ValueError(
                "Expected at least one trainable weight. Received: a model "
                "whose weights are all frozen. Apply an adapter, load one "
                "with `trainable=True`, or unfreeze the network."
            )
        if self._built_for is not None and ids != self._built_for:
            raise ValueError(
                "Expected the trainable weights that the optimizer was made "
                f"for ({len(self._built_for)}). Received: {len(ids)}, others "
                "than before. Call `compile` again after changing what "
                "trains."
            )
        if any(v.constraint is not c for v, c in self._constraints):
            raise ValueError(
                "Expected the constraints that `Subspace` has put on the "
                "network. Received: a network from which another "
                "`DebiasedModel` has taken them. Make a new `DebiasedModel` "
                "with the `Subspace`, and train with one at a time."
            )
        if self._constrained_for not in (None, ids):
            raise ValueError(
                "Expected the trainable weights that `Subspace` has "
                f"constrained ({len(self._constrained_for)}). Received: "
                f"{len(ids)}, others than before. Make a new "
                "`DebiasedModel` after changing what trains."
            )
        if ids == self._noted_for and not every_layer:
            return
        self._warn_of_changes()
        self.regularization.check_teachers()
        self.regularization.check_logits(
            _keras_internals.compiled_loss_arguments(self)[0]
        )
        if adapted_layers(self.model):
            note_training(self.model)
        self._noted_for = ids

    def _warn_of_changes(self):
        changed = changed_trainable(self.model)
        if changed and changed != self._warned_of:
            warnings.warn(
                "Expected adapted layers to train as the adapters left them. "
                f"Received: {len(changed)} weights that do not, such as "
                f"{changed[:4]}: setting `trainable` on a part of a model "
                "reaches adapters and frozen weights alike. Set it before "
                "`adapters.apply`.",
                stacklevel=3,
            )
        self._warned_of = changed

    # Adding or removing adapters makes traced functions stale.

    def _is_stale(self, force):
        # A number: Keras would keep track of each item of a list.
        seen = hash(tuple((id(v), v.trainable) for v in self.weights))
        stale = self._seen_variables not in (None, seen)
        if stale:
            _keras_internals.drop_compiled_functions(self)
        self._seen_variables = seen
        return force or stale

    def make_train_function(self, force=False):
        return super().make_train_function(self._is_stale(force))

    def make_test_function(self, force=False):
        return super().make_test_function(self._is_stale(force))

    def make_predict_function(self, force=False):
        return super().make_predict_function(self._is_stale(force))
