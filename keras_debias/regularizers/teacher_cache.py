import hashlib
import os

import keras
import numpy as np

from keras_debias.utils.files import atomic_write


@keras.saving.register_keras_serializable(package="keras_debias")
class TeacherCache:
    """The teacher's features of a training set, computed once.

    For a classifier whose encoder is frozen except for its adapters. The
    features that the teacher passes to the head never change, so `fit`
    computes them once for every row, in inference mode, and adds them to the
    batches. Each step applies only the head. `fit` refuses a cache of other
    rows or of another encoder.

    Args:
        path: path of an `.npz` file that keeps the features for later runs; it
            is read if it exists. Defaults to `None`: in memory only.

    Raises:
        TypeError: If `path` is not a path.
        ValueError: When loaded, if the file cannot be read.

    Example:

    ```python
    cache = kd.regularizers.TeacherCache()
    model = kd.DebiasedModel(
        classifier, regularizers=kd.regularizers.Consistency(cache=cache)
    )
    model.fit(train, epochs=5)
    ```
    """

    def __init__(self, path: str | os.PathLike | None = None):
        if path is not None and not isinstance(path, (str, os.PathLike)):
            raise TypeError(
                f"Expected `path` to be a path or None. Received: path={path!r}"
            )
        self.path = None if path is None else os.fspath(path)
        self.features: np.ndarray | None = None
        self.rows: str | None = None

    def load(self) -> bool:
        """Reads the file, if any, unless there are features already.

        Returns:
            A bool: whether there are features.

        Raises:
            ValueError: If the file cannot be read.
        """
        if self.features is None and self.path and os.path.exists(self.path):
            try:
                if not os.path.isfile(self.path):
                    raise OSError("not a regular file")
                with np.load(self.path, allow_pickle=False) as file:
                    features, rows = file["features"], file["rows"]
                    said = file["checksum"]
                if (
                    features.dtype.kind != "f"
                    or rows.shape
                    or (rows.dtype.kind != "U")
                ):
                    raise ValueError("other contents")
                if not np.array_equal(said, _checksum(features, str(rows))):
                    raise ValueError("other contents than were written")
            # A broken archive fails in many ways.
            except Exception as error:
                raise ValueError(
                    "Expected a file that a `TeacherCache` wrote. Received: "
                    f"path={self.path!r}, which cannot be read ({error!r}). "
                    "Remove it: the features are computed again."
                ) from error
            self.features, self.rows = features, str(rows)
        return self.features is not None

    def store(self, features: np.ndarray, rows: str) -> None:
        """Keeps features in memory, and in the file where there is a `path`.

        Args:
            features: float array of shape `(n, ...)`.
            rows: string. The digest of the rows that they belong to.
        """
        if features.dtype.kind != "f":
            # NumPy's files cannot name bfloat16.
            features = features.astype("float32")
        self.features, self.rows = features, rows
        if self.path:
            with atomic_write(self.path) as draft, open(draft, "wb") as file:
                np.savez(
                    file,
                    features=features,
                    rows=rows,
                    checksum=_checksum(features, rows),
                )

    def clear(self) -> None:
        """Forgets the features, and removes the file."""
        self.features = self.rows = None
        if self.path and os.path.exists(self.path):
            os.remove(self.path)

    def get_config(self) -> dict:
        return {"path": self.path}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _checksum(features, rows) -> np.ndarray:
    """A hash of all that a file holds."""
    found = hashlib.sha256(f"{features.dtype}{features.shape}{rows}".encode())
    found.update(np.ascontiguousarray(features).tobytes())
    return np.frombuffer(found.digest(), dtype="uint8")
