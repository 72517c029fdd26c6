"""The names that Hugging Face checkpoints give to weights."""

import contextlib
import io

import keras
import numpy as np


def hub_import_map(model: keras.Model) -> list[tuple] | None:
    """How KerasHub would fill a model from a Hugging Face checkpoint.

    Returns one `(variable, hugging_face_key, hook)` per weight, where `hook`
    is `None` or makes the variable's value of `(array, shape)`, or `None` if
    KerasHub has no importer for the model's backbone, or one that cannot be
    followed. The importer runs for real, with a loader that only takes
    notes. Nothing is written: assignments end in a `StatelessScope`.

    `keras_hub.src.utils.transformers` (KerasHub 0.32): the importers are
    functions that fill a model, and there is no public table of names.
    """
    try:
        from keras_hub.src.utils.transformers import preset_loader
    except ImportError:
        return None
    backbone = getattr(model, "backbone", model)
    importers = {
        module.backbone_cls: module
        for module in vars(preset_loader).values()
        if hasattr(module, "backbone_cls")
    }
    importer = importers.get(type(backbone))
    if importer is None:
        # Llama 2 has the names and layers of Llama 3, whose backbone is a
        # subclass of it that changes no layer.
        related = [
            module
            for other, module in importers.items()
            if getattr(other, "__bases__", ()) == (type(backbone),)
        ]
        if len(related) != 1:
            return None
        importer = related[0]
    loader = _RecordingLoader()
    # What importers read here: GPT-2's to cut its fused weight, Gemma 3's to
    # tell a model without an image encoder.
    config = _AnyConfig(n_embd=getattr(backbone, "hidden_dim", None))
    if getattr(backbone, "vision_encoder", None) is None:
        config["model_type"] = "gemma3_text"
    try:
        # Some importers print.
        with (
            keras.StatelessScope(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            importer.convert_weights(backbone, loader, config)
    # Importers that put weights together by hand fail in all kinds of ways.
    except Exception:  # noqa: BLE001
        return None
    if model is not backbone and hasattr(importer, "convert_head"):
        head = _RecordingLoader()
        # Written for one task of several.
        with contextlib.suppress(Exception), keras.StatelessScope():
            importer.convert_head(model, head, config)
            loader.notes += head.notes
    return loader.notes


class _RecordingLoader:
    """Stands in for KerasHub's `SafetensorLoader`."""

    safetensor_config = None
    prefix = ""
    preset = None

    def __init__(self):
        self.notes = []

    def port_weight(self, keras_variable, hf_weight_key, hook_fn=None):
        self.notes.append((keras_variable, hf_weight_key, hook_fn))

    def get_tensor(self, hf_weight_key):
        # Small enough to broadcast where an importer adds it to a weight.
        return np.zeros((1, 1), "float32")

    def get_prefixed_key(self, hf_weight_key, dict_like):
        return hf_weight_key


class _AnyConfig(dict):
    """A Hugging Face configuration in which little is set."""

    def __missing__(self, key):
        return None
