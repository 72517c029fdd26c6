"""`compare`: methods x seeds under equal budgets, as one table."""

import functools
import gc
import inspect
import os
import tempfile
import time
import traceback
import typing
import warnings
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd

from keras_debias.comparison import fingerprint
from keras_debias.comparison.accelerator import Accelerator
from keras_debias.comparison.average import Average
from keras_debias.comparison.biased_disagreement import BiasedDisagreement
from keras_debias.comparison.comparison import Comparison
from keras_debias.comparison.criterion import Criterion
from keras_debias.comparison.criterion import row_weights
from keras_debias.comparison.environment import environment
from keras_debias.comparison.kept_models import KeptModels
from keras_debias.comparison.kept_models import check_keep
from keras_debias.comparison.metric_criterion import MetricCriterion
from keras_debias.comparison.peak_memory import PeakMemory
from keras_debias.comparison.peak_memory import require_psutil
from keras_debias.comparison.run import Run
from keras_debias.comparison.run_folder import RunFolder
from keras_debias.comparison.workers import run_side_by_side
from keras_debias.comparison.worst_class import WorstClass
from keras_debias.comparison.worst_group import WorstGroup
from keras_debias.data.arguments import LARGEST_SEED
from keras_debias.data.arguments import check_batch_size
from keras_debias.data.arguments import check_int
from keras_debias.data.split import Split
from keras_debias.evaluation.evaluate import check_scoring
from keras_debias.evaluation.evaluate import check_splits
from keras_debias.evaluation.evaluate import score_splits
from keras_debias.evaluation.evaluate import warn_of_groups
from keras_debias.evaluation.generation import is_generation
from keras_debias.evaluation.outputs import threshold_tuner
from keras_debias.evaluation.predicted import kind_of
from keras_debias.evaluation.score_frame import MIN_GROUP_SIZE
from keras_debias.evaluation.score_frame import Settings
from keras_debias.metrics.get import GENERATION
from keras_debias.metrics.get import named_metrics
from keras_debias.projections import Projection
from keras_debias.recipes import Budget
from keras_debias.recipes import FineTuning
from keras_debias.recipes import Recipe
from keras_debias.recipes import Trainer

LONGEST_NAME = 100
# Stateless criteria, which can be computed for a constant answer.
KNOWN = (Average, BiasedDisagreement, WorstClass, WorstGroup)


