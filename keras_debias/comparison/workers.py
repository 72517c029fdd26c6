"""Runs of a comparison side by side, in processes."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import traceback

# How many threads a process computes with; each library reads its own.
THREADS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
)


def run_side_by_side(cells, arguments, workers, say) -> dict:
    """Makes runs in several processes, each on its share of the threads.

    Each run gets a new process, with the environment of this one. Its runs are
    kept in the folder of the comparison.

    Args:
        cells: list of `(name, method, seed)`, the runs to make.
        arguments: dict of the other arguments of `kd.compare`.
        workers: int, the number of processes.
        say: function of one line of text.

    Returns:
        Dict from `(name, seed)` to the error's text, for runs that failed.

    Raises:
        ValueError: If an argument cannot be sent to another process.
    """
    _check_picklable(arguments | {"methods": [cell[1] for cell in cells]})
    workers = min(workers, len(cells))
    errors = {}
    if not workers:
        return errors
    threads = max(1, (os.cpu_count() or 1) // workers)
    with (
        _environment(dict.fromkeys(THREADS, str(threads))),
        concurrent.futures.ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn")
        ) as pool,
    ):
        running = {
            pool.submit(_make, name, method, seed, arguments): (name, seed)
            for name, method, seed in cells
        }
        finished = concurrent.futures.as_completed(running)
        for number, future in enumerate(finished, 1):
            cell = running[future]
            # A killed process fails its run, not the others.
            try:
                failed = future.result()
            except Exception:  # noqa: BLE001
                failed = traceback.format_exc()
            if failed is not None:
                errors[cell] = failed
            name, seed = cell
            say(
                f"[{number}/{len(cells)}] {name}, seed {seed}: "
                f"{'done' if failed is None else 'broken'}"
            )
    return errors


def _make(name, method, seed, arguments) -> str | None:
    """One run, in a process of its own; the text of its error, if any."""
    from keras_debias.comparison.compare import compare

    comparison = compare({name: method}, seeds=[seed], **arguments, verbose=0)
    return comparison.errors.get((name, seed))


def _check_picklable(arguments) -> None:
    for name, value in arguments.items():
        try:
            pickle.dumps(value)
        # Objects of the user may raise anything.
        except Exception as error:
            raise ValueError(
                "Expected arguments that other processes can import, such as "
                f"functions of a module. Received: {name}={value!r}, which "
                f"cannot be pickled: {error}. Define it in a file, or leave "
                "`workers` at 1."
            ) from error


@contextlib.contextmanager
def _environment(values):
    """Sets environment variables while processes are started."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
