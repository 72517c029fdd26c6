"""`keras-debias compare`: methods x seeds under equal budgets."""

import argparse

from keras_debias.cli import methods
from keras_debias.cli.arguments import add_data
from keras_debias.cli.arguments import add_groups
from keras_debias.cli.arguments import add_quiet
from keras_debias.cli.arguments import add_training


def add(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "compare",
        help="train several methods with several seeds",
        description="Trains several methods under equal budgets, and writes "
        "a folder: report.html, summary.csv, comparison.json, and runs/, "
        "from which an interrupted comparison goes on.",
        epilog=f"Methods. {methods.DESCRIPTION}.",
    )
    add_data(parser)
    add_groups(parser, ())
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=tuple(methods.METHODS),
        default=["plain", "recommended"],
        metavar="METHOD",
        help="the first is what the others are compared with "
        "(plain recommended)",
    )
    methods.add_kind_is_task(parser)
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1, 2], help="(0 1 2)"
    )
    add_training(parser)
    parser.add_argument(
        "--output",
        required=True,
        metavar="FOLDER",
        help="a folder for the report; finished runs in it are kept",
    )
    add_quiet(parser)
    return parser


def run(options) -> bool:
    """Trains and writes the report; no condition can hold."""
    methods.check(options.methods, options)
    from keras_debias.cli.comparing import compare_methods

    compare_methods(options)
    return False
