"""The lists by which the suite chooses its tests name what there is."""

import pathlib

import pytest

from tests import conftest

pytestmark = pytest.mark.once
FOLDER = pathlib.Path(__file__).parent


def test_lists_of_files_name_files():
    for name in (*conftest.SLOW, *conftest.ON_TORCH.split()):
        assert (FOLDER / name).exists(), name


def test_lists_of_tests_name_tests():
    one = [f"{file}::{test}" for file, test in conftest.ONE_ELSEWHERE.items()]
    for name in (*conftest.SLOW_TESTS, *one):
        file, *_, test = name.split("::")
        assert f"def {test}(" in (FOLDER / file).read_text(), name
