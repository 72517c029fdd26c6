"""The matrix of architecture x adapter x backend, from what the runs left.

Every cell is a file that its test writes when all nine invariants held;
`python -m tests.matrix` prints the matrix and fails for a missing cell.
"""

import itertools
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent.parent / ".matrix"
BACKENDS = ("torch", "tensorflow", "jax")
ADAPTERS = (
    *("LoRA", "PiSSA", "DoRA", "ValueBias", "AllBiases"),
    *("TargetLayer", "full"),
)
# Low-rank adapters that differ from the ones above in their form or start
# alone, which know nothing of a network but the 2-D view of a kernel. On torch
# they run on an encoder, a decoder and plain dense layers. On the others it is
# compiling that takes the time, ten seconds a cell: there LoRA and PiSSA stand
# for those that compute what they do, and the one that does not runs once.
LOW_RANK_FORMS = ("LoRAFA", "VeRA", "MiLoRA", "OLoRA")
REPRESENTATIVES = ("bert", "llama", "functional")
COMPILED = (("functional", "VeRA"),)
INVARIANTS = 9


def more_cells(backend):
    """`(architecture, adapter)` of the low-rank forms on a backend."""
    if backend != "torch":
        return COMPILED
    return tuple(itertools.product(REPRESENTATIVES, LOW_RANK_FORMS))


def backends_of(architecture, adapter):
    """The backends that a cell runs on."""
    if adapter in ADAPTERS:
        return BACKENDS
    pair = architecture, adapter
    return tuple(b for b in BACKENDS if pair in more_cells(b))


def record(architecture, adapter, backend, invariants):
    folder = FOLDER / backend
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{architecture}-{adapter}.json"
    path.write_text(json.dumps(invariants))


def cell(architecture, adapter, backend):
    path = FOLDER / backend / f"{architecture}-{adapter}.json"
    return json.loads(path.read_text()) if path.exists() else []


def main(architectures):
    width = max(len(a) for a in architectures)
    print(
        "Invariants held of nine, by architecture and adapter, on "
        + ", ".join(BACKENDS)
    )
    columns = (*ADAPTERS, *LOW_RANK_FORMS)
    print(" " * width, *(f"{adapter:>11}" for adapter in columns))
    missing = total = 0
    for architecture in architectures:
        counts = []
        for adapter in columns:
            backends = backends_of(architecture, adapter)
            total += len(backends)
            held = [len(cell(architecture, adapter, b)) for b in backends]
            missing += sum(n < INVARIANTS for n in held)
            counts.append(" ".join(str(n) if n else "-" for n in held))
        print(f"{architecture:<{width}}", *(f"{c:>11}" for c in counts))
    print(f"{total - missing} of {total} cells hold")
    return int(missing > 0)


if __name__ == "__main__":
    from tests.contract_test import NAMES

    sys.exit(main(NAMES))