def compare(
    methods: Mapping[str, Recipe],
    train: Split | Callable[[int], Split],
    splits: Split | Mapping[str, Split],
    seeds: Sequence[int],
    model_fn: Callable[[int], keras.Model],
    budget: Budget,
    *,
    validation: Split | None = None,
    selection: Criterion | None = None,
    criteria: Sequence[Criterion] = (),
    metrics: Mapping | Sequence | None = None,
    folder: str | os.PathLike | None = None,
    batch_size: int | None = None,
    min_group_size: int = MIN_GROUP_SIZE,
    bootstrap: int = 1000,
    prepare_evaluation: Callable | None = None,
    features: Callable | None = None,
    keep: typing.Literal["best", "all"] | None = None,
    workers: int = 1,
    verbose: int = 1,
) -> Comparison:
    """Trains every method with every seed under equal budgets.

    All methods get the same start, rows and number of optimizer updates for a
    seed. With a `folder`, each run is saved as it finishes. When `compare` is
    called again, after an interruption or with more seeds or methods, it makes
    only the missing runs. A run that raises is recorded and does not stop the
    others; the next call repeats it. A saved run whose files cannot be read,
    or whose scores do not follow from its predictions, is repeated as well; a
    warning names it.

    Args:
        methods: dict from name to `kd.recipes.Recipe`, or to a projection,
            which stands for `FineTuning(projection)`. The first is what the
            others are compared with.
        train: `kd.data.Split` with labels, or a function of the seed to one.
        splits: `kd.data.Split` or dict from name to such: the test sets.
        seeds: sequence of different ints.
        model_fn: function of the number of updates to a built and compiled
            `keras.Model`; see `kd.recipes.Trainer`.
        budget: `kd.recipes.Budget`, the same for every method.
        validation: `kd.data.Split` or `None`. `Average`, `WorstClass` and,
            where it has groups, `WorstGroup` are computed on it for every run:
            see `Comparison.choose`. For a regression, these are `rmse` of all
            rows and of the worst group; for generated answers, `exact_match`,
            `token_f1` and `reference_nll`. The threshold of a
            `LabelWordClassifier` with several labels a row is tuned on it.
            Defaults to `None`.
        selection: criterion such as `kd.comparison.WorstClass()`: picks the
            weights among the budget's checks. Defaults to `None`: those
            after the last update.
        criteria: sequence of further criteria to compute, such as
            `kd.comparison.BiasedDisagreement(...)`. Defaults to `()`.
        metrics: dict from name to metric, or sequence of metrics, see
            `kd.evaluate`: further columns of the table. Defaults to `None`:
            for a regression (float labels), `rmse`, `mae`, `r2`, `pearson` and
            `spearman`.
        folder: path, created if it does not exist. Defaults to `None`: nothing
            is saved.
        batch_size: int, for predictions. Defaults to `None`: Keras' own.
        min_group_size, bootstrap: ints, see `kd.evaluate`. Default to `10`
            and `1000`.
        prepare_evaluation: function of the trained model, called before it is
            scored, for instance to set a longer sequence length. Defaults to
            `None`.
        features: function of a `Split` to an array of shape `(n, width)`,
            for methods that look at features of the pretrained model.
            Defaults to `None`: see `kd.recipes.Trainer`.
        keep: `"best"` keeps the trained model of the run to serve, which is
            chosen on `validation` (see `Comparison.best`), `"all"` those of
            all runs that are made. They are saved in `folder` as `.keras`
            files, or kept in memory without a folder; `comparison.model()`
            returns them. Defaults to `None`: no model is kept.
        workers: int. Processes that make runs side by side, each with its
            share of the processor's threads. The results are those of one
            process with as many threads. Functions must be importable: a
            script calls `compare` under `if __name__ == "__main__":`.
            Defaults to `1`: runs are made one by one in this process.
        verbose: int. `1` prints a line a run, `2` shows progress bars as well,
            `0` prints nothing. Defaults to `1`.

    Returns:
        `kd.comparison.Comparison`: print it, save it, or draw it.

    Raises:
        ValueError: Before anything is trained: if a method needs groups and
            the training data has none, a name cannot be shown, seeds repeat,
            there is one class only, or the folder belongs to another
            comparison.
        TypeError: If an argument is of another type.

    Example:

    ```python
    comparison = kd.compare(
        {
            "ERM": kd.recipes.FineTuning(),
            "EDGE": kd.recipes.FineTuning(kd.projections.EDGE()),
            "JTT": kd.recipes.JTT(),
        },
        train,
        {"test": test, "hans": hans},
        seeds=range(3),
        model_fn=build,
        budget=kd.recipes.Budget(epochs=2),
        folder="comparison",
    )
    print(comparison)
    comparison.report("comparison.html")
    ```
    """
    require_psutil()  # before any training
    methods = _check_methods(methods)
    seeds = _check_seeds(seeds)
    splits = check_splits(splits)
    for name in splits:
        check_name(name, "splits")
    check_batch_size(batch_size)
    check_int("bootstrap", bootstrap, 0)
    check_int("min_group_size", min_group_size, 1)
    check_int("workers", workers, 1)
    for name, function in (
        ("model_fn", model_fn),
        ("prepare_evaluation", prepare_evaluation),
    ):
        _check_function(name, function)
    if folder is not None and not isinstance(folder, (str, os.PathLike)):
        raise TypeError(
            "Expected `folder` to be a path or None. Received: "
            f"folder={folder!r}"
        )
    if not isinstance(budget, Budget):
        raise TypeError(
            "Expected `budget` to be a `kd.recipes.Budget`. Received: "
            f"budget={budget!r}"
        )
    if isinstance(criteria, (str, Criterion)) or not isinstance(
        criteria, Iterable
    ):
        raise TypeError(
            "Expected `criteria` to be a sequence of criteria. Received: "
            f"criteria={criteria!r}"
        )
    criteria = tuple(criteria)
    metrics = named_metrics(metrics)
    taken = {"accuracy", "weighted_f1", "gap"} & set(metrics)
    if taken:
        raise ValueError(
            "Expected metrics besides those that are always computed. "
            f"Received: {sorted(taken)}. Leave them out, or name them "
            "otherwise with a dict."
        )
    check_keep(keep, validation)
    if workers > 1 and (keep == "best" or (keep and folder is None)):
        raise ValueError(
            'Expected keep="all" and a `folder`, or no `keep`, with several '
            f"workers. Received: keep={keep!r}, folder={folder!r}, "
            f"workers={workers}. `Comparison.best` says which run to serve."
        )
    for criterion in (selection, *criteria):
        _check_criterion(criterion, validation)
    trains = _check_train(train, seeds, methods)
    keras.utils.set_random_seed(seeds[0])
    updates = budget.updates_for(len(trains[seeds[0]]))
    network = model_fn(updates)
    if not isinstance(network, keras.Model) or not network.compiled:
        raise TypeError(
            "Expected `model_fn` to return a compiled `keras.Model`. Received: "
            f"{network!r}"
        )
    configuration = {
        "splits": {n: fingerprint.of_split(s) for n, s in splits.items()},
        "network": fingerprint.of_model(network),
        "budget": fingerprint.plain(vars(budget)),
        "validation": fingerprint.of_split(validation),
        "selection": fingerprint.of_value(selection),
        "criteria": [fingerprint.of_value(c) for c in criteria],
        "bootstrap": bootstrap,
        # `None` without metrics, as in folders of earlier versions.
        "metrics": {n: repr(m) for n, m in metrics.items()} or None,
        "backend": environment()["backend"],
    }
    _check_scores(network, splits, validation, trains[seeds[0]], metrics)
    del network
    warn_of_groups(splits, min_group_size)
    settings = {n: fingerprint.of_value(m) for n, m in methods.items()}
    store = RunFolder(folder)
    store.register(configuration, settings, min_group_size)

    _say_if_busy(verbose)
    failed = {}
    if workers > 1:
        arguments: dict[str, Any] = {
            "train": train,
            "splits": splits,
            "model_fn": model_fn,
            "budget": budget,
            "validation": validation,
            "selection": selection,
            "criteria": criteria,
            "metrics": metrics or None,
            "batch_size": batch_size,
            "min_group_size": min_group_size,
            "bootstrap": bootstrap,
            "prepare_evaluation": prepare_evaluation,
            "features": features,
            "keep": keep,
        }
        if folder is None:
            with tempfile.TemporaryDirectory() as folder:
                return compare(
                    methods,
                    seeds=seeds,
                    folder=folder,
                    workers=workers,
                    verbose=verbose,
                    **arguments,
                )
        failed = run_side_by_side(
            [
                (name, methods[name], seed)
                for seed in seeds
                for name in methods
                if store.read(name, seed, fingerprint.of_split(trains[seed]))
                is None
            ],
            {**arguments, "folder": folder},
            workers,
            functools.partial(_log, verbose),
        )
    scoring = Settings(min_group_size=min_group_size, bootstrap=bootstrap)
    models = KeptModels(store, keep)
    runs, errors = [], {}
    total, began = len(methods) * len(seeds), time.perf_counter()

    def make(name, seed) -> Run:
        trainer = Trainer(
            model_fn,
            budget,
            seed,
            validation,
            selection,
            len(trains[seed]),
            features,
            int(verbose > 1),
        )
        run, model = _run(
            name,
            methods[name],
            trainer,
            trains[seed],
            splits,
            settings[name],
            batch_size,
            scoring,
            prepare_evaluation,
            criteria,
            metrics,
        )
        store.write(run, fingerprint.of_split(trains[seed]))
        models.add(run, model)
        return run

    for number, (seed, name) in enumerate(
        (s, n) for s in seeds for n in methods
    ):
        data = fingerprint.of_split(trains[seed])
        say = f"[{number + 1}/{total}] {name}, seed {seed}: "
        run = store.read(name, seed, data)
        if run is not None:
            _log(verbose, f"{say}cached")
            runs.append(run)
            continue
        if (name, seed) in failed:
            errors[name, seed] = failed[name, seed]
            _warn_of_failure(name, seed, failed[name, seed])
            continue
        try:
            run = make(name, seed)
        # An error of a method must not stop the comparison.
        except Exception as error:  # noqa: BLE001
            errors[name, seed] = traceback.format_exc()
            store.write_error(name, seed, errors[name, seed])
            _log(verbose, f"{say}broken: {error}")
            _warn_of_failure(name, seed, errors[name, seed])
            continue
        runs.append(run)
        spent = time.perf_counter() - began
        _log(
            verbose,
            f"{say}{run.updates} updates in {run.seconds:.0f} s; "
            f"{spent:.0f} s so far",
        )
    found = Comparison(list(methods), runs, errors, configuration, models)
    if keep == "best":
        _leave_best(found, models, make, verbose)
    return found


