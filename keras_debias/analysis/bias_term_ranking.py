import io
import json
import math
import os
from collections.abc import Sequence

import numpy as np
import rich.console
import rich.table

from keras_debias.analysis.heat_map import heat_map
from keras_debias.utils.files import write_text


class BiasTermRanking:
    """Bias terms by layer, in total, and in their order: prints as a table.

    Args:
        measure: string. The name of what was measured.
        layers: sequence of strings. The paths of the attention layers.
        terms: sequence of strings. The names of the bias terms.
        values: float array of shape `(layers, terms)`. NaN where a layer has
            no such term.
        totals: sequence of floats, one a term.

    Raises:
        ValueError: If `values` or `totals` do not fit the layers and terms.

    Example:

    >>> ranking = BiasTermRanking(
    ...     "magnitude change", ["layer_0"], ["key", "value"], [[0, 1]], [0, 1]
    ... )
    >>> ranking.ranking
    ('value', 'key')
    """

    def __init__(
        self,
        measure: str,
        layers: Sequence[str],
        terms: Sequence[str],
        values,
        totals: Sequence[float],
    ):
        values = np.array(values, dtype="float64")
        shape = (len(layers), len(terms))
        if values.shape != shape or len(totals) != len(terms):
            raise ValueError(
                "Expected `values` of the shape (layers, terms) and one of "
                f"`totals` a term. Received: {values.shape} and "
                f"{len(totals)} totals for {shape[0]} layers and {shape[1]} "
                "terms"
            )
        self.measure = measure
        self.layers = tuple(layers)
        self.terms = tuple(terms)
        self.values = values
        self.totals = dict(zip(self.terms, map(float, totals), strict=True))

    @property
    def ranking(self) -> tuple[str, ...]:
        """The terms from the highest total to the lowest."""
        return tuple(sorted(self.terms, key=lambda t: -self.totals[t]))

    @property
    def target(self) -> str:
        """The first of the ranking: BEFT's target bias term."""
        return self.ranking[0]

    def __repr__(self):
        inside = ", ".join(f"{t}: {self.totals[t]:.4g}" for t in self.ranking)
        return f"BiasTermRanking({self.measure}; {inside})"

    def __str__(self):
        table = rich.table.Table(box=rich.table.box.SIMPLE_HEAD)
        table.add_column("layer", no_wrap=True)
        for term in self.terms:
            table.add_column(
                rich.markup.escape(term), justify="right", no_wrap=True
            )
        for layer, row in zip(self.layers, self.values, strict=True):
            cells = ["-" if math.isnan(v) else f"{v:.4g}" for v in row]
            table.add_row(rich.markup.escape(layer), *cells)
        table.add_section()
        totals = [f"{self.totals[term]:.4g}" for term in self.terms]
        table.add_row("total", *totals)
        text = io.StringIO()
        width = 60 + max(map(len, self.layers)) + 40 * len(self.terms)
        rich.console.Console(file=text, width=width).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        lines.append(f"  by {self.measure}: {' > '.join(self.ranking)}")
        return "\n".join(lines).lstrip("\n")

    def to_dict(self) -> dict:
        """Returns everything as JSON would hold it."""
        values = [
            [None if math.isnan(v) else v for v in row]
            for row in self.values.tolist()
        ]
        return {
            "measure": self.measure,
            "layers": list(self.layers),
            "terms": list(self.terms),
            "values": values,
            "totals": self.totals,
            "ranking": list(self.ranking),
        }

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes everything to a JSON file."""
        write_text(
            path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        )

    @classmethod
    def from_dict(cls, values: dict) -> "BiasTermRanking":
        """Makes a `BiasTermRanking` of what `to_dict` returns."""
        return cls(
            values["measure"],
            values["layers"],
            values["terms"],
            # None becomes NaN
            np.array(values["values"], dtype="float64"),
            [values["totals"][term] for term in values["terms"]],
        )

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> "BiasTermRanking":
        """Reads what `to_json` wrote."""
        with open(path, encoding="utf-8") as file:
            return cls.from_dict(json.load(file))

    def plot(self, path: str | os.PathLike | None = None):
        """Draws a heat map, layers by terms, with the totals below.

        Needs matplotlib.

        Args:
            path: path of a picture to be written. Defaults to `None`: nothing
                is written.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        return heat_map(self, path)
