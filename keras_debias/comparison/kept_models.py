"""Trained models of a comparison, in memory or in its folder."""

import pathlib

import keras

from keras_debias.comparison.run import Run
from keras_debias.comparison.run_folder import RunFolder

KEEP = (None, "best", "all")
# The criterion that chooses the run to serve: the first that the runs have.
CRITERIA = ("worst_group_rmse", "WorstGroup", "WorstClass", "rmse", "Average")
CRITERIA += ("worst_group_token_f1", "token_f1")


def check_keep(keep, validation) -> None:
    """Raises if `keep` is unknown, or no criterion could choose the best."""
    if not (keep is None or isinstance(keep, str)) or keep not in KEEP:
        raise ValueError(
            f"Expected `keep` to be one of {KEEP}. Received: keep={keep!r}"
        )
    if keep == "best" and validation is None:
        raise ValueError(
            'Expected `validation` data with keep="best", which chooses the '
            "run: chosen on test data, its scores there would be too high. "
            'Received: validation=None. Pass some, or keep="all".'
        )


def criterion_of(run: Run) -> str | None:
    """The criterion by which a run is chosen; `None` without validation."""
    if run.selection in run.validation:
        return run.selection
    return next((name for name in CRITERIA if name in run.validation), None)


class KeptModels:
    """Models by method and seed.

    Args:
        store: `RunFolder`. Where it has a path, models that Keras can save
            go there; the others stay in memory.
        keep: `None`, `"best"` (of the seeds of a method, until one method is
            chosen) or `"all"`.
    """

    def __init__(self, store: RunFolder, keep: str | None = None):
        self.store, self.keep = store, keep
        self._models = {}
        self._best = {}

    def known(self) -> list[tuple[str, int]]:
        """Method and seed of each model there is, sorted."""
        return sorted({*self._models, *self.store.models()})

    def add(self, run: Run, model) -> None:
        """Keeps a model, if it is asked for."""
        if self.keep is None:
            return
        key = run.method, run.seed
        if self.keep == "best":
            value = run.validation[criterion_of(run)]
            other, highest = self._best.get(run.method, (None, None))
            if other is not None and value <= highest:
                return
            self._best[run.method] = key, value
            self._drop(other)
        if self.store.path is None or not isinstance(model, keras.Model):
            self._models[key] = model
        else:
            self.store.write_model(*key, model)

    def leave(self, chosen: Run) -> None:
        """Drops all models that were added, but that of one run."""
        for key, _ in self._best.values():
            if key != (chosen.method, chosen.seed):
                self._drop(key)

    def _drop(self, key) -> None:
        self._models.pop(key, None)
        if key is not None and self.store.path is not None:
            self.store.model_path(*key).unlink(missing_ok=True)

    def get(self, method: str, seed: int):
        """A model.

        Raises:
            ValueError: If it was not kept.
        """
        key = method, seed
        if key in self._models:
            return self._models[key]
        if key in self.store.models():
            path: pathlib.Path = self.store.model_path(*key)
            return keras.saving.load_model(path)
        raise ValueError(
            f"Expected a run whose model was kept: {self.known()}. Received: "
            f"method={method!r}, seed={seed!r}. Compare with "
            '`keep="best"` or `keep="all"`.'
        )
