"""The matrix of adapter x architecture x backend, from what the runs left.

Every cell is a file that its test writes when all nine invariants held;
`python -m tests.matrix` prints the matrix and fails for a missing cell. Cells
that do not run say why; `KERAS_DEBIAS_ALL_COMBINATIONS=1` runs those that are
left out on tensorflow and jax.
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
        # Off torch each architecture once, and so each adapter twice.
        period=len(ADAPTERS),
    )


def cells(architectures, backend):
    """`(architecture, adapter)` that run on a backend, by name."""
    return [
        (architecture, adapter)
        for architecture in architectures
        for adapter in (*ADAPTERS, *FORMS, *STARTS)
        if runs(architectures, architecture, adapter, backend)
    ]


# Why a cell does not run.
REASONS = {
    "f": "its form or start alone is new: "
    f"{', '.join(REPRESENTATIVES)} stand for all",
    "v": f"a variant of another architecture: {', '.join(VARIANT_ADAPTERS)}",
    "b": "runs on torch, where all do; tensorflow and jax run a covering part",
}


def reason(architectures, architecture, adapter, backend) -> str | None:
    """The letter of `REASONS` for a cell that does not run, else `None`."""
    if runs(architectures, architecture, adapter, backend):
        return None
    if architecture in VARIANT_NAMES:
        return "b" if adapter in VARIANT_ADAPTERS else "v"
    if adapter in (*FORMS, *STARTS) and architecture not in REPRESENTATIVES:
        return "f"
    return "b"


def record(architecture, adapter, backend, invariants, refused=False):
    """Writes that a cell holds; `refused` where nothing takes the adapter."""
    folder = FOLDER / backend
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{architecture}-{adapter}.json"
    found = {"invariants": invariants, "refused": refused}
    path.write_text(json.dumps(found))


def cell(architecture, adapter, backend):
    """What a run left: the number of invariants, `r`, or nothing."""
    path = FOLDER / backend / f"{architecture}-{adapter}.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    held = len(found["invariants"])
    return "r" if found["refused"] and held == INVARIANTS else str(held)


def main(architectures):
    columns = (*ADAPTERS, *FORMS, *STARTS)
    width = max(map(len, columns))
    print(
        f"Adapters x architectures; in each cell {', '.join(BACKENDS)}.\n"
        f"{INVARIANTS}: all invariants hold. r: refused, as nothing there "
        "takes it. -: no run yet.\n"
        "LoftQ, over quantized kernels: tests/adapters/quantized_test.py."
    )
    for letter, text in REASONS.items():
        print(f"{letter}: not run: {text}.")
    for start in range(0, len(architectures), 8):
        part = architectures[start : start + 8]
        print()
        print(" " * width, *(f"{name:>11}" for name in part))
        for adapter in columns:
            shown = []
            for name in part:
                letters = (
                    cell(name, adapter, backend)
                    or reason(architectures, name, adapter, backend)
                    or "-"
                    for backend in BACKENDS
                )
                shown.append(f"{' '.join(letters):>11}")
            print(f"{adapter:<{width}}", *shown)
    wanted = [
        cell(name, adapter, backend) in ("r", str(INVARIANTS))
        for backend in BACKENDS
        for name, adapter in cells(architectures, backend)
    ]
    print(f"\n{sum(wanted)} of {len(wanted)} cells hold")
    return int(not all(wanted))


if __name__ == "__main__":
    from tests.contract_test import NAMES

    sys.exit(main(NAMES))
