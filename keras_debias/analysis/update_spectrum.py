import json
import os
import pathlib

import numpy as np
import safetensors.numpy

from keras_debias.adapters.adapter_folder import atomic_write_folder
from keras_debias.adapters.adapter_folder import check_overwrite
from keras_debias.analysis.spectrum_plot import spectrum_plot
from keras_debias.directions import Directions

FORMAT = "keras_debias.update_spectrum/1"
CONFIG_NAME = "spectrum.json"
WEIGHTS_NAME = "spectrum.safetensors"

# A direction counts if its share is above this percentile of the largest of
# random adapters, by this factor: the layers of any fine-tune, one on
# shuffled labels included, agree a little more than random ones.
PERCENTILE = 99.0
MARGIN = 1.5


class UpdateSpectrum:
    """The directions of a fine-tuned model's updates, and their shares.

    The result of `latent_factors`. A share is a part of the squared length of
    all updates, where each layer counts as one; shares sum to one.

    Args:
        directions: `Directions`, the leading ones.
        spectra: dict of float arrays `(n,)`, descending: the share of every
            direction. By path, or with the one key `""` when shared.
        nulls: dict of float arrays `(draws, n)`: the same of random
            adapters.
        layer_shares: dict from path to float: what share of a layer's update
            lies in its directions.
        floor: float. The largest share of any direction after fine-tuning
            on shuffled labels, where known. Defaults to `0.0`.

    Attributes:
        directions: as above.
        layer_shares: as above.

    Example:

    >>> found = UpdateSpectrum(
    ...     Directions(np.eye(3)[:, :1]),
    ...     spectra={"": np.array([0.9, 0.1])},
    ...     nulls={"": np.array([[0.5, 0.5], [0.5, 0.5]])},
    ...     layer_shares={"dense": 0.9},
    ... )
    >>> found.share, found.threshold, found.detected
    (0.9, 0.75, 1)
    """

    def __init__(
        self,
        directions: Directions,
        spectra: dict[str, np.ndarray],
        nulls: dict[str, np.ndarray],
        layer_shares: dict[str, float],
        floor: float = 0.0,
    ):
        self.directions = directions
        self.spectra = {p: np.asarray(s, "float64") for p, s in spectra.items()}
        self.nulls = {p: np.asarray(n, "float64") for p, n in nulls.items()}
        self.layer_shares = dict(layer_shares)
        self.floor = floor

    @classmethod
    def of_factors(
        cls,
        factors,
        k,
        *,
        side,
        scope,
        readers,
        writers,
        null_draws,
        seed,
        floor=0.0,
    ) -> "UpdateSpectrum":
        """Decomposes factors of updates; `latent_factors` calls it.

        Args:
            factors: dict from path to float array `(width, rank)` of Frobenius
                norm one: one side of a layer's update.
            k: int. How many directions.
            side: as for `latent_factors`.
            scope: as for `latent_factors`.
            readers: as for `latent_factors`.
            writers: as for `latent_factors`.
            null_draws: int. How many random adapters.
            seed: int. Seed of the random adapters.
            floor: float. As for `UpdateSpectrum`. Defaults to `0.0`.

        Returns:
            An `UpdateSpectrum`.

        Raises:
            ValueError: If layers that share directions differ in width, or
                `k` is more than the rank of an update.
        """
        generator = np.random.default_rng(seed)
        if scope == "shared":
            widths = {p: f.shape[0] for p, f in factors.items()}
            if len(set(widths.values())) > 1:
                raise ValueError(
                    "Expected layers of one width, to share directions. "
                    f"Received: {widths}. Choose a `side`, other `readers` "
                    'and `writers`, or `scope="layer"`.'
                )
            groups = {"": list(factors.values())}
        else:
            groups = {path: [f] for path, f in factors.items()}
        vectors, spectra, nulls = {}, {}, {}
        for name, members in groups.items():
            basis, spectrum = _decompose(members)
            if k > len(spectrum):
                where = f" of '{name}'" if name else ""
                raise ValueError(
                    f"Expected `k` of at most {len(spectrum)}, the rank of "
                    f"the update{where}. Received: k={k}"
                )
            vectors[name] = basis[:, :k]
            spectra[name] = spectrum
            nulls[name] = _null(
                members, len(spectrum), null_draws, generator, scope
            )
        shares = {
            path: float(
                np.sum(np.square(vectors["" if "" in vectors else path].T @ f))
            )
            for path, f in factors.items()
        }
        directions = Directions(
            vectors[""] if scope == "shared" else vectors,
            side,
            readers,
            writers,
        )
        return cls(directions, spectra, nulls, shares, floor)

    @property
    def k(self) -> int:
        """How many directions were asked for."""
        return self.directions.rank

    @property
    def spectrum(self) -> np.ndarray:
        """The share of every direction, descending.

        The mean over layers where each layer has its own directions.
        """
        size = min(len(s) for s in self.spectra.values())
        return np.mean([s[:size] for s in self.spectra.values()], axis=0)

    @property
    def share(self) -> float:
        """The share of all updates that lies in the directions."""
        return float(self.spectrum[: self.k].sum())

    @property
    def gap(self) -> float:
        """The last direction's share over that of the next; inf at the end."""
        spectrum = self.spectrum
        if self.k >= len(spectrum) or spectrum[self.k] <= 0:
            return float("inf")
        return float(spectrum[self.k - 1] / spectrum[self.k])

    @property
    def threshold(self) -> float:
        """The share that a direction needs to count.

        The larger of two: 1.5 times the share that the first direction of
        random adapters stays below in 99 of 100 draws, and `floor`.
        """
        largest = np.mean([n[:, 0] for n in self.nulls.values()], axis=0)
        random = float(MARGIN * np.percentile(largest, PERCENTILE))
        return max(random, self.floor)

    @property
    def detected(self) -> int:
        """How many leading directions stand out from random adapters."""
        return int(np.sum(self.spectrum > self.threshold))

    def __repr__(self):
        return (
            f"UpdateSpectrum(k={self.k}, share={self.share:.3g}, "
            f"gap={self.gap:.3g}, detected={self.detected})"
        )

    def __str__(self):
        spectrum = self.spectrum
        lines = ["  direction   share"]
        for i in range(min(len(spectrum), max(self.k + 2, 6))):
            mark = " *" if i < self.detected else ""
            lines.append(f"  {i + 1:>9}   {spectrum[i]:.3f}{mark}")
        lines.append(f"  needed to stand out: {self.threshold:.3f}")
        if self.threshold >= 1:
            lines.append(
                "  no direction can: already random adapters of these sizes "
                "have most of their updates in one. Use more layers, or wider "
                "ones"
            )
        lines.append(
            f"  {self.detected} stand out; the first {self.k} hold "
            f"{self.share:.1%}, {self.gap:.2f} times the next"
        )
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike | None = None):
        """Draws the spectrum against random adapters; needs matplotlib.

        Args:
            path: path of a picture to be written. Defaults to `None`: nothing
                is written.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        return spectrum_plot(self, path)

    def save(self, folder: str | os.PathLike, overwrite=False) -> None:
        """Writes a folder with a safetensors and a JSON file.

        Args:
            folder: path of the folder.
            overwrite: bool. Whether an existing folder is replaced. Defaults
                to `False`.

        Raises:
            ValueError: If the folder exists and `overwrite` is `False`.
        """
        folder = pathlib.Path(folder)
        check_overwrite(folder, overwrite)
        directions = self.directions
        vectors = directions.vectors
        arrays = {
            f"directions/{p}": np.ascontiguousarray(v)
            for p, v in (
                {"": vectors} if directions.shared else vectors
            ).items()
        }
        arrays |= {f"spectrum/{p}": s for p, s in self.spectra.items()}
        arrays |= {f"null/{p}": n for p, n in self.nulls.items()}
        config = {
            "format": FORMAT,
            "shared": directions.shared,
            "side": directions.side,
            "readers": list(directions.readers),
            "writers": list(directions.writers),
            "layer_shares": self.layer_shares,
            "floor": self.floor,
        }
        atomic_write_folder(folder, arrays, WEIGHTS_NAME, config, CONFIG_NAME)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "UpdateSpectrum":
        """Reads what `save` wrote.

        Args:
            folder: path of the folder.

        Returns:
            An `UpdateSpectrum`.

        Raises:
            ValueError: If the folder is not whole or of another kind.
        """
        folder = pathlib.Path(folder)
        try:
            config = json.loads((folder / CONFIG_NAME).read_text())
            arrays = safetensors.numpy.load_file(folder / WEIGHTS_NAME)
            if config["format"] != FORMAT:
                raise KeyError(config["format"])
            parts = {"directions": {}, "spectrum": {}, "null": {}}
            for name, array in arrays.items():
                part, path = name.split("/", 1)
                parts[part][path] = array
            vectors = parts["directions"]
            directions = Directions(
                vectors[""] if config["shared"] else vectors,
                config["side"],
                config["readers"],
                config["writers"],
            )
            shares, floor = config["layer_shares"], config["floor"]
        except (
            *(OSError, KeyError, TypeError, json.JSONDecodeError),
            safetensors.SafetensorError,
        ) as error:
            raise ValueError(
                f"Expected a folder with whole {CONFIG_NAME} and "
                f"{WEIGHTS_NAME}, as `UpdateSpectrum.save` writes it. "
                f"Received: {str(folder)!r} ({error!r})."
            ) from error
        return cls(directions, parts["spectrum"], parts["null"], shares, floor)


def _decompose(members) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors and shares of the sum of the members' Gram matrices."""
    u, s, _ = np.linalg.svd(
        np.concatenate(members, axis=1), full_matrices=False
    )
    above = s > 1e-6 * s[0]
    u, s = u[:, above], s[above]
    # A sign that does not depend on the library.
    u = u * np.sign(u[np.abs(u).argmax(axis=0), np.arange(u.shape[1])])
    return u, np.square(s) / len(members)


def _null(members, size, draws, generator, scope) -> np.ndarray:
    """Shares of random adapters.

    Of several layers: each keeps its singular values and gets a random
    basis, so that only what layers share stands out. Of one layer: its
    factors are Gaussian, as its own basis says nothing.
    """
    shapes = [f.shape for f in members]
    values = [np.linalg.svd(f, compute_uv=False) for f in members]
    found = np.zeros((draws, size))
    for draw in range(draws):
        drawn = []
        for (width, rank), s in zip(shapes, values):
            noise = generator.standard_normal((width, rank))
            if scope == "shared":
                drawn.append(np.linalg.qr(noise)[0][:, : len(s)] * s)
            else:
                mixed = noise @ generator.standard_normal((rank, rank))
                drawn.append(mixed / np.linalg.norm(mixed))
        stacked = np.concatenate(drawn, axis=1)
        # The smaller Gram matrix has the same eigenvalues.
        if stacked.shape[0] < stacked.shape[1]:
            stacked = stacked.T
        shares = np.linalg.eigvalsh(stacked.T @ stacked)[::-1] / len(members)
        shares = np.maximum(shares[:size], 0)
        found[draw, : len(shares)] = shares
    return found
