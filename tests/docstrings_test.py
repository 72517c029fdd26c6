"""Runs the `>>>` examples of all docstrings."""

import doctest
import importlib
import pathlib

import keras
import numpy as np
import pandas as pd
import pytest
from keras import ops

import keras_debias

PACKAGE = pathlib.Path(keras_debias.__file__).parent


def modules():
    """Dotted names of the modules with examples."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__")


def names():
    """What an example may use without importing it."""
    return {
        "keras": keras,
        "keras_debias": keras_debias,
        "kd": keras_debias,
        "np": np,
        "ops": ops,
        "pd": pd,
        "Groups": keras_debias.data.Groups,
        "Split": keras_debias.data.Split,
    }


def test_there_are_examples():
    assert len(list(modules())) > 20


@pytest.mark.parametrize("name", list(modules()))
def test_examples(name):
    module = importlib.import_module(name)
    result = doctest.testmod(
        module,
        extraglobs=names(),
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert result.attempted, "no example was collected"
    assert result.failed == 0
