import functools
import os
import random
import warnings
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters import store
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.merge import layers_to_disable
from keras_debias.adapters.merge import require_enabled
from keras_debias.data.batches import GROUPS
from keras_debias.data.batches import INDEX
from keras_debias.layers.adapted_layer import AdaptedLayer
from keras_debias.linalg import dot
from keras_debias.linalg import norm
from keras_debias.losses.identity import identity
from keras_debias.losses.objective import RowLoss
from keras_debias.losses.objective import check_probability
from keras_debias.losses.objective import map_objective
from keras_debias.losses.sample_losses import scores_tokens
from keras_debias.losses.task_objective import TaskObjective
from keras_debias.projections.cached_projection import CachedProjection
from keras_debias.projections.projection import Projection
from keras_debias.projections.task_only import TaskOnly
from keras_debias.training.checksums import compare_checksums
from keras_debias.training.checksums import save_checksums
from keras_debias.training.checksums import with_checksum
from keras_debias.training.checksums import without_checksum
from keras_debias.training.gradient_source import GradientSource
from keras_debias.training.network_wrapper import NetworkWrapper
from keras_debias.training.regularization import Regularization
from keras_debias.training.sensitivity import Sensitivity
from keras_debias.training.shared_backward import GradientComputer
from keras_debias.training.shared_backward import SharedBackward
from keras_debias.training.shared_backward import plan
from keras_debias.training.step_values import StepValues
from keras_debias.training.subspace_constraints import constrain_network
from keras_debias.training.subspace_constraints import constraints_of
from keras_debias.training.subspace_constraints import frozen_components
from keras_debias.utils.numbers import require_seed