def _leave_best(comparison, models, make, verbose) -> None:
    """Keeps the model of the best run; repeats the run if it has none."""
    for _ in comparison.runs:
        try:
            best = comparison.best()
        except ValueError as error:
            warnings.warn(f"No model is kept. {error}", stacklevel=3)
            return
        if (best.method, best.seed) in models.known():
            models.leave(best)
            return
        say = f"{best.method}, seed {best.seed}: "
        _log(verbose, f"{say}made again, for its model was not kept")
        position = comparison.runs.index(best)
        comparison.runs[position] = make(best.method, best.seed)


def _warn_of_failure(name, seed, text):
    """Warns with the last line of a traceback."""
    warnings.warn(
        f"The run of {name!r} with seed {seed} is broken and left out: "
        f"{text.strip().splitlines()[-1]}",
        stacklevel=3,
    )


def _say_if_busy(verbose):
    """Says that other programs take the processors."""
    processors = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > processors + 0.5:
        _log(
            verbose,
            f"Other programs are running: load {load:.1f} on {processors} "
            "processors. Runs will take longer.",
        )


def _log(verbose, text):
    if verbose:
        print(text, flush=True)


def _run(
    name,
    method,
    trainer,
    train,
    splits,
    settings,
    batch_size,
    scoring,
    prepare_evaluation,
    criteria,
    metrics,
) -> tuple:
    """The run, and its model."""
    gc.collect()
    accelerator = Accelerator()
    accelerator.reset_peak()
    with PeakMemory() as memory:
        began = time.perf_counter()
        model = method.fit(trainer, train)
        seconds = time.perf_counter() - began
        if prepare_evaluation is not None:
            prepare_evaluation(model)
        tune = threshold_tuner(model)
        if tune is not None and trainer.validation is not None:
            tune(trainer.validation, batch_size=batch_size)
        scores = score_splits(
            model,
            splits,
            train=train,
            batch_size=batch_size,
            settings=scoring,
            metrics=metrics,
        )
        validation, constant, learned = _criteria(
            model, trainer, train, batch_size, criteria
        )
    run = Run(
        method=name,
        seed=trainer.seed,
        scores=scores,
        settings=settings,
        selection=(
            "last update"
            if trainer.selection is None
            else trainer.selection.name
        ),
        validation=validation,
        notes=fingerprint.plain(trainer.notes),
        updates=trainer.updates,
        seconds=seconds,
        seconds_per_update=trainer.seconds / max(trainer.updates, 1),
        peak_memory=memory.bytes,
        environment=environment(),
        accelerator_memory=accelerator.peak(),
        constant=constant,
        learned=learned,
        bootstrap=scoring.bootstrap,
        min_group_size=scoring.min_group_size,
        **_parameters(model),
    )
    return run, model


