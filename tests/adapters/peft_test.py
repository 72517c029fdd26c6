"""LoRA and DoRA as PEFT computes them, and PEFT's own folders."""

import dataclasses
import json
import os
import warnings

import keras
import keras_hub
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
from keras import ops

from keras_debias import adapters
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.apply import head_variables
from keras_debias.linalg import kernel_view
from tests.combinations import part

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

pytestmark = [
    # PEFT, of names in Transformers.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkp:FutureWarning"),
    # A GPT-2 `Conv1D`, which PEFT handles, and a base it cannot look up.
    pytest.mark.filterwarnings("ignore:fan_in_fan_out:UserWarning"),
    pytest.mark.filterwarnings("ignore:Could not find a config:UserWarning"),
]

TOLERANCE = 1e-4
NUM_CLASSES = 3

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
}
TEXT = {**SIZES, "vocab_size": 64, "max_position_embeddings": 32}
DECODER = {**TEXT, "num_key_value_heads": 2}
GEMMA = {**DECODER, "head_dim": 4, "query_pre_attn_scalar": 4}
IMAGE = {**SIZES, "image_size": 8, "patch_size": 4}
# KerasHub has these values fixed.
ROBERTA = {**TEXT, "layer_norm_eps": 1e-5, "type_vocab_size": 1}


@dataclasses.dataclass(frozen=True)
class Case:
    """An architecture that KerasHub imports from Hugging Face.

    Attributes:
        config: name of its configuration class in Transformers.
        model: name of its model class in Transformers.
        settings: arguments of the configuration.
        targets: query and value, as PEFT names them.
        classifier: name of the KerasHub task with the same head, if any.
        head: modules of the head, as PEFT names them.
        extra: settings that checkpoints of that time have beside.
    """

    config: str
    model: str
    settings: dict
    targets: tuple
    classifier: str | None = None
    head: tuple = ("classifier",)
    extra: dict = dataclasses.field(default_factory=dict)


ROLES = ("query", "value")
PROJECTIONS = ("q_proj", "v_proj")
CASES = {
    "bert": Case(
        "BertConfig",
        "BertForSequenceClassification",
        {**TEXT, "hidden_act": "gelu_new"},
        ROLES,
        "BertTextClassifier",
    ),
    "roberta": Case(
        "RobertaConfig",
        "RobertaForSequenceClassification",
        ROBERTA,
        ROLES,
        "RobertaTextClassifier",
    ),
    "xlm_roberta": Case(
        "XLMRobertaConfig",
        "XLMRobertaForSequenceClassification",
        ROBERTA,
        ROLES,
        "XLMRobertaTextClassifier",
    ),
    "distilbert": Case(
        "DistilBertConfig",
        "DistilBertForSequenceClassification",
        {
            **{"vocab_size": 64, "dim": 16, "n_layers": 2, "n_heads": 4},
            **{"hidden_dim": 24, "max_position_embeddings": 32},
        },
        ("q_lin", "v_lin"),
        "DistilBertTextClassifier",
        ("pre_classifier", "classifier"),
    ),
    "albert": Case(
        "AlbertConfig",
        "AlbertForSequenceClassification",
        {**TEXT, "embedding_size": 8},
        ROLES,
        "AlbertTextClassifier",
    ),
    "bart": Case(
        "BartConfig",
        "BartModel",
        {
            **{"vocab_size": 64, "d_model": 16, "max_position_embeddings": 32},
            **{"encoder_layers": 2, "decoder_layers": 2},
            **{"encoder_attention_heads": 4, "decoder_attention_heads": 4},
            **{"encoder_ffn_dim": 24, "decoder_ffn_dim": 24},
        },
        PROJECTIONS,
        extra={"num_hidden_layers": 2},
    ),
    "gpt2": Case(
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            **{"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 4},
            "n_positions": 32,
        },
        ("c_attn",),
    ),
    "llama": Case("LlamaConfig", "LlamaForCausalLM", DECODER, PROJECTIONS),
    "mistral": Case(
        "MistralConfig", "MistralForCausalLM", DECODER, PROJECTIONS
    ),
    "gemma": Case(
        "GemmaConfig",
        "GemmaForCausalLM",
        {**DECODER, "head_dim": 4},
        PROJECTIONS,
    ),
    "gemma2": Case("Gemma2Config", "Gemma2ForCausalLM", GEMMA, PROJECTIONS),
    "gemma3": Case("Gemma3TextConfig", "Gemma3ForCausalLM", GEMMA, PROJECTIONS),
    "qwen2": Case("Qwen2Config", "Qwen2ForCausalLM", DECODER, PROJECTIONS),
    "qwen3": Case(
        "Qwen3Config",
        "Qwen3ForCausalLM",
        {**DECODER, "head_dim": 4},
        PROJECTIONS,
    ),
    "smollm3": Case(
        "SmolLM3Config",
        "SmolLM3ForCausalLM",
        {**DECODER, "pad_token_id": 0},
        PROJECTIONS,
    ),
    "vit": Case(
        "ViTConfig",
        "ViTForImageClassification",
        IMAGE,
        PROJECTIONS,
        "ViTImageClassifier",
    ),
    "deit": Case(
        "DeiTConfig", "DeiTForImageClassification", IMAGE, PROJECTIONS
    ),
    "dinov2": Case(
        "Dinov2Config",
        "Dinov2Model",
        {**IMAGE, "mlp_ratio": 2},
        PROJECTIONS,
    ),
}

