import dataclasses
from typing import Any

from keras_debias.evaluation.score_frame import MIN_GROUP_SIZE
from keras_debias.evaluation.scores import Scores
from keras_debias.utils.short_repr import ShortRepr


@dataclasses.dataclass(frozen=True, repr=False)
class Run(ShortRepr):
    """One method with one seed.

    Attributes:
        method, seed: string and int.
        scores: `kd.evaluation.Scores` of all splits.
        settings: dict, the method's configuration.
        selection: string, what chose the weights.
        validation: dict from criterion to value on the validation data;
            empty without.
        notes: dict, what the method reported.
        updates: int, optimizer updates of all stages.
        seconds: float, training in all, evaluation not included.
        seconds_per_update: float.
        peak_memory: int, bytes: the highest resident memory of the process
            during the run (host memory; a device's is not included).
        environment: dict of versions, backend and machine.
        accelerator_memory: int, bytes: the most memory in use on the GPU
            during the run. Defaults to `None`: on a CPU.
        constant: dict from criterion to the value that the best constant
            answer has on the validation data. Defaults to an empty one:
            without validation data.
        learned: bool, whether the model is better than one answer for all
            validation rows, by accuracy or by the mean accuracy of the
            classes. Defaults to `None`: without validation data.
        bootstrap, min_group_size: ints, how the scores were computed. Default
            to `1000` and `10`.
        trainable_parameters, parameters: ints, of the trained model. Default
            to `None`: it is no `keras.Model`.

    Example:

    >>> scores = Scores([kd.evaluation.SplitScore("test", 4, 0.75, 0.7)])
    >>> run = Run(
    ...     method="EDGE",
    ...     seed=0,
    ...     scores=scores,
    ...     settings={"alpha": 0.5},
    ...     selection="last update",
    ...     validation={"Average": 0.8},
    ...     notes={},
    ...     updates=100,
    ...     seconds=20.0,
    ...     seconds_per_update=0.2,
    ...     peak_memory=2**30,
    ...     environment={},
    ... )
    >>> Run.from_dict(run.to_dict()).scores["test"].accuracy
    0.75
    """

    method: str
    seed: int
    scores: Scores
    settings: dict
    selection: str
    validation: dict
    notes: dict
    updates: int
    seconds: float
    seconds_per_update: float
    peak_memory: int
    environment: dict
    accelerator_memory: int | None = None
    constant: dict = dataclasses.field(default_factory=dict)
    learned: bool | None = None
    bootstrap: int = 1000
    min_group_size: int = MIN_GROUP_SIZE
    trainable_parameters: int | None = None
    parameters: int | None = None

    def to_dict(self) -> dict:
        """Returns the run as JSON would hold it, without predictions."""
        fields = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self)
        }
        return {**fields, "scores": self.scores.to_dict()}

    @classmethod
    def from_dict(cls, values: dict) -> "Run":
        """Makes a `Run` of what `to_dict` returns.

        Args:
            values: dict.

        Returns:
            A `Run`, without predictions.

        Raises:
            ValueError: If a value is missing, or of another type.
        """
        if not isinstance(values, dict) or "scores" not in values:
            raise ValueError(
                "Expected a dict that `Run.to_dict` made. Received: "
                f"{type(values).__name__}"
            )
        scores = Scores.from_dict(values["scores"])
        names = {f.name for f in dataclasses.fields(cls)}
        known = {k: v for k, v in values.items() if k in names}
        try:
            run = cls(**{**known, "scores": scores})
        except TypeError as error:
            raise ValueError(
                f"Expected a dict that `Run.to_dict` made. Received: {error}"
            ) from error
        run.check()
        return run

    def check(self) -> None:
        """Raises if a value has the wrong type.

        Raises:
            ValueError: If one has.
        """
        kinds: dict[str, Any] = {
            "method": str,
            "seed": int,
            "settings": dict,
            "selection": str,
            "validation": dict,
            "notes": dict,
            "updates": int,
            "seconds": (int, float),
            "seconds_per_update": (int, float),
            "peak_memory": int,
            "environment": dict,
            "accelerator_memory": (int, type(None)),
            "constant": dict,
            "learned": (bool, type(None)),
            "bootstrap": int,
            "min_group_size": int,
            "trainable_parameters": (int, type(None)),
            "parameters": (int, type(None)),
        }
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ValueError(
                    f"Expected `{name}` of a run to be {kind}. Received: "
                    f"{name}={value!r}"
                )
        for criterion, value in {**self.validation, **self.constant}.items():
            if not isinstance(value, (int, float)):
                raise ValueError(
                    f"Expected numbers as criteria of a run. Received: "
                    f"{criterion}={value!r}"
                )