def _parameters(model) -> dict:
    """How many parameters train, and how many there are."""
    if not isinstance(model, keras.Model):
        return {}
    return {
        "trainable_parameters": _count(model.trainable_variables),
        "parameters": _count(model.weights),
    }


def _count(variables) -> int:
    return sum(int(np.prod(v.shape)) for v in variables)


def _check_scores(network, splits, validation, train, metrics) -> None:
    """Raises if no run could be scored, before anything is trained."""
    if threshold_tuner(network) is not None:
        return  # without a threshold yet
    own = {} if validation is None else {"validation": validation}
    if kind_of(train) == "class":
        own["train"] = train
    check_scoring(network, own, train=train)
    check_scoring(network, splits, train=train, metrics=metrics)


def _criteria(model, trainer, train, batch_size, further) -> tuple:
    """Criteria of a model and of a constant answer; whether it has learned."""
    split = trainer.validation
    if split is None:
        return {}, {}, None
    kind = kind_of(split)
    regression = kind == "regression"
    if kind == "generation":
        criteria = [
            MetricCriterion(name, worst_group=worst)
            for worst in ((False, True) if split.groups else (False,))
            for name in GENERATION
        ]
    elif regression:
        criteria = [MetricCriterion("rmse")]
        if split.groups is not None:
            criteria.append(MetricCriterion("rmse", worst_group=True))
    else:
        criteria = [Average(), WorstClass()]
        if split.groups is not None:
            criteria.append(WorstGroup())
    # The later ones of a name replace the earlier.
    criteria += [c for c in (trainer.selection, *further) if c is not None]
    wanted = {}
    for criterion in criteria:
        wanted |= criterion.metrics
    scores = score_splits(
        model,
        {"validation": split},
        train=train,
        batch_size=batch_size,
        settings=Settings(),
        metrics=wanted,
    )
    values = {c.name: c.judge(scores, split) for c in criteria}
    predictions = scores.predictions
    if kind == "generation":
        return values, {}, None
    if regression:
        weight = row_weights(predictions)
        labels = predictions["label"].to_numpy("float64")
        mean = np.average(labels, weights=weight)
        constant = np.sqrt(np.average((labels - mean) ** 2, weights=weight))
        return (
            values,
            {"rmse": -float(constant)},
            bool(values["rmse"] > -constant),
        )
    answers = [
        predictions.assign(prediction=label)
        for label in predictions["label"].unique()
    ]
    constant = {
        c.name: max(c.score(answer, split) for answer in answers)
        for c in criteria
        if type(c) in KNOWN
    }
    return values, constant, has_learned(predictions, constant["Average"])


