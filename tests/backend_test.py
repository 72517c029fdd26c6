"""The choice of the backend, without importing one."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from keras_debias import _backend

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def environ(tmp_path):
    return {"KERAS_HOME": str(tmp_path)}


def write_config(environ, text):
    path = pathlib.Path(environ["KERAS_HOME"]) / "keras.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))


def only(*packages):
    return lambda name: name in packages


every_backend = only(*_backend.BACKENDS)


@pytest.mark.parametrize("name", _backend.BACKENDS)
def test_environment_variable_comes_first(environ, name):
    write_config(environ, {"backend": "jax"})
    environ["KERAS_BACKEND"] = name
    assert _backend.choose_backend(environ, every_backend) == name


def test_other_backends_are_left_to_keras(environ):
    environ["KERAS_BACKEND"] = "openvino"
    assert _backend.choose_backend(environ, every_backend) == "openvino"


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_configured_backend_comes_second(environ, name):
    write_config(environ, {"backend": name})
    assert _backend.choose_backend(environ, every_backend) == name
    environ["KERAS_BACKEND"] = ""  # Keras takes it for unset
    assert _backend.choose_backend(environ, every_backend) == name


@pytest.mark.parametrize(
    "text",
    [{"backend": "tensorflow"}, {"floatx": "float32"}, "not JSON", "[]", None],
)
def test_torch_is_the_default(environ, text):
    if text is not None:
        write_config(environ, text)
    assert _backend.choose_backend(environ, every_backend) == "torch"


def test_configuration_is_looked_for_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _backend.configured_backend({}) is None
    (tmp_path / ".keras").mkdir()
    write_config({"KERAS_HOME": str(tmp_path / ".keras")}, {"backend": "jax"})
    assert _backend.configured_backend({}) == "jax"
    assert _backend.configured_backend({"KERAS_HOME": "~/.keras"}) == "jax"


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        (("tensorflow",), "tensorflow"),
        (("jax",), "jax"),
        (("jax", "tensorflow"), "tensorflow"),
        (("jax", "torch"), "torch"),
    ],
)
def test_what_is_installed_comes_last(environ, packages, expected):
    write_config(environ, {"backend": "tensorflow"})
    assert _backend.choose_backend(environ, only(*packages)) == expected


def test_without_a_backend_the_error_names_the_command(environ):
    with pytest.raises(ImportError) as error:
        _backend.choose_backend(environ, only())
    message = str(error.value)
    assert 'pip install "keras-debias[torch]"' in message
    assert "CPU build of PyTorch first" in message


def test_missing_choice_is_refused(environ):
    write_config(environ, {"backend": "jax"})
    with pytest.raises(ImportError, match=r"keras\.json names.*'jax'"):
        _backend.choose_backend(environ, only("torch"))
    environ["KERAS_BACKEND"] = "torch"
    with pytest.raises(ImportError, match="KERAS_BACKEND names.*'torch'"):
        _backend.choose_backend(environ, only("jax"))


def test_packages_are_looked_up_without_being_imported():
    assert _backend.is_installed("keras")
    assert not _backend.is_installed("a_package_that_does_not_exist")


def run(code, **environ):
    """Runs code in a fresh process, without a backend in its environment."""
    kept = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout.splitlines()[-1]


IMPORT_BACKEND_ONLY = """
import os, sys, types
# The package without its __init__, which imports Keras.
package = types.ModuleType("keras_debias")
package.__path__ = ["keras_debias"]
sys.modules["keras_debias"] = package
from keras_debias import _backend
"""


def test_nothing_is_set_once_keras_is_imported(tmp_path):
    code = IMPORT_BACKEND_ONLY + (
        "sys.modules['keras'] = types.ModuleType('keras')\n"
        "_backend.set_backend()\n"
        "print(os.environ.get('KERAS_BACKEND'))\n"
    )
    home = str(tmp_path)
    assert run(code, KERAS_HOME=home) == "None"
    without_keras = code.replace("sys.modules['keras'] =", "stub =")
    write_config({"KERAS_HOME": home}, {"backend": "jax"})
    assert run(without_keras, KERAS_HOME=home) == "jax"


STOP_AT_KERAS = """
import os, sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "keras":
            print(os.environ.get("KERAS_BACKEND"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Stop())
import keras_debias
"""


@pytest.mark.parametrize(
    ("configured", "expected"),
    [("jax", "jax"), ("torch", "torch"), ("tensorflow", "torch")],
)
def test_library_chooses_before_it_imports_keras(
    tmp_path, configured, expected
):
    write_config({"KERAS_HOME": str(tmp_path)}, {"backend": configured})
    assert run(STOP_AT_KERAS, KERAS_HOME=str(tmp_path)) == expected
