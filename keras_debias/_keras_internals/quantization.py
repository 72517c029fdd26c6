"""Kernels that are kept as integers."""

import keras
from keras import ops


def base_variables(layer: keras.Layer) -> dict[str, keras.Variable]:
    """Kernel and bias of a `Dense` or `EinsumDense`, as Keras' files go.

    For a quantized layer also the scales and what else makes a kernel of the
    integers. `_kernel`: of packed integers, `kernel` gives an unpacked copy.
    """
    found = {}
    for name in layer.variable_serialization_spec[layer.quantization_mode]:
        if name == "kernel":
            variable = layer._kernel
        elif name == "bias":
            # On the layer itself: adapters may make `bias` more than that.
            variable = layer.__dict__.get("bias")
        else:
            variable = getattr(layer, name, None)
        if variable is not None:
            found[name] = variable
    return found


def kernel_shape(layer: keras.Layer) -> tuple[int, ...]:
    """The shape of the kernel of a built `Dense` or `EinsumDense`.

    `_orig_input_dim`, `_orig_output_dim`: asking `kernel` of packed integers
    unpacks them.
    """
    if layer.quantization_mode != "int4":
        shape = layer.kernel.shape
    elif isinstance(layer, keras.layers.EinsumDense):
        shape = layer.original_kernel_shape
    else:
        shape = (layer._orig_input_dim, layer._orig_output_dim)
    return tuple(int(size) for size in shape)


def dequantized_kernel(layer: keras.Layer):
    """The kernel, as a tensor of floats where it is kept as integers.

    `_adjust_scale_for_dequant`, `_int4_rows`, `_int4_unpacked_column_size`,
    `_int4_block_size`: Keras dequantizes inside private functions only.
    """
    if layer.quantization_mode is None:
        return ops.convert_to_tensor(layer.kernel)
    kernel = ops.cast(layer.kernel, "float32")
    scale = ops.cast(layer.kernel_scale, "float32")
    einsum = isinstance(layer, keras.layers.EinsumDense)
    if layer.quantization_mode == "int8":
        if einsum:
            scale = layer._adjust_scale_for_dequant(scale)
        return ops.divide(kernel, scale)
    if einsum:
        kernel = ops.reshape(
            kernel, (layer._int4_rows, layer._int4_unpacked_column_size)
        )
    if layer._int4_block_size in (None, -1):
        kernel = ops.divide(kernel, scale)
    else:
        # Rows come in groups of one scale and one zero for each column.
        groups = ops.cast(layer.g_idx, "int32")
        zero = ops.cast(layer.kernel_zero, "float32")
        kernel = ops.multiply(
            kernel - ops.take(zero, groups, axis=0),
            ops.take(scale, groups, axis=0),
        )
    return ops.reshape(kernel, kernel_shape(layer))


def quantized_product(layer: keras.Layer, inputs):
    """The inputs times the quantized kernel, by Keras' own path.

    That path adds the bias and applies the activation as well: it runs on a
    stand-in of the plain class which has the layer's weights and neither.
    """
    einsum = isinstance(layer, keras.layers.EinsumDense)
    plain = keras.layers.EinsumDense if einsum else keras.layers.Dense
    bare = object.__new__(plain)
    bare.__dict__.update(layer.__dict__)
    bare.__dict__.update(bias=None, activation=None)
    return bare.quantized_call(inputs)