def has_learned(predictions, majority: float) -> bool:
    """Whether a model is better than one answer for all rows.

    It is if its accuracy is above the share of the largest class. It also is
    if the mean accuracy of the classes is above chance by two standard errors,
    as for a model that favors rare classes.
    """
    right = (predictions["label"] == predictions["prediction"]).to_numpy()
    if np.average(right, weights=row_weights(predictions)) > majority:
        return True
    by_class = pd.Series(right).groupby(predictions["label"].to_numpy())
    shares, sizes = by_class.mean(), by_class.size()
    error = np.sqrt((shares * (1 - shares) / sizes).sum()) / len(shares)
    return bool(shares.mean() - 1 / len(shares) > 2 * error)


def _check_methods(methods) -> dict[str, Recipe]:
    if not isinstance(methods, Mapping) or not methods:
        raise TypeError(
            "Expected `methods` to be a non-empty dict from name to "
            f"`kd.recipes.Recipe`. Received: methods={methods!r}"
        )
    found = {}
    for name, method in methods.items():
        check_name(name, "methods")
        if isinstance(method, Projection):
            method = FineTuning(projection=method)
        if not isinstance(method, Recipe):
            raise TypeError(
                f"Expected `methods[{name!r}]` to be a `kd.recipes.Recipe` or "
                f"a projection. Received: {method!r}"
            )
        found[name] = method
    return found


