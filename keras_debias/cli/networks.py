"""Classifiers that the command line trains."""

import keras
import keras_hub

from keras_debias import presets
from keras_debias.adapters import LoRA
from keras_debias.adapters import ValueBias
from keras_debias.adapters import apply


def preset_of(name: str) -> str:
    """A preset: one of `kd.presets` by its name, or as it is given."""
    return getattr(presets, name)() if name in presets.__all__ else name


def builder(options, num_classes: int):
    """A function of the number of updates to a compiled classifier.

    Args:
        options: the arguments of `add_training`.
        num_classes: int.
    """
    preset = preset_of(options.model)
    adapter = LoRA(rank=options.rank)
    if options.adapter == "value-bias":
        adapter = ValueBias()

    def build(updates):
        classifier = keras_hub.models.TextClassifier.from_preset(
            preset, num_classes=num_classes, dtype=options.dtype
        )
        classifier.preprocessor.sequence_length = options.sequence_length
        apply(classifier, adapter)
        schedule = keras.optimizers.schedules.CosineDecay(
            options.learning_rate, updates
        )
        classifier.compile(
            keras.optimizers.AdamW(schedule),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return classifier

    return build
