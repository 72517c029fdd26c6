import math
import os

import keras
import numpy as np

from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.adapter_folder import atomic_write_folder
from keras_debias.adapters.adapter_folder import check_overwrite
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.checks import as_path
from keras_debias.adapters.checks import require_model
from keras_debias.adapters.constrain import matrix_of
from keras_debias.adapters.export_peft import head_tensors
from keras_debias.adapters.peft_names import import_map
from keras_debias.adapters.peft_names import owners
from keras_debias.adapters.peft_names import prefix_of
from keras_debias.adapters.peft_names import rows_and_columns
from keras_debias.adapters.peft_places import with_prefix
from keras_debias.linalg import kernel_view
from keras_debias.utils.networks import network_of

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
# Rows of position embeddings that KerasHub does not read.
_UNUSED_POSITIONS = {"roberta": 2, "xlm-roberta": 2}


def _bert(backbone):
    return {
        "model_type": "bert",
        "type_vocab_size": backbone.num_segments,
        # Keras' approximation by a hyperbolic tangent.
        "hidden_act": "gelu_new",
        **_sizes(backbone),
    }


def _roberta(backbone):
    sizes = _sizes(backbone)
    sizes["max_position_embeddings"] += 2
    name = type(backbone).__name__
    is_multilingual = name == "XLMRobertaBackbone"
    return {
        "model_type": "xlm-roberta" if is_multilingual else "roberta",
        "type_vocab_size": 1,
        "hidden_act": "gelu",
        **sizes,
    }


def _distil_bert(backbone):
    return {
        "model_type": "distilbert",
        "vocab_size": backbone.vocabulary_size,
        "n_layers": backbone.num_layers,
        "n_heads": backbone.num_heads,
        "dim": backbone.hidden_dim,
        "hidden_dim": backbone.intermediate_dim,
        "max_position_embeddings": backbone.max_sequence_length,
        "dropout": backbone.dropout,
        "attention_dropout": backbone.dropout,
        "seq_classif_dropout": backbone.dropout,
    }


def _sizes(backbone):
    return {
        "vocab_size": backbone.vocabulary_size,
        "num_hidden_layers": backbone.num_layers,
        "num_attention_heads": backbone.num_heads,
        "hidden_size": backbone.hidden_dim,
        "intermediate_size": backbone.intermediate_dim,
        "max_position_embeddings": backbone.max_sequence_length,
        "hidden_dropout_prob": backbone.dropout,
        "attention_probs_dropout_prob": backbone.dropout,
        "layer_norm_eps": backbone.get_layer("embeddings_layer_norm").epsilon,
    }


# The class in Transformers, and its configuration, by the task in KerasHub.
_CLASSES = {
    "BertTextClassifier": ("BertForSequenceClassification", _bert),
    "RobertaTextClassifier": ("RobertaForSequenceClassification", _roberta),
    "XLMRobertaTextClassifier": (
        "XLMRobertaForSequenceClassification",
        _roberta,
    ),
    "DistilBertTextClassifier": (
        "DistilBertForSequenceClassification",
        _distil_bert,
    ),
}


