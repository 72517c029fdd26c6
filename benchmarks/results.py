"""Writes the result of a benchmark, with what it was made by."""

import importlib
import json
import os
import pathlib
import platform

PACKAGES = ("torch", "keras", "keras_hub", "keras_debias", "numpy")


def write(path, result, packages=()) -> None:
    """Writes a result as JSON; versions and machine are added to it.

    Args:
        path: path of the file, or `None`: then nothing is written.
        result: dict.
        packages: names of further packages that took part.
    """
    if path is None:
        return
    versions = {"python": platform.python_version()}
    for name in (*PACKAGES, *packages):
        versions[name] = importlib.import_module(name).__version__
    machine = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }
    content = {**result, "versions": versions, "machine": machine}
    text = json.dumps(content, indent=1) + "\n"
    pathlib.Path(path).write_text(text, encoding="utf-8")


def _cpu():
    path = pathlib.Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()
