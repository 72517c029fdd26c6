"""Classifiers that the command line trains."""

import keras

from keras_debias import presets
from keras_debias.adapters import LoRA
from keras_debias.adapters import ValueBias
from keras_debias.adapters import apply


def preset_of(name: str) -> str:
    """A preset: one of `kd.presets` by its name, or as it is given."""
    return getattr(presets, name)() if name in presets.__all__ else name


def trained_part(options) -> str:
    """What `--adapter` says, or its default."""
    return options.adapter or ("head" if options.image else "lora")


def adapter_of(options):
    """The adapter of `--adapter`, or `None` where there is none."""
    return {
        "lora": LoRA(rank=options.rank),
        "value-bias": ValueBias(),
    }.get(trained_part(options))


def outputs_of(data) -> int:
    """How many outputs a network for a split has: one for numbers."""
    return 1 if data.label_names is None else len(data.label_names)


def builder(options, num_classes: int):
    """A function of the number of updates to a compiled classifier.

    Args:
        options: the arguments of `add_data` and `add_training`.
        num_classes: int.
    """
    import keras_hub

    task = keras_hub.models.TextClassifier
    if options.image:
        task = keras_hub.models.ImageClassifier
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = ["accuracy"]
    if options.regression:
        loss, metrics = keras.losses.MeanSquaredError(), []
    preset = preset_of(options.model)
    adapter = adapter_of(options)

    def build(updates):
        classifier = task.from_preset(
            preset, num_classes=num_classes, dtype=options.dtype
        )
        if options.text:
            classifier.preprocessor.sequence_length = options.sequence_length
        if adapter is not None:
            apply(classifier, adapter)
        elif trained_part(options) == "head":
            classifier.backbone.trainable = False
        schedule = keras.optimizers.schedules.CosineDecay(
            options.learning_rate, updates
        )
        classifier.compile(
            keras.optimizers.AdamW(schedule),
            loss=loss,
            metrics=metrics,
        )
        return classifier

    return build
