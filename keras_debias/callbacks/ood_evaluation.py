"""`OODEvaluation`: scores on other splits after each epoch, in the logs."""

from collections.abc import Mapping
from collections.abc import Sequence

import keras

from keras_debias.data.arguments import check_batch_size
from keras_debias.data.arguments import check_flag
from keras_debias.data.arguments import check_int
from keras_debias.data.labels import check_label_names
from keras_debias.data.split import Split
from keras_debias.evaluation.evaluate import check_scoring
from keras_debias.evaluation.evaluate import check_splits
from keras_debias.evaluation.evaluate import score_splits
from keras_debias.evaluation.evaluate import warn_of_groups
from keras_debias.evaluation.outputs import threshold_tuner
from keras_debias.evaluation.predicted import kind_of
from keras_debias.evaluation.score_frame import MIN_GROUP_SIZE
from keras_debias.evaluation.score_frame import Settings
from keras_debias.metrics.get import GENERATION
from keras_debias.metrics.get import REGRESSION
from keras_debias.metrics.get import named_metrics

GROUP_SUFFIXES = ("worst_group_accuracy", "gap")
SUFFIXES = ("accuracy", "weighted_f1", *GROUP_SUFFIXES)


class OODEvaluation(keras.callbacks.Callback):
    """Evaluates other splits after each epoch and writes into the logs.

    For a split `"hans"` the logs get `hans_accuracy`, `hans_weighted_f1` and,
    if it has groups, `hans_worst_group_accuracy` and `hans_gap`. Later
    callbacks and `History` see them, so that
    `EarlyStopping(monitor="hans_worst_group_accuracy", mode="max")` works;
    put `OODEvaluation` first.

    A metric `"auroc"` writes `hans_auroc` and, with groups,
    `hans_worst_group_auroc` and `hans_auroc_gap`. Splits with float labels are
    regressions: they write metrics only, by default `rmse`, `mae`, `r2`,
    `pearson` and `spearman`. Splits of prompts and answers (see `kd.evaluate`)
    also write metrics only, by default `exact_match`, `token_f1` and
    `reference_nll`. Undefined values are NaN. A split that does not fit the
    model raises before the first step.

    Args:
        splits: dict from name to `keras_debias.data.Split` with labels, or
            one `Split` with a name.
        batch_size: int or None, passed to `model.predict`. Defaults to
            `None`.
        every: int. Evaluate in the first epoch and in every `every`-th
            epoch after it; in between, the last values are repeated. Defaults
            to `1`.
        label_names: sequence of strings or None, the names of the model's
            outputs in their order; see `keras_debias.evaluate`. Defaults to
            `None`.
        from_logits: bool or None, see `keras_debias.evaluate`. Defaults to
            `None`.
        min_group_size: int, see `keras_debias.evaluate`. Defaults to `10`.
        metrics: dict from name to metric, or sequence of metrics, see
            `keras_debias.evaluate`. Defaults to `None`.
        tune_threshold_on: `Split` with multi-hot labels or None: before each
            evaluation the model's `tune_threshold` is called with it, for a
            `LabelWordClassifier` with several labels a row. Defaults to
            `None`.
        every_steps: int or None: also evaluate after every `every_steps`
            steps of the run, and keep the values in `history`. Defaults to
            `None`.

    Attributes:
        history: list of dicts, one for each evaluation: `"step"`, the number
            of steps of `fit` before it, and the logs. See
            `kd.evaluation.plot_history`.

    Raises:
        ValueError: If there is no split, `every` is out of range, or a name is
            missing, empty, `"val"`, or would write the same log as another.
        TypeError: If an argument has the wrong type.

    Example:

    ```python
    model.fit(
        train,
        callbacks=[
            keras_debias.callbacks.OODEvaluation({"hans": hans}),
            keras.callbacks.EarlyStopping(
                monitor="hans_worst_group_accuracy", mode="max"
            ),
        ],
    )
    ```
    """

    def __init__(
        self,
        splits: Split | Mapping[str, Split],
        batch_size: int | None = None,
        every: int = 1,
        label_names: Sequence[str] | None = None,
        from_logits: bool | None = None,
        min_group_size: int = MIN_GROUP_SIZE,
        metrics: Mapping | Sequence | None = None,
        tune_threshold_on: Split | None = None,
        every_steps: int | None = None,
    ):
        super().__init__()
        if isinstance(splits, Split) and not splits.name:
            raise ValueError(
                "`splits` as a single `Split` needs a name for its logs. Pass "
                "a dict: `OODEvaluation({'hans': split})`."
            )
        if isinstance(every, bool) or not isinstance(every, int):
            raise TypeError(
                f"Expected `every` to be an integer. Received: every={every!r}"
            )
        if every < 1:
            raise ValueError(
                "Expected `every` to be at least 1 epoch. Received: "
                f"every={every}"
            )
        self.splits = check_splits(splits)
        if label_names is not None:
            label_names = check_label_names(label_names)
        if from_logits is not None:
            check_flag("from_logits", from_logits)
        self.from_logits = from_logits
        self.min_group_size = check_int("min_group_size", min_group_size, 1)
        self.batch_size = check_batch_size(batch_size)
        self.every = every
        self.label_names = label_names
        self.metrics = named_metrics(metrics)
        taken = {"accuracy", "weighted_f1"} & set(self.metrics)
        if taken:
            raise ValueError(
                "Expected metrics besides those that are always logged. "
                f"Received: {sorted(taken)}. Leave them out, or name them "
                "otherwise with a dict."
            )
        if tune_threshold_on is not None and not isinstance(
            tune_threshold_on, Split
        ):
            raise TypeError(
                "Expected `tune_threshold_on` to be a `Split` or None. "
                f"Received: {type(tune_threshold_on).__name__}"
            )
        self.tune_threshold_on = tune_threshold_on
        if every_steps is not None:
            check_int("every_steps", every_steps, 1)
        self.every_steps = every_steps
        self.history = []
        self._step = self._before = 0
        if len(set(self.log_names)) != len(self.log_names):
            raise ValueError(
                "Expected each split to write logs of its own. Received: "
                f"{list(self.splits)}, which write {self.log_names}. Rename "
                "one of them."
            )
        if "val" in self.splits:
            raise ValueError(
                "Expected a split not to be called 'val': 'val_accuracy' is "
                "the log of Keras' own validation data. Received: "
                f"{list(self.splits)}. Rename it."
            )
        warn_of_groups(self.splits, self.min_group_size)
        self._last = {}

    @property
    def log_names(self) -> tuple[str, ...]:
        """The names of the logs it writes."""
        names = []
        for name, split in self.splits.items():
            grouped = split.groups is not None
            own = {"regression": REGRESSION, "generation": GENERATION}.get(
                kind_of(split)
            )
            if own is None:
                names += [
                    f"{name}_{suffix}"
                    for suffix in SUFFIXES
                    if grouped or suffix not in GROUP_SUFFIXES
                ]
            for metric in self.metrics or own or ():
                names += _metric_logs(name, metric)[: 3 if grouped else 1]
        return tuple(names)

    def on_train_begin(self, logs=None):
        self._last = {}
        self.history = []
        self._step = 0
        self._tune()
        check_scoring(
            self.model,
            self.splits,
            label_names=self.label_names,
            from_logits=self.from_logits,
            metrics=self.metrics,
        )

    def _tune(self) -> None:
        if self.tune_threshold_on is None:
            return
        tune = threshold_tuner(self.model)
        if tune is None:
            raise ValueError(
                "Expected a model with `tune_threshold`, such as a "
                "`LabelWordClassifier` with `multi_label=True`. Received: "
                f"{type(self.model).__name__}. Leave out `tune_threshold_on`."
            )
        tune(self.tune_threshold_on, batch_size=self.batch_size)

    def on_epoch_begin(self, epoch, logs=None):
        self._before = self._step

    def on_train_batch_end(self, batch, logs=None):
        # Not one by one with `steps_per_execution`.
        done, self._step = self._step, self._before + batch + 1
        every = self.every_steps
        if every and self._step // every > done // every:
            self._evaluate()

    def on_epoch_end(self, epoch, logs=None):
        # `_last` is empty at the start, or when a run resumes between two
        # turns
        if epoch % self.every == 0 or not self._last:
            self._last = self._evaluate()
        if logs is not None:
            logs.update(self._last)

    def _evaluate(self) -> dict[str, float]:
        if self.history and self.history[-1]["step"] == self._step:
            return {k: v for k, v in self.history[-1].items() if k != "step"}
        self._tune()
        scores = score_splits(
            self.model,
            self.splits,
            label_names=self.label_names,
            from_logits=self.from_logits,
            batch_size=self.batch_size,
            settings=Settings(min_group_size=self.min_group_size),
            metrics=self.metrics,
        )
        values = {}
        for name, split in self.splits.items():
            score, grouped = scores[name], split.groups is not None
            if score.accuracy is not None:
                values |= {
                    f"{name}_{suffix}": getattr(score, suffix)
                    for suffix in SUFFIXES
                    if grouped or suffix not in GROUP_SUFFIXES
                }
            for metric in score.metrics.values():
                parts = metric.value, metric.worst, metric.gap
                logs = _metric_logs(name, metric.name)
                values |= dict(zip(logs[: 3 if grouped else 1], parts))
        logs = {
            log: float("nan") if value is None else float(value)
            for log, value in values.items()
        }
        self.history.append({"step": self._step, **logs})
        return logs


