"""What the experiments share: kept runs, versions, the spread over seeds."""

import gzip
import json
import os
import pathlib
import platform

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import keras_hub  # isort: skip
import numpy as np  # isort: skip
import torch  # isort: skip

from keras_debias.comparison.accelerator import Accelerator


def versions() -> dict:
    """What made a result."""
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "keras_hub": keras_hub.__version__,
        "keras_debias": kd.__version__,
        "backend": keras.config.backend(),
    }


def machine() -> dict:
    """Where a result was made."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "device": Accelerator().name or "cpu",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def fast_policy() -> str:
    """Mixed precision where the hardware computes in bfloat16, else float32.

    A processor without such units takes 2.5 times as long in bfloat16.
    """
    units = torch.cpu.get_capabilities()
    has_units = units.get("amx_bf16") or units.get("avx512_bf16")
    if has_units or Accelerator().name:
        return "mixed_bfloat16"
    return "float32"


def run_path(folder: pathlib.Path, method: str, seed: int) -> pathlib.Path:
    """The file of one run."""
    return folder / f"{method.replace(' ', '_')}_seed{seed}.json.gz"


def replace(path: pathlib.Path, content: bytes) -> None:
    """Writes a file that is either complete or not there."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_tables(script: pathlib.Path, text: str, content: dict) -> None:
    """Prints tables; writes them and what is behind them next to a script."""
    print(text)
    content = {"command": f"python examples/{script.name}", **content}
    for suffix, value in (
        (".json", json.dumps(content, indent=1)),
        (".md", text),
    ):
        replace(script.with_suffix(suffix), f"{value}\n".encode())


def write(path: pathlib.Path, data) -> None:
    """Writes JSON, compressed where the name ends in `.gz`."""
    if path.suffix == ".gz":
        replace(path, gzip.compress(json.dumps(data).encode(), 9))
    else:
        replace(path, (json.dumps(data, indent=1) + "\n").encode())


def read(path: pathlib.Path):
    """Reads what `write` has written."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    return json.loads(content)


def mean_and_spread(values) -> dict:
    """Values of seeds with their mean and standard deviation."""
    values = np.asarray(values, "float64")
    spread = round(float(values.std(ddof=1)), 4) if len(values) > 1 else None
    return {
        "values": [round(float(value), 4) for value in values],
        "mean": round(float(values.mean()), 4),
        "std": spread,
    }
