"""IA3 as PEFT computes it, in and out."""

import keras_hub
import numpy as np
import pytest
from keras import ops

from keras_debias import adapters
from keras_debias.adapters.apply import adapted_layers
from keras_debias.linalg import kernel_view
from tests.adapters.peft_test import LAYERS
from tests.adapters.peft_test import NUM_CLASSES
from tests.adapters.peft_test import TOLERANCE
from tests.adapters.peft_test import OneLayer
from tests.adapters.peft_test import atomic_write_folder
from tests.adapters.peft_test import base  # noqa: F401
from tests.adapters.peft_test import check_refused
from tests.adapters.peft_test import config_of_a_folder
from tests.adapters.peft_test import difference
from tests.adapters.peft_test import each_case
from tests.adapters.peft_test import gradients
from tests.adapters.peft_test import keras_outputs
from tests.adapters.peft_test import peft_outputs
from tests.adapters.peft_test import pytestmark as peft_marks
from tests.adapters.peft_test import tiny_classifier

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytestmark = peft_marks


def randomize(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "ia3_l" in name or "modules_to_save" in name:
                noise = torch.randn(weight.shape, generator=generator)
                weight.add_(0.3 * noise)
    return model.eval()


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("create", LAYERS.values(), ids=LAYERS)
def test_is_a_layer_of_peft(create, side):
    generator = np.random.default_rng(0)
    x, matrix, bias = (
        generator.normal(size=shape).astype("float32")
        for shape in ((2, 5, 8), (8, 12), (12,))
    )
    theirs = peft.get_peft_model(
        OneLayer(matrix, bias),
        peft.IA3Config(
            target_modules=["dense"],
            feedforward_modules=["dense"] if side == "inputs" else [],
        ),
    )
    layer = create()
    layer.build(x.shape)
    layer.kernel.assign(kernel_view(layer).from_matrix(matrix))
    layer.bias.assign(bias.reshape(layer.bias.shape))
    names = ("x", ()) if side == "outputs" else ((), "x")
    adapter = adapters.IA3(*names)
    adapter.attach(layer, adapter.prepare("layer", layer))
    (scale,) = (p for n, p in theirs.named_parameters() if "ia3_l" in n)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(layer.ia3_scale),
        scale.detach().numpy().reshape(-1),
    )
    randomize(theirs)
    layer.ia3_scale.assign(scale.detach().numpy().reshape(-1))
    assert theirs.get_nb_trainable_parameters()[0] == sum(
        int(np.prod(v.shape)) for v in layer.trainable_variables
    )
    weight = generator.normal(size=layer(x).shape).astype("float32")
    y, gradient = gradients(layer, x, weight)
    expected = theirs(torch.tensor(x))
    (expected * torch.tensor(weight).reshape(expected.shape)).sum().backward()
    expected = expected.detach().numpy()
    np.testing.assert_allclose(y.reshape(expected.shape), expected, atol=1e-5)
    np.testing.assert_allclose(
        gradient, scale.grad.numpy().reshape(-1), rtol=1e-4, atol=1e-4
    )
    # Merged there and here.
    adapter.merge("layer", layer, {})
    assert type(layer) is type(create())
    theirs.base_model.merge_adapter()
    found = kernel_view(layer).to_matrix(layer.kernel.value)
    dense = theirs.base_model.model.dense.base_layer
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), dense.weight.detach().numpy().T, atol=1e-6
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.bias).reshape(-1),
        dense.bias.detach().numpy(),
        atol=1e-6,
    )


# PEFT's own choice of modules: query, key and value at once in GPT-2, and
# both layers named `output.dense` in BERT.
@each_case("bert", "gpt2", "llama", "gemma")
def test_same_outputs_as_peft_and_back(base, request, tmp_path):  # noqa: F811
    network, folder = base
    theirs = randomize(peft.get_peft_model(network, peft.IA3Config()))
    theirs.save_pretrained(tmp_path / "theirs")
    expected = peft_outputs(theirs)
    with theirs.disable_adapter():
        assert difference(expected, peft_outputs(theirs)) > 0.02
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    adapters.load(backbone, tmp_path / "theirs", trainable=True)
    assert difference(keras_outputs(backbone), expected) < TOLERANCE
    count = sum(int(np.prod(v.shape)) for v in backbone.trainable_variables)
    name = request.node.callspec.params["base"]
    if name != "bert":  # PEFT has a head there
        assert count == theirs.get_nb_trainable_parameters()[0]
    adapters.export_peft(backbone, tmp_path / "ours")
    read = [
        peft.utils.save_and_load.safe_load_file(
            tmp_path / side / "adapter_model.safetensors"
        )
        for side in ("ours", "theirs")
    ]
    ours, theirs = (
        {
            key.split("model.")[-1].removeprefix("bert."): value
            for key, value in tensors.items()
            if "ia3_l" in key
        }
        for tensors in read
    )
    if name == "gpt2":
        ours = {f"transformer.{key}": value for key, value in ours.items()}
    assert set(ours) == set(theirs)
    for key, value in ours.items():
        np.testing.assert_allclose(value, theirs[key], atol=1e-6)
    adapters.merge(backbone)
    assert difference(keras_outputs(backbone), expected) < TOLERANCE


@each_case("bert")
def test_same_logits_with_the_head(base, tmp_path):  # noqa: F811
    network, folder = base
    config = peft.IA3Config(
        target_modules=["key", "value", "intermediate.dense"],
        feedforward_modules=["intermediate.dense"],
        modules_to_save=["classifier"],
    )
    theirs = randomize(peft.get_peft_model(network, config))
    theirs.save_pretrained(tmp_path / "theirs")
    classifier = keras_hub.models.BertTextClassifier(
        backbone=keras_hub.models.Backbone.from_preset(str(folder)),
        num_classes=NUM_CLASSES,
        preprocessor=None,
    )
    adapters.load(classifier, tmp_path / "theirs", trainable=True)
    expected = peft_outputs(theirs, head=True)
    assert difference(keras_outputs(classifier), expected) < TOLERANCE
    count = sum(int(np.prod(v.shape)) for v in classifier.trainable_variables)
    assert count == theirs.get_nb_trainable_parameters()[0]
    assert len(adapted_layers(classifier)) == 6


KEY = "base_model.model.bert.encoder.layer.0.attention.self.key"
REFUSED = {
    "nothing": ({"x": (8,)}, "tensors named `....ia3_l`"),
    "a vector": ({f"{KEY}.ia3_l": (8,)}, r"\(1, inputs\) or \(outputs, 1\)"),
    "another width": ({f"{KEY}.ia3_l": (9, 1)}, "vector of 8 entries"),
    "a norm": (
        {"base_model.model.bert.embeddings.LayerNorm.ia3_l": (8, 1)},
        "not in it|dense layers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    shapes, message = REFUSED[name]
    config = config_of_a_folder(peft_type="IA3")
    tensors = {k: np.ones(shape, "float32") for k, shape in shapes.items()}
    folder = atomic_write_folder(tmp_path / "adapter", config, tensors)
    check_refused(tiny_classifier(), folder, message)