def _metric_logs(split: str, metric: str) -> list[str]:
    """The logs of a metric: all rows, the worst group, the gap."""
    return [
        f"{split}_{metric}",
        f"{split}_worst_group_{metric}",
        f"{split}_{metric}_gap",
    ]


def flat_callbacks(callbacks) -> list:
    """The callbacks in what `fit` takes, in their order.

    Args:
        callbacks: see `check_callback_order`.
    """
    if callbacks is None:
        return []
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    if isinstance(callbacks, keras.callbacks.Callback):
        return [callbacks]
    return [one for part in callbacks for one in flat_callbacks(part)]


def check_callback_order(callbacks) -> None:
    """Raises if a callback would read logs that are not written yet.

    Args:
        callbacks: What `fit` takes: None, a callback, a list of them, or a
            `keras.callbacks.CallbackList`.

    Raises:
        ValueError: If an `OODEvaluation` comes after an `EarlyStopping`, or
            after any callback that monitors one of its logs.

    Example:

    >>> check_callback_order([keras.callbacks.TerminateOnNaN()])
    """
    callbacks = flat_callbacks(callbacks)
    for position, callback in enumerate(callbacks):
        if not isinstance(callback, OODEvaluation):
            continue
        for earlier in callbacks[:position]:
            monitor = getattr(earlier, "monitor", None)
            stops = isinstance(earlier, keras.callbacks.EarlyStopping)
            if not stops and monitor not in callback.log_names:
                continue
            kind = type(earlier).__name__
            raise ValueError(
                f"`OODEvaluation` is placed after `{kind}` (which monitors "
                f"{monitor!r}), so its logs {callback.log_names} come too "
                "late. Callbacks run in order: put `OODEvaluation` before "
                f"`{kind}` in `callbacks`. Received: callbacks="
                f"{[type(c).__name__ for c in callbacks]}"
            )
