"""BEFT as PEFT computes it, in and out."""

import json

import keras_hub
import numpy as np
import pytest

from keras_debias import adapters
from keras_debias.adapters.apply import adapted_layers
from tests.adapters.peft_test import NUM_CLASSES
from tests.adapters.peft_test import TOLERANCE
from tests.adapters.peft_test import base  # noqa: F401
from tests.adapters.peft_test import case_of
from tests.adapters.peft_test import difference
from tests.adapters.peft_test import each_case
from tests.adapters.peft_test import keras_outputs
from tests.adapters.peft_test import peft_outputs
from tests.adapters.peft_test import pytestmark as peft_marks

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

pytestmark = [
    *peft_marks,
    pytest.mark.filterwarnings("ignore:Detected that the base:UserWarning"),
]

MODELS = ("bert", "roberta", "distilbert", "llama", "gemma3", "qwen2", "vit")


def adapt(network, **settings):
    """A Hugging Face model with random BEFT vectors."""
    model = peft.get_peft_model(network, peft.BeftConfig(**settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "beft_bias" in name or "modules_to_save" in name:
                weight.copy_(
                    0.5 * torch.randn(weight.shape, generator=generator)
                )
    return model.eval()


@each_case(*MODELS)
def test_same_outputs_as_peft_and_back(base, request, tmp_path):  # noqa: F811
    network, folder = base
    targets = list(case_of(request).targets)
    model = adapt(network, target_modules=targets)
    model.save_pretrained(tmp_path / "theirs")
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    adapters.load(backbone, tmp_path / "theirs", trainable=True)
    expected = peft_outputs(model)
    with model.disable_adapter():
        assert difference(expected, peft_outputs(model)) > 0.02
    assert difference(keras_outputs(backbone), expected) < TOLERANCE
    trainable, _ = model.get_nb_trainable_parameters()
    count = sum(int(np.prod(v.shape)) for v in backbone.trainable_variables)
    assert count == trainable

    if request.node.callspec.params["base"] == "vit":
        # Transformers 5 renamed its modules; KerasHub knows the old names.
        return
    adapters.export_peft(backbone, tmp_path / "ours")
    read = {}
    for name in ("ours", "theirs"):
        path = tmp_path / name / "adapter_model.safetensors"
        read[name] = peft.utils.save_and_load.safe_load_file(path)
    stripped = {
        name.rsplit("layer", 1)[-1]: v for name, v in read["theirs"].items()
    }
    assert len(read["ours"]) == len(stripped)
    for name, value in read["ours"].items():
        np.testing.assert_allclose(
            value, stripped[name.rsplit("layer", 1)[-1]], atol=1e-6
        )


@each_case("bert")
def test_peft_reads_what_we_write_with_the_head(base, tmp_path):  # noqa: F811
    network, folder = base
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    classifier = keras_hub.models.BertTextClassifier(
        backbone=backbone, num_classes=NUM_CLASSES, preprocessor=None
    )
    form = adapters.LoRABias(rank=2)
    adapters.apply(classifier, adapters.ValueBias(form=form))
    generator = np.random.default_rng(0)
    for variable in classifier.trainable_variables:
        variable.assign(0.3 * generator.standard_normal(variable.shape))
    adapters.export_peft(classifier, tmp_path / "ours", prefix="bert.")
    model = peft.PeftModel.from_pretrained(network, tmp_path / "ours").eval()
    found = peft_outputs(model, head=True)
    assert difference(keras_outputs(classifier), found) < TOLERANCE

    # And we read it again, the head too.
    again = keras_hub.models.BertTextClassifier(
        backbone=keras_hub.models.Backbone.from_preset(str(folder)),
        num_classes=NUM_CLASSES,
        preprocessor=None,
    )
    adapters.load(again, tmp_path / "ours")
    np.testing.assert_allclose(
        keras_outputs(again), keras_outputs(classifier), atol=1e-5
    )
    with pytest.raises(ValueError, match="not to exist"):
        adapters.export_peft(classifier, tmp_path / "ours")


@each_case("bert")
def test_refused(base, tmp_path):  # noqa: F811
    network, folder = base
    model = adapt(network, target_modules=["attention.output.dense"])
    model.save_pretrained(tmp_path / "output")
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    with pytest.raises(ValueError, match="query, key and value"):
        adapters.load(backbone, tmp_path / "output")
    assert not adapted_layers(backbone)

    both = [adapters.LoRA(rank=1), adapters.ValueBias()]
    adapters.apply(backbone, both, also_train=())
    with pytest.raises(ValueError, match="PEFT has too.*adapters.merge"):
        adapters.export_peft(backbone, tmp_path / "both")
    assert not (tmp_path / "both").exists()

    config = json.loads((tmp_path / "output/adapter_config.json").read_text())
    assert config["peft_type"] == "BEFT"
