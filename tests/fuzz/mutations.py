"""Seeded damage to JSON, safetensors, HDF5 and archives."""

import io
import json
import random
import zipfile

import h5py
import numpy as np
import safetensors.numpy

JUNK = [
    *(None, True, False, 0, -1, 1.5, 10**12, 2**70, float("nan")),
    *("", "x", "keras_debias>LoRA", "../../etc", "a" * 5000, "\0", "é"),
    *([], {}, [[]], [None], {"a": 1}, [0] * 100),
    {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"units": 10**9},
        "registered_name": None,
    },
    {
        "module": "builtins",
        "class_name": "function",
        "config": "eval",
        "registered_name": "function",
    },
]
PATTERNS = ["(a*)*" * 20 + "b", "(", "(?=q)", "q{1,99999}", ".*" * 50, "[z-a]"]


def places(value, path=()):
    """All places inside a JSON value."""
    yield path
    items = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, each in items:
        yield from places(each, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    value[path[0]] = replaced(value[path[0]], path[1:], new)
    return value


def at(value, path):
    for key in path:
        value = value[key]
    return value


def edit_settings(rng: random.Random, text: str) -> str:
    """Another JSON file: a value replaced, removed, repeated or moved."""
    value = json.loads(text)
    path = rng.choice(list(places(value)))
    act = rng.choice(["junk", "remove", "repeat", "key", "near", "deep"])
    if act == "remove" and path:
        del at(value, path[:-1])[path[-1]]
    elif act == "repeat" and path and isinstance(at(value, path[:-1]), list):
        at(value, path[:-1]).append(at(value, path))
    elif act == "key" and path and isinstance(path[-1], str):
        parent = at(value, path[:-1])
        parent[rng.choice([path[-1] + "x", "", "kernel"])] = parent.pop(
            path[-1]
        )
    elif act == "near" and isinstance(at(value, path), (int, float, str)):
        old = at(value, path)
        new = old + "x" if isinstance(old, str) else old + 1
        value = replaced(value, path, new)
    elif act == "deep":
        return '{"format":' * rng.choice([10, 100000]) + "1"
    else:
        value = replaced(value, path, rng.choice(JUNK))
    if rng.random() < 0.2 and isinstance(value, dict):
        value["rank_pattern"] = {rng.choice(PATTERNS): rng.choice([1, 2, "x"])}
    return json.dumps(value)


def edit_bytes(rng: random.Random, data: bytes) -> bytes:
    """Other bytes: bits flipped, a part lost, doubled or zeroed."""
    data = bytearray(data)
    act = rng.choice(["flip", "flip", "cut", "double", "zero", "head", "empty"])
    where = rng.randrange(len(data))
    if act == "flip":
        for _ in range(rng.choice([1, 1, 8])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif act == "cut":
        del data[where:]
    elif act == "double":
        data[where:where] = data[where : where + 64]
    elif act == "zero":
        data[where : where + 64] = bytes(len(data[where : where + 64]))
    elif act == "head":
        data[:8] = rng.choice([2**63, 2**32, 7, 0]).to_bytes(8, "little")
    else:
        data.clear()
    return bytes(data)


def edit_tensors(rng: random.Random, data: bytes) -> bytes:
    """Other tensors: of another dtype or shape, renamed, lost, not finite."""
    arrays = safetensors.numpy.load(data)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    act = rng.choice(["dtype", "shape", "name", "lost", "more", "nan", "swap"])
    if act == "dtype":
        kinds = ["float64", "float16", "int32", "uint8", "bool"]
        arrays[name] = array.astype(rng.choice(kinds))
    elif act == "shape":
        shapes = [array.T, array[None], array[:1], array.reshape(-1), array[:0]]
        arrays[name] = np.ascontiguousarray(rng.choice(shapes))
    elif act == "name":
        arrays[rng.choice([name + "x", "", "kernel"])] = arrays.pop(name)
    elif act == "lost":
        del arrays[name]
    elif act == "more":
        arrays[name + ".more"] = array
    elif act == "nan":
        changed = array.astype("float32")
        changed.flat[0] = rng.choice([np.nan, np.inf])
        arrays[name] = changed
    else:
        other = rng.choice(sorted(arrays))
        arrays[name], arrays[other] = arrays[other], arrays[name]
    return safetensors.numpy.save(arrays)


def edit_archive(rng: random.Random, data: bytes) -> bytes:
    """Another archive, whole by its own sums: one member edited."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    if name.endswith(".json"):
        text = edit_settings(rng, members[name].decode())
        members[name] = text.encode()
    elif name.endswith(".h5") and rng.random() < 0.7:
        members[name] = edit_datasets(rng, members[name])
    elif rng.random() < 0.2:
        members[rng.choice([name + "x", "../up", "other"])] = members.pop(name)
    else:
        members[name] = edit_bytes(rng, members[name])
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return result.getvalue()


def edit_datasets(rng: random.Random, data: bytes) -> bytes:
    """Another HDF5 file: a value, a type, a shape or a name changed."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        names = []
        file.visititems(
            lambda name, item: (
                names.append(name) if isinstance(item, h5py.Dataset) else None
            )
        )
        name = rng.choice(sorted(names))
        array = file[name][()]
        act = rng.choice(["value", "value", "dtype", "shape", "name", "lost"])
        if act != "value":
            del file[name]
        if act == "value":
            changed = np.array(array)
            changed.flat[0] = changed.flat[0] + 1
            file[name][...] = changed
        elif act == "dtype":
            file[name] = array.astype(rng.choice(["float64", "int8", "S3"]))
        elif act == "shape":
            shapes = [array[None], array.reshape(-1), np.zeros(0, "float32")]
            file[name] = rng.choice(shapes)
        elif act == "name":
            file[name + "x"] = array
    return buffer.getvalue()
