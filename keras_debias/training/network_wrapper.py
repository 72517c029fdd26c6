import keras

from keras_debias import _keras_internals
from keras_debias.callbacks.ood_evaluation import check_callback_order
from keras_debias.data.split import Split
from keras_debias.training.inputs import Inputs
from keras_debias.training.inputs import network_inputs
from keras_debias.training.run_callbacks import EpochOrder
from keras_debias.training.run_callbacks import StopAtNonFinite


class NetworkWrapper(keras.Model):
    """A Keras model around `self.model`, without a step of its own.

    `fit`, `evaluate` and `predict` take what Keras' own take, and Splits and
    raw strings. What a backend trains is in `BaseDebiasedModel`.
    """

    # The network.

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

    def own_callbacks(self) -> list[keras.callbacks.Callback]:
        """What must run before all other callbacks of `fit`."""
        return []

    # Keras' own methods, with our inputs.

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

        Raises:
            ValueError: If nothing trains, labels do not fit the network, an
                `OODEvaluation` comes too late among the callbacks, or the
                loss or the logits of a batch are not finite (the weights are
                then those before the batch).
        """
        self._assert_compile_called("fit")
        self._check_trainable()
        callbacks = list(callbacks or [])
        check_callback_order(callbacks)
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = Inputs.cut(
                x, y, sample_weight, validation_split
            )
        if isinstance(x, Split) and self.label_names is None:
            self.label_names = x.label_names
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
            self.check_tables(train.batches.rows)
        self.regularization.prepare_cache(train.batches)
        if train.batches is not None:
            self.regularization.warn_if_idle(
                min(train.batches.rows, train.batches.batch_size)
            )
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
        if train.batches is not None:
            callbacks.insert(0, EpochOrder(train.batches))
        callbacks = [*self.own_callbacks(), *callbacks, StopAtNonFinite()]
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
        self._check_trainable()
        x, y, sample_weight = Inputs.one_batch(self, x, y, sample_weight)
        return super().train_on_batch(x, y, sample_weight, **kwargs)

    def test_on_batch(self, x, y=None, sample_weight=None, **kwargs):
        x, y, sample_weight = Inputs.one_batch(self, x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, **kwargs)

    def predict_on_batch(self, x):
        x, _, _ = Inputs.one_batch(self, x, None, None)
        return super().predict_on_batch(x)

    def _trainable_ids(self):
        return [id(v) for v in self.trainable_variables]

    def _check_trainable(self):
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
        if self._constrained_for not in (None, ids):
            raise ValueError(
                "Expected the trainable weights that `Subspace` has "
                f"constrained ({len(self._constrained_for)}). Received: "
                f"{len(ids)}, others than before. Make a new "
                "`DebiasedModel` after changing what trains."
            )
        self.regularization.check_teachers()
        self.regularization.check_logits(
            _keras_internals.compiled_loss_arguments(self)[0]
        )

    # Adapters that come or go make traced functions stale.

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
