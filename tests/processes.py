"""Processes that tests start, and what the suite has in common with them."""

import functools
import multiprocessing
import os
import pathlib
import runpy
import sys
import tempfile

import keras

ROOT = pathlib.Path(__file__).parents[1]


def start(script, *arguments, output, cwd=ROOT, environ=None):
    """Starts a script in a process that has imported the library before.

    It is forked from one that imported it: that takes longer than most scripts
    run. Imports are tested by processes that start from nothing.

    Args:
        script: path of a file, or name of a module.
        arguments: what follows on the command line.
        output: path of a file for what the process prints.
        cwd: its folder. Defaults to that of the project.
        environ: dict of further environment variables.

    Returns:
        A started `multiprocessing.Process`.
    """
    process = _context().Process(
        target=_run,
        args=(script, [*map(str, arguments)], output, cwd, environ or {}),
    )
    process.start()
    return process


def end(process, seconds: float) -> int | None:
    """Waits for a process; its exit code, or `None` if it had to be killed."""
    process.join(seconds)
    code = process.exitcode
    process.kill()
    process.join()
    return code


@functools.cache
def _context():
    # The server's socket has a path, of at most 107 characters.
    if os.name != "posix" or len(tempfile.gettempdir()) > 70:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            *("keras_debias", "keras_hub", "matplotlib.pyplot"),
            *("sklearn.cluster", "sklearn.linear_model", "pandas"),
        ]
    )
    return context


def _run(script, arguments, output, cwd, environ):
    with open(output, "wb", buffering=0) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(cwd)
    os.environ.update(environ)
    sys.argv = [str(script), *arguments]
    if isinstance(script, pathlib.Path):
        runpy.run_path(str(script), run_name="__main__")
    else:
        runpy.run_module(script, run_name="__main__", alter_sys=True)


def as_in_the_suite() -> None:
    """Leaves graphs as they are, which others match to the last bit.

    Every graph runs for a few steps: optimizing it does not pay.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options(
            {"disable_meta_optimizer": True}
        )
