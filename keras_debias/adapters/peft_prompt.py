"""Reads and writes prompt tuning folders of the PEFT library."""

import pathlib

import keras
import numpy as np

from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.peft_names import finish_load
from keras_debias.adapters.peft_prefix import TENSOR
from keras_debias.adapters.peft_prefix import read_virtual_tokens
from keras_debias.adapters.peft_prefix import rotary_attention_layers
from keras_debias.adapters.prompt_tuning import PromptTuning
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.undo import unchanged_on_error


def prompt_parts(
    model: keras.Model, layers: dict, prefix: str
) -> tuple[dict, dict]:
    """The tensor and settings of a prompt folder, for `export_peft`.

    Args:
        model: the model.
        layers: its adapted layers by path.
        prefix: string. Not used: a prompt is in no module.
    """
    ordered = rotary_attention_layers(model, next(iter(layers)))
    (prompt,) = (
        as_array(layer.prompt)
        for layer in layers.values()
        if layer.is_first_block
    )
    length, width = prompt.shape
    return {TENSOR: np.ascontiguousarray(prompt, "float32")}, {
        "peft_type": "PROMPT_TUNING",
        "num_virtual_tokens": length,
        "token_dim": width,
        "num_layers": len(ordered),
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
    }


def load_prompt(
    model: keras.Model, folder: pathlib.Path, trainable: bool
) -> None:
    """Loads a prompt tuning folder of PEFT, all or nothing.

    `adapters.load` calls it.

    Args:
        model: a built KerasHub causal language model, or its backbone,
            without adapters.
        folder: path. The folder to read.
        trainable: bool. Whether the prompt trains.

    Raises:
        ValueError: If the folder is broken, does not fit the model, or the
            model has positions that are not rotations. The model is
            unchanged then.
    """
    tensor = read_virtual_tokens(model, folder, "prompt", "width")
    rotary_attention_layers(model, str(folder))
    paths = layer_paths(model)
    adapter = PromptTuning(length=len(tensor))
    plan = [
        (part, path)
        for part in adapter.resolve(model, set())
        for path in part.targets
    ]
    for part, path in plan:
        part.check(path, paths[path])
    first, path = plan[0]
    shape = first.state_shapes(paths[path])["prompt"]
    if tensor.shape != shape:
        raise ValueError(
            f"Expected '{TENSOR}' of shape {shape}. Received: "
            f"{str(folder)!r} with {tensor.shape}. Load the architecture and "
            "size that it was made for."
        )
    with unchanged_on_error(model):
        for part, path in plan:
            part.attach(paths[path], None)
        prompt = paths[plan[0][1]].prompt
        prompt.assign(tensor)
        finish_load(model, [prompt], [], trainable)