_FOLDERS = {}


def folder_of(name, tmp_path_factory):
    """The folder of a random Hugging Face model, saved once."""
    case = CASES[name]
    if name not in _FOLDERS:
        folder = tmp_path_factory.mktemp(name)
        config = getattr(transformers, case.config)(
            num_labels=NUM_CLASSES, **case.settings
        )
        torch.manual_seed(0)
        model = getattr(transformers, case.model)(config).eval()
        with torch.no_grad():
            for key, weight in model.named_parameters():
                # Rounded, as KerasHub reads Mistral's at half precision.
                weight.add_(0.2 * torch.randn_like(weight))
                weight.copy_(weight.half().float())
                if name == "roberta" and "token_type" in key:
                    weight.zero_()
        model.save_pretrained(folder)
        if case.extra:
            path = folder / "config.json"
            saved = json.loads(path.read_text())
            path.write_text(json.dumps({**saved, **case.extra}))
        _FOLDERS[name] = folder
    return _FOLDERS[name]


@pytest.fixture
def base(request, tmp_path_factory):
    """`(Hugging Face model, its folder)` of a case."""
    case, folder = (
        CASES[request.param],
        folder_of(request.param, tmp_path_factory),
    )
    model = getattr(transformers, case.model).from_pretrained(folder).eval()
    return model, folder


def each_case(*names):
    if len(names) > 3:
        # How PEFT's names become ours does not depend on the backend.
        names = part(names)
    return pytest.mark.parametrize("base", names, indirect=True, ids=names)


def case_of(request):
    return CASES[request.node.callspec.params["base"]]


