"""`keras-debias train`: from a file to a preset that can be served."""

import argparse

from keras_debias.cli import methods
from keras_debias.cli.arguments import add_data
from keras_debias.cli.arguments import add_groups
from keras_debias.cli.arguments import add_output
from keras_debias.cli.arguments import add_quiet
from keras_debias.cli.arguments import add_training


def add(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "train",
        help="train a classifier, and save it with a report",
        description="Fine-tunes a classifier of texts or images, measures it "
        "on held-out rows, and writes a folder: model/ (an ordinary KerasHub "
        "preset, adapters merged), adapter/, report.html, scores.json, "
        "predictions.csv and labels.json. With --regression it predicts "
        "numbers.",
        epilog=f"Methods. {methods.DESCRIPTION}.",
    )
    add_data(parser)
    add_groups(parser, ())
    parser.add_argument(
        "--method",
        choices=tuple(methods.METHODS),
        default="recommended",
        help="(recommended)",
    )
    methods.add_kind_is_task(parser)
    parser.add_argument("--seed", type=int, default=0, help="(0)")
    add_training(parser)
    add_output(parser, "the model and the report")
    add_quiet(parser)
    return parser


def run(options) -> bool:
    """Trains and saves; no condition can hold."""
    methods.check([options.method], options)
    from keras_debias.cli.training import train

    train(options)
    return False
