"""Prefix tuning as PEFT computes it."""

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
pytestmark = [
    *peft_marks,
    # PEFT, of an argument in Transformers.
    pytest.mark.filterwarnings("ignore:.past_key_values.:FutureWarning"),
]


@each_case("llama", "gemma", "qwen3")
def test_same_logits_as_peft_and_back(base, request, tmp_path):  # noqa: F811
    network, folder = base
    settings = {}
    if request.node.callspec.params["base"] != "llama":
        # Heads of a size of their own, which PEFT does not look up.
        settings = {"token_dim": 8, "num_attention_heads": 2}
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=3, **settings
    )
    theirs = peft.get_peft_model(network, config).eval()
    with torch.no_grad():
        (weight,) = (p for p in theirs.parameters() if p.requires_grad)
        generator = torch.Generator().manual_seed(1)
        weight.copy_(torch.randn(weight.shape, generator=generator))
    theirs.save_pretrained(tmp_path / "theirs")
    tokens = torch.tensor(tokens_and_pixels()[0]).long()
    with torch.no_grad():
        expected = theirs(input_ids=tokens).logits.numpy()
        plain = theirs.get_base_model()(input_ids=tokens).logits.numpy()
    assert difference(expected, plain) > 0.05
    model = task_of(request.node.callspec.params["base"], folder)
    adapters.load(model, tmp_path / "theirs", trainable=True)
    assert difference(keras_outputs(model), expected) < TOLERANCE
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert count == theirs.get_nb_trainable_parameters()[0]
    with adapters.disabled(model):
        assert difference(keras_outputs(model), plain) < TOLERANCE

    adapters.export_peft(model, tmp_path / "ours")
    read = [
        peft.utils.save_and_load.safe_load_file(
            tmp_path / side / "adapter_model.safetensors"
        )["prompt_embeddings"]
        for side in ("ours", "theirs")
    ]
    np.testing.assert_allclose(*read, atol=1e-5)


@each_case("gpt2", "bert")
def test_learned_positions_are_refused(base, tmp_path):  # noqa: F811
    _, folder = base
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    config = config_of_a_folder(peft_type="PREFIX_TUNING")
    tensor = np.ones((3, 64), "float32")
    written = atomic_write_folder(
        tmp_path / "adapter", config, {"prompt_embeddings": tensor}
    )
    check_refused(backbone, written, "rotary positions")
    adapters.apply(backbone, adapters.PrefixTuning(2), also_train=())
    with pytest.raises(ValueError, match="rotary positions"):
        adapters.export_peft(backbone, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@each_case("llama")
def test_refused(base, tmp_path):  # noqa: F811
    _, folder = base
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    config = config_of_a_folder(peft_type="PREFIX_TUNING")
    for name, tensors, message in (
        ("size", {"prompt_embeddings": (3, 31)}, r"shape \(3, 32\)"),
        ("name", {"embeddings": (3, 32)}, "one tensor 'prompt_embeddings'"),
        ("axes", {"prompt_embeddings": (3, 4, 8)}, "one tensor"),
    ):
        tensors = {k: np.ones(v, "float32") for k, v in tensors.items()}
        written = atomic_write_folder(tmp_path / name, config, tensors)
        check_refused(backbone, written, message)
    some = adapters.PrefixTuning(2, targets="transformer_layer_0/*")
    adapters.apply(backbone, some, also_train=())
    with pytest.raises(ValueError, match="in all attention layers"):
        adapters.export_peft(backbone, tmp_path / "ours")
