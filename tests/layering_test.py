"""Holds the package to its import rules, by parsing it."""

import ast
import pathlib
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_debias"

# What lies at the bottom, and may be imported by every room.
GROUND = {
    "_keras_internals",
    "constraints",
    "directions",
    "layers",
    "linalg",
    "utils",
}

# Rooms that know nothing but the ground and, where given, other rooms.
PURE_ROOMS = {
    "_keras_internals": set(),
    "constraints": set(),
    "directions": set(),
    "linalg": set(),
    "utils": set(),
    "layers": set(),
    "losses": set(),
    "metrics": set(),
    "adapters": set(),
    "optimizers": set(),
    # A projection declares its objectives, a regularizer may share a loss.
    "projections": {"losses"},
    "regularizers": {"losses"},
}
PURE_LIBRARIES = {"keras", "numpy"}
MORE_LIBRARIES = {
    "_keras_internals/dropout.py": {"torch"},
    "_keras_internals/hub_importers.py": {"keras_hub"},
    "linalg.py": {"scipy"},
    "metrics/text_overlap.py": {"rouge_score", "sacrebleu"},
    "utils/files.py": {"psutil"},
    "adapters/store.py": {"keras_hub"},
    "adapters/adapter_folder.py": {"safetensors"},
    "adapters/summary.py": {"rich"},
}

# Rooms that measure, and what they must not know.
JUDGES = {"evaluation", "metrics", "auditing"}
METHODS = {
    "adapters",
    "comparison",
    "projections",
    "recipes",
    "regularizers",
    "training",
}

# What looks into models may know what was put on them, not how they train.
ANALYSTS = {"analysis"}
NOT_FOR_ANALYSTS = {"comparison", "recipes"}

TRAINERS = {"comparison", "recipes", "testing", "training", "__init__"}
BACKEND_ROOMS = {
    "_backend",
    "_keras_internals",
    "testing",
    "training",
    "__init__",
}
# A result says which backend and accelerator it is from.
BACKEND_FILES = {
    "comparison/accelerator.py",
    "comparison/environment.py",
}

# Attributes of Keras that no subclass may use either, even on `self`.
KERAS_PRIVATE = {
    "_add_trainable_state",
    "_assert_compile_called",
    "_compile_loss",
    "_compile_metrics",
    "_compute_loss",
    "_flatten_layers",
    "_functional",
    "_get_variable_index",
    "_kernel",
    "_layers",
    "_loss_tracker",
    "_metrics",
    "_non_trainable_variables",
    "_seed_generators",
    "_tracker",
    "_trainable_variables",
    "_untrack_variable",
    "_update_metrics_variables",
}
# The public methods of named tuples, underscore and all.
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}
# (file, attribute): exceptions to both rules, each with its reason.
ALLOWED_PRIVATE = {
    # A property of `KernelView` itself, which is no Keras layer.
    ("linalg.py", "_kernel"),
}

# Where the class of a layer is exchanged, beside `_keras_internals.swap_class`:
# back to what it was, or to a sister with the same weights.
CLASS_SWAPS = {
    "adapters/ia3.py",
    "adapters/low_rank_adapter.py",
    "adapters/projection_bias.py",
    "adapters/target_layer.py",
    "analysis/find_target_layer.py",
}


def _is_private(name):
    return name.startswith("_") and not name.startswith("__")


