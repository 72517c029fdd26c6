"""Scores as plain text."""

import textwrap
from collections.abc import Mapping
from collections.abc import Sequence

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


def score_rows(scores) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows of the table of splits."""
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


def scores_table(scores) -> str:
    """Returns the tables that `print(scores)` shows."""
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
    note = "Percent; gap = accuracy - worst group."
    if scores.confidence is not None:
        note += f" Brackets: {100 * scores.confidence:g} % interval."
    parts.append(note)
    notes = notes_text(scores)
    return "\n\n".join([*parts, *([notes] if notes else [])])


def notes_text(scores) -> str:
    """Returns the notes on all splits, one line each."""
    lines = [
        f"{split.name}: {note}" for split in scores for note in split.notes
    ]
    return "\n".join(
        textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines
    )


def comparison_table(named_scores: Mapping[str, object]) -> str:
    """Returns several scores side by side as a text table.

    Args:
        named_scores: Dict from a name, for instance that of a method, to
            `Scores`.

    Returns:
        String: one line a name; accuracy, worst group and gap of each split
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


def split_names(named_scores: Mapping[str, object]) -> list[str]:
    """Returns the splits of several scores, in order, each once."""
    if not isinstance(named_scores, Mapping) or not named_scores:
        raise ValueError(
            "`named_scores` must be a non-empty dict from name to `Scores`. "
            f"Received: {named_scores!r}"
        )
    seen = {}
    for name, scores in named_scores.items():
        if not hasattr(scores, "names"):
            raise TypeError(
                "`named_scores` must hold `Scores`. Received: "
                f"{type(scores).__name__} under {name!r}"
            )
        seen.update(dict.fromkeys(scores.names))
    return list(seen)
