"""Arguments that several commands have."""

import argparse

from keras_debias.cli.condition import condition_of

GROUPINGS = {
    "by_label": "divide the groups by label as well",
    "overlapping": "columns of 0 and 1: a row may be in several groups",
}


def add_data(parser: argparse.ArgumentParser) -> None:
    """The file, and its columns."""
    parser.add_argument(
        "data", help="a file: .csv, .tsv, .jsonl or .parquet, or .csv.gz"
    )
    inputs = parser.add_mutually_exclusive_group(required=True)
    inputs.add_argument(
        "--text",
        nargs="+",
        metavar="COLUMN",
        help="the column of texts, or two for pairs",
    )
    inputs.add_argument(
        "--image", metavar="COLUMN", help="the column of names of image files"
    )
    parser.add_argument(
        "--image-folder",
        metavar="FOLDER",
        help="where the images are (the folder of the data file)",
    )
    parser.add_argument(
        "--image-size",
        type=count,
        default=224,
        metavar="PIXELS",
        help="images are cut to squares of this size (224)",
    )
    parser.add_argument(
        "--label", required=True, metavar="COLUMN", help="the column of labels"
    )
    add_regression(parser)


def add_regression(parser: argparse.ArgumentParser) -> None:
    """Whether labels are numbers to be predicted."""
    parser.add_argument(
        "--regression",
        action="store_true",
        help="labels are numbers to be predicted, and not classes",
    )


def add_groups(
    parser: argparse.ArgumentParser, options: tuple[str, ...] = (*GROUPINGS,)
) -> None:
    """The columns of groups, and how they are meant."""
    parser.add_argument(
        "--groups",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns whose combinations are the groups",
    )
    for name in options:
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            action="store_true",
            help=GROUPINGS[name],
        )


def add_training(parser: argparse.ArgumentParser) -> None:
    """The network, and how long it trains."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="PRESET",
        help="a KerasHub preset: a name or a folder; minilm for the one of "
        "kd.presets",
    )
    parser.add_argument(
        "--test", metavar="FILE", help="test data with the same columns"
    )
    parser.add_argument(
        "--test-share",
        type=fraction,
        default=0.2,
        metavar="SHARE",
        help="without --test, the share of the data that is held out (0.2)",
    )
    parser.add_argument("--epochs", type=positive, default=2.0, help="(2)")
    parser.add_argument("--batch-size", type=count, default=32, help="(32)")
    parser.add_argument(
        "--learning-rate", type=positive, default=1e-3, help="(0.001)"
    )
    parser.add_argument(
        "--adapter",
        choices=("lora", "value-bias", "head", "full"),
        help="what trains beside the head: head is nothing else, full is all "
        "(lora for texts, head for images)",
    )
    parser.add_argument(
        "--rank", type=count, default=8, help="rank of the LoRA adapter (8)"
    )
    parser.add_argument(
        "--sequence-length",
        type=count,
        default=128,
        metavar="TOKENS",
        help="longer texts are cut (128)",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "mixed_bfloat16", "mixed_float16"),
        help="the dtype policy of training (float32)",
    )


def add_output(parser: argparse.ArgumentParser, what: str) -> None:
    """The folder that a command makes."""
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help=f"a folder for {what}"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the folder if it exists",
    )


def add_fail_on(
    parser: argparse.ArgumentParser, measures: tuple[str, ...], text: str
) -> None:
    """Adds `--fail-on`; `text` says when it ends with status 1."""
    parser.add_argument(
        "--fail-on",
        action="append",
        default=[],
        type=condition_of(measures),
        metavar="CONDITION",
        help=f"end with status 1 {text}; of {', '.join(measures)}",
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quiet", action="store_true", help="no tables and no progress"
    )


def positive(text: str) -> float:
    """The type of a number above 0."""
    value = _number(float, text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"expected a number above 0, received {text!r}"
        )
    return value


def fraction(text: str) -> float:
    """The type of a number between 0 and 1."""
    value = _number(float, text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(
            f"expected a number between 0 and 1, received {text!r}"
        )
    return value


def count(text: str) -> int:
    """The type of a whole number of at least 1."""
    value = _number(int, text)
    if value < 1:
        raise argparse.ArgumentTypeError(
            f"expected at least 1, received {text!r}"
        )
    return value


def _number(kind, text):
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a number, received {text!r}"
        ) from None