def _imports(tree, file):
    """Yields `(line, dotted name)` of everything a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parents = ["keras_debias", *file.parts[:-1]]
                kept = parents[: len(parents) - node.level + 1]
                module = ".".join([*kept, *filter(None, [module])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def _import_violations(file, room, line, name):
    parts = name.split(".")
    if parts[:2] in (["keras", "src"], ["keras_hub", "src"]):
        if room != "_keras_internals":
            yield f"{file}:{line}: imports `{name}`, which is private"
    if parts[0] == "keras_debias":
        other = parts[1] if len(parts) > 1 else "__init__"
        if other == room:
            return
        if other == "training" and room not in TRAINERS:
            yield f"{file}:{line}: `{room}` imports `training`"
        if room in JUDGES and other in METHODS:
            yield f"{file}:{line}: `{room}` imports the method `{other}`"
        if room in ANALYSTS and other in NOT_FOR_ANALYSTS:
            yield f"{file}:{line}: `{room}` imports `{other}`"
        if room in PURE_ROOMS and other not in GROUND | PURE_ROOMS[room]:
            yield f"{file}:{line}: `{room}` imports `{other}`"
    elif room in PURE_ROOMS and parts[0] not in sys.stdlib_module_names:
        libraries = PURE_LIBRARIES | MORE_LIBRARIES.get(file.as_posix(), set())
        if parts[0] not in libraries:
            yield f"{file}:{line}: `{room}` imports `{parts[0]}`"


def _private_use(node):
    """The private attribute that a node reaches for, or `None`."""
    if isinstance(node, ast.Attribute):
        owner, name = node.value, node.attr
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("delattr", "getattr", "hasattr", "setattr")
        and len(node.args) > 1
        and isinstance(node.args[1], ast.Constant)
    ):
        owner, name = node.args[0], str(node.args[1].value)
    else:
        return None
    own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
    own = own or (
        isinstance(owner, ast.Call)
        and isinstance(owner.func, ast.Name)
        and owner.func.id == "super"
    )
    public = name in NAMED_TUPLE or name == "_keras_internals"
    if public or not _is_private(name):
        return None
    return name if name in KERAS_PRIVATE or not own else None


def _asks_for_backend(node):
    if isinstance(node, ast.Call):
        function = node.func
        name = getattr(function, "attr", getattr(function, "id", None))
        return name == "backend"
    return isinstance(node, ast.Constant) and node.value == "KERAS_BACKEND"


def _swaps_class(node):
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Attribute) and target.attr == "__class__"
        for target in node.targets
    )


def violations(package):
    """Every breach of the rules in a package folder, one line each."""
    found = []
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package)
        room = file.parts[0].removesuffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for line, name in _imports(tree, file):
            found += _import_violations(file, room, line, name)
        for node in ast.walk(tree):
            name = _private_use(node)
            if (
                name
                and room != "_keras_internals"
                and (file.as_posix(), name) not in ALLOWED_PRIVATE
            ):
                found.append(f"{file}:{node.lineno}: uses private `{name}`")
            may_ask = room in BACKEND_ROOMS or file.as_posix() in BACKEND_FILES
            if _asks_for_backend(node) and not may_ask:
                found.append(f"{file}:{node.lineno}: asks for the backend")
            may_swap = room == "_keras_internals"
            may_swap = may_swap or file.as_posix() in CLASS_SWAPS
            if _swaps_class(node) and not may_swap:
                found.append(f"{file}:{node.lineno}: exchanges a class")
            # `keras.src` reached by attribute, without an import.
            if (
                isinstance(node, ast.Attribute)
                and node.attr == "src"
                and isinstance(node.value, ast.Name)
                and node.value.id in ("keras", "keras_hub")
                and room != "_keras_internals"
            ):
                found.append(f"{file}:{node.lineno}: uses `keras.src`")
    return found


def test_package_keeps_the_rules():
    assert (PACKAGE / "__init__.py").is_file()
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("adapters/lora.py", "from keras_debias import training"),
        ("adapters/lora.py", "from keras_debias.training import inputs"),
        ("adapters/lora.py", "import keras_debias"),
        ("adapters/lora.py", "import torch"),
        ("adapters/lora.py", "from ..data import split"),
        ("adapters/lora.py", "import safetensors.numpy"),
        ("linalg.py", "from keras_debias.data import split"),
        ("losses/loss.py", "def f():\n    import pandas as pd"),
        ("projections/edge.py", "from keras_debias.adapters import lora"),
        ("metrics/gap.py", "from keras_debias import evaluation"),
        ("evaluation/evaluate.py", "from keras_debias.adapters import merge"),
        ("evaluation/evaluate.py", "from keras_debias import training"),
        ("auditing/audit.py", "import keras_debias.recipes"),
        ("analysis/rank.py", "from keras_debias import training"),
        ("analysis/rank.py", "from keras_debias.training import inputs"),
        ("analysis/rank.py", "from keras_debias.recipes import grasp"),
        ("analysis/rank.py", "import keras\nkeras.config.backend()"),
        ("callbacks/ood.py", "from keras_debias.training import inputs"),
        ("data/split.py", "import keras.src.backend"),
        ("data/split.py", "from keras.src import backend"),
        ("data/split.py", "import keras\nkeras.src.backend"),
        ("layers/lora.py", "from keras_hub.src.models import bert"),
        ("layers/lora.py", "def f(layer):\n    return layer._layers"),
        ("layers/lora.py", "def f(self):\n    return self._tracker"),
        ("layers/lora.py", "def f(x):\n    return getattr(x, '_layers')"),
        ("layers/lora.py", "import keras\nkeras.config.backend() == 'jax'"),
        ("data/split.py", "import os\nos.environ['KERAS_BACKEND']"),
        ("comparison/run.py", "import keras\nkeras.config.backend()"),
        ("layers/lora.py", "def f(x):\n    x.__class__ = int"),
        ("regularizers/top.py", "import keras\nkeras.config.backend()"),
    ],
)
def test_planted_violation_is_found(tmp_path, file, source):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    found = violations(tmp_path)
    assert found
    assert all(line.startswith(f"{file}:") for line in found)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("adapters/adapter_folder.py", "import safetensors.numpy"),
        ("adapters/lora.py", "from keras_debias.adapters import adapter"),
        ("adapters/lora.py", "from keras_debias import _keras_internals"),
        ("analysis/rank.py", "from keras_debias.adapters import attention"),
        ("analysis/rank.py", "from keras_debias.data import split"),
        ("projections/edge.py", "from keras_debias.losses import identity"),
        ("recipes/grasp.py", "from keras_debias.training import inputs"),
        ("training/step.py", "import keras\nkeras.config.backend() == 'jax'"),
        ("_keras_internals/layers.py", "def f(x):\n    return x._layers"),
        ("layers/lora.py", "def f(self):\n    return self._own"),
        ("layers/lora.py", "def f(self):\n    return super()._own()"),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path, file, source):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert violations(tmp_path) == []