def randomize(model):
    """Random `A` and `B`; PEFT starts with a zero `B`."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                weight.copy_(
                    0.3 * torch.randn(weight.shape, generator=generator)
                )


def tokens_and_pixels():
    generator = np.random.default_rng(0)
    tokens = generator.integers(4, 64, (2, 7)).astype("int32")
    pixels = generator.normal(size=(2, 8, 8, 3)).astype("float32")
    return tokens, pixels


def keras_inputs(model):
    tokens, pixels = tokens_and_pixels()
    if not isinstance(model.input, dict):
        return pixels
    inputs = {}
    for name in model.input:
        if "mask" in name:
            inputs[name] = np.ones_like(tokens)
        elif "segment" in name:
            inputs[name] = np.zeros_like(tokens)
        else:
            inputs[name] = tokens if "token" in name else pixels
    return inputs


def keras_outputs(model):
    outputs = model(keras_inputs(model), training=False)
    if isinstance(outputs, dict):
        for name in ("sequence_output", "decoder_sequence_output"):
            if name in outputs:
                outputs = outputs[name]
                break
    return ops.convert_to_numpy(outputs)


def peft_outputs(model, head=False):
    """Hidden states of the encoder or decoder, or the logits."""
    network = model.get_base_model()
    if not head and hasattr(network, network.base_model_prefix):
        network = network.base_model
    tokens, pixels = tokens_and_pixels()
    with torch.no_grad():
        if network.main_input_name == "pixel_values":
            outputs = network(torch.tensor(pixels).permute(0, 3, 1, 2))
        elif isinstance(network, transformers.BartModel):
            ids = torch.tensor(tokens).long()
            outputs = network(input_ids=ids, decoder_input_ids=ids)
        else:
            outputs = network(input_ids=torch.tensor(tokens).long())
    return (outputs.logits if head else outputs.last_hidden_state).numpy()


def difference(ours, theirs):
    """The largest difference in units of the largest output."""
    return np.abs(ours - theirs).max() / max(1, np.abs(theirs).max())


def adapt(network, **settings):
    """A Hugging Face model with random LoRA factors."""
    model = peft.get_peft_model(
        network, peft.LoraConfig(r=3, lora_alpha=5, **settings)
    )
    randomize(model)
    return model.eval()


def check_same_outputs(model, folder, adapter):
    model.save_pretrained(adapter)
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    assert adapters.load(backbone, adapter) is backbone

    expected = peft_outputs(model)
    with model.disable_adapter():
        assert difference(expected, peft_outputs(model)) > 0.05
    found = difference(keras_outputs(backbone), expected)
    print(f"{found:.1e}")
    assert found < TOLERANCE
    return backbone


@each_case(*CASES)
def test_same_outputs_as_peft(base, request, tmp_path):
    network, folder = base
    targets = list(case_of(request).targets)
    model = adapt(network, target_modules=targets)
    backbone = check_same_outputs(model, folder, tmp_path / "adapter")
    assert not backbone.trainable_variables


@each_case("bert", "bart", "gpt2", "gemma", "qwen2", "vit", "dinov2")
def test_same_outputs_with_all_linear_layers(base, request, tmp_path):
    network, folder = base
    model = adapt(
        network,
        target_modules="all-linear",
        exclude_modules=["classifier"] if case_of(request).classifier else None,
    )
    check_same_outputs(model, folder, tmp_path / "adapter")


@each_case("bert", "gpt2", "gemma")
def test_same_outputs_as_dora_of_peft(base, request, tmp_path):
    network, folder = base
    model = adapt(
        network,
        target_modules=list(case_of(request).targets),
        use_dora=True,
        lora_dropout=0.25,
    )
    backbone = check_same_outputs(model, folder, tmp_path / "adapter")
    for layer in adapted_layers(backbone).values():
        assert type(layer.adapters[0]) is adapters.DoRA
    adapters.save(backbone, tmp_path / "ours")
    fresh = keras_hub.models.Backbone.from_preset(str(folder))
    adapters.load(fresh, tmp_path / "ours")
    np.testing.assert_allclose(
        keras_outputs(fresh), keras_outputs(backbone), atol=1e-6
    )


@each_case("bert")
@pytest.mark.parametrize("use_rslora", [False, True])
def test_patterns_and_rank_stabilized(base, tmp_path, use_rslora):
    network, folder = base
    model = adapt(
        network,
        target_modules=["query", "value"],
        rank_pattern={"layer.0.attention.self.query": 5},
        alpha_pattern={"value": 7, r".*\.1\..*query": 2},
        use_rslora=use_rslora,
        lora_dropout=0.25,
    )
    backbone = check_same_outputs(model, folder, tmp_path / "adapter")
    layers = adapted_layers(backbone)
    found = {
        path.split("_")[2][0] + path[-5:]: (x.rank, x.alpha)
        for path, x in layers.items()
    }
    assert found == {
        "0query": (5, 5),
        "0value": (3, 7),
        "1query": (3, 2),
        "1value": (3, 7),
    }
    assert {x.dropout for x in layers.values()} == {0.25}
    # One adapter for each distinct setting, aimed at its layers.
    assert len({id(x.adapters[0]) for x in layers.values()}) == 3
    for path, layer in layers.items():
        assert path in layer.adapters[0].targets


@each_case("bert", "gpt2")
@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases(base, request, tmp_path, bias):
    network, folder = base
    case = case_of(request)
    settings = {"modules_to_save": ["classifier"]} if case.classifier else {}
    with warnings.catch_warnings():
        # PEFT, of outputs that change where an adapter is off.
        warnings.simplefilter("ignore")
        model = adapt(
            network, target_modules=list(case.targets), bias=bias, **settings
        )
    start = keras_outputs(keras_hub.models.Backbone.from_preset(str(folder)))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                noise = torch.randn(weight.shape, generator=generator)
                weight.add_(0.3 * noise)
    model.save_pretrained(tmp_path / "adapter")
    task = backbone = keras_hub.models.Backbone.from_preset(str(folder))
    if case.classifier:
        task = getattr(keras_hub.models, case.classifier)(
            backbone=backbone, num_classes=NUM_CLASSES, preprocessor=None
        )
    adapters.load(task, tmp_path / "adapter", trainable=True)
    expected = peft_outputs(model)
    assert difference(keras_outputs(backbone), expected) < TOLERANCE
    if not case.classifier and bias == "all":
        # GPT-2's query, key and value have their own `A` here.
        more = 2 * 3 * 16 * 2
        count = sum(int(np.prod(v.shape)) for v in task.trainable_variables)
        assert count == model.get_nb_trainable_parameters()[0] + more
    with adapters.disabled(task):
        assert difference(keras_outputs(backbone), start) < TOLERANCE
    adapters.merge(task)
    assert difference(keras_outputs(backbone), expected) < TOLERANCE


# Of more rank than the kernels, and of less.
@each_case("bert")
@pytest.mark.parametrize("rank", [40, 4])
def test_vera_becomes_lora(base, tmp_path, rank):
    network, folder = base
    model = peft.get_peft_model(
        network,
        peft.VeraConfig(r=rank, target_modules=["query", "intermediate.dense"]),
    ).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "vera_lambda" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    backbone = check_same_outputs(model, folder, tmp_path / "adapter")
    ranks = {layer.rank for layer in adapted_layers(backbone).values()}
    assert ranks == {min(rank, 16)}
    path = tmp_path / "adapter/adapter_model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    del tensors["base_model.vera_A"]
    safetensors.numpy.save_file(tensors, path)
    fresh = keras_hub.models.Backbone.from_preset(str(folder))
    check_refused(fresh, tmp_path / "adapter", "save_projection=True")


@each_case(*[name for name, case in CASES.items() if case.classifier])
def test_same_logits_with_a_trained_head(base, request, tmp_path):
    network, folder = base
    case = case_of(request)
    model = adapt(
        network,
        target_modules=list(case.targets),
        modules_to_save=list(case.head),
    )
    model.save_pretrained(tmp_path / "adapter")

    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    classifier = getattr(keras_hub.models, case.classifier)(
        backbone=backbone, num_classes=NUM_CLASSES, preprocessor=None
    )
    adapters.load(classifier, tmp_path / "adapter", trainable=True)
    expected = peft_outputs(model, head=True)
    assert difference(keras_outputs(classifier), expected) < TOLERANCE

    # What trains: the factors and the head.
    expected = [
        variable
        for layer in adapted_layers(classifier).values()
        for variable in (layer.lora_a, layer.lora_b)
    ] + head_variables(classifier)
    found = classifier.trainable_variables
    assert {id(v) for v in found} == {id(v) for v in expected}
    trainable, _ = model.get_nb_trainable_parameters()
    assert sum(int(np.prod(v.shape)) for v in found) == trainable


@each_case("bert")
def test_saves_and_loads_on_in_our_own_format(base, tmp_path):
    network, folder = base
    model = adapt(network, target_modules=["query", "value"])
    backbone = check_same_outputs(model, folder, tmp_path / "peft")
    adapters.save(backbone, tmp_path / "ours")
    fresh = keras_hub.models.Backbone.from_preset(str(folder))
    adapters.load(fresh, tmp_path / "ours")
    np.testing.assert_allclose(
        keras_outputs(fresh), keras_outputs(backbone), atol=1e-6
    )
    merged = keras_outputs(adapters.merge(fresh))
    np.testing.assert_allclose(merged, keras_outputs(backbone), atol=1e-5)


# One layer at a time.


def gradients(layer, x, weight):
    """Outputs, and gradients of `sum(weight * layer(x))` for the factors."""
    factors = [v for v in layer.adapter_state().values() if v.trainable]
    x, weight = ops.convert_to_tensor(x), ops.convert_to_tensor(weight)
    if keras.backend.backend() == "torch":
        y = layer(x, training=True)
        found = torch.autograd.grad(
            ops.sum(y * weight), [v.value for v in factors]
        )
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            y = layer(x, training=True)
            loss = ops.sum(y * weight)
        found = tape.gradient(loss, [v.value for v in factors])
    else:
        import jax

        names = [v.path for v in layer.trainable_variables]
        order = [names.index(v.path) for v in factors]
        state = [v.value for v in layer.non_trainable_variables]

        def loss(values):
            y, _ = layer.stateless_call(values, state, x, training=True)
            return ops.sum(y * weight), y

        values = [v.value for v in layer.trainable_variables]
        found, y = jax.grad(loss, has_aux=True)(values)
        found = [found[i] for i in order]
    return [ops.convert_to_numpy(t) for t in (y, *found)]


def trainable_count(layer):
    state = layer.low_rank_state.values()
    return sum(int(np.prod(v.shape)) for v in state if v.trainable)


def peft_gradients(model, x, weight):
    y = model(torch.tensor(x))
    (y * torch.tensor(weight).reshape(y.shape)).sum().backward()
    found = {
        kind: parameter.grad.numpy().T
        for kind in ("lora_A", "lora_B", "lora_magnitude")
        for name, parameter in model.named_parameters()
        if kind in name
    }
    return y.detach().numpy(), *found.values()


class OneLayer(torch.nn.Module):
    def __init__(self, kernel, bias):
        super().__init__()
        self.dense = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
            self.dense.weight.copy_(torch.tensor(kernel.T))
            self.dense.bias.copy_(torch.tensor(bias))

    def forward(self, x):
        return self.dense(x)


LAYERS = {
    "dense": lambda: keras.layers.Dense(12),
    "query": lambda: keras.layers.EinsumDense(
        "abc,cde->abde", (None, 3, 4), bias_axes="de"
    ),
    "gemma": lambda: keras.layers.EinsumDense(
        "btd,ndh->btnh", (None, 3, 4), bias_axes="nh"
    ),
}
SETTINGS = {
    "plain": {},
    "alpha": {"lora_alpha": 3},
    "rslora": {"lora_alpha": 3, "use_rslora": True},
    "pissa": {"lora_alpha": 3, "init_lora_weights": "pissa"},
    "olora": {"lora_alpha": 3, "init_lora_weights": "olora"},
    "dora": {"lora_alpha": 3, "use_dora": True},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("create", LAYERS.values(), ids=LAYERS)
def test_same_outputs_and_gradients_as_a_layer_of_peft(create, settings):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 5, 8)).astype("float32")
    matrix = generator.normal(size=(8, 12)).astype("float32")
    bias = generator.normal(size=12).astype("float32")

    settings = {"lora_alpha": 4, **settings}
    theirs = peft.get_peft_model(
        OneLayer(matrix, bias),
        peft.LoraConfig(r=4, target_modules=["dense"], **settings),
    )
    started = settings.get("init_lora_weights")
    if not started:
        randomize(theirs)
    named = dict(theirs.named_parameters())
    a, b = (
        next(p for name, p in named.items() if f"lora_{letter}" in name)
        .detach()
        .numpy()
        .T.copy()
        for letter in "AB"
    )

    layer = create()
    layer.build(x.shape)
    view = kernel_view(layer)
    layer.kernel.assign(view.from_matrix(matrix))
    layer.bias.assign(bias.reshape(layer.bias.shape))
    dora = settings.get("use_dora", False)
    kind = adapters.DoRA if dora else adapters.LoRA
    starts = {"pissa": adapters.PiSSA, "olora": adapters.OLoRA}
    adapter = starts.get(started, kind)(
        rank=4,
        alpha=settings["lora_alpha"],
        rank_stabilized=settings.get("use_rslora", False),
    )
    adapter.attach(layer, adapter.prepare("layer", layer))
    if started:
        # The start: the same product; singular vectors may change sign.
        a0 = ops.convert_to_numpy(layer.lora_a)
        b0 = ops.convert_to_numpy(layer.lora_b)
        np.testing.assert_allclose(a0 @ b0, a @ b, atol=1e-5)
        start = theirs(torch.tensor(x)).detach().numpy()
        found = ops.convert_to_numpy(layer(x)).reshape(start.shape)
        np.testing.assert_allclose(found, start, atol=2e-5)
        # And on the way.
        a += 0.1 * generator.normal(size=a.shape).astype("float32")
        with torch.no_grad():
            for name, weight in named.items():
                if "lora_A" in name:
                    weight.copy_(torch.tensor(a.T))
    layer.lora_a.assign(a)
    layer.lora_b.assign(b)
    if dora:
        layer.lora_magnitude.assign(
            next(
                weight.detach().numpy()
                for name, weight in named.items()
                if "magnitude" in name
            )
        )

    weight = generator.normal(size=layer(x).shape).astype("float32")
    for ours, expected in zip(
        gradients(layer, x, weight),
        peft_gradients(theirs, x, weight),
        strict=True,
    ):
        np.testing.assert_allclose(
            ours.reshape(expected.shape),
            expected,
            atol=1e-5 * max(1, np.abs(expected).max()),
            rtol=0,
        )


@pytest.mark.parametrize("create", LAYERS.values(), ids=LAYERS)
def test_lora_fa_is_a_layer_of_peft_with_a_frozen(create):
    generator = np.random.default_rng(0)
    x, matrix = (
        generator.normal(size=shape).astype("float32")
        for shape in ((2, 5, 8), (8, 12))
    )
    theirs = peft.get_peft_model(
        OneLayer(matrix, np.zeros(12)),
        peft.LoraConfig(r=4, lora_alpha=3, target_modules=["dense"]),
    )
    randomize(theirs)
    named = dict(theirs.named_parameters())
    layer = create()
    layer.build(x.shape)
    layer.kernel.assign(kernel_view(layer).from_matrix(matrix))
    adapter = adapters.LoRAFA(rank=4, alpha=3)
    adapter.attach(layer, adapter.prepare("layer", layer))
    for name, weight in named.items():
        for letter in "AB":
            if f"lora_{letter}" in name:
                variable = getattr(layer, f"lora_{letter.lower()}")
                variable.assign(weight.detach().numpy().T)
        weight.requires_grad = "lora_B" in name
    weight = generator.normal(size=layer(x).shape).astype("float32")
    y, gradient = gradients(layer, x, weight)
    expected = theirs(torch.tensor(x))
    (expected * torch.tensor(weight).reshape(expected.shape)).sum().backward()
    (b,) = [p.grad for p in named.values() if p.grad is not None]
    np.testing.assert_allclose(
        y.reshape(expected.shape), expected.detach().numpy(), atol=1e-4
    )
    np.testing.assert_allclose(gradient, b.numpy().T, rtol=1e-4, atol=1e-4)
    assert trainable_count(layer) == theirs.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize("create", LAYERS.values(), ids=LAYERS)
def test_vera_is_a_layer_of_peft(create):
    generator = np.random.default_rng(0)
    x, matrix = (
        generator.normal(size=shape).astype("float32")
        for shape in ((2, 5, 8), (8, 12))
    )
    theirs = peft.get_peft_model(
        OneLayer(matrix, np.zeros(12)),
        peft.VeraConfig(r=16, target_modules=["dense"]),
    )
    layer = create()
    layer.build(x.shape)
    layer.kernel.assign(kernel_view(layer).from_matrix(matrix))
    adapter = adapters.VeRA(rank=16)
    adapter.attach(layer, adapter.prepare("layer", layer))
    # The same kind of random numbers, and ours from here on.
    for name, buffer in theirs.named_buffers():
        if "vera_" not in name:
            continue
        ours = layer.low_rank_constants["vera_" + "ab"["vera_B" in name]]
        ours = ops.convert_to_numpy(ours).T
        assert ours.shape == tuple(buffer.shape)
        limit = (6 / buffer.shape[1]) ** 0.5
        for found in (ours, buffer.numpy()):
            assert 0.95 * limit < np.abs(found).max() <= limit
        buffer.copy_(torch.tensor(ours))
    parameters = {
        name.split(".")[-2]: weight
        for name, weight in theirs.named_parameters()
        if weight.requires_grad
    }
    # The same start, and the same values on the way.
    for name, weight in parameters.items():
        found = ops.convert_to_numpy(getattr(layer, name))
        np.testing.assert_array_equal(found, weight.detach().numpy())
        value = generator.normal(size=found.shape).astype("float32")
        getattr(layer, name).assign(value)
        with torch.no_grad():
            weight.copy_(torch.tensor(value))
    assert trainable_count(layer) == theirs.get_nb_trainable_parameters()[0]
    weight = generator.normal(size=layer(x).shape).astype("float32")
    y, *found = gradients(layer, x, weight)
    expected = theirs(torch.tensor(x))
    (expected * torch.tensor(weight).reshape(expected.shape)).sum().backward()
    np.testing.assert_allclose(
        y.reshape(expected.shape), expected.detach().numpy(), atol=1e-4
    )
    for name, gradient in zip(
        ("vera_lambda_d", "vera_lambda_b"), found, strict=True
    ):
        np.testing.assert_allclose(
            gradient, parameters[name].grad.numpy(), rtol=1e-4, atol=1e-3
        )


def test_trainable_count_of_minilm_is_that_of_peft():
    config = transformers.BertConfig(
        **{"vocab_size": 64, "hidden_size": 384, "num_hidden_layers": 6},
        **{"num_attention_heads": 12, "intermediate_size": 1536},
        max_position_embeddings=32,
    )
    theirs = peft.get_peft_model(
        transformers.BertModel(config),
        peft.LoraConfig(r=8, target_modules=["query", "value"]),
    )
    backbone = keras_hub.models.BertBackbone(
        **{"vocabulary_size": 64, "num_layers": 6, "num_heads": 12},
        **{"hidden_dim": 384, "intermediate_dim": 1536},
        max_sequence_length=32,
    )
    adapters.apply(backbone, adapters.LoRA(rank=8), also_train=())
    assert theirs.get_nb_trainable_parameters()[0] == 73_728
    assert adapters.summary(backbone).trainable == 73_728


# Folders that cannot be read. Written by hand, as PEFT would not.

MODULE = "bert.encoder.layer.{}.attention.self.{}"


def config_of_a_folder(**settings):
    return {
        **{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"},
        **{"init_lora_weights": True, "use_dora": False, "use_rslora": False},
        **{"lora_dropout": 0.0, "fan_in_fan_out": False, "lora_bias": False},
        **{"target_modules": ["query", "value"], "modules_to_save": None},
        **{"rank_pattern": {}, "alpha_pattern": {}, "layer_replication": None},
        **settings,
    }


def tensors_of_a_folder(size=8, layers=2, rank=2):
    generator = np.random.default_rng(0)
    tensors = {}
    for index in range(layers):
        for role in ("query", "value"):
            name = f"base_model.model.{MODULE.format(index, role)}"
            for letter, shape in (("A", (rank, size)), ("B", (size, rank))):
                value = generator.normal(size=shape).astype("float32")
                tensors[f"{name}.lora_{letter}.weight"] = value
    return tensors


def atomic_write_folder(folder, config=None, tensors=None):
    folder.mkdir()
    config = config_of_a_folder() if config is None else config
    tensors = tensors_of_a_folder() if tensors is None else tensors
    (folder / "adapter_config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def tiny_bert():
    return keras_hub.models.BertBackbone(
        **{"vocabulary_size": 64, "num_layers": 2, "num_heads": 2},
        **{"hidden_dim": 8, "intermediate_dim": 12},
        max_sequence_length=16,
    )


def tiny_classifier():
    return keras_hub.models.BertTextClassifier(
        backbone=tiny_bert(), num_classes=NUM_CLASSES, preprocessor=None
    )


def check_refused(model, folder, message):
    """Refuses with the message, and leaves the model as it was."""
    weights = [id(v) for v in model.variables]
    values = [ops.convert_to_numpy(v).copy() for v in model.variables]
    flags = [v.trainable for v in model.variables]
    types = [type(layer) for layer in model._flatten_layers()]
    for trainable in (False, True):
        with pytest.raises(ValueError, match=message):
            adapters.load(model, folder, trainable=trainable)
    assert [id(v) for v in model.variables] == weights
    assert [v.trainable for v in model.variables] == flags
    assert [type(layer) for layer in model._flatten_layers()] == types
    for variable, value in zip(model.variables, values):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def test_a_folder_written_by_hand_is_read(tmp_path):
    tensors = tensors_of_a_folder()
    model = tiny_classifier()
    before = keras_outputs(model)
    values = model.get_weights()
    adapters.load(
        model, atomic_write_folder(tmp_path / "adapter", tensors=tensors)
    )
    assert np.abs(keras_outputs(model) - before).max() > 1e-4
    assert not model.trainable_variables

    # The prefix of PEFT and that of the task may be missing, and the name of
    # the adapter may be there, as in a plain `state_dict`.
    tensors = {
        name.removeprefix("base_model.model.bert.").replace(
            ".weight", ".default.weight"
        ): value
        for name, value in tensors.items()
    }
    other = tiny_classifier()
    other.set_weights(values)
    adapters.load(
        other, atomic_write_folder(tmp_path / "other", tensors=tensors)
    )
    np.testing.assert_allclose(
        keras_outputs(other), keras_outputs(model), atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_reads_other_dtypes(tmp_path, dtype):
    tensors = {k: v.round(1) for k, v in tensors_of_a_folder().items()}
    folder = atomic_write_folder(tmp_path / "adapter", tensors=tensors)
    safetensors.torch.save_file(
        {
            name: torch.tensor(value).to(getattr(torch, dtype))
            for name, value in tensors.items()
        },
        folder / "adapter_model.safetensors",
    )
    model = tiny_bert()
    adapters.load(model, folder)
    for path, layer in adapted_layers(model).items():
        block, _, role = path.split("/")
        name = MODULE.format(block.removeprefix("transformer_layer_"), role)
        expected = tensors[f"base_model.model.{name}.lora_A.weight"]
        assert layer.lora_a.dtype == "float32"
        np.testing.assert_allclose(
            ops.convert_to_numpy(layer.lora_a), expected.T, rtol=1e-2
        )


CONFIGS = {
    "peft_type": ({"peft_type": "LOHA"}, "peft_type='LOHA'"),
    "bias": ({"bias": "some"}, "bias='some'.*must be one of"),
    "pissa": (
        {"init_lora_weights": "pissa_niter_4"},
        "pissa_niter_4.*path_initial_model_for_weight_conversion",
    ),
    "olora": (
        {"init_lora_weights": "olora"},
        "olora.*path_initial_model_for_weight_conversion",
    ),
    "corda": ({"init_lora_weights": "corda"}, "changed the base"),
    "loftq": ({"init_lora_weights": "loftq"}, "changed the base"),
    "lora_bias": ({"lora_bias": True}, "lora_bias=True"),
    "replication": ({"layer_replication": [[0, 2]]}, "layer_replication"),
    "of_the_future": ({"use_magic": 1}, "use_magic=1.*cannot be read"),
    "dora_without_lengths": (
        {"use_dora": True},
        r"lora_magnitude_vector of shape \(8,\).*Received: None",
    ),
    "another_rank": ({"r": 3}, r"lora_A of shape \(3, inputs\)"),
    "alpha_is_text": ({"lora_alpha": "four"}, "Expected a whole"),
    "no_dropout": ({"lora_dropout": None}, "Expected a whole"),
    "pattern": ({"rank_pattern": {"(": 2}}, "Expected a whole"),
    "patterns": ({"alpha_pattern": [2]}, "Expected a whole"),
    "no_alpha": ({"lora_alpha": -1}, "`alpha` to be a positive"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_refuses_another_configuration(tmp_path, name):
    settings, message = CONFIGS[name]
    config = config_of_a_folder(**settings)
    folder = atomic_write_folder(tmp_path / "adapter", config)
    check_refused(tiny_classifier(), folder, message)


def renamed(old, new):
    return lambda t: {k.replace(old, new): v for k, v in t.items()}


def with_tensor(name, shape):
    value = np.ones(shape, "float32")
    return lambda t: {**t, f"base_model.model.{name}": value}


def without(end):
    return lambda t: {k: v for k, v in t.items() if not k.endswith(end)}


def with_value(value):
    def change(tensors):
        next(iter(tensors.values()))[0, 1] = value
        return tensors

    return change


QUERY = MODULE.format(0, "query")
TENSORS = {
    "no_such_module": (
        renamed("self.query", "self.quarry"),
        "self.quarry', which is not in it",
    ),
    "too_many_layers": (
        lambda t: tensors_of_a_folder(layers=3),
        "layer.2.attention.self.query', which is not in it",
    ),
    "another_width": (
        lambda t: tensors_of_a_folder(size=16),
        r"do not fit the kernel of .*query' \(8 x 8\)",
    ),
    "embedding": (
        with_tensor("bert.embeddings.word_embeddings.lora_embedding_A", (2, 9)),
        "adapted embedding",
    ),
    "not_a_dense_layer": (
        renamed(QUERY, "bert.embeddings.word_embeddings"),
        "which is `ReversibleEmbedding` here",
    ),
    "dora": (
        with_tensor(f"{QUERY}.lora_magnitude_vector", (8,)),
        "lora_magnitude_vector",
    ),
    "unknown_head": (
        with_tensor("score.weight", (3, 8)),
        r"\['score.weight'\], which `BertTextClassifier` has no place for",
    ),
    "half_a_head": (
        with_tensor("classifier.weight", (3, 8)),
        "without a tensor for .*bias.*modules_to_save",
    ),
    "other_classes": (
        lambda t: with_tensor("classifier.weight", (2, 8))(
            with_tensor("classifier.bias", (2,))(t)
        ),
        r"head of shape .*Received: .* of shape \(2.*number of classes",
    ),
    "half_a_pair": (
        without("layer.1.attention.self.value.lora_B.weight"),
        "lora_A of shape .* and lora_B",
    ),
    "two_adapters": (
        with_tensor(f"{QUERY}.lora_A.other.weight", (2, 8)),
        "several tensors for lora_A",
    ),
    "the_same_twice": (
        lambda t: {**t, **renamed("model.bert", "model.x.bert")(t)},
        "which mean the same here",
    ),
    "nothing": (lambda t: {"x": np.ones(2, "float32")}, "Expected tensors"),
    "nan": (with_value(np.nan), "holds 1 that are NaN"),
    "infinity": (with_value(np.inf), "holds 1 that are NaN or infinite"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_refuses_other_tensors(tmp_path, name):
    change, message = TENSORS[name]
    tensors = change(tensors_of_a_folder())
    folder = atomic_write_folder(tmp_path / "adapter", tensors=tensors)
    check_refused(tiny_classifier(), folder, message)


def test_refuses_a_head_for_a_backbone(tmp_path):
    tensors = with_tensor("classifier.weight", (3, 8))(tensors_of_a_folder())
    folder = atomic_write_folder(tmp_path / "adapter", tensors=tensors)
    check_refused(tiny_bert(), folder, "classifier.weight.*Load onto the task")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def cut_json(path):
    path.write_text(path.read_text()[:-10])


FILES = {
    "truncated": ("adapter_model.safetensors", truncate, "Expected a whole"),
    "empty": (
        "adapter_model.safetensors",
        lambda path: path.write_bytes(b""),
        "Expected a whole adapter_model",
    ),
    "missing": (
        "adapter_model.safetensors",
        os.remove,
        "to hold adapter_model.safetensors",
    ),
    "broken_json": ("adapter_config.json", cut_json, "Expected a whole"),
    "not_utf_8": (
        "adapter_config.json",
        lambda path: path.write_bytes(b"\xff\xfe{"),
        "Expected a whole adapter_config.json",
    ),
    "a_list": (
        "adapter_config.json",
        lambda path: path.write_text("[]"),
        "Expected a whole adapter_config.json",
    ),
    "no_rank": (
        "adapter_config.json",
        lambda path: path.write_text('{"peft_type": "LORA"}'),
        "Expected a whole adapter_config.json",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_refuses_a_broken_folder(tmp_path, name):
    file, damage, message = FILES[name]
    folder = atomic_write_folder(tmp_path / "adapter")
    damage(folder / file)
    check_refused(tiny_classifier(), folder, message)


def deberta():
    return keras_hub.models.DebertaV3Backbone(
        **{"vocabulary_size": 64, "num_layers": 1, "num_heads": 2},
        **{"hidden_dim": 8, "intermediate_dim": 12},
        max_sequence_length=16,
    )


def t5():
    # KerasHub's own layers of T5 warn of lost masks.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return keras_hub.models.T5Backbone(
            **{"vocabulary_size": 64, "num_layers": 1, "num_heads": 2},
            **{"hidden_dim": 8, "intermediate_dim": 12},
        )


def opt():
    return keras_hub.models.OPTBackbone(
        **{"vocabulary_size": 64, "num_layers": 1, "num_heads": 2},
        **{"hidden_dim": 8, "intermediate_dim": 12},
        max_sequence_length=16,
    )


def swin():
    """KerasHub has an importer that joins query, key and value by hand."""
    return keras_hub.models.SwinTransformerBackbone(
        **{"image_shape": (16, 16, 3), "patch_size": 2, "embed_dim": 8},
        **{"depths": (1, 1), "num_heads": (2, 2), "window_size": 2},
    )


def own_model():
    return keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(8, name="query")]
    )


@pytest.mark.parametrize("create", [deberta, t5, opt, swin, own_model])
def test_refuses_an_architecture_without_an_import_map(tmp_path, create):
    folder = atomic_write_folder(tmp_path / "adapter")
    check_refused(create(), folder, "has no import map.*merge_and_unload")


def test_refuses_adapters_on_adapters(tmp_path):
    folder = atomic_write_folder(tmp_path / "adapter")
    model = tiny_classifier()
    adapters.apply(model, adapters.LoRA(rank=2))
    check_refused(model, folder, "Expected a model without adapters")


def test_refuses_a_layer_changed_by_keras(tmp_path):
    folder = atomic_write_folder(tmp_path / "adapter")
    model = tiny_bert()
    model.enable_lora(2)
    check_refused(model, folder, "query' is quantized or changed by `enable")


def test_refuses_a_rank_above_the_smaller_side(tmp_path):
    folder = atomic_write_folder(
        tmp_path / "adapter",
        config_of_a_folder(r=9),
        tensors_of_a_folder(rank=9),
    )
    check_refused(tiny_classifier(), folder, "`rank` to be at most 8")
