"""Low-rank adapters as PEFT reads and computes them."""

import json

import keras_hub
import numpy as np
import pytest
from keras import ops

from keras_debias import adapters
from tests.adapters.peft_test import NUM_CLASSES
from tests.adapters.peft_test import TOLERANCE
from tests.adapters.peft_test import base  # noqa: F401
from tests.adapters.peft_test import difference
from tests.adapters.peft_test import each_case
from tests.adapters.peft_test import keras_outputs
from tests.adapters.peft_test import peft_outputs
from tests.adapters.peft_test import pytestmark as peft_marks

peft = pytest.importorskip("peft")

pytestmark = [
    *peft_marks,
    pytest.mark.filterwarnings("ignore:Detected that the base:UserWarning"),
]

KINDS = {
    "LoRA": lambda: [
        adapters.LoRA(2, alpha=3, targets="query"),
        adapters.LoRA(3, alpha=3, targets="value"),
    ],
    # Settings from a search, say: scalars of NumPy.
    "stabilized": lambda: adapters.LoRA(
        4, np.float32(6), np.float32(0.1), rank_stabilized=True
    ),
    "LoRAFA": lambda: adapters.LoRAFA(2),
    "DoRA": lambda: adapters.DoRA(2, alpha=3),
    "PiSSA": lambda: adapters.PiSSA(2, alpha=3, rank_stabilized=True),
    "MiLoRA": lambda: adapters.MiLoRA(2),
    "OLoRA": lambda: adapters.OLoRA(2),
    "AdaLoRA": lambda: adapters.AdaLoRA(2),
    "RandomEntries": lambda: adapters.RandomEntries(9),
    # Layers of two sizes, which share the factors of the largest.
    "VeRA": lambda: adapters.VeRA(9, targets=("query", "*feedforward*")),
}


def trained(model, adapter, also_train=()):
    adapters.apply(model, adapter, also_train=also_train)
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        change = generator.standard_normal(variable.shape)
        value = ops.convert_to_numpy(variable) + 0.2 * change
        variable.assign(value.astype("float32"))
    return model


@pytest.mark.parametrize(
    ("base", "kind"),
    [*(("bert", kind) for kind in KINDS), ("llama", "DoRA")],
    indirect=["base"],
)
def test_same_outputs_in_peft_and_back(base, kind, tmp_path):  # noqa: F811
    network, folder = base
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    start = keras_outputs(backbone)
    trained(backbone, KINDS[kind]())
    expected = keras_outputs(backbone)
    assert difference(expected, start) > 0.02
    prefix = "bert." if "Bert" in type(network).__name__ else ""
    adapters.export_peft(backbone, tmp_path / "ours", prefix=prefix)
    model = peft.PeftModel.from_pretrained(network, tmp_path / "ours").eval()
    assert difference(peft_outputs(model), expected) < TOLERANCE
    merged = model.merge_and_unload()
    assert type(merged) is type(network)
    if kind == "VeRA":
        return
    again = keras_hub.models.Backbone.from_preset(str(folder))
    adapters.load(again, tmp_path / "ours")
    assert difference(keras_outputs(again), expected) < TOLERANCE


@each_case("bert")
def test_the_head_goes_along(base, tmp_path):  # noqa: F811
    network, folder = base
    classifier = keras_hub.models.BertTextClassifier(
        backbone=keras_hub.models.Backbone.from_preset(str(folder)),
        num_classes=NUM_CLASSES,
        preprocessor=None,
    )
    trained(classifier, adapters.LoRA(2))
    adapters.export_peft(classifier, tmp_path / "ours", prefix="bert.")
    config = json.loads((tmp_path / "ours/adapter_config.json").read_text())
    assert config["modules_to_save"] == ["classifier"]
    model = peft.PeftModel.from_pretrained(network, tmp_path / "ours").eval()
    found = peft_outputs(model, head=True)
    assert difference(keras_outputs(classifier), found) < TOLERANCE


REFUSED = {
    "two kinds": lambda: [
        adapters.LoRA(2, targets="query"),
        adapters.DoRA(2, targets="value"),
    ],
    "trained biases": lambda: adapters.LoRA(2, train_bias=True),
    "a block": lambda: adapters.TargetLayer(1),
}


@each_case("bert")
def test_refused(base, tmp_path):  # noqa: F811
    _, folder = base
    for name, create in REFUSED.items():
        backbone = keras_hub.models.Backbone.from_preset(str(folder))
        adapters.apply(backbone, create(), also_train=())
        with pytest.raises(ValueError, match="PEFT has too"):
            adapters.export_peft(backbone, tmp_path / name)
        assert not (tmp_path / name).exists()


@each_case("gpt2")
def test_what_needs_a_projection_by_itself_is_refused(base, tmp_path):  # noqa: F811
    _, folder = base
    for adapter in (adapters.VeRA(2), adapters.ValueBias()):
        backbone = keras_hub.models.Backbone.from_preset(str(folder))
        adapters.apply(backbone, adapter, also_train=())
        with pytest.raises(ValueError, match="in one piece with others"):
            adapters.export_peft(backbone, tmp_path / "ours")
