"""Finds layers by name, glob or predicate; gives them stable paths."""

import fnmatch
import functools
import re
from collections.abc import Callable
from collections.abc import Iterable

import keras

from keras_debias import _keras_internals
from keras_debias.utils.layer_roles import NAMES
from keras_debias.utils.layer_roles import QUERY_KEY_VALUE

Selector = str | Callable[[keras.Layer], bool] | Iterable[str]

ALL_LINEAR = "*"
"""All `Dense` and `EinsumDense` layers but the head, as `targets`."""


def plain_selector(selector: Selector | None):
    """A selector as a config holds it: `None` for a function."""
    if callable(selector):
        return None
    if selector is None or isinstance(selector, str):
        return selector
    return list(selector)


@functools.cache
def _snake_case(name: str) -> str:
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _automatic_name(layer: keras.Layer) -> tuple[str, int] | None:
    """`(stem, number)` of a name that Keras counted up, else `None`."""
    stems = {_snake_case(c.__name__) for c in type(layer).__mro__}
    match = re.fullmatch(r"(.+?)(?:_(\d+))?", layer.name)
    if match is None:
        return None
    stem, number = match.group(1), match.group(2)
    return (stem, int(number or 0)) if stem in stems else None


def layer_paths(model: keras.Model) -> dict[str, keras.Layer]:
    """All layers of a model by a stable path.

    The path is the layer's own, but automatic names (`dense_7`) are numbered
    again within their parent (`dense_1`). Keras' numbers depend on what was
    built before in the process.

    Args:
        model: a built `keras.Model`.

    Returns:
        A dict from path to layer, in the order of the model.
    """
    layers = _keras_internals.flatten_layers(model)
    by_path = {}
    for layer in layers:
        by_path.setdefault(getattr(layer, "path", None) or layer.name, layer)
    root = getattr(model, "path", None)
    if root:
        by_path.setdefault(root, model)

    # Rank automatic names among their siblings by the number Keras gave.
    siblings: dict[tuple, list] = {}
    for path, layer in by_path.items():
        automatic = _automatic_name(layer)
        if automatic is not None and path.split("/")[-1] == layer.name:
            stem, number = automatic
            parent = path.rsplit("/", 1)[0] if "/" in path else ""
            siblings.setdefault((parent, stem), []).append((number, path))
    lasting = {}
    for (_, stem), members in siblings.items():
        for rank, (_, path) in enumerate(sorted(members)):
            lasting[path] = f"{stem}_{rank}" if rank else stem

    def rename(path):
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            prefix = "/".join(path.split("/")[:end])
            parts[end - 1] = lasting.get(prefix, parts[end - 1])
        # The name of the model, which Keras leaves out when it rebuilds one.
        if isinstance(model, keras.Sequential) and path.startswith(
            f"{model.name}/"
        ):
            parts = parts[1:]
        return "/".join(parts)

    result: dict[str, keras.Layer] = {}
    for layer in layers:
        path = rename(getattr(layer, "path", None) or layer.name)
        name, count = path, 1
        while name in result:
            name, count = f"{path}~{count}", count + 1
        result[name] = layer
    return result


def variable_paths(model: keras.Model) -> dict[str, keras.Variable]:
    """All weights of a model by a stable path; see `layer_paths`."""
    result = {}
    seen = set()
    layers = {**layer_paths(model), "": model}
    for path, layer in layers.items():
        own = _keras_internals.own_trainable_variables(layer)
        own += _keras_internals.own_non_trainable_variables(layer)
        for variable in own:
            if id(variable) in seen:
                continue
            seen.add(id(variable))
            name = f"{path}/{variable.name}".lstrip("/")
            count = 1
            while name in result:
                name, count = f"{path}/{variable.name}~{count}", count + 1
            result[name] = variable
    return result


def _matches(path: str, layer: keras.Layer, pattern: str) -> bool:
    names = NAMES[pattern] if pattern in QUERY_KEY_VALUE else (pattern,)
    candidates = {path, path.split("/")[-1], layer.name}
    candidates.add(getattr(layer, "path", None) or path)
    return any(
        fnmatch.fnmatchcase(candidate, name)
        for name in names
        for candidate in candidates
    )


def select(
    model: keras.Model, selector: Selector, among: Callable, argument: str
) -> dict[str, keras.Layer]:
    """The layers that a selector names.

    Args:
        model: a built `keras.Model`.
        selector: a name or glob (`"query"`, `"*/query"`), several of them, or
            a function of a layer that returns a bool. Names are matched
            against the layer's name and its whole path.
        among: function of a layer. Which layers may be chosen at all.
        argument: string. The argument's name, for the error.

    Returns:
        A dict from path to layer, in the order of the model.

    Raises:
        ValueError: If some name matches no layer.
        TypeError: If the selector is of another type.
    """
    candidates = {p: x for p, x in layer_paths(model).items() if among(x)}
    if callable(selector):
        chosen = {p: x for p, x in candidates.items() if selector(x)}
        missed = [] if chosen else [selector]
    else:
        patterns = [selector] if isinstance(selector, str) else selector
        patterns = list(patterns) if isinstance(patterns, Iterable) else [0]
        if not all(isinstance(pattern, str) for pattern in patterns):
            raise TypeError(
                f"Expected `{argument}` to be a layer name or glob, several "
                "of them, or a function of a layer. "
                f"Received: {argument}={selector!r}"
            )
        hits = {
            # A stable path belongs to one layer; Keras may have given another
            # layer the same one.
            pattern: {pattern}
            if "/" in pattern and pattern in candidates
            else {p for p, x in candidates.items() if _matches(p, x, pattern)}
            for pattern in patterns
        }
        found = set().union(*hits.values())
        chosen = {p: x for p, x in candidates.items() if p in found}
        missed = [pattern for pattern, hit in hits.items() if not hit]
    if missed or not chosen:
        names = list(candidates)
        listed = "\n".join(f"  {name}" for name in names[:40])
        if len(names) > 40:
            listed += f"\n  ... and {len(names) - 40} more"
        raise ValueError(
            f"Expected `{argument}` to match at least one layer. "
            f"Received: {argument}={selector!r}, in which {missed!r} "
            f"matches none. The model has these layers:\n{listed or '  none'}"
        )
    return chosen
