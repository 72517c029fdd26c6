import dataclasses

from keras_debias.evaluation.scores import Scores


@dataclasses.dataclass(frozen=True)
class Run:
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
            during the run; `None` on a CPU.
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

    def to_dict(self) -> dict:
        """Returns the run as JSON would hold it, without predictions."""
        fields = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self)
        }
        return {**fields, "scores": self.scores.to_dict()}

    @classmethod
    def from_dict(cls, values: dict) -> "Run":
        """Makes a `Run` of what `to_dict` returns."""
        scores = Scores.from_dict(values["scores"])
        names = {f.name for f in dataclasses.fields(cls)}
        kept = {k: v for k, v in values.items() if k in names}
        return cls(**{**kept, "scores": scores})
