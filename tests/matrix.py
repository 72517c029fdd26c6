"""The matrix of architecture x adapter x backend, from what the runs left.

Every cell is a file that its test writes when all nine invariants held;
`python -m tests.matrix` prints the matrix and fails for a missing cell.
"""

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
# alone run on an encoder, a decoder and a plain functional model.
LOW_RANK_FORMS = ("LoRAFA", "VeRA", "MiLoRA", "OLoRA")
REPRESENTATIVES = ("bert", "llama", "functional")
INVARIANTS = 9


def adapters_of(architecture):
    """The adapters that run on an architecture."""
    more = LOW_RANK_FORMS if architecture in REPRESENTATIVES else ()
    return (*ADAPTERS, *more)


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
        for adapter in adapters_of(architecture):
            total += len(BACKENDS)
            held = [len(cell(architecture, adapter, b)) for b in BACKENDS]
            missing += sum(n < INVARIANTS for n in held)
            counts.append(" ".join(str(n) if n else "-" for n in held))
        print(f"{architecture:<{width}}", *(f"{c:>11}" for c in counts))
    print(f"{total - missing} of {total} cells hold")
    return int(missing > 0)


if __name__ == "__main__":
    from tests.contract_test import NAMES

    sys.exit(main(NAMES))
