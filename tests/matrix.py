"""The matrix of architecture x adapter x backend, from what the runs left.

Every cell is a file that its test writes when all nine invariants held;
`python -m tests.matrix` prints the matrix and fails for a missing cell.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent.parent / ".matrix"
BACKENDS = ("torch", "tensorflow", "jax")
ADAPTERS = ("LoRA", "PiSSA", "full")
INVARIANTS = 9


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
    head = [f"{adapter} {b[:5]}" for adapter in ADAPTERS for b in BACKENDS]
    print("Invariants held of nine, by architecture, adapter and backend")
    print(" " * width, *(f"{h:>11}" for h in head))
    missing = 0
    for architecture in architectures:
        counts = []
        for adapter in ADAPTERS:
            for backend in BACKENDS:
                held = len(cell(architecture, adapter, backend))
                missing += held < INVARIANTS
                counts.append(f"{held}/9" if held else "MISSING")
        print(f"{architecture:<{width}}", *(f"{c:>11}" for c in counts))
    total = len(architectures) * len(ADAPTERS) * len(BACKENDS)
    print(f"{total - missing} of {total} cells hold")
    return int(missing > 0)


if __name__ == "__main__":
    from tests.contract_test import NAMES

    sys.exit(main(NAMES))