class BaseDebiasedModel(NetworkWrapper):
    """The readable definition of the step; see README.md in this folder.

    What is here is the same on every backend. `Step.run` is the sequence of a
    step; a backend adds its own subclass of `Step`.
    """

    def __init__(
        self,
        model,
        projection=None,
        regularizers=None,
        objective=None,
        seed=None,
        name=None,
    ):
        if not isinstance(model, keras.Model):
            raise TypeError(
                "Expected `model` to be a `keras.Model`. "
                f"Received: model={model!r}"
            )
        if isinstance(model, NetworkWrapper):
            raise TypeError(
                "Expected `model` to be the network itself. Received: "
                f"a `{type(model).__name__}` around one. Pass its `.model`."
            )
        if not model.built or not model.weights:
            raise ValueError(
                "Expected a built `model`. Received: "
                f"model={model.name!r}, which has no weights yet. Call it on "
                "a batch first."
            )
        projections = (
            list(projection)
            if isinstance(projection, (list, tuple))
            else [TaskOnly() if projection is None else projection]
        )
        if not all(isinstance(p, Projection) for p in projections):
            raise TypeError(
                "Expected `projection` to be a projection such as `EDGE()`, "
                f"or a list of them. Received: projection={projection!r}"
            )
        if objective is not None and not isinstance(objective, TaskObjective):
            raise TypeError(
                "Expected `objective` to be a `losses.TaskObjective`, such as "
                f"`GroupDRO(4)`, or None. Received: objective={objective!r}"
            )
        if seed is not None:
            require_seed(seed)
        refreshed = [
            isinstance(p, CachedProjection) and p.refresh > 1
            for p in projections
        ]
        if any(refreshed[1:]):
            raise ValueError(
                "Expected a projection with `refresh` to be the first. "
                f"Received: projection={projections}"
            )
        regularization = Regularization(regularizers, model)
        # Last: it changes the network.
        constrained_for = constrain_network(model, projections)
        super().__init__(name=name, dtype=model.dtype_policy)
        self.model = model
        self.projections = projections
        self.objective = objective
        self.regularization = regularization
        self.regularizer_trackers = regularization.trackers
        self.label_names = getattr(model, "label_names", None)
        self.alignment = None
        self.sensitivity = None
        self.alignment_objective = None
        self.evaluating = False
        self._objective_losses = {}
        self._built_for = None
        self._noted_for = None
        self._seen_variables = None
        self._constrained_for = constrained_for
        # Not tracked: the network has the variables.
        self.__dict__["_constraints"] = constraints_of(model)
        self._warned_of = []
        self._planned = None, None
        self.cached_norm_ratio = None
        if any(refreshed):
            self.cached_norm_ratio = self.add_weight(
                name="cached_norm_ratio",
                shape=(),
                dtype="float32",
                initializer="zeros",
                trainable=False,
            )
        if seed is None:
            # Drawn as Keras draws its own seeds: `set_random_seed` fixes it.
            seed = random.randint(0, 2**31 - 1)
        # Keras visits private names last: all weights are there by then.
        self.__dict__["_weights_part"] = _keras_internals.FilePart(
            functools.partial(save_checksums, self._saved_parts),
            functools.partial(compare_checksums, self._saved_parts),
        )
        # A weight, so that a resumed run continues in the same order.
        self.shuffle_seed = self.add_weight(
            name="shuffle_seed",
            shape=(),
            dtype="int32",
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(
                seed, dtype=dtype
            ),
            trainable=False,
        )
        self.built = True

    # Whether `jit_compile` was left to the model.
    decides_compiling = False

    def __repr__(self) -> str:
        # Before `__init__` is over, there is little to show.
        if "_constraints" not in self.__dict__:
            return f"<{type(self).__name__}>"
        counts = {}
        for layer in adapted_layers(self.model).values():
            for adapter in adapters_of(layer):
                counts[repr(adapter)] = counts.get(repr(adapter), 0) + 1
        adapters = [f"{a} on {n} layers" for a, n in counts.items()]
        parts = {
            "model": f"<{type(self.model).__name__} {self.model.name!r}>",
            "adapters": f"[{', '.join(adapters)}]",
            "projection": repr(self.projections),
            "regularizers": repr(self.regularizers),
        }
        if self.objective is not None:
            parts["objective"] = repr(self.objective)
        inside = ", ".join(f"{name}={text}" for name, text in parts.items())
        return f"{type(self).__name__}({inside})"

    @property
    def regularizers(self) -> list:
        """The regularizers, in the order given."""
        return self.regularization.members

    @property
    def shard(self) -> tuple[int, int]:
        """Which part of each batch trains in this process, of how many."""
        return 0, 1

    # The objectives.

    def compile(
        self,
        optimizer="auto",
        loss="auto",
        *,
        metrics="auto",
        weighted_metrics="auto",
        **kwargs,
    ):
        """Configures training as `keras.Model.compile` does.

        Args:
            optimizer: as for Keras. `"auto"` takes the network's own, as it
                was compiled; KerasHub tasks always are. Defaults to
                `"auto"`.
            loss: as for Keras; `"auto"` as above, with its `loss_weights`
                unless they are given. Defaults to `"auto"`.
            metrics: as for Keras; `"auto"` as above when the loss is not
                given either, else none. Defaults to `"auto"`.
            weighted_metrics: like `metrics`. Defaults to `"auto"`.
            **kwargs: other arguments of `keras.Model.compile`. On torch,
                `jit_compile=True` compiles the step up to the optimizer
                for batches of as many rows as the first, each of a few
                lengths by itself, and `evaluate` and `predict` from the
                second batch in a row with the same number of rows.
                `"auto"`, the default, does so where the weights are on an
                accelerator; where a graph cannot hold the network, it says
                why and goes on uncompiled.

        Raises:
            ValueError: If an `"auto"` is left and the network is not
                compiled, or the projection needs a cross entropy and the
                loss is another. At the first batch of `fit`, if
                `jit_compile=True` on torch meets a layer that a graph cannot
                hold.
        """
        own = self.model.get_compile_config() if self.model.compiled else None
        automatic = loss == "auto"

        def resolve(name, value):
            if not isinstance(value, str) or value != "auto":
                return value
            if "metrics" in name and (own is None or not automatic):
                return None
            if own is None:
                raise ValueError(
                    f"Expected `{name}`, as the network "
                    f"'{self.model.name}' is not compiled itself. "
                    f'Received: {name}="auto". Pass it to `compile`.'
                )
            value = keras.saving.deserialize_keras_object(own[name])
            if name == "optimizer" and value is not None:
                _keras_internals.keep_exclusions(value, self.model.optimizer)
            return value

        chosen = resolve("loss", loss)
        if automatic and own is not None:
            # Those of the outputs, which belong to the loss.
            kwargs.setdefault("loss_weights", own.get("loss_weights"))
        if any(
            getattr(o, "of_probabilities", False) for o in self.objectives()
        ):
            # Before the first step: if that fails on JAX, the weights are gone.
            for each in keras.tree.flatten(chosen):
                check_probability(each)
        super().compile(
            optimizer=resolve("optimizer", optimizer),
            loss=chosen,
            metrics=resolve("metrics", metrics),
            weighted_metrics=resolve("weighted_metrics", weighted_metrics),
            **kwargs,
        )
        self.decide_compiling(kwargs.get("jit_compile", "auto"))
        self._objective_losses = {}
        self._built_for = None
        # Regularizers are checked against the new loss.
        self._noted_for = None

    def decide_compiling(self, jit_compile) -> None:
        """What `jit_compile="auto"` means, where Keras does not know."""

    @property
    def output_names(self):
        """The network's names of its outputs, by which Keras logs losses."""
        return self.model.output_names

    def get_compile_config(self):
        config = super().get_compile_config()
        if config and self.decides_compiling:
            # Keras keeps what it was on this device.
            config["jit_compile"] = "auto"
        return with_checksum(config) if config else config

    def compile_from_config(self, config):
        config = without_checksum(config)
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def objectives(self) -> list[Callable | GradientSource]:
        """All objectives of the step, the task's first, each once.

        The last is `GradientSource.REGULARIZERS` if projections must not see
        the gradient of the regularizers. Otherwise the regularizers join the
        task's loss.
        """
        objectives: list[Callable | GradientSource] = [identity]
        for projection in self.projections:
            for name, objective in projection.objectives.items():
                if name != "task" and objective not in objectives:
                    objectives.append(objective)
        extra = self.alignment_objective
        if extra is not None and extra not in objectives:
            objectives.append(extra)
        plain = all(type(p) is TaskOnly for p in self.projections)
        if self.regularizers and not (plain and extra is None):
            objectives.append(GradientSource.REGULARIZERS)
        return objectives

    def objective_loss(self, objective):
        """The compiled loss with an objective between values and mean."""
        if objective not in self._objective_losses:
            self._objective_losses[objective] = self._with_objective(objective)
        return self._objective_losses[objective]

    def _with_objective(self, objective):
        loss, weights, names = _keras_internals.compiled_loss_arguments(self)
        if loss is None:
            raise ValueError(
                "Expected a compiled `loss`: the objectives of "
                f"{self.projections} are functions of it. "
                "Received: loss=None"
            )
        return _keras_internals.compile_loss(
            map_objective(loss, objective), weights, names
        )

    def _objective_value(self, objective, x, y, y_pred, sample_weight):
        if not getattr(objective, "needs_index", False):
            return self.objective_loss(objective)(y, y_pred, sample_weight)
        _, index = self._rows_of(x, objective)
        loss = self._with_objective(functools.partial(objective, index=index))
        return loss(y, y_pred, sample_weight)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The task's loss: the compiled one, or through the objective."""
        loss, weights, names = _keras_internals.compiled_loss_arguments(self)
        if self.objective is None or not training:
            if y is None or not scores_tokens(loss, y_pred):
                return super().compute_loss(
                    x, y, y_pred, sample_weight, training=training
                )
            # The same value, faster.
            _keras_internals.build_loss(self, y, y_pred)
            return self._with_added_losses(
                self.objective_loss(identity)(y, y_pred, sample_weight)
            )
        if loss is None or keras.tree.is_nested(loss):
            raise ValueError(
                "Expected one compiled `loss` with "
                f"`objective={type(self.objective).__name__}`. "
                f"Received: loss={loss!r}"
            )
        groups, index = self._rows_of(x, self.objective)
        rows = _keras_internals.compile_loss(
            RowLoss(loss, self.objective, groups, index), weights, names
        )
        return self._with_added_losses(rows(y, y_pred, sample_weight))

    def _with_added_losses(self, total):
        for extra in self.losses:
            total = total + _keras_internals.additional_loss(self, extra)
        return total

    @staticmethod
    def _rows_of(x, objective) -> tuple:
        """Groups and indices of the rows of a batch, or `None`."""
        inside = x if isinstance(x, dict) else {}
        rows = inside.get(GROUPS), inside.get(INDEX)
        needed = (
            getattr(objective, "needs_groups", False),
            getattr(objective, "needs_index", False),
        )
        for name, need, part in zip(("groups", "indices"), needed, rows):
            if need and part is None:
                raise ValueError(
                    f"Expected {name} of the rows, which the objective "
                    f"{type(objective).__name__} needs. Received: "
                    f"batches without. Call `fit` with a `kd.data.Split`"
                    + (" that has groups." if name == "groups" else ".")
                )
        return rows

    def check_tables(self, rows) -> None:
        """Raises unless the per-row tables of objectives fit this data."""
        for objective in (*self.objectives(), self.objective):
            known = getattr(objective, "num_rows", None)
            if known not in (None, rows):
                raise ValueError(
                    f"Expected {known} training rows, one for each value of "
                    f"`{type(objective).__name__}`. Received: {rows} rows. "
                    "Make the objective for the rows that train."
                )

    def step_values(
        self, loss, mask, teachers, x, y, y_pred, sample_weight
    ) -> StepValues:
        """All that a step needs of one forward pass.

        Args:
            loss: scalar, the task's loss.
            mask: which rows of the outputs count for the regularizers.
            teachers: dict, the outputs of the regularizers' teachers.
            x, y, sample_weight: the batch.
            y_pred: the outputs of the network.
        """
        terms = self.regularization.values(y, y_pred, mask, teachers)
        penalty = self.regularization.penalty(terms, self.optimizer.iterations)
        values = self._objective_values(
            loss, penalty, x, y, y_pred, sample_weight
        )
        return StepValues(
            loss=loss,
            objectives=[self.optimizer.scale_loss(v) for v in values],
            terms=terms,
            is_finite=_is_finite(_total(loss, penalty), y_pred),
        )

    def _objective_values(self, loss, penalty, x, y, y_pred, sample_weight):
        """The values of all objectives, in their order."""
        objectives = self.objectives()
        joined = GradientSource.REGULARIZERS not in objectives
        values = [_total(loss, penalty) if joined else loss]
        for objective in objectives[1:]:
            if objective is GradientSource.REGULARIZERS:
                value = ops.cast(penalty, loss.dtype)
            else:
                value = self._objective_value(
                    objective, x, y, y_pred, sample_weight
                )
            values.append(value)
        return values

    def track_loss(self, values: StepValues, y_pred, rows=None) -> None:
        """Updates the loss and the regularizers of the logs.

        Args:
            values: the values of the step.
            y_pred: the outputs of the network.
            rows: scalar, the rows of the batch. Defaults to `None`: those of
                `y_pred`.
        """
        if rows is None:
            rows = ops.shape(keras.tree.flatten(y_pred)[0])[0]
        # A refused batch logs NaN, and `fit` raises.
        loss = ops.where(values.is_finite, values.loss, float("nan"))
        tracker = _keras_internals.loss_tracker(self)
        tracker.update_state(loss, sample_weight=rows)
        self.regularization.track(values.terms, rows)

    # From gradients to the update.

    def shared_backward(self, variables) -> SharedBackward | None:
        """The backward pass that the objectives share, if they can."""
        key = [id(v) for v in variables], self.objectives()
        if self._planned[0] != key:
            self._planned = key, plan(self)
        return None if isinstance(self._planned[1], str) else self._planned[1]

    @property
    def separate_passes(self) -> str | None:
        """Why each objective needs its own backward pass, or `None`."""
        self.shared_backward(self.trainable_variables)
        reason = self._planned[1]
        return reason if isinstance(reason, str) else None

    def compute_update(self, computer: GradientComputer, variables) -> list:
        """The update of a step.

        Args:
            computer: computes the gradients of the step's objectives.
            variables: list of the variables that train.
        """
        update = self._compute_update(computer, variables)
        if self.sensitivity is not None:
            scale = self.optimizer.scale_loss(ops.ones((), "float32"))
            self.sensitivity.update_state(update, variables, scale)
        return update

    def _compute_update(self, computer, variables):
        if not self.caches_norm_ratio:
            return self.combine(computer.per_objective(), variables)
        first, *others = self.projections
        ratio = self.cached_norm_ratio

        def exact():
            gradients = computer.per_objective()
            named = {n: gradients[o] for n, o in first.objectives.items()}
            return self.combine(gradients, variables), first.norm_ratio(named)

        def cached():
            # The regularizers join, unless a projection comes between.
            weights = first.weights(ratio.value)
            weights = {o: weights[n] for n, o in first.objectives.items()}
            one = ops.ones_like(ratio.value)
            rows = [weights]
            if GradientSource.REGULARIZERS in self.objectives():
                if others:
                    rows.append({GradientSource.REGULARIZERS: one})
                else:
                    weights[GradientSource.REGULARIZERS] = one
            rows = [[row.get(o) for o in self.objectives()] for row in rows]
            update, *rest = computer.weighted_sums(rows)
            for projection in others:
                update = projection.project({"task": update}, variables)
            for gradients in rest:
                update = [u + g for u, g in zip(update, gradients)]
            return update, ratio.value

        is_due = self.norm_ratio_is_due()
        update, latest = computer.choose(is_due, exact, cached)
        # Of an overflow, as under loss scaling, nothing is known.
        ratio.assign(ops.where(ops.isfinite(latest), latest, 0.0))
        return update

    @property
    def caches_norm_ratio(self) -> bool:
        """Whether some steps take the ratio of norms of an earlier one."""
        return (
            self.cached_norm_ratio is not None
            and self.alignment_objective is None
        )

    def norm_ratio_is_due(self):
        """Whether this step computes the ratio of norms, where it is cached."""
        # Zero: not known yet, as with an optimizer that was used before.
        return ops.logical_or(
            self.optimizer.iterations % self.projections[0].refresh == 0,
            self.cached_norm_ratio.value == 0,
        )

    def combine(self, gradients: dict, variables: list) -> list:
        """The update from the gradients of all objectives."""
        self._track_alignment(gradients)
        update = gradients[identity]
        for projection in self.projections:
            named = {
                name: update if name == "task" else gradients[objective]
                for name, objective in projection.objectives.items()
            }
            update = projection.project({"task": update, **named}, variables)
        if GradientSource.REGULARIZERS in gradients:
            update = [
                u + g
                for u, g in zip(update, gradients[GradientSource.REGULARIZERS])
            ]
        return update

    def _track_alignment(self, gradients):
        if self.alignment_objective is None:
            return
        task = gradients[identity]
        bias = gradients[self.alignment_objective]
        task_norm, bias_norm = norm(task), norm(bias)
        product = task_norm * bias_norm
        safe = ops.where(product > 0, product, ops.ones_like(product))
        cosine = dot(task, bias) / safe
        safe = ops.where(task_norm > 0, task_norm, ops.ones_like(task_norm))
        ratio = bias_norm / safe
        # Under loss scaling gradients overflow at times; such steps are none.
        finite = ops.logical_and(ops.isfinite(cosine), ops.isfinite(ratio))
        for metric, value in zip(self.alignment, (cosine, ratio)):
            metric.update_state(
                ops.where(finite, value, ops.zeros_like(value)),
                sample_weight=ops.cast(finite, "float32"),
            )

    def track_alignment(self, objective) -> None:
        """Logs cosine and norm ratio of two gradients.

        Args:
            objective: the objective to compare the task's gradient with;
                `None` for no longer.
        """
        if self.alignment is None:
            self.alignment = (
                keras.metrics.Mean(name="gradient_cosine"),
                keras.metrics.Mean(name="gradient_norm_ratio"),
            )
        self.alignment_objective = objective
        _keras_internals.drop_compiled_functions(self)

    def track_sensitivity(self, variables, beta1, beta2) -> Sensitivity:
        """Keeps how sensitive the loss is to each entry of some weights.

        Args:
            variables: list of weights that train.
            beta1, beta2: floats. See `Sensitivity`.
        """
        new = Sensitivity(variables, beta1, beta2)
        if self.sensitivity is None or not self.sensitivity.watches(new):
            self.sensitivity = new
            _keras_internals.drop_compiled_functions(self)
        return self.sensitivity

    def get_metrics_result(self):
        result = super().get_metrics_result()
        hidden = [*self.regularizer_trackers] if self.evaluating else []
        if self.evaluating or self.alignment_objective is None:
            hidden += self.alignment or ()
        for metric in hidden:
            result.pop(metric.name, None)
        return result

    def forward_state(self) -> list[keras.Variable]:
        """The weights that a forward pass writes, such as moving means."""
        return [
            variable
            for layer in (
                *_keras_internals.flatten_layers(self.model),
                *([] if self.objective is None else [self.objective]),
            )
            if not isinstance(layer, AdaptedLayer)
            for variable in _keras_internals.own_non_trainable_variables(layer)
        ]

    def random_state(self) -> list[keras.Variable]:
        """The states of the network's seeds, which a forward pass moves."""
        weights = {id(v) for v in self.model.weights}
        return [v for v in self.model.variables if id(v) not in weights]

    # Saving: what the network's own file cannot hold.

    def get_config(self):
        projections = [
            keras.saving.serialize_keras_object(p) for p in self.projections
        ]
        config = {
            "name": self.name,
            "model": keras.saving.serialize_keras_object(self.model),
            "model_compiled": self.model.compiled,
            "model_optimizer_built": bool(
                self.model.compiled
                and self.model.optimizer is not None
                and self.model.optimizer.built
            ),
            "adapters": {
                **store.describe(self.model),
                "moved": store.moved(self.model),
                "starts": store.starts(self.model),
            },
            "projection": projections,
            "regularizers": [
                keras.saving.serialize_keras_object(r)
                for r in self.regularizers
            ],
            "objective": keras.saving.serialize_keras_object(self.objective),
            "label_names": self.label_names,
        }
        return with_checksum(config)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = without_checksum(
            config, ("adapters", "model", "model_compiled", "name")
        )

        def deserialize(value):
            return keras.saving.deserialize_keras_object(
                value, custom_objects=custom_objects
            )

        with warnings.catch_warnings():
            # Of KerasHub's tasks, which have compiled themselves by then.
            warnings.filterwarnings("ignore", "`compile\\(\\)` was not called")
            model = deserialize(config["model"])
        if model.compiled and not config["model_compiled"]:
            # A KerasHub task compiles itself when it is built; the file has
            # no state for an optimizer that was not there.
            model.optimizer = None
            model.compiled = False
        store.restore(model, config["adapters"])
        if model.compiled and model.optimizer is not None:
            # Keras builds it when it compiles, for what trained before there
            # were adapters; the file has states of one that was used.
            optimizer = model.optimizer
            optimizer = type(optimizer).from_config(optimizer.get_config())
            if config.get("model_optimizer_built"):
                optimizer.build(model.trainable_variables)
            model.optimizer = optimizer
        result = cls(
            model,
            projection=[deserialize(p) for p in config.get("projection", ())],
            regularizers=[
                deserialize(r) for r in config.get("regularizers", ())
            ],
            objective=deserialize(config.get("objective")),
            seed=0,
            name=config["name"],
        )
        names = config.get("label_names")
        if names is not None:
            result.label_names = tuple(names)
        return result

    def _own_state(self) -> dict[str, keras.Variable]:
        """Own weights and the random states, which Keras does not save."""
        weights = {id(v) for v in self.weights}
        network = {id(v) for v in self.model.weights}
        own = {v.name: v for v in self.weights if id(v) not in network}
        seeds = [v for v in self.variables if id(v) not in weights]
        own.update({f"seed_{i}": seed for i, seed in enumerate(seeds)})
        for regularizer in self.regularizers:
            teacher = regularizer.teacher
            if teacher is not None:
                name = f"{regularizer.name}_teacher"
                weights = enumerate(teacher.weights)
                own.update({f"{name}_{i}": weight for i, weight in weights})
        return own

    def _saved_parts(self) -> dict[str, list]:
        """All that a file holds, for its checksums."""
        own = list(self._own_state().values())
        own += [x.initial_values[key] for x, key in self._starts().values()]
        own += [c.component for c in frozen_components(self.model).values()]
        parts = {"network": self.model.weights, "own": own}
        if self.compiled and self.optimizer is not None:
            parts["optimizer"] = self.optimizer.variables
        return parts

    def save_own_variables(self, store):
        require_enabled(self.model)
        # Keras calls this before it turns to the layers below.
        for layer in adapted_layers(self.model).values():
            if isinstance(layer, AdaptedLayer):
                layer.save_adapters_separately_once()
        for name, variable in self._own_state().items():
            store[name] = np.asarray(ops.convert_to_numpy(variable))
        for name, (layer, key) in self._starts().items():
            store[name] = layer.initial_values[key]
        for name, constraint in frozen_components(self.model).items():
            store[name] = constraint.component

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """Loads a file of weights, or leaves the model as it was.

        Args:
            filepath: path of a `.weights.h5` or `.keras` file.
            skip_mismatch: bool. Whether layers of other shapes are left out,
                with a warning. Defaults to `False`.
            **kwargs: as for `keras.Model.load_weights`.

        Raises:
            TypeError: If `filepath` is not a path.
            ValueError: If the file cannot be read, is damaged, or is of
                another model. Nothing has changed then.
        """
        if not isinstance(filepath, (str, os.PathLike)):
            raise TypeError(
                "Expected `filepath` to be a path. Received: "
                f"filepath={filepath!r}"
            )
        undo = self._kept_state()
        try:
            super().load_weights(filepath, skip_mismatch, **kwargs)
        except Exception as error:
            undo()
            text = str(error)
            raise ValueError(
                "Expected a whole file with the weights of this model. "
                f"Received: filepath={str(filepath)!r}, "
                f"{text or type(error).__name__}. The model is as it was."
            ) from error
        except BaseException:
            undo()
            raise

    def _kept_state(self):
        """A function that puts back what loading a file may change."""
        variables = list(self.variables)
        optimizer = self.optimizer if self.compiled else None
        variables += [] if optimizer is None else optimizer.variables
        values = [np.array(ops.convert_to_numpy(v)) for v in variables]
        starts = [(x, x.initial_values) for x, _ in self._starts().values()]
        constraints = [
            (c, c.component) for c in frozen_components(self.model).values()
        ]

        def undo():
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            for layer, value in starts:
                layer.initial_values = value
            for constraint, value in constraints:
                constraint.component = value

        return undo

    def load_own_variables(self, store):
        own = self._own_state()
        starts = self._starts()
        constraints = frozen_components(self.model)
        expected = {*own, *starts, *constraints}
        if set(store.keys()) != expected:
            raise ValueError(
                "Expected the weights of a `DebiasedModel` with the state "
                f"{sorted(expected)}. Received: a file with "
                f"{sorted(store.keys())}. Build the model as it was when "
                "saved (dropout too), on the same backend."
            )
        stored = {name: np.asarray(store[name]) for name in expected}
        shapes = {name: tuple(v.shape) for name, v in own.items()}
        shapes |= {
            name: layer.initial_values[key].shape
            for name, (layer, key) in starts.items()
        }
        shapes |= {n: np.shape(c.component) for n, c in constraints.items()}
        for name, shape in shapes.items():
            if stored[name].shape != shape:
                raise ValueError(
                    f"Expected '{name}' of shape {shape}. Received: a file "
                    f"with shape {stored[name].shape}. Build the model as it "
                    "was when saved."
                )
        for name, variable in own.items():
            variable.assign(stored[name])
        for name, (layer, key) in starts.items():
            changed = {**layer.initial_values, key: np.array(stored[name])}
            layer.initial_values = changed
        for name, constraint in constraints.items():
            constraint.component = np.array(stored[name])

    def _starts(self) -> dict[str, tuple]:
        """Where trainable base weights keep their initial values."""
        pairs = [
            (layer, key)
            for layer in layers_to_disable(self.model)
            for key in getattr(layer, "initial_values", {})
        ]
        return {f"start_{i}": pair for i, pair in enumerate(pairs)}


def _total(loss, penalty):
    """The loss and the penalty, if there is one."""
    return loss if penalty is None else loss + ops.cast(penalty, loss.dtype)


def _is_finite(loss, y_pred):
    """Whether a batch may reach the weights: unscaled, in the graph."""
    finite = ops.all(ops.isfinite(ops.cast(loss, "float32")))
    for leaf in keras.tree.flatten(y_pred):
        finite = ops.logical_and(
            finite, ops.logical_not(ops.any(ops.isnan(leaf)))
        )
    return finite
