"""EfficientNet-Lite0: the published weights as a KerasHub preset."""

import pathlib
import random

import keras
import numpy as np

from keras_debias._torch_file import read_torch_file

IMAGE_SIZE = 224
# The published inputs: (pixels - 127) / 128.
SCALE, OFFSET = 1 / 128, -127 / 128

# `"unfused"` blocks pad strided convolutions as TensorFlow does, as the
# published network does; `"v1"` blocks pad as torch does. The two agree
# where the stride is 1. An unfused block without expansion, which the first
# stack would need, is another block.
_ARCHITECTURE = {
    "stackwise_width_coefficients": [1.0] * 7,
    "stackwise_depth_coefficients": [1.0] * 7,
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_squeeze_and_excite_ratios": [0.0] * 7,
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
    "stackwise_block_types": ["v1"] + ["unfused"] * 6,
    "include_stem_padding": False,
    "stem_conv_padding": "same",
    "activation": "relu6",
    "batch_norm_epsilon": 1e-3,
    "dropout": 0.0,
}


def convert_efficientnet_lite0(
    source: pathlib.Path, folder: pathlib.Path
) -> None:
    """Writes a preset of KerasHub: network, ImageNet head, preprocessing.

    Args:
        source: path of the published weights.
        folder: path of an existing folder, which is written to.

    Raises:
        ValueError: If the weights are not of this network.
    """
    weights = read_torch_file(source)
    # Initializers draw their seeds there; what follows must not depend on
    # whether a conversion came first.
    state = random.getstate()
    try:
        classifier = _build(num_classes=len(weights["_fc.bias"]))
    finally:
        random.setstate(state)
    backbone = classifier.backbone
    _set_convolution(backbone.get_layer("stem_conv"), weights, "_conv_stem")
    _set_normalization(backbone.get_layer("stem_bn"), weights, "_bn0")
    number = 0
    for stack, repeats in enumerate(backbone.stackwise_num_repeats):
        for repeat in range(repeats):
            name = f"block{stack + 1}{chr(ord('a') + repeat)}_"
            _set_block(backbone, name, weights, f"_blocks.{number}.")
            number += 1
    _set_convolution(backbone.get_layer("top_conv"), weights, "_conv_head")
    _set_normalization(backbone.get_layer("top_bn"), weights, "_bn1")
    classifier.output_dense.set_weights(
        [weights["_fc.weight"].T, weights["_fc.bias"]]
    )
    classifier.save_to_preset(str(folder))


def _build(num_classes):
    import keras_hub

    # Its own dtype, whatever the global policy is.
    backbone = keras_hub.models.EfficientNetBackbone(
        **_ARCHITECTURE, dtype="float32", name="efficientnet_lite0"
    )
    converter = keras_hub.layers.EfficientNetImageConverter(
        image_size=(IMAGE_SIZE, IMAGE_SIZE),
        scale=SCALE,
        offset=OFFSET,
        # Large images lose detail instead of gaining patterns.
        antialias=True,
        data_format="channels_last",
        dtype="float32",
        name="efficientnet_lite0_images",
    )
    preprocessor = keras_hub.models.EfficientNetImageClassifierPreprocessor(
        image_converter=converter, name="efficientnet_lite0_preprocessor"
    )
    return keras_hub.models.EfficientNetImageClassifier(
        backbone=backbone,
        num_classes=num_classes,
        preprocessor=preprocessor,
        dtype="float32",
        name="efficientnet_lite0_classifier",
    )


def _set_block(backbone, name, weights, source):
    if name + "dwconv" in [layer.name for layer in backbone.layers]:
        # The first block is spread over the network, without expansion.
        depthwise = backbone.get_layer(name + "dwconv")
        middle = backbone.get_layer(name + "dwconv_bn")
        project = backbone.get_layer(name + "project")
        last = backbone.get_layer(name + "project_bn")
    else:
        block = backbone.get_layer(name)
        _set_convolution(block.conv1, weights, source + "_expand_conv")
        _set_normalization(block.bn1, weights, source + "_bn0")
        depthwise, middle = block.depthwise, block.bn2
        project, last = block.output_conv, block.bn3
    # From (channels, 1, height, width) to (height, width, channels, 1).
    kernel = weights[source + "_depthwise_conv.weight"]
    depthwise.set_weights([np.transpose(kernel, (2, 3, 0, 1))])
    _set_normalization(middle, weights, source + "_bn1")
    _set_convolution(project, weights, source + "_project_conv")
    _set_normalization(last, weights, source + "_bn2")


def _set_convolution(layer, weights, name):
    # From (outputs, inputs, height, width) to (height, width, in, out).
    kernel = weights[name + ".weight"]
    layer.set_weights([np.transpose(kernel, (2, 3, 1, 0))])


def _set_normalization(layer: keras.layers.BatchNormalization, weights, name):
    parts = ("weight", "bias", "running_mean", "running_var")
    layer.set_weights([weights[f"{name}.{part}"] for part in parts])
