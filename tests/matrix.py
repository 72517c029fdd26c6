"""The matrix of architecture x adapter x backend, from what the runs left.

Every cell is a file that its test writes when all nine invariants held;
`python -m tests.matrix` prints the matrix and fails for a missing cell. A dot
is a combination that `tests.combinations` leaves out on that backend.
"""

import json
import os
import pathlib
import sys

from tests import combinations
from tests.architectures import VARIANTS

FOLDER = pathlib.Path(__file__).parent.parent / ".matrix"
BACKENDS = ("torch", "tensorflow", "jax")
ADAPTERS = (
    *("LoRA", "PiSSA", "DoRA", "ValueBias", "AllBiases"),
    *("TargetLayer", "full", "IA3"),
)
# Low-rank adapters that differ from the ones above in their form or start
# alone, bottlenecks and prefixes run on an encoder, a decoder and a plain
# functional model.
LOW_RANK_FORMS = ("LoRAFA", "VeRA", "MiLoRA", "OLoRA", "AdaLoRA")
# These start, or are put together, otherwise and then are one of the above:
# off torch, one cell each.
STARTS = ("CorDA", "LoRAGA", "RandomEntries")
MODULES = ("Houlsby", "Pfeiffer", "PrefixTuning", "PromptTuning")
FORMS = (*LOW_RANK_FORMS, *MODULES)
REPRESENTATIVES = ("bert", "llama", "functional")
INVARIANTS = 9
# What variants of other architectures run with, on torch.
VARIANT_NAMES = tuple(a.name for a in VARIANTS)
VARIANT_ADAPTERS = ("LoRA", "ValueBias", "TargetLayer", "IA3", "PrefixTuning")


def runs(architectures, architecture, adapter, backend):
    """Whether an architecture takes the adapter on the backend."""
    if architecture in VARIANT_NAMES:
        return adapter in VARIANT_ADAPTERS and (
            backend == "torch" or os.environ.get(combinations.VARIABLE) == "1"
        )
    if adapter in STARTS:
        on_torch = backend not in combinations.OFFSETS
        everywhere = REPRESENTATIVES if on_torch else REPRESENTATIVES[-1:]
        return architecture in everywhere and combinations.runs(
            STARTS.index(adapter), 0, backend, period=2
        )
    if adapter in FORMS:
        return architecture in REPRESENTATIVES and combinations.runs(
            REPRESENTATIVES.index(architecture),
            FORMS.index(adapter),
            backend,
        )
    return combinations.runs(
        architectures.index(architecture),
        ADAPTERS.index(adapter),
        backend,
        period=6,
    )


def cells(architectures, backend):
    """`(architecture, adapter)` that run on a backend, by name."""
    return [
        (architecture, adapter)
        for architecture in architectures
        for adapter in (*ADAPTERS, *FORMS, *STARTS)
        if runs(architectures, architecture, adapter, backend)
    ]


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
    columns = (*ADAPTERS, *FORMS, *STARTS)
    print(" " * width, *(f"{adapter:>13}" for adapter in columns))
    missing = total = 0
    for architecture in architectures:
        counts = []
        for adapter in columns:
            shown = []
            for backend in BACKENDS:
                held = len(cell(architecture, adapter, backend))
                if held or runs(architectures, architecture, adapter, backend):
                    total += 1
                    missing += held < INVARIANTS
                    shown.append(str(held) if held else "-")
                else:
                    shown.append(".")
            counts.append(" ".join(shown))
        print(f"{architecture:<{width}}", *(f"{c:>13}" for c in counts))
    print(f"{total - missing} of {total} cells hold")
    return int(missing > 0)


if __name__ == "__main__":
    from tests.contract_test import NAMES

    sys.exit(main(NAMES))
