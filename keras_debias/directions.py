"""Directions of the residual stream, and which layers read or write it."""

import fnmatch
import warnings
from collections.abc import Mapping

import keras
import numpy as np

from keras_debias.utils.layer_roles import READERS
from keras_debias.utils.layer_roles import WRITERS

SIDES = ("read", "write", "both")


@keras.saving.register_keras_serializable(package="keras_debias")
class Directions:
    """Orthonormal directions, shared by all layers or one set for each layer.

    For a layer that reads the residual stream (query, key, value, the first
    layers of a feedforward block), directions are in the space of its inputs.
    For a layer that writes to it (attention output, last layer of a
    feedforward block), they are in the space of its outputs. The names of
    layers decide which ones read and which ones write. Adapted layers with
    other names count as layers that read.

    Args:
        vectors: float array of shape `(width, k)`, for all layers; or a
            dict of such arrays by layer path. Columns that are not
            orthonormal are made so, with a warning; they must be linearly
            independent.
        side: `"read"`, `"write"` or `"both"`: which layers the directions
            apply to. Defaults to `"read"`.
        readers: names or globs of layers that read. Defaults to those of
            KerasHub's models.
        writers: names or globs of layers that write. Defaults to those of
            KerasHub's models.

    Raises:
        ValueError: If `side` is unknown, or the vectors are missing, not a
            matrix, not finite or linearly dependent.
        TypeError: If the vectors are not numbers.

    Example:

    >>> directions = Directions(np.eye(4)[:, :1])
    >>> directions.rank
    1
    """

    def __init__(self, vectors, side="read", readers=READERS, writers=WRITERS):
        if side not in SIDES:
            raise ValueError(
                f"Expected `side` to be one of {SIDES}. Received: side={side!r}"
            )
        self.shared = not isinstance(vectors, Mapping)
        if self.shared:
            self.vectors = orthonormal(vectors)
        else:
            if not vectors:
                raise ValueError(
                    "Expected `vectors` for at least one layer. Received: {}"
                )
            self.vectors = {
                path: orthonormal(value, f" of '{path}'")
                for path, value in vectors.items()
            }
        self.side = side
        self.readers = _names(readers)
        self.writers = _names(writers)

    @property
    def rank(self) -> int:
        """The number of directions in the largest set."""
        return max(v.shape[1] for v in self._arrays())

    def _arrays(self) -> list[np.ndarray]:
        return [self.vectors] if self.shared else list(self.vectors.values())

    def role_of(self, path: str, adapted: bool = True) -> str | None:
        """How a layer uses the directions.

        Args:
            path: string. Path of the layer.
            adapted: bool. Whether the layer has an adapter: if its name is in
                neither list, it then counts as one that reads. Defaults to
                `True`.

        Returns:
            `"read"` or `"write"`; `None` if `side` leaves the layer out, or
            if its name is in neither list and it has no adapter.

        Example:

        >>> directions = Directions(np.eye(4)[:, :1], side="both")
        >>> directions.role_of("layer_0/query")
        'read'
        >>> directions.role_of("layer_0/attention_output")
        'write'
        """
        role = role_of(path, self.readers, self.writers, adapted)
        return role if self.side in (role, "both") else None

    def of(self, path: str) -> np.ndarray | None:
        """The directions of a layer.

        Args:
            path: string. Path of the layer.

        Returns:
            A float array of shape `(width, k)`; `None` if there are none of
            this layer.
        """
        return self.vectors if self.shared else self.vectors.get(path)

    def first(self, k: int) -> "Directions":
        """The first `k` directions.

        Args:
            k: int, from 1 to `rank`.

        Returns:
            `Directions` of the same layers.

        Raises:
            ValueError: If `k` is out of range.
        """
        if not 1 <= k <= self.rank:
            raise ValueError(
                f"Expected `k` from 1 to {self.rank}. Received: k={k}"
            )
        return self._like(lambda v: v[:, :k])

    def random(self, seed: int = 0) -> "Directions":
        """Random directions of the same number and layers, as a control.

        Args:
            seed: int. Defaults to `0`.

        Returns:
            `Directions`.
        """
        generator = np.random.default_rng(seed)
        return self._like(
            lambda v: np.linalg.qr(generator.standard_normal(v.shape))[0]
        )

    def _like(self, change) -> "Directions":
        if self.shared:
            vectors = change(self.vectors)
        else:
            vectors = {p: change(v) for p, v in self.vectors.items()}
        return type(self)(vectors, self.side, self.readers, self.writers)

    def overlap(self, vectors) -> float | dict[str, float]:
        """How close vectors are to the span of the directions, from 0 to 1.

        Args:
            vectors: float array of shape `(width,)` or `(width, n)`.

        Returns:
            A float: the square root of the share of the vectors' squared
            length that lies in the span. For one vector, this is the cosine of
            its angle to the span. A dict from layer path to float unless the
            directions are shared.

        Example:

        >>> directions = Directions(np.eye(2)[:, :1])
        >>> round(directions.overlap([1.0, 1.0]), 2)
        0.71
        """
        other = np.asarray(vectors, "float64")
        other = other[:, None] if other.ndim == 1 else other
        other = other / np.linalg.norm(other)

        def share(v):
            return float(np.linalg.norm(v.T.astype("float64") @ other))

        if self.shared:
            return share(self.vectors)
        return {path: share(v) for path, v in self.vectors.items()}

    def __eq__(self, other):
        return (
            isinstance(other, Directions)
            and self.get_config() == other.get_config()
        )

    def __hash__(self):
        return hash((self.shared, self.side, self.rank))

    def __repr__(self):
        where = (
            f"width={self.vectors.shape[0]}"
            if self.shared
            else f"layers={len(self.vectors)}"
        )
        return f"Directions(rank={self.rank}, side={self.side!r}, {where})"

    def get_config(self) -> dict:
        return {
            "vectors": self.vectors.tolist()
            if self.shared
            else {path: v.tolist() for path, v in self.vectors.items()},
            "side": self.side,
            "readers": list(self.readers),
            "writers": list(self.writers),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def role_of(path, readers, writers, adapted=True) -> str | None:
    """`"read"`, `"write"`, or `None` for a layer that is neither by name."""
    if _matches(path, _names(writers)):
        return "write"
    known = _matches(path, _names(readers))
    return "read" if known or adapted else None


def orthonormal(vectors, where: str = "") -> np.ndarray:
    """Orthonormal columns with the span of `vectors`, float32.

    Columns that are already orthonormal do not change.
    """
    try:
        vectors = np.asarray(vectors, "float64")
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Expected directions{where} to be numbers of shape (width, k). "
            f"Received: {vectors!r}"
        ) from error
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise ValueError(
            f"Expected directions{where} of shape (width, k). "
            f"Received: shape {vectors.shape}"
        )
    if not np.isfinite(vectors).all():
        raise ValueError(
            f"Expected finite directions{where}. Received: "
            f"{np.sum(~np.isfinite(vectors))} that are NaN or infinite."
        )
    width, k = vectors.shape
    if k > width or np.linalg.matrix_rank(vectors) < k:
        raise ValueError(
            f"Expected linearly independent directions{where}, at most as "
            f"many as their width. Received: {k} columns of width {width} "
            f"and rank {np.linalg.matrix_rank(vectors)}."
        )
    error = np.abs(vectors.T @ vectors - np.eye(k)).max()
    if error > 1e-5:
        warnings.warn(
            f"The directions{where} are not orthonormal (largest error "
            f"{error:.2g}); their span is kept, with orthonormal columns.",
            stacklevel=3,
        )
        vectors = np.linalg.qr(vectors)[0] * np.sign(
            np.diag(np.linalg.qr(vectors)[1])
        )
    return vectors.astype("float32")


def _names(patterns) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    names = (path, path.rsplit("/", 1)[-1])
    return any(
        fnmatch.fnmatchcase(name, pattern)
        for name in names
        for pattern in patterns
    )