def export_transformers(
    model: keras.Model,
    folder: str | os.PathLike,
    label_names: tuple[str, ...] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a text classifier as a checkpoint of Transformers.

    The whole model, head included, for
    `AutoModelForSequenceClassification.from_pretrained`. Merge adapters
    first. The tokenizer stays that of the original checkpoint.

    For causal language models, use KerasHub's own
    `model.export_to_transformers(folder)` after `adapters.merge`.

    Args:
        model: a `BertTextClassifier`, `RobertaTextClassifier`,
            `XLMRobertaTextClassifier` or `DistilBertTextClassifier` of
            KerasHub without adapters, or a `DebiasedModel` around one.
        folder: path. The folder to make.
        label_names: tuple of strings. The names of the classes, for the
            configuration. Defaults to `None`: Transformers' own.
        overwrite: bool. Whether an existing folder of such a checkpoint may
            be replaced. Defaults to `False`.

    Raises:
        ValueError: If the model is of another class, has adapters, holds
            values that are not finite, `label_names` does not fit the head,
            or the folder exists and `overwrite` is `False`.

    Example:

    ```python
    kd.adapters.merge(classifier)
    kd.adapters.export_transformers(classifier, "classifier/")
    AutoModelForSequenceClassification.from_pretrained("classifier/")
    ```
    """
    require_model(model)
    model, folder = network_of(model), as_path(folder)
    check_overwrite(
        folder, overwrite, {CONFIG_NAME, WEIGHTS_NAME}, "such a checkpoint"
    )
    names = [c.__name__ for c in type(model).__mro__]
    name = next((name for name in names if name in _CLASSES), None)
    if name is None:
        raise ValueError(
            f"Expected one of {sorted(_CLASSES)}. Received: "
            f"model={model.name!r}, a `{type(model).__name__}`. For causal "
            "language models, use KerasHub's "
            "`model.export_to_transformers(folder)`."
        )
    if adapted_layers(model):
        raise ValueError(
            "Expected a model without adapters. Received: "
            f"model={model.name!r}, which has some. Call `adapters.merge` "
            "first, or write them alone with `adapters.export_peft`."
        )
    class_name, create_config = _CLASSES[name]
    num_classes = model.num_classes
    if label_names is None:
        label_names = tuple(f"LABEL_{i}" for i in range(num_classes))
    if (
        isinstance(label_names, str)
        or len(label_names) != num_classes
        or not all(isinstance(each, str) for each in label_names)
        or len(set(label_names)) != num_classes
    ):
        raise ValueError(
            f"Expected `label_names` to be {num_classes} different strings. "
            f"Received: label_names={label_names!r}"
        )
    config = {
        "architectures": [class_name],
        **create_config(model.backbone),
        "id2label": {str(i): each for i, each in enumerate(label_names)},
        "label2id": {each: i for i, each in enumerate(label_names)},
        "dtype": "float32",
    }
    tensors = _tensors(model, config)
    for key, value in tensors.items():
        if not np.isfinite(value).all():
            raise ValueError(
                "Expected finite values. Received: "
                f"'{key}' holds some that are NaN or infinite."
            )
    atomic_write_folder(folder, tensors, WEIGHTS_NAME, config, CONFIG_NAME)


def _tensors(model, config) -> dict[str, np.ndarray]:
    prefix, owned = prefix_of(model), owners(model)
    tensors = {}
    for variable, key, hook in import_map(model):
        path, layer = owned.get(id(variable), (None, None))
        if layer is None:
            raise ValueError(
                "Expected a model in its original form. Received: "
                f"model={model.name!r}, whose '{variable.path}' is quantized "
                "or changed by `enable_lora`."
            )
        key = with_prefix(key, prefix)
        key = key.replace("LayerNorm.gamma", "LayerNorm.weight")
        key = key.replace("LayerNorm.beta", "LayerNorm.bias")
        if variable is getattr(layer, "kernel", None):
            tensors[key] = _kernel(path, layer, hook)
        elif key.endswith("position_embeddings.weight"):
            unused = _UNUSED_POSITIONS.get(config["model_type"], 0)
            value = as_array(variable)
            tensors[key] = np.pad(value, ((unused, 0), (0, 0)))
        else:
            tensors[key] = _value(variable, hook)
    if config.get("type_vocab_size") == 1:
        width = config["hidden_size"]
        name = f"{prefix}embeddings.token_type_embeddings.weight"
        tensors[name] = np.zeros((1, width), "float32")
    return {**tensors, **head_tensors(model)}


def _kernel(path, layer, hook) -> np.ndarray:
    view = kernel_view(layer)
    rows, columns, _ = rows_and_columns(
        path, layer, hook, view.inputs, view.outputs
    )
    matrix = matrix_of(view, as_array(layer.kernel))
    there = np.empty((view.outputs, view.inputs), "float32")
    there[np.ix_(columns, rows)] = matrix.T
    return there


def _value(variable, hook) -> np.ndarray:
    """A vector, or what an importer takes as it is."""
    value = as_array(variable)
    if hook is None:
        return value
    # A bias by heads: the importer's hook says where each entry goes.
    index = np.arange(math.prod(value.shape))
    order = np.asarray(hook(index, list(value.shape))).reshape(-1)
    there = np.empty(len(index), "float32")
    there[order] = value.reshape(-1)
    return there
