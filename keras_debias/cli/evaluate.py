"""`keras-debias evaluate`: predictions in a file, overall and by group."""

import argparse
import sys

from keras_debias.cli.arguments import add_fail_on
from keras_debias.cli.arguments import add_groups
from keras_debias.cli.arguments import add_quiet
from keras_debias.cli.arguments import add_regression
from keras_debias.cli.arguments import count
from keras_debias.cli.arguments import fraction
from keras_debias.cli.condition import Condition
from keras_debias.cli.tables import written

MEASURES = ("gap", "accuracy", "worst_group_accuracy", "weighted_f1")
# With --regression.
OF_NUMBERS = ("rmse", "mae", "r2", "pearson", "spearman")
OF_NUMBERS += (
    *(f"worst_group_{name}" for name in OF_NUMBERS),
    *(f"{name}_gap" for name in OF_NUMBERS),
)


def add(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "evaluate",
        help="accuracy of predictions, overall and by group",
        description="Measures predictions in a file, overall and by group.",
        epilog="Example: keras-debias evaluate predictions.csv --label y "
        "--prediction p --groups gender --html out.html",
    )
    parser.add_argument("data", help="a file: .csv, .tsv, .jsonl or .parquet")
    parser.add_argument("--label", required=True, metavar="COLUMN")
    parser.add_argument(
        "--prediction",
        required=True,
        metavar="COLUMN",
        help="predicted labels or, for two labels, the probability of the "
        "second in sorted order",
    )
    add_regression(parser)
    add_groups(parser)
    parser.add_argument(
        "--threshold",
        type=fraction,
        default=0.5,
        help="probabilities from here on mean the second label (0.5)",
    )
    parser.add_argument(
        "--min-group-size",
        type=count,
        default=10,
        metavar="ROWS",
        help="smaller groups cannot be the worst (10)",
    )
    parser.add_argument("--html", metavar="FILE", help="write a page")
    parser.add_argument("--json", metavar="FILE", help="write the scores")
    add_fail_on(
        parser, (*MEASURES, *OF_NUMBERS), 'if it holds, such as "gap>0.1"'
    )
    add_quiet(parser)
    return parser


def run(options) -> bool:
    """Writes the scores; returns whether a condition holds."""
    from keras_debias.cli.predictions import scores_of_file

    scores = scores_of_file(options)
    if not options.quiet:
        print(scores)
    if options.html:
        scores.to_html(options.html)
        written(options.html)
    if options.json:
        scores.to_json(options.json)
        written(options.json)
    fired = False
    for condition in options.fail_on:
        for split in scores:
            value = measured(split, condition.measure)
            if value is None and not options.groups and of_groups(condition):
                raise ValueError(
                    f"Expected --groups with --fail-on {condition}, received "
                    "none"
                )
            if value is None:
                raise ValueError(
                    f"Expected rows for which {condition.measure} is defined, "
                    f"with --fail-on {condition}, received {split.n}: of too "
                    "few rows, of groups below --min-group-size or of numbers "
                    "that are all equal, it is not"
                )
            if condition.holds(value):
                fired = True
                print(
                    f"keras-debias evaluate: {condition} holds: "
                    f"{condition.measure} is {value:.3g}",
                    file=sys.stderr,
                )
    return fired


def of_groups(condition: Condition) -> bool:
    """Whether the measure of a condition compares groups."""
    measure = condition.measure
    return measure.startswith("worst_group_") or measure.endswith("gap")


def measured(split, measure: str) -> float | None:
    """A measure of the scores of a split, `None` where it is undefined.

    Raises:
        ValueError: If it is of numbers and the split of classes, or the
            other way around.
    """
    of_numbers = measure not in MEASURES
    if of_numbers != (split.kind == "regression"):
        known = OF_NUMBERS if split.kind == "regression" else MEASURES
        raise ValueError(
            f"Expected --fail-on of one of {', '.join(known)}, received "
            f"{measure!r}"
        )
    if not of_numbers:
        return getattr(split, measure)
    if measure.endswith("_gap"):
        return split.metrics[measure.removesuffix("_gap")].gap
    if measure.startswith("worst_group_"):
        return split.metrics[measure.removeprefix("worst_group_")].worst
    return split.metrics[measure].value
