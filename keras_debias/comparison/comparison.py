"""`Comparison`: what `compare` found, to read, print, save and draw."""

import json
import os
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_debias.comparison import diagnoses
from keras_debias.comparison import figure
from keras_debias.comparison import report
from keras_debias.comparison import statistics
from keras_debias.comparison import tables
from keras_debias.comparison.kept_models import KeptModels
from keras_debias.comparison.kept_models import criterion_of
from keras_debias.comparison.run import Run
from keras_debias.comparison.run_folder import RunFolder
from keras_debias.utils.files import write_text
from keras_debias.utils.spreadsheets import write_csv


class Comparison:
    """The runs of several methods with several seeds.

    `print(comparison)` shows, for every method: mean and spread over seeds,
    the paired difference to the first method, and ranks. Separate tables below
    show the uncertainty that comes from the number of test rows, and the
    costs.

    Args:
        methods: sequence of the methods' names, in order.
        runs: sequence of `Run`.
        errors: dict from (method, seed) to the text of the error of a broken
            run. Defaults to `None`: no run is broken.
        configuration: dict of what the runs have in common. Defaults to
            `None`: an empty one.
        models: the models that `compare` kept. Defaults to `None`.

    Attributes:
        methods, runs, errors, configuration: as above.

    Raises:
        ValueError: If there is no method.
        TypeError: If `methods` is not a sequence of names, or `runs` not one
            of `Run`.

    Example:

    ```python
    comparison = kd.compare(...)
    comparison.summary()  # a pandas.DataFrame
    comparison.choose("WorstClass")  # the method a criterion would choose
    best = comparison.best()  # the run to serve
    model = comparison.model(best.method, best.seed)  # with keep="best"
    comparison.report("comparison.html")
    ```
    """

    def __init__(
        self,
        methods: Sequence[str],
        runs: Sequence[Run],
        errors: Mapping[tuple[str, int], str] | None = None,
        configuration: Mapping | None = None,
        models: KeptModels | None = None,
    ):
        if (
            isinstance(methods, str)
            or not np.iterable(methods)
            or not all(isinstance(name, str) for name in methods)
        ):
            raise TypeError(
                "Expected `methods` to be a sequence of names. Received: "
                f"methods={methods!r}"
            )
        if not np.iterable(runs) or not all(isinstance(r, Run) for r in runs):
            raise TypeError(
                f"Expected `runs` to be a sequence of `Run`. Received: {runs!r}"
            )
        self.methods = list(methods)
        if not self.methods:
            raise ValueError("Expected at least one method. Received: none")
        self.runs = list(runs)
        self.errors = dict(errors or {})
        self.configuration = dict(configuration or {})
        self._models = KeptModels(RunFolder(None)) if models is None else models

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike,
        methods: Iterable[str] | None = None,
    ) -> "Comparison":
        """Reads the finished runs that `compare` saved in a folder.

        Args:
            folder: path of the folder.
            methods: names in the order wanted; those without a run are left
                out. Defaults to `None`: all, in the order they came.

        Returns:
            A `Comparison`.

        Raises:
            ValueError: If `folder` was not written by `compare`, or holds
                none of the methods.
            TypeError: If `folder` is not a path.
        """
        if not isinstance(folder, (str, os.PathLike)):
            raise TypeError(
                f"Expected `folder` to be a path. Received: folder={folder!r}"
            )
        if isinstance(methods, str):
            methods = [methods]
        store = RunFolder(folder)
        known = store.methods()
        if methods is None:
            methods = known
        methods = list(methods)
        chosen = [name for name in methods if name in known]
        if not chosen:
            raise ValueError(
                f"Expected methods of the folder's: {known}. Received: "
                f"methods={methods}"
            )
        methods = chosen
        runs = [
            run
            for seed in store.seeds(methods)
            for method in methods
            if (run := store.read(method, seed, None)) is not None
        ]
        return cls(
            methods,
            runs,
            store.errors(methods),
            store.configuration(),
            KeptModels(store),
        )

    def __str__(self) -> str:
        return tables.text(self)

    def __repr__(self) -> str:
        return (
            f"Comparison(methods={self.methods}, runs={len(self.runs)}, "
            f"broken={len(self.errors)})"
        )

    def _repr_html_(self) -> str:
        return report.body(self)

    @property
    def frame(self) -> pd.DataFrame:
        """One line a run, split and measure."""
        return statistics.frame_of(self.runs)

    @property
    def predictions(self) -> pd.DataFrame:
        """`method, seed, split, row, label, prediction, group`."""
        columns = ["method", "seed", "split", "row"]
        columns += ["label", "prediction", "group"]
        frames = [pd.DataFrame(columns=columns)] if not self.runs else []
        for run in self.runs:
            part = run.scores.predictions.copy()
            part.insert(0, "method", run.method)
            part.insert(1, "seed", run.seed)
            frames.append(part)
        return pd.concat(frames, ignore_index=True)

    def summary(self) -> pd.DataFrame:
        """One line a method, split and measure.

        Columns: `seeds`, `mean` and `std` over seeds; `rows_low` and
        `rows_high`, the interval over rows, averaged over seeds;
        `difference`, `difference_std`, `better` and `pairs`, the paired
        difference to the first method over the seeds that both finished;
        `t_test` and `wilcoxon`, the two-sided p-values of these differences;
        `rank` among the methods of a seed, averaged.

        Returns:
            A `pandas.DataFrame`.
        """
        return statistics.summary_of(self.frame, self.methods)

    def diagnoses(self) -> list[str]:
        """Problems of methods, and differences that may be chance.

        Returns:
            List of sentences: the notes on the scores of single runs, with the
            number of seeds; methods that have not learned what the validation
            data asks; and, for each method but the first, the splits on which
            its difference to the first may be chance.
        """
        return diagnoses.sentences(self)

    def choose(self, criterion: str) -> str:
        """The method with the best mean of a criterion on validation data.

        Methods that are not better than one answer for all validation rows
        are left out.

        Args:
            criterion: name of the criterion, such as `"WorstClass"` or
                `"worst_group_auroc"`.

        Returns:
            The name of the method.

        Raises:
            ValueError: If no run has this criterion, or no method has learned
                anything.
            TypeError: If `criterion` is not a string.
        """
        if not isinstance(criterion, str):
            raise TypeError(
                "Expected `criterion` to be the name of a criterion, such as "
                f"'WorstClass'. Received: criterion={criterion!r}"
            )
        means = {}
        for method in self.methods:
            values = [
                run.validation[criterion]
                for run in self.runs
                if run.method == method and criterion in run.validation
            ]
            if values:
                means[method] = sum(values) / len(values)
        if not means:
            known = sorted({n for run in self.runs for n in run.validation})
            raise ValueError(
                f"Expected a criterion that the runs have: {known}. Received: "
                f"criterion={criterion!r}. Criteria are computed where "
                "`compare` gets `validation` data."
            )
        learned = {
            method: mean
            for method, mean in means.items()
            if diagnoses.has_learned(self, method)
            and mean > diagnoses.constant(self, method, criterion)
        }
        if not learned:
            best = max(means, key=means.__getitem__)
            constant = diagnoses.constant(self, best, criterion)
            unit = " %" if criterion[:1].isupper() else ""
            raise ValueError(
                "Expected a method that is better than one answer for all "
                f"validation rows. Received: {criterion} of at most "
                f"{tables.criterion_text(criterion, means[best])}{unit} "
                f"({best}), and "
                f"{tables.criterion_text(criterion, constant)}{unit} for "
                "the best constant answer. Train longer, with another "
                "learning rate, or on more rows."
            )
        return max(learned, key=learned.__getitem__)

    def best(self, criterion: str | None = None) -> Run:
        """The run to serve, chosen on validation data.

        This is the run with the highest value of the criterion among those of
        the method that `choose` names. It was selected by this value, so
        expect a lower one on new data.

        Args:
            criterion: name of a criterion. Defaults to `None`: the criterion
                that picked the weights (`selection`). Without one: the worst
                group, or the worst class if the validation data has no groups.
                A regression uses `rmse` in the same way.

        Returns:
            `kd.comparison.Run`.

        Raises:
            ValueError: If the runs have no criterion, or no method has
                learned anything.
        """
        if criterion is None:
            names = [criterion_of(run) for run in self.runs]
            criterion = next((n for n in names if n is not None), None)
            if criterion is None:
                raise ValueError(
                    "Expected runs with criteria on validation data. "
                    "Received: none. Pass `validation` to `compare`."
                )
        method = self.choose(criterion)
        return max(
            (r for r in self.runs if r.method == method),
            key=lambda run: run.validation.get(criterion, -np.inf),
        )

    def model(self, method: str | None = None, seed: int | None = None):
        """A trained model that `compare` kept.

        Args:
            method, seed: string and int, of the run. Default to `None`: the
                run that `best()` names.

        Returns:
            The model, ready for `predict`.

        Raises:
            ValueError: If the model was not kept: see `keep` of `compare`.
        """
        chosen: tuple[Any, Any] = method, seed
        if chosen == (None, None):
            run = self.best()
            chosen = run.method, run.seed
        return self._models.get(*chosen)

    def to_dict(self) -> dict:
        """Returns everything but the predictions, as JSON would hold it."""
        summary = self.summary()
        lines = [
            {k: None if v != v else v for k, v in line.items()}
            for line in summary.to_dict("records")
        ]
        return {
            "methods": self.methods,
            "configuration": self.configuration,
            "summary": lines,
            "diagnoses": self.diagnoses(),
            "runs": [run.to_dict() for run in self.runs],
            "errors": [
                {"method": method, "seed": seed, "error": error}
                for (method, seed), error in self.errors.items()
            ],
        }

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes `to_dict()` to a JSON file."""
        _write(
            path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        )

    def to_csv(self, path: str | os.PathLike) -> None:
        """Writes `summary()` to a CSV file.

        Names that spreadsheets would take for formulas begin with `'`.
        """
        write_csv(self.summary(), path)

    def to_markdown(self, path: str | os.PathLike | None = None) -> str:
        """Returns the main table as Markdown, and writes it to a file.

        Args:
            path: path of the file. Defaults to `None`: nothing is written.

        Returns:
            A string.
        """
        text = tables.markdown_table(*tables.results(self))
        _write(path, text + "\n")
        return text

    def to_latex(self, path: str | os.PathLike | None = None) -> str:
        """Returns the main table as LaTeX, and writes it to a file.

        Args:
            path: path of the file. Defaults to `None`: nothing is written.

        Returns:
            A string.
        """
        text = tables.latex_table(*tables.results(self))
        _write(path, text + "\n")
        return text

    def plot(
        self,
        path: str | os.PathLike | None = None,
        metric: str | None = None,
    ):
        """Draws mean and single seeds of every method on every split.

        Args:
            path: path of a picture to be written. Defaults to `None`: nothing
                is written.
            metric: string, the name of a metric. Defaults to `None`: the
                accuracy, of a regression the first metric.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ValueError: If no run has finished, or none has the metric.
        """
        return figure.plot_methods(self, path, metric)

    def report(
        self,
        path: str | os.PathLike,
        title: str = "Comparison",
        introduction: Sequence[str] = (),
    ) -> None:
        """Writes one HTML file with charts, tables, settings and versions.

        It needs nothing else: no network and no other file.

        Args:
            path: path of the file.
            title: string, the heading. Defaults to `"Comparison"`.
            introduction: sequence of strings, paragraphs below the heading.
                Defaults to `()`.
        """
        _write(path, report.page(self, title, introduction))


def _write(path, text) -> None:
    if path is not None:
        write_text(path, text)
