"""Prompt tuning as PEFT computes it."""

import keras_hub
import numpy as np
import pytest

from keras_debias import adapters
from tests.adapters.peft_process_test import task_of
from tests.adapters.peft_test import TOLERANCE
from tests.adapters.peft_test import atomic_write_folder
from tests.adapters.peft_test import base  # noqa: F401
from tests.adapters.peft_test import check_refused
from tests.adapters.peft_test import config_of_a_folder
from tests.adapters.peft_test import difference
from tests.adapters.peft_test import each_case
from tests.adapters.peft_test import keras_outputs
from tests.adapters.peft_test import pytestmark as peft_marks
from tests.adapters.peft_test import tokens_and_pixels

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytestmark = peft_marks


@each_case("llama", "gemma", "qwen3")
def test_same_logits_and_gradient_as_peft_and_back(
    base,  # noqa: F811
    request,
    tmp_path,
):
    name = request.node.callspec.params["base"]
    network, folder = base
    config = peft.PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=3
    )
    theirs = peft.get_peft_model(network, config).eval()
    (weight,) = (p for p in theirs.parameters() if p.requires_grad)
    theirs.save_pretrained(tmp_path / "theirs")
    tokens = torch.tensor(tokens_and_pixels()[0]).long()
    with torch.no_grad():
        plain = theirs.get_base_model()(input_ids=tokens).logits.numpy()
    logits = theirs(input_ids=tokens).logits[:, 3:]
    logits.square().mean().backward()
    expected = logits.detach().numpy()
    assert difference(expected, plain) > 0.05
    model = task_of(name, folder)
    adapters.load(model, tmp_path / "theirs", trainable=True)
    assert difference(keras_outputs(model), expected) < TOLERANCE
    (prompt,) = model.trainable_variables
    assert int(np.prod(prompt.shape)) == theirs.get_nb_trainable_parameters()[0]
    ids = tokens.int()
    found = model({"token_ids": ids, "padding_mask": torch.ones_like(ids)})
    found.square().mean().backward()
    assert (
        difference(prompt.value.grad.numpy(), weight.grad.numpy()) < TOLERANCE
    )
    with adapters.disabled(model):
        assert difference(keras_outputs(model), plain) < TOLERANCE

    adapters.export_peft(model, tmp_path / "ours")
    read = [
        peft.utils.save_and_load.safe_load_file(
            tmp_path / side / "adapter_model.safetensors"
        )["prompt_embeddings"]
        for side in ("ours", "theirs")
    ]
    np.testing.assert_array_equal(*read)


@each_case("gpt2", "bert")
def test_learned_positions_are_refused(base, tmp_path):  # noqa: F811
    _, folder = base
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    config = config_of_a_folder(peft_type="PROMPT_TUNING")
    tensor = np.ones((3, 8), "float32")
    written = atomic_write_folder(
        tmp_path / "adapter", config, {"prompt_embeddings": tensor}
    )
    check_refused(backbone, written, "rotary positions")
    adapters.apply(backbone, adapters.PromptTuning(2), also_train=())
    with pytest.raises(ValueError, match="rotary positions"):
        adapters.export_peft(backbone, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@each_case("llama")
def test_refused(base, tmp_path):  # noqa: F811
    _, folder = base
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    for name, tensors, settings, message in (
        ("size", {"prompt_embeddings": (3, 31)}, {}, "of shape"),
        ("name", {"embeddings": (3, 32)}, {}, "one tensor 'prompt_embeddings'"),
        ("axes", {"prompt_embeddings": (3, 4, 8)}, {}, "one tensor"),
        (
            "submodules",
            {"prompt_embeddings": (3, 32)},
            {"num_transformer_submodules": 2},
            "of a decoder",
        ),
    ):
        config = config_of_a_folder(peft_type="PROMPT_TUNING", **settings)
        tensors = {k: np.ones(v, "float32") for k, v in tensors.items()}
        written = atomic_write_folder(tmp_path / name, config, tensors)
        check_refused(backbone, written, message)
