"""`keras-debias export-peft`: a saved adapter as a folder of PEFT."""

import argparse
import pathlib

from keras_debias.cli.arguments import add_output
from keras_debias.cli.arguments import count
from keras_debias.cli.tables import written


def add(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "export-peft",
        help="write a saved adapter as a folder of PEFT",
        description="Reads an adapter of kd.adapters.save, and writes it as "
        "Hugging Face PEFT does. See kd.adapters.export_peft for which "
        "adapters PEFT has too.",
    )
    parser.add_argument("adapter", help="a folder of kd.adapters.save")
    parser.add_argument(
        "--model",
        required=True,
        metavar="PRESET",
        help="the preset that the adapter was trained on",
    )
    parser.add_argument(
        "--num-classes",
        type=count,
        metavar="N",
        help="of a classifier; without, the model is a backbone",
    )
    parser.add_argument(
        "--prefix",
        help='what PEFT puts before the modules, such as "bert."; without, '
        "that of the class with the same task",
    )
    parser.add_argument(
        "--base-model",
        metavar="NAME",
        help="the base on the Hugging Face hub, for PEFT's AutoPeftModel and "
        "for vLLM",
    )
    add_output(parser, "the PEFT adapter")
    return parser


def run(options) -> bool:
    """Writes the folder; no condition can hold."""
    import keras_hub

    from keras_debias import adapters
    from keras_debias.cli.networks import preset_of

    folder = pathlib.Path(options.adapter)
    if not folder.is_dir():
        raise ValueError(
            f"Expected a folder of kd.adapters.save, received {str(folder)!r}"
        )
    preset = preset_of(options.model)
    if options.num_classes is None:
        model = keras_hub.models.Backbone.from_preset(preset)
    else:
        model = keras_hub.models.TextClassifier.from_preset(
            preset, num_classes=options.num_classes
        )
    adapters.load(model, folder)
    adapters.export_peft(
        model,
        options.output,
        options.prefix,
        options.overwrite,
        base_model_name_or_path=options.base_model,
    )
    written(options.output)
    return False
