"""The parser of all commands, and how they end."""

import argparse
import io
import logging
import sys
import traceback
import warnings
from collections.abc import Sequence

from keras_debias.cli import audit
from keras_debias.cli import compare
from keras_debias.cli import evaluate
from keras_debias.cli import export_peft
from keras_debias.cli import train
from keras_debias.version import __version__

PROGRAM = "keras-debias"
COMMANDS = (audit, evaluate, train, compare, export_peft)
# Exit statuses.
FIRED, FAILED, INTERRUPTED = 1, 2, 130


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the arguments; exits with status 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Find shortcuts in data, train without them, measure it.",
        epilog="Exit status: 0; 1 if --fail-on holds; 2 for errors.",
    )
    parser.add_argument(
        "--version", action="version", version=f"{PROGRAM} {__version__}"
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND"
    )
    for module in COMMANDS:
        command = module.add(commands)
        command.add_argument(
            "--debug",
            action="store_true",
            help="show tracebacks, and the logs of libraries",
        )
        command.set_defaults(run=module.run)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: sequence of strings. Defaults to `None`: those of the process.

    Returns:
        The exit status: 0; 1 if a condition of `--fail-on` holds; 2 for an
        error.
    """
    options = parse(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Progress shows at once in files and pipes, too.
        sys.stdout.reconfigure(line_buffering=True)
    say = f"{PROGRAM} {options.command}"
    with warnings.catch_warnings():
        if not options.debug:
            _quiet_python(say)
        try:
            return FIRED if options.run(options) else 0
        except KeyboardInterrupt:
            print(f"{say}: interrupted", file=sys.stderr)
            return INTERRUPTED
        # Whatever a command raises ends in a line for its user.
        except Exception as error:  # noqa: BLE001
            if options.debug:
                traceback.print_exc()
            print(f"{say}: error: {_line(error)}", file=sys.stderr)
            return FAILED


def _quiet_python(say: str) -> None:
    """Warnings for users in one line each; none for developers."""
    for category in (DeprecationWarning, FutureWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    # Set inside `catch_warnings`, which sets it back.
    warnings.showwarning = lambda message, *_, **__: print(
        f"{say}: warning: {_line(message)}", file=sys.stderr
    )
    for name in ("tensorflow", "absl", "jax"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _line(error) -> str:
    text = " ".join(str(error).split())
    expected = (ValueError, TypeError, OSError, ImportError, Warning)
    if text and isinstance(error, expected):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"
