"""Runs the guides as a reader does: each in a process of its own."""

import pathlib

import keras
import pytest

from tests import processes

GUIDES = sorted((pathlib.Path(__file__).parents[1] / "guides").glob("*.py"))
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
    output = tmp_path / "output.txt"
    process = processes.start(guide, output=output, cwd=tmp_path)
    ended = processes.end(process, TIME_LIMIT)
    printed = output.read_text(errors="replace")[-8000:]
    if ended is None:
        pytest.fail(f"No end after {TIME_LIMIT} seconds.\n{printed}")
    if ended:
        pytest.fail(f"{guide.name} ended with {ended}.\n{printed}")
