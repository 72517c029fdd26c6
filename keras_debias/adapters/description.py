"""The JSON of an adapter folder: its form, and the adapters it names."""

import keras

from keras_debias.adapters.adapter import Adapter
from keras_debias.adapters.bias_forms import BiasForm
from keras_debias.constraints import OrthogonalUpdate

# What an adapter's settings may hold besides plain values.
_PARTS = (BiasForm, OrthogonalUpdate)


def read_adapter(config: dict) -> Adapter:
    """Makes the adapter that a file names, and no other object.

    The class is checked first: Keras would build any class that a file names.
    """
    _require_class(config, (Adapter,))
    for value in config["config"].values():
        _check_value(value)
    return keras.saving.deserialize_keras_object(config)


def _check_value(value) -> None:
    if isinstance(value, dict) and "class_name" in value:
        _require_class(value, _PARTS)
        value = value["config"]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            _check_value(each)


def _require_class(config, classes) -> None:
    name = config.get("registered_name") if isinstance(config, dict) else None
    found = None
    if isinstance(name, str):
        found = keras.saving.get_registered_object(name)
    if (
        not (isinstance(found, type) and issubclass(found, classes))
        or not isinstance(config.get("config"), dict)
        or config.get("class_name") != found.__name__
        or not isinstance(config.get("module"), (str, type(None)))
    ):
        kinds = " or ".join(f"`{each.__name__}`" for each in classes)
        raise ValueError(
            f"Expected a registered {kinds} with its settings. Received: "
            f"{str(config)[:200]}"
        )


def check_description(config) -> None:
    """Raises a `ValueError` unless the JSON of a folder has its form."""

    def require(holds, what):
        if not holds:
            raise ValueError(f"expected {what}")

    def strings(value):
        return isinstance(value, list) and all(
            isinstance(each, str) for each in value
        )

    require(isinstance(config, dict), "an object")
    parts = {
        *("format", "model", "adapters", "trainable", "rest", "variables"),
        *("base", "checksum"),
    }
    require(set(config) == parts, f"the parts {sorted(parts)}")
    require(isinstance(config["model"], dict), "`model` to be an object")
    require(isinstance(config["checksum"], str), "`checksum` to be a string")
    groups = config["adapters"]
    require(isinstance(groups, list) and groups, "a list of `adapters`")
    for group in groups:
        require(
            isinstance(group, dict)
            and set(group) == {"adapter", "layers"}
            and isinstance(group["adapter"], dict)
            and strings(group["layers"])
            and group["layers"]
            and len(set(group["layers"])) == len(group["layers"]),
            "`adapters` with settings and different layers",
        )
    for name in ("trainable", "rest"):
        require(strings(config[name]), f"a list of names in `{name}`")
        different = len(set(config[name])) == len(config[name])
        require(different, f"different names in `{name}`")
    base = config["base"]
    require(
        isinstance(base, dict)
        and all(isinstance(value, str) for value in base.values()),
        "digests in `base`",
    )
    require(isinstance(config["variables"], dict), "an object in `variables`")
    for value in config["variables"].values():
        require(
            isinstance(value, dict)
            and isinstance(value.get("shape"), list)
            and all(type(size) is int for size in value["shape"])
            and isinstance(value.get("dtype"), str),
            "shape and dtype of each of the `variables`",
        )
