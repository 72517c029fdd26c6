import inspect
import time

import keras
import numpy as np

from keras_debias.adapters import apply
from keras_debias.data.batches import Batches
from keras_debias.data.split import Split
from keras_debias.evaluation.outputs import are_logits
from keras_debias.evaluation.outputs import check_outputs
from keras_debias.evaluation.outputs import probabilities
from keras_debias.evaluation.outputs import warn_of_loss
from keras_debias.features.cut_at_head import cut_at_head
from keras_debias.features.frozen_features import FrozenFeatures
from keras_debias.recipes.best_weights import BestWeights
from keras_debias.recipes.budget import Budget
from keras_debias.training import DebiasedModel
from keras_debias.utils.numbers import require_seed

# Shares such as 1/3 + 2/3 need not sum to one exactly.
ROUNDING = 1e-6
FEATURE_BATCH = 64


class Trainer:
    """Trains the networks of one run: one start, one seed, one budget.

    Args:
        model_fn: function of the number of updates to come (for learning
            rate schedules) to a built and compiled `keras.Model`, a KerasHub
            task or any other. It is called once for each network, always
            after `keras.utils.set_random_seed(seed)`: all networks of a run
            start alike.
        budget: `Budget`, shared by all stages.
        seed: int. Seed of the start and of the order of the rows. Defaults to
            `0`.
        validation: `kd.data.Split`. Defaults to `None`.
        selection: a `kd.comparison.Criterion` or `None`. It picks the
            weights among the budget's checks, on `validation`. Defaults to
            `None`: those after the last update.
        rows: int. Number of training rows that a budget in epochs refers to.
            Defaults to `None`: those of the first stage.
        features: function of a `Split` to a float array of shape `(n, width)`,
            which methods use as the features of a pretrained encoder. Defaults
            to `None`: `kd.features.FrozenFeatures` of a network that
            `model_fn` makes.
        verbose: int. `1` shows progress bars of training and of features,
            `2` prints a line for each stage of training. Defaults to `0`.

    Attributes:
        notes: dict. What a recipe found during training, kept with the result.
        updates, seconds: int and float. What training took so far.

    Raises:
        ValueError: If there is a `selection` and no `validation`.
        TypeError: If `model_fn`, `budget` or `features` is of another type.

    Example:

    ```python
    trainer = kd.recipes.Trainer(build, kd.recipes.Budget(epochs=2), seed=0)
    model = kd.recipes.JTT().fit(trainer, train)
    ```
    """

    def __init__(
        self,
        model_fn,
        budget,
        seed=0,
        validation=None,
        selection=None,
        rows=None,
        features=None,
        verbose=0,
    ):
        if not _is_builder(model_fn):
            raise TypeError(
                "Expected `model_fn` to be a function of the number of "
                f"updates to a compiled network. Received: {model_fn!r}"
            )
        if not isinstance(budget, Budget):
            raise TypeError(
                "Expected `budget` to be a `kd.recipes.Budget`. "
                f"Received: budget={budget!r}"
            )
        require_seed(seed)
        if selection is not None and validation is None:
            raise ValueError(
                "Expected `validation` data with a criterion that picks the "
                f"weights. Received: selection={selection!r}, validation=None"
            )
        if features is not None and not callable(features):
            raise TypeError(
                "Expected `features` to be a function of a split to an array "
                f"of shape (n, width). Received: features={features!r}"
            )
        self.model_fn = model_fn
        self.budget = budget
        self.seed = seed
        self.validation = validation
        self.selection = selection
        self.notes = {}
        self.updates = 0
        self.seconds = 0.0
        self._spent = 0.0
        self._rows = rows
        self._features = features
        self.verbose = verbose

    def fit(
        self,
        train,
        *,
        share=None,
        is_final=True,
        projection=None,
        regularizers=None,
        objective=None,
        loss=None,
        adapters=None,
        sampler=None,
    ) -> DebiasedModel:
        """Trains a new network on a share of the budget.

        Args:
            train: `kd.data.Split`.
            share: float in (0, 1], the part of the budget to spend. Defaults
                to `None`: all that is left.
            is_final: bool. Whether the model of this stage is returned: the
                criterion then picks its weights. Defaults to `True`.
            projection, regularizers, objective: as for `DebiasedModel`, with
                its defaults.
            loss: as for `compile`. Defaults to `None`: the network's own.
            adapters: an adapter or a list, applied to the new network.
                Defaults to `None`.
            sampler: as for `DebiasedModel.fit`. Defaults to `None`.

        Returns:
            The trained `DebiasedModel`.

        Raises:
            TypeError: If `train` is not a `Split`.
            ValueError: If more than the budget would be spent.
        """
        if not isinstance(train, Split):
            raise TypeError(
                "Expected `train` to be a `kd.data.Split`. Received: "
                f"{type(train).__name__}"
            )
        updates = self.claim_updates(share, train)
        model = self.build(
            updates,
            projection=projection,
            regularizers=regularizers,
            objective=objective,
            loss=loss,
            adapters=adapters,
        )
        return self.advance(
            model, train, updates, is_final=is_final, sampler=sampler
        )

    def claim_updates(self, share, train) -> int:
        """Reserves a share of the budget.

        Args:
            share: float in (0, 1], or `None`: all that is left.
            train: `kd.data.Split`. Its rows are those that a budget in epochs
                refers to, unless a stage before or `rows` said so.

        Returns:
            An int, the number of updates.

        Raises:
            ValueError: If more than the budget would be spent.
        """
        if share is None:
            share = 1 - self._spent
        if not 0 < share <= 1 or self._spent + share > 1 + ROUNDING:
            raise ValueError(
                "Expected stages that share one budget. Received: a stage "
                f"with share={share}, after stages with {self._spent:g} in all"
            )
        if self._rows is None:
            # A later stage on part of the rows also refers to all rows.
            self._rows = len(train)
        total = self.budget.updates_for(self._rows)
        before = round(self._spent * total)
        self._spent += share
        # From sums of shares, so that the parts add up to the whole.
        return max(1, round(min(self._spent, 1.0) * total) - before)

    def build(
        self,
        updates,
        *,
        projection=None,
        regularizers=None,
        objective=None,
        loss=None,
        adapters=None,
    ) -> DebiasedModel:
        """A new compiled model, at the start that the seed decides.

        Args:
            updates: int. Number of updates to come, for `model_fn`.
            projection, regularizers, objective: as for `DebiasedModel`, with
                its defaults.
            loss: as for `compile`. Defaults to `None`: the network's own.
            adapters: an adapter or a list of them. Defaults to `None`.

        Returns:
            A `DebiasedModel`.
        """
        return self.wrap(
            self.network(updates, adapters),
            projection=projection,
            regularizers=regularizers,
            objective=objective,
            loss=loss,
        )

    def network(self, updates, adapters=None) -> keras.Model:
        """A new network of `model_fn`, compiled, at the seed's start.

        Args:
            updates: int. Number of updates to come, for `model_fn`.
            adapters: an adapter or a list of them. Defaults to `None`.

        Returns:
            A compiled `keras.Model`.

        Raises:
            TypeError: If `model_fn` returns anything else.
        """
        keras.utils.set_random_seed(self.seed)
        network = self.model_fn(updates)
        if not isinstance(network, keras.Model) or not network.compiled:
            raise TypeError(
                "Expected `model_fn` to return a compiled `keras.Model`: the "
                "optimizer, loss and metrics of every method are its own. "
                f"Received: {network!r}"
            )
        warn_of_loss(network)
        if adapters is not None:
            apply(network, adapters)
        return network

    def wrap(
        self,
        network,
        *,
        projection=None,
        regularizers=None,
        objective=None,
        loss=None,
    ) -> DebiasedModel:
        """A compiled `DebiasedModel` around a compiled network.

        Args:
            network: a compiled `keras.Model`, such as `network()` makes.
            projection, regularizers, objective: as for `DebiasedModel`, with
                its defaults.
            loss: as for `compile`. Defaults to `None`: the network's own.

        Returns:
            A `DebiasedModel`.
        """
        model = DebiasedModel(
            network, projection, regularizers, objective, seed=self.seed
        )
        if loss is None:
            model.compile()
        else:
            model.compile(loss=loss)
        return model

    def wrap_untrained(self, network) -> DebiasedModel:
        """A model to return whose weights are trained in another model.

        Args:
            network: a compiled `keras.Model` that shares its weights with the
                model that trains.

        Returns:
            A compiled `DebiasedModel` that can be saved.
        """
        model = self.wrap(network)
        # Not used so far: a file would lack their states.
        for each in (model, network):
            if not each.optimizer.built:
                each.optimizer.build(each.trainable_variables)
        return model

    def advance(
        self,
        model,
        train,
        updates,
        *,
        is_final=True,
        sampler=None,
        first_update=0,
        evaluated_model=None,
    ) -> DebiasedModel:
        """Trains a model for more updates, in epochs of the budget's checks.

        Args:
            model: `DebiasedModel` to train.
            train: `kd.data.Split`.
            updates: int. Number of updates, as `claim_updates` reserves them.
            is_final: bool. Whether the criterion picks the weights. Defaults
                to `True`.
            sampler: as for `DebiasedModel.fit`. Defaults to `None`.
            first_update: int. Number of updates that the model has made on
                these rows before: their order goes on from there. Defaults to
                `0`.
            evaluated_model: the model to score and to return if the one that
                trains has other outputs. The two share their weights.
                Defaults to `None`: `model`.

        Returns:
            The trained model.
        """
        evaluated_model = model if evaluated_model is None else evaluated_model
        choose = is_final and self.selection is not None
        checks = min(self.budget.checks, updates) if choose else 1
        bounds = np.linspace(0, updates, checks + 1).round().astype(int)
        best = BestWeights(self.validation, self.selection) if choose else None
        for number, steps in enumerate(np.diff(bounds)):
            began = time.perf_counter()
            # So that the order of the rows continues where it ended: epochs
            # between checks may differ by one update.
            model.first_batch = int(first_update + bounds[number])
            try:
                model.fit(
                    train,
                    batch_size=self.budget.batch_size,
                    initial_epoch=number,
                    epochs=number + 1,
                    steps_per_epoch=int(steps),
                    verbose=self.verbose,
                    sampler=sampler,
                )
            finally:
                model.first_batch = None
            self.seconds += time.perf_counter() - began
            if best is not None:
                seen = int(bounds[number + 1])
                best.update(evaluated_model, seen)
        if best is not None:
            self.notes["selected_update"] = best.restore(evaluated_model)
        self.updates += updates
        return evaluated_model

    def predict(self, model, split: Split) -> np.ndarray:
        """Class probabilities of a model.

        Args:
            model: a model of this run.
            split: `kd.data.Split`; its labels are not used.

        Returns:
            A float array of shape `(n, classes)`.
        """
        outputs = model.predict(
            split.x, batch_size=self.budget.batch_size, verbose=0
        )
        return probabilities(
            check_outputs(outputs, len(split), "training"), are_logits(model)
        )

    def features(self, model, split: Split) -> tuple:
        """The last layer of a model's network, and what goes into it.

        Args:
            model: `DebiasedModel`.
            split: `kd.data.Split`; its labels are not used.

        Returns:
            `(head, features)`: a `keras.layers.Dense`, and a float array of
            shape `(n, width)`.

        Raises:
            ValueError: If the network is not functional or sequential, or
                does not end in a `Dense` layer without activation.
        """
        network = model.model
        encoder, head = cut_at_head(network)
        data = Batches(
            split.x,
            batch_size=self.budget.batch_size,
            preprocess=None
            if model.preprocessor is None
            else network.preprocess_samples,
        )
        found = np.asarray(encoder.predict(data, verbose=0), "float32")
        return head, found.reshape(len(split), -1)

    def frozen_features(self, split: Split) -> np.ndarray:
        """Features of a pretrained encoder before training.

        Args:
            split: `kd.data.Split`; its labels are not used.

        Returns:
            A float array of shape `(n, width)`.

        Raises:
            ValueError: If the network has no features that can be read.
        """
        if self._features is None:
            # Its start is that of every network of this run.
            self._features = FrozenFeatures(
                self.network(1),
                batch_size=FEATURE_BATCH,
                verbose=int(self.verbose == 1),
            )
        return self._features(split)


def _is_builder(model_fn) -> bool:
    """Whether a function takes the number of updates."""
    if not callable(model_fn) or isinstance(model_fn, keras.Layer):
        return False
    try:
        inspect.signature(model_fn).bind(1)
    except TypeError:
        return False
    # Some built-in functions have no signature.
    except ValueError:
        return True
    return True
