"""Every adapter, on every architecture, through the model's own `fit`.

The references are outputs after ten steps; `python -m tests.contract_test`
writes them anew (only after a change that is meant to move them).
"""

import pathlib
import sys

import keras
import numpy as np
import pytest

from keras_debias.adapters import LoRA
from keras_debias.adapters import PiSSA
from keras_debias.adapters import apply
from keras_debias.testing import TestCase
from tests import matrix
from tests.architectures import ARCHITECTURES

REFERENCES = pathlib.Path(__file__).parent / "reference"
NAMES = [a.name for a in ARCHITECTURES]
ADAPTERS = {"LoRA": LoRA, "PiSSA": PiSSA}


def reference_of(architecture, adapter):
    path = REFERENCES / f"{architecture.name}-{adapter}.npy"
    return np.load(path) if path.exists() else None


def run(architecture, adapter, reference):
    data = architecture.data(seed=0)
    if adapter == "full" or not architecture.adaptable:
        result = TestCase().run_training_test(
            architecture.build, data, architecture.loss(), reference
        )
        if adapter != "full":
            # Nothing in a convolutional network takes this adapter.
            with pytest.raises(ValueError, match="has these layers"):
                apply(architecture.build(), ADAPTERS[adapter](rank=2))
        return result
    factors = {
        f"{path}/lora_{side}"
        for path in architecture.target_paths
        for side in "ab"
    }
    return TestCase().run_adapter_test(
        lambda: ADAPTERS[adapter](rank=2, targets=architecture.targets),
        architecture.build,
        data,
        factors | set(architecture.head),
        architecture.loss(),
        architecture.also_train,
        reference,
    )


@pytest.mark.parametrize("adapter", matrix.ADAPTERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_nine_invariants(architecture, adapter):
    reference = reference_of(architecture, adapter)
    assert reference is not None, "no committed reference"
    result = run(architecture, adapter, reference)
    assert result["invariants"] == list(range(1, 10))
    matrix.record(
        architecture.name,
        adapter,
        keras.config.backend(),
        result["invariants"],
    )


if __name__ == "__main__":
    REFERENCES.mkdir(exist_ok=True)
    chosen = sys.argv[1:] or NAMES
    for each in ARCHITECTURES:
        for name in matrix.ADAPTERS:
            if each.name in chosen:
                outputs = run(each, name, None)["outputs"]
                np.save(REFERENCES / f"{each.name}-{name}.npy", outputs)
                print(each.name, name, outputs.shape, flush=True)
