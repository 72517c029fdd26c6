"""Logs over epochs or steps as curves."""

import os
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_debias.evaluation.plot import COLORS
from keras_debias.evaluation.plot import GRID
from keras_debias.evaluation.plot import INK
from keras_debias.evaluation.plot import new_figure
from keras_debias.evaluation.plot import plain_text
from keras_debias.evaluation.plot import save_figure


def plot_history(
    history,
    logs: Sequence[str] | None = None,
    path: str | os.PathLike | None = None,
):
    """Draws logs over epochs, or over steps: one curve for each log.

    Needs matplotlib.

    Args:
        history: What `fit` returns, its dict, or the `history` of an
            `OODEvaluation` with `every_steps`.
        logs: sequence of strings, the logs to be drawn. Defaults to `None`:
            all of them, on one axis.
        path: path of a picture to be written. Defaults to `None`: nothing is
            written.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a log is unknown, or there is nothing to draw.
        TypeError: If `history` is something else.

    Example:

    ```python
    watch = kd.callbacks.OODEvaluation({"biased": dev}, every_steps=50)
    model.fit(train, callbacks=[watch])
    kd.evaluation.plot_history(
        watch.history, ["biased_accuracy", "biased_worst_group_accuracy"]
    )
    ```

    Reference:
        EDGE, Figure 3: accuracy with and without the shortcut over steps.
    """
    steps, curves, unit = _curves(getattr(history, "history", history))
    known = list(curves)
    logs = known if logs is None else list(logs)
    unknown = [log for log in logs if log not in curves]
    if unknown or not logs or isinstance(logs, str):
        raise ValueError(
            f"Expected `logs` to be among {known}. Received: logs={logs}"
        )
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    for i, log in enumerate(logs):
        axes.plot(
            steps,
            curves[log],
            marker="o",
            markersize=4,
            color=COLORS[i % len(COLORS)],
            linestyle=("-", "--", ":")[i // len(COLORS) % 3],
            label=plain_text(log),
        )
    axes.set_xlabel(unit, color=INK, fontsize=10)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=INK, labelsize=9)
    figure.legend(
        loc="outside lower center",
        ncols=2 if len(logs) > 1 else 1,
        frameon=False,
        fontsize=9,
    )
    save_figure(figure, path)
    return figure


def _curves(history) -> tuple:
    """Positions, dict from log to values, and what the positions are."""
    if isinstance(history, Mapping):
        curves = {str(k): np.asarray(v, "float64") for k, v in history.items()}
        lengths = {len(values) for values in curves.values()}
        if len(lengths) == 1 and lengths != {0}:
            return np.arange(1, lengths.pop() + 1), curves, "epoch"
    elif isinstance(history, Sequence) and not isinstance(history, str):
        lines = list(history)
        if lines and all(
            isinstance(line, Mapping) and "step" in line for line in lines
        ):
            names = dict.fromkeys(n for line in lines for n in line)
            curves = {
                name: np.array([line.get(name, np.nan) for line in lines])
                for name in names
                if name != "step"
            }
            steps = np.array([line["step"] for line in lines])
            return steps, curves, "step"
    raise TypeError(
        "Expected `history` to be what `fit` returns, or the `history` of an "
        "`OODEvaluation`, with at least one value. Received: "
        f"{str(history)[:80]}"
    )