def check_name(name, argument: str) -> None:
    """Raises if a name cannot be shown in tables and in files' names."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(
            f"Expected the names in `{argument}` to be non-empty strings. "
            f"Received: {name!r}"
        )
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(
            f"Expected the names in `{argument}` to have at most "
            f"{LONGEST_NAME} characters, without line breaks, tabs or other "
            f"control characters. Received: {name[:LONGEST_NAME]!r} of "
            f"{len(name)} characters"
        )


def _check_function(name, function) -> None:
    """Raises unless `function` can be called with one argument."""
    if function is None and name == "prepare_evaluation":
        return
    if isinstance(function, keras.Model) or not callable(function):
        raise TypeError(
            f"Expected `{name}` to be a function of one argument. Received: "
            f"{name}={function!r}"
        )
    try:
        inspect.signature(function).bind(1)
    except TypeError as error:
        raise TypeError(
            f"Expected `{name}` to take one argument. Received: "
            f"{name}={function!r}, with the signature "
            f"{inspect.signature(function)}"
        ) from error
    except ValueError:
        return  # a function of C without a signature


def _check_seeds(seeds) -> list[int]:
    if isinstance(seeds, (str, bytes)) or not isinstance(seeds, Iterable):
        raise TypeError(
            "Expected `seeds` to be a sequence of integers, such as `range(3)` "
            f"or `[0]`. Received: seeds={seeds!r}"
        )
    seeds = list(seeds)
    all_valid = all(
        isinstance(s, (int, np.integer))
        and not isinstance(s, bool)
        and 0 <= s <= LARGEST_SEED
        for s in seeds
    )
    if not seeds or not all_valid:
        raise ValueError(
            "Expected `seeds` to hold at least one integer, all from 0 to "
            f"{LARGEST_SEED}. Received: seeds={seeds}"
        )
    if len(set(seeds)) != len(seeds):
        raise ValueError(
            "Expected `seeds` to be different: a repeated run would count as "
            f"evidence twice. Received: seeds={seeds}"
        )
    return [int(seed) for seed in seeds]


def _check_criterion(criterion, validation) -> None:
    if validation is not None:
        check_splits({"validation": validation})
    if criterion is None:
        return
    if not isinstance(criterion, Criterion):
        raise TypeError(
            "Expected `selection` and `criteria` to be criteria such as "
            f"`kd.comparison.WorstClass()`. Received: {criterion!r}"
        )
    if validation is None:
        raise ValueError(
            f"`{criterion}` needs `validation` data. Received: validation=None"
        )
    if criterion.needs_groups and validation.groups is None:
        raise ValueError(
            f"`{criterion}` needs `validation` data with groups. "
            "Received: a split without. Without groups, use "
            "`kd.comparison.WorstClass()`."
        )


def _check_train(train, seeds, methods) -> dict[int, Split]:
    trains = {s: train(s) if callable(train) else train for s in seeds}
    need_groups = [
        name for name, method in methods.items() if method.needs_groups
    ]
    for split in trains.values():
        prompts = isinstance(split, Split) and is_generation(split)
        if not isinstance(split, Split) or (split.y is None and not prompts):
            raise TypeError(
                "Expected `train` to be a `kd.data.Split` with labels, or a "
                f"function of the seed to one. Received: {split!r}"
            )
        if need_groups and split.groups is None:
            raise ValueError(
                f"The methods {need_groups} need groups, and `train` has none. "
                "Give it some with `train.with_groups(...)`, or let the "
                "methods infer them with `groups=kd.recipes.XRM()`."
            )
        if prompts:
            continue
        alone = split.y.ndim == 1 or split.y.shape[1:] == (1,)
        labels = split.y if alone else split.y.argmax(-1)
        if len(np.unique(labels)) < 2:
            raise ValueError(
                "Expected `train` to have rows of at least two classes. "
                f"Received: {len(split)} rows of one"
            )
    return trains
