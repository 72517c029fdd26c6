"""Merged models as checkpoints of Transformers."""

import keras_hub
import numpy as np
import pytest

from keras_debias import adapters
from tests.adapters.export_peft_test import trained
from tests.adapters.peft_process_test import ENCODERS
from tests.adapters.peft_process_test import task_of
from tests.adapters.peft_test import TOLERANCE
from tests.adapters.peft_test import difference
from tests.adapters.peft_test import folder_of
from tests.adapters.peft_test import keras_outputs
from tests.adapters.peft_test import tokens_and_pixels

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def logits(network):
    tokens = torch.tensor(tokens_and_pixels()[0]).long()
    with torch.no_grad():
        return network.eval()(input_ids=tokens).logits.numpy()


@pytest.mark.parametrize("name", [*ENCODERS, "xlm_roberta"])
def test_same_logits_of_a_merged_classifier(name, tmp_path, tmp_path_factory):
    folder = folder_of(name, tmp_path_factory)
    model = task_of(name, folder)
    both = [adapters.LoRA(2), adapters.AllBiases()]
    trained(model, both, also_train=None)
    with pytest.raises(ValueError, match="without adapters.*adapters.merge"):
        adapters.export_transformers(model, tmp_path / "ours")
    expected = keras_outputs(model)
    adapters.merge(model)
    labels = ("no", "maybe", "yes")
    adapters.export_transformers(model, tmp_path / "ours", labels)
    auto = transformers.AutoModelForSequenceClassification
    network, loaded = auto.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(loaded.values()), loaded
    assert difference(logits(network), expected) < TOLERANCE
    assert network.config.id2label == dict(enumerate(labels))
    # And KerasHub reads it as it reads any checkpoint.
    again = keras_hub.models.Backbone.from_preset(str(tmp_path / "ours"))
    for ours, theirs in zip(again.weights, model.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    with pytest.raises(ValueError, match="not to exist"):
        adapters.export_transformers(model, tmp_path / "ours")
    adapters.export_transformers(model, tmp_path / "ours", overwrite=True)
    for wrong in (labels[:2], ("no", "no", "yes")):
        with pytest.raises(ValueError, match="3 different strings"):
            adapters.export_transformers(model, tmp_path / "x", wrong)


# Of these KerasHub writes checkpoints itself. (Of Gemma, with one key and value
# head alone: `docs/limitations.md`.)
@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "qwen2"])
def test_same_logits_of_a_merged_language_model(
    name, tmp_path, tmp_path_factory
):
    folder = folder_of(name, tmp_path_factory)
    model = task_of(name, folder)
    trained(model, adapters.LoRA(2), also_train=None)
    expected = keras_outputs(model)
    with pytest.raises(ValueError, match="export_to_transformers"):
        adapters.export_transformers(model, tmp_path / "ours")
    adapters.merge(model)
    model.export_to_transformers(tmp_path / "ours")
    kind = transformers.AutoModelForCausalLM
    network = kind.from_pretrained(tmp_path / "ours")
    assert difference(logits(network), expected) < TOLERANCE
