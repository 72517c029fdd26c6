"""Adapter folders: how they are recognized, read and written atomically."""

import json
import pathlib

import numpy as np
import safetensors
import safetensors.numpy

from keras_debias.utils.files import read_regular
from keras_debias.utils.files import written_folder

# Bytes, enough for the settings of a model of a hundred thousand layers.
_JSON_LIMIT = 64 * 2**20
# As safetensors names them.
_DTYPES = {
    "BOOL": "?",
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    **{f"I{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
}
# The longest file: bytes for each weight of the model, and more bytes. Enough
# for factors of full rank with their starting values, in double precision.
_BYTES_PER_WEIGHT = 64
_MORE_BYTES = 64 * 2**20

# All that a folder of this library or of PEFT may hold.
KNOWN_FILES = frozenset(
    {
        *("adapter.json", "adapter.safetensors"),
        *("adapter_config.json", "adapter_model.safetensors", "README.md"),
    }
)


def check_overwrite(
    folder: pathlib.Path,
    overwrite: bool,
    known=KNOWN_FILES,
    kind="an adapter folder",
) -> None:
    """Raises if something is there and must not be replaced.

    Only folders of the same kind are replaced, because `overwrite=True`
    removes all their contents. `known` are the files that such a folder may
    hold, `kind` is its name in errors.
    """
    if not isinstance(overwrite, bool):
        raise TypeError(
            "Expected `overwrite` to be a bool. Received: "
            f"overwrite={overwrite!r}"
        )
    if not (folder.exists() or folder.is_symlink()):
        return
    if not overwrite:
        raise ValueError(
            "Expected `folder` not to exist yet. "
            f"Received: folder={str(folder)!r}. Pass `overwrite=True` to "
            "replace it."
        )
    if folder.is_symlink():
        found = "a link"
    elif not folder.is_dir():
        found = "a file"
    else:
        others = sorted({path.name for path in folder.iterdir()} - set(known))
        if not others:
            return
        found = f"a folder that holds {others[:3]} as well"
    raise ValueError(
        f"Expected `folder` to be {kind}, to be replaced as a whole. "
        f"Received: folder={str(folder)!r}, {found}. Choose another path, or "
        "remove it first."
    )


def read_json(path: pathlib.Path):
    """The contents of a JSON file of bounded size.

    Raises:
        OSError: If there is no such file, or it is too long.
        ValueError: If it is not JSON, or nested too deeply.
    """
    text = read_regular(path, _JSON_LIMIT).decode("utf-8")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_arrays(path: pathlib.Path, model) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file that a model could have.

    Raises:
        ValueError: If the file is incomplete, or too long for the model.
    """
    count = sum(int(np.prod(v.shape)) for v in model.weights)
    try:
        data = read_regular(path, _BYTES_PER_WEIGHT * count + _MORE_BYTES)
        return _decoded(data)
    # Dtypes that NumPy does not have raise `KeyError` or `TypeError`.
    except (
        *(safetensors.SafetensorError, OSError, KeyError, TypeError),
        *(ValueError, AttributeError),
    ) as error:
        raise ValueError(
            f"Expected a whole {path.name}. Received: "
            f"{str(path.parent)!r}, whose file cannot be read ({error}). "
            "Save the adapter again."
        ) from error


def _decoded(data: bytes) -> dict[str, np.ndarray]:
    """The tensors by name, in sorted order; bfloat16 becomes float32."""
    found = {}
    for name, tensor in sorted(safetensors.deserialize(data)):
        content, dtype = tensor["data"], tensor["dtype"]
        if dtype == "BF16":
            upper = np.frombuffer(content, "<u2").astype("<u4")
            values = (upper << 16).view("<f4")
        else:
            values = np.frombuffer(content, _DTYPES[dtype])
        found[name] = values.reshape(tensor["shape"])
    return found


def atomic_write_folder(
    folder: pathlib.Path,
    arrays: dict[str, np.ndarray],
    weights_name: str,
    config: dict,
    config_name: str,
) -> None:
    """Writes tensors and a JSON file, and moves them into place together."""
    # Before anything is written: what JSON cannot hold fails here.
    text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    with written_folder(folder) as temporary:
        safetensors.numpy.save_file(arrays, temporary / weights_name)
        (temporary / config_name).write_text(text, encoding="utf-8")
