"""Scores as plain text."""

import textwrap
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

Interval = tuple[float, float] | None
WIDTH = 79
WIDEST = 100


def percent(value: float | None, interval: Interval = None) -> str:
    """Returns a fraction as percent, with its interval if there is one."""
    if value is None:
        return "-"
    text = f"{100 * value:.1f}"
    if interval is not None:
        text += f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return text


def one_line(text: str) -> str:
    """Returns a text without line breaks and other control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns an aligned table: first column left, the others right."""
    header = [one_line(cell) for cell in header]
    rows = [[one_line(cell) for cell in row] for row in rows]
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]

    def line(cells):
        first = cells[0].ljust(widths[0])
        others = [
            cell.rjust(width)
            for cell, width in zip(cells[1:], widths[1:], strict=True)
        ]
        return "  ".join([first, *others]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *map(line, rows)])


def text_blocks(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int = WIDEST,
) -> str:
    """A text table; a wide one below itself, with the first column again."""
    first, rest = header[0], list(range(1, len(header)))
    blocks = []
    while rest:
        count = len(rest)
        while True:
            chosen = rest[:count]
            block = text_table(
                [first, *(header[i] for i in chosen)],
                [[row[0], *(row[i] for i in chosen)] for row in rows],
            )
            if count == 1 or len(block.splitlines()[1]) <= width:
                break
            count -= 1
        blocks.append(block)
        rest = rest[count:]
    return "\n\n".join(blocks)


def plain(value: float | None, interval: Interval = None) -> str:
    """Returns a number of a metric, with its interval if there is one."""
    if value is None:
        return "-"
    text = f"{value:.3f}"
    if interval is not None:
        text += f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    return text


def scores_table(scores) -> str:
    """Returns the tables that `print(scores)` shows."""
    parts = []
    of_classes = [split for split in scores if split.accuracy is not None]
    if of_classes:
        parts += _accuracy_tables(of_classes)
    parts += metric_tables(scores)
    if of_classes:
        parts.append("Percent; gap = accuracy - worst group.")
    if any(split.metrics for split in scores):
        parts.append(METRICS_NOTE)
    if scores.confidence is not None:
        parts.append(f"Brackets: {100 * scores.confidence:g} % interval.")
    shown = [p for p in parts if "\n" in p]
    shown += [textwrap.fill(" ".join(p for p in parts if "\n" not in p), WIDTH)]
    notes = notes_text(scores)
    return "\n\n".join([*shown, *([notes] if notes else [])])


METRICS_NOTE = (
    "Metrics are in their own units; gap: by how much the worst group is "
    "worse than all rows; ratio: 1 where they are alike."
)


def metric_rows(scores) -> list[tuple]:
    """`(title, header, rows)` of further metrics: by split, and by group."""
    rows = []
    for split in scores:
        for metric in split.metrics.values():
            rows.append(
                [
                    f"{split.name}: {metric.name}"
                    + ("" if metric.higher_is_better else " (low is good)"),
                    plain(metric.value, metric.interval),
                    plain(metric.worst, metric.worst_interval),
                    plain(metric.gap, metric.gap_interval),
                    plain(metric.ratio, metric.ratio_interval),
                ]
            )
    if not rows:
        return []
    header = ["metric", "all rows", "worst group", "gap", "ratio"]
    found = [("Metrics", header, rows)]
    for split in scores:
        if not split.metrics or not split.groups:
            continue
        header = [f"{split.name}: group", "n", *split.metrics]
        lines = [
            [
                group.name,
                f"{group.n:,}",
                *(
                    plain(metric.groups[group.name])
                    + ("*" * (group.name == metric.worst_group))
                    for metric in split.metrics.values()
                ),
            ]
            for group in split.groups
        ]
        found.append((f"{split.name}: metrics by group", header, lines))
    return found


def metric_tables(scores) -> list[str]:
    """The tables of further metrics as text."""
    tables = [
        text_table(header, rows) for _, header, rows in metric_rows(scores)
    ]
    return tables[:1] + [f"{each}\n* the worst group" for each in tables[1:]]


def score_rows(scores) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of splits with classes."""
    header = ["split", "n", "accuracy", "weighted F1", "worst group", "gap"]
    weighted = any(s.train_weighted_accuracy is not None for s in scores)
    if weighted:
        header.append("train-weighted")
    rows = []
    for split in scores:
        rows.append(
            [
                split.name,
                f"{split.n:,}",
                percent(split.accuracy, split.accuracy_interval),
                percent(split.weighted_f1, split.weighted_f1_interval),
                percent(
                    split.worst_group_accuracy,
                    split.worst_group_accuracy_interval,
                ),
                percent(split.gap, split.gap_interval),
            ]
        )
        if weighted:
            rows[-1].append(percent(split.train_weighted_accuracy))
    return header, rows


def _accuracy_tables(scores) -> list[str]:
    group_rows = []
    for split in scores:
        for group in split.groups:
            worst = group.name == split.worst_group
            group_rows.append(
                [
                    f"{split.name}: {group.name}" + (" (worst)" * worst),
                    f"{group.n:,}",
                    percent(group.accuracy, group.interval),
                ]
            )
    parts = [text_table(*score_rows(scores))]
    if group_rows:
        parts.append(text_table(["group", "n", "accuracy"], group_rows))
    return parts


def notes_text(scores) -> str:
    """Returns the notes on all splits, one line each."""
    lines = [
        f"{split.name}: {note}" for split in scores for note in split.notes
    ]
    return "\n".join(
        textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines
    )


def comparison_table(named_scores: Mapping[str, Any]) -> str:
    """Returns several scores side by side as a text table.

    Args:
        named_scores: dict from a name, for instance that of a method, to
            `Scores`.

    Returns:
        A string: one line a name; accuracy, worst group and gap of each split
        in percent.

    Raises:
        ValueError: If there is nothing to compare.

    Example:

    ```python
    print(comparison_table({"TaskOnly": plain, "EDGE": debiased}))
    ```
    """
    names = split_names(named_scores)
    header = [""]
    for name in names:
        header += [f"{name} accuracy", "worst group", "gap"]
    rows = []
    for method, scores in named_scores.items():
        row = [method]
        for name in names:
            if name not in scores:
                row += ["-", "-", "-"]
                continue
            split = scores[name]
            row += [
                percent(split.accuracy),
                percent(split.worst_group_accuracy),
                percent(split.gap),
            ]
        rows.append(row)
    return text_blocks(header, rows)


def split_names(named_scores: Mapping[str, Any]) -> list[str]:
    """Returns the splits of several scores, in order, each once."""
    if not isinstance(named_scores, Mapping) or not named_scores:
        raise ValueError(
            "Expected `named_scores` to be a non-empty dict from name to "
            f"`Scores`. Received: {named_scores!r}"
        )
    seen = {}
    for name, scores in named_scores.items():
        if not hasattr(scores, "names"):
            raise TypeError(
                "Expected `named_scores` to hold `Scores`. Received: "
                f"{type(scores).__name__} under {name!r}"
            )
        seen.update(dict.fromkeys(scores.names))
    return list(seen)
