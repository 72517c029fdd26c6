"""Runs the guides as a reader does: each in a process of its own."""

import os
import pathlib
import subprocess
import sys

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[1]
GUIDES = sorted((ROOT / "guides").glob("*.py"))
FIRST_GUIDE = "getting_started.py"
TIME_LIMIT = 420


def _to_run():
    """All guides on torch; the first one on every backend."""
    if keras.config.backend() == "torch":
        return GUIDES
    return [guide for guide in GUIDES if guide.name == FIRST_GUIDE]


def test_there_is_a_first_guide():
    assert FIRST_GUIDE in [guide.name for guide in GUIDES]


@pytest.mark.timeout(TIME_LIMIT + 60)
@pytest.mark.parametrize("guide", _to_run(), ids=lambda guide: guide.stem)
def test_guide_runs(guide, tmp_path):
    path = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    )
    try:
        result = subprocess.run(
            [sys.executable, str(guide)],
            cwd=tmp_path,
            env={
                **os.environ,
                "KERAS_BACKEND": keras.config.backend(),
                "MPLBACKEND": "agg",
                "PYTHONPATH": path,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        if isinstance(output, bytes):
            output = output.decode(errors="replace")
        pytest.fail(f"No end after {TIME_LIMIT} seconds.\n{output[-8000:]}")
    if result.returncode:
        pytest.fail(
            f"{guide.name} ended with {result.returncode}.\n"
            f"{result.stdout[-8000:]}"
        )
