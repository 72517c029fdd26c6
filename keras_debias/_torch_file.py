"""Reads the tensors of a weights file of torch without torch."""

import collections
import pathlib
import pickle

import numpy as np

# The magic number, and the version of the protocol.
_HEADER = (0x1950A86A20F9469CFC6C, 1001)
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "LongStorage": np.dtype("<i8"),
}


def read_torch_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a state dict that `torch.save` wrote before torch 1.6.

    Only tensors of float32 and int64 are read. Nothing in the file is
    executed: a pickle that names any other class or function is refused.

    Args:
        path: path of the file.

    Returns:
        A dict from name to array.

    Raises:
        ValueError: If the file is not of this format, or contains more than
            tensors.
    """
    try:
        with open(path, "rb") as file:
            return _read(file)
    except (
        pickle.UnpicklingError,
        AttributeError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"Expected `{path.name}` to be a weights file of torch, in the "
            f"format before torch 1.6, with float32 and int64 tensors only. "
            f"Received: {error}"
        ) from error


def _read(file):
    if (_Unpickler(file).load(), _Unpickler(file).load()) != _HEADER:
        raise ValueError("another magic number or protocol")
    if not _Unpickler(file).load().get("little_endian"):
        raise ValueError("numbers that are not little-endian")
    unpickler = _Unpickler(file)
    tensors = unpickler.load()
    # The numbers follow, storage by storage, in the order of this list.
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        size = int.from_bytes(file.read(8), "little")
        raw = file.read(size * storage.dtype.itemsize)
        values = np.frombuffer(raw, storage.dtype)
        if len(values) != size or size != storage.size:
            raise ValueError("fewer numbers than announced")
        storage.values = values
    return {name: tensor.array() for name, tensor in tensors.items()}


class _Storage:
    def __init__(self, dtype, size):
        self.dtype = dtype
        self.size = size
        self.values = None


class _Tensor:
    def __init__(self, storage, offset, shape, strides, *unused):
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.strides = strides

    def array(self):
        last = self.offset + sum(
            (size - 1) * stride
            for size, stride in zip(self.shape, self.strides, strict=True)
        )
        if min(self.offset, *self.strides, 0) < 0 or last >= self.storage.size:
            raise ValueError("a tensor outside its storage")
        values = self.storage.values[self.offset :]
        strides = [stride * values.itemsize for stride in self.strides]
        # Within the storage, as checked above.
        view = np.lib.stride_tricks.as_strided(values, self.shape, strides)
        return view.copy()


class _Unpickler(pickle.Unpickler):
    """Knows tensors, their storages and ordered dicts, nothing else."""

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"the name {module}.{name}")

    def persistent_load(self, reference):
        kind, storage_type, key, _, size, view = reference
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"a reference to {kind!r}")
        if key not in self.storages:
            self.storages[key] = _Storage(_DTYPES[storage_type], size)
        return self.storages[key]
