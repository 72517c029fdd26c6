"""Adapter folders that are either whole or not there."""

import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
import safetensors.numpy


def require_new(folder: pathlib.Path, overwrite: bool) -> None:
    """Raises if a folder is there and must not be replaced."""
    if folder.exists() and not overwrite:
        raise ValueError(
            "Expected `folder` not to exist yet. "
            f"Received: folder={str(folder)!r}. Pass `overwrite=True` to "
            "replace it."
        )


def write_folder(
    folder: pathlib.Path,
    arrays: dict[str, np.ndarray],
    weights_name: str,
    config: dict,
    config_name: str,
) -> None:
    """Writes tensors and a JSON file, and moves them into place together."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(
        tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent)
    )
    try:
        temporary.chmod(0o755)
        safetensors.numpy.save_file(arrays, temporary / weights_name)
        text = json.dumps(config, indent=2) + "\n"
        (temporary / config_name).write_text(text)
        if folder.exists():
            old = temporary.with_name(f"{temporary.name}-old")
            os.replace(folder, old)
            os.replace(temporary, folder)
            shutil.rmtree(old)
        else:
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
