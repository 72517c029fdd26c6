"""PEFT's folders of AdaLoRA, and of LoRA that started in the base."""

import keras_hub
import pytest

from keras_debias import adapters
from keras_debias.adapters.apply import adapted_layers
from tests.adapters.peft_test import TOLERANCE
from tests.adapters.peft_test import base  # noqa: F401
from tests.adapters.peft_test import check_refused
from tests.adapters.peft_test import difference
from tests.adapters.peft_test import each_case
from tests.adapters.peft_test import keras_outputs
from tests.adapters.peft_test import peft_outputs
from tests.adapters.peft_test import pytestmark as peft_marks
from tests.adapters.peft_test import randomize
from tests.adapters.peft_test import tokens_and_pixels

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytestmark = [
    *peft_marks,
    # PEFT, of its own masks.
    pytest.mark.filterwarnings("ignore:.*rank_pattern keys:RuntimeWarning"),
    # PEFT, of what the conversion is for.
    pytest.mark.filterwarnings("ignore:OLoRA changes:UserWarning"),
    # torch, of hooks of PEFT that read gradients.
    pytest.mark.filterwarnings("ignore:Full backward hook:UserWarning"),
]
TARGETS = ["query", "value"]


@each_case("bert")
def test_adalora_becomes_lora(base, tmp_path):  # noqa: F811
    network, folder = base
    settings = peft.AdaLoraConfig(
        init_r=4,
        target_r=2,
        tinit=1,
        tfinal=1,
        deltaT=1,
        total_step=5,
        lora_alpha=6,
        target_modules=TARGETS,
    )
    model = peft.get_peft_model(network, settings).eval()
    randomize(model)
    # Steps of theirs take triplets away; the file has those that are left.
    for step in range(1, 6):
        ids = torch.tensor(tokens_and_pixels()[0]).long()
        model(input_ids=ids).logits.square().sum().backward()
        model.base_model.update_and_allocate(step)
    model.save_pretrained(tmp_path / "adapter")
    network = type(network).from_pretrained(folder).eval()
    read = peft.PeftModel.from_pretrained(network, tmp_path / "adapter").eval()
    expected = peft_outputs(read)
    with read.disable_adapter():
        assert difference(expected, peft_outputs(read)) > 0.05
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    adapters.load(backbone, tmp_path / "adapter")
    assert difference(keras_outputs(backbone), expected) < TOLERANCE
    ranks = [layer.rank for layer in adapted_layers(backbone).values()]
    assert 0 < sum(ranks) < 16


def lora_ga(network, config):
    from peft.tuners.lora import LoraGAConfig
    from peft.tuners.lora import preprocess_loraga

    config.lora_ga_config = LoraGAConfig()
    ids = torch.tensor(tokens_and_pixels()[0]).long()

    def step():
        network(input_ids=ids).logits.square().sum().backward()

    preprocess_loraga(network, config, step)


# PEFT's own file for CorDA imports `attr`, which it does not install.
@pytest.mark.parametrize(
    ("start", "prepare"),
    [("olora", None), ("lora_ga", lora_ga)],
    ids=["olora", "lora_ga"],
)
@each_case("bert")
def test_converted_starts_are_read_and_others_refused(
    base,  # noqa: F811
    start,
    prepare,
    tmp_path,
):
    network, folder = base
    # Set without the check that it is read back with what it needs.
    config = peft.LoraConfig(r=2, lora_alpha=5, target_modules=TARGETS)
    config.init_lora_weights = start
    if prepare is not None:
        prepare(network, config)
    model = peft.get_peft_model(network, config).eval()
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = start
    randomize(model)
    expected = peft_outputs(model)
    model.save_pretrained(tmp_path / "moved")
    model.save_pretrained(
        tmp_path / "converted",
        path_initial_model_for_weight_conversion=tmp_path / "start",
    )
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    check_refused(backbone, tmp_path / "moved", "changed the base")
    plain = keras_outputs(backbone)
    adapters.load(backbone, tmp_path / "converted")
    found = keras_outputs(backbone)
    assert difference(found, expected) < TOLERANCE
    assert difference(found, plain) > 0.05
