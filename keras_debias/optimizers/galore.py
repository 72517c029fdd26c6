import functools
import math

import keras
from keras import ops

from keras_debias import _keras_internals
from keras_debias.utils.numbers import is_number

# Those whose step is a function of the gradient and of state in its shape.
_KINDS = (
    keras.optimizers.SGD,
    keras.optimizers.Adam,
    keras.optimizers.Adamax,
    keras.optimizers.Adagrad,
    keras.optimizers.RMSprop,
    keras.optimizers.Lion,
)
_KERNEL = "kernel"


class _GaLore(_keras_internals.SmallerState):
    """Mixed into the class of an optimizer: gradients of kernels are small.

    A kernel is read as the matrix that is closest to a square: those of
    attention have an axis for heads.
    """

    rank = 128
    update_gap = 200
    scale = 0.25

    def matrix_shape(self, variable):
        """`(rows, columns)` of a large kernel as a matrix, else `None`."""
        shape = tuple(int(size) for size in variable.shape)
        if variable.name != _KERNEL or len(shape) < 2:
            return None
        splits = [
            (math.prod(shape[:axis]), math.prod(shape[axis:]))
            for axis in range(1, len(shape))
        ]
        found = min(splits, key=max)
        return found if min(found) > self.rank else None

    def state_shape(self, variable):
        found = self.matrix_shape(variable)
        if found is None:
            return tuple(variable.shape)
        rows, columns = found
        wide = rows <= columns
        return (self.rank, columns) if wide else (rows, self.rank)

    def build(self, variables):
        if not self.built:
            if not any(map(self.matrix_shape, variables)):
                raise ValueError(
                    "Expected a kernel that trains with both sides larger "
                    f"than `rank`. Received: rank={self.rank} and "
                    f"{len(variables)} weights without one. Lower the rank, "
                    "or train whole kernels: adapters need no `galore`."
                )
            self.matrices = [self.matrix_shape(v) for v in variables]
            self.small = [
                None if matrix is None else self._projector(variable, matrix)
                for variable, matrix in zip(variables, self.matrices)
            ]
        super().build(variables)

    def _projector(self, variable, matrix):
        return self.add_variable(
            shape=(min(matrix), self.rank),
            name=f"{variable.path.replace('/', '_')}_projector",
        )

    def update_step(self, gradient, variable, learning_rate):
        projector = self.small_of(variable)
        if projector is None:
            super().update_step(gradient, variable, learning_rate)
            return
        index = _keras_internals.variable_index(self, variable)
        rows, columns = self.matrices[index]
        matrix = ops.reshape(ops.cast(gradient, "float32"), (rows, columns))
        directions = ops.cond(
            ops.equal(self.iterations % self.update_gap, 0),
            lambda: self._directions(matrix),
            lambda: ops.convert_to_tensor(projector),
        )
        self.assign(projector, directions)
        if rows <= columns:
            small = ops.matmul(ops.transpose(directions), matrix)
        else:
            small = ops.matmul(matrix, directions)
        super().update_step(
            ops.cast(small, gradient.dtype), variable, learning_rate
        )

    def _directions(self, matrix):
        """The leading singular vectors of the smaller side."""
        u, _, vt = ops.svd(matrix, full_matrices=False)
        rows, columns = matrix.shape
        if rows <= columns:
            return u[:, : self.rank]
        return ops.transpose(vt[: self.rank])

    def _whole(self, variable, value):
        """A change of a weight from that of its small form."""
        if tuple(value.shape) == tuple(variable.shape):
            return value
        directions = ops.convert_to_tensor(self.small_of(variable))
        change = ops.cast(value, "float32")
        if change.shape[0] == self.rank:
            change = ops.matmul(directions, change)
        else:
            change = ops.matmul(change, ops.transpose(directions))
        change = ops.reshape(self.scale * change, tuple(variable.shape))
        return ops.cast(change, value.dtype)

    def assign_add(self, variable, value):
        super().assign_add(variable, self._whole(variable, value))

    def assign_sub(self, variable, value):
        super().assign_sub(variable, self._whole(variable, value))

    def get_config(self):
        plain = type(self).original_class
        inner = plain.from_config(super().get_config())
        return {
            "optimizer": keras.optimizers.serialize(inner),
            "rank": self.rank,
            "update_gap": self.update_gap,
            "scale": self.scale,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        optimizer = keras.optimizers.deserialize(
            config.pop("optimizer"), custom_objects
        )
        return galore(optimizer, **config)


_register = keras.saving.register_keras_serializable(
    package="keras_debias", name="GaLore"
)
# Found by name before any optimizer was made.
_register(_GaLore)


@functools.cache
def _class_of(plain):
    return _register(
        type("GaLore", (_GaLore, plain), {"original_class": plain})
    )


def galore(
    optimizer: keras.optimizers.Optimizer,
    rank: int = 128,
    update_gap: int = 200,
    scale: float = 0.25,
) -> keras.optimizers.Optimizer:
    """An optimizer that keeps its state for gradients of low rank.

    It trains whole kernels: no adapter is needed. The gradient of a kernel
    (`rows` x `columns`) is projected on its `rank` leading singular vectors
    of the smaller side, the optimizer makes its step there, and the step goes
    back into the kernel times `scale`. Adam then keeps `2 * rank * columns`
    numbers for a wide kernel, not `2 * rows * columns`, and the projection of
    `rows * rank`. Biases, embeddings and kernels with a side of at most
    `rank` train as they do without. Schedules, weight decay, clipping,
    averages of weights and accumulation of gradients act on whole weights,
    and work as they do without.

    A learning rate to start from is that of all weights divided by `scale`,
    `2e-4` on a pretrained encoder.

    Args:
        optimizer: a Keras `SGD`, `Adam`, `AdamW`, `Adamax`, `Adagrad`,
            `RMSprop` or `Lion` that has not been used yet. A new one of its
            kind is made of its settings; it is left as it is.
        rank: int. Rank of the projected gradients. Defaults to `128`.
        update_gap: int. Updates after which the singular vectors are computed
            anew. Defaults to `200`.
        scale: float above zero. Defaults to `0.25`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: If `optimizer` is not an optimizer.
        ValueError: If it is of another kind or has been used, or another
            argument is out of range. When it first sees a model, if no kernel
            that trains is larger than `rank`.

    Example:

    >>> optimizer = galore(keras.optimizers.AdamW(1e-4), rank=64)
    >>> optimizer.rank
    64

    Reference:
        [Zhao et al., 2024](https://arxiv.org/abs/2403.03507). As there, the
        state is kept when the singular vectors change.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "Expected `optimizer` to be a Keras optimizer such as "
            "`keras.optimizers.AdamW(1e-4)`. Received: "
            f"optimizer={optimizer!r}"
        )
    for name, value in (("rank", rank), ("update_gap", update_gap)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"Expected `{name}` to be a positive integer. Received: "
                f"{name}={value!r}"
            )
    if not (is_number(scale) and scale > 0):
        raise ValueError(
            "Expected `scale` to be a finite number above zero. Received: "
            f"scale={scale!r}"
        )
    plain: type = type(optimizer)
    kinds = {each.__name__ for each in _KINDS} | {"AdamW"}
    is_known = plain.__name__ in kinds and issubclass(plain, _KINDS)
    if not is_known or getattr(optimizer, "amsgrad", False):
        raise ValueError(
            "Expected an optimizer whose step is a function of the gradient "
            f"and its state alone: {sorted(kinds)}, without `amsgrad`. "
            f"Received: `{plain.__name__}`."
        )
    if optimizer.built:
        raise ValueError(
            "Expected an optimizer that has not been used. Received: one of "
            f"{int(optimizer.iterations)} updates over other variables. Make "
            "a new one."
        )
    made = keras.optimizers.Optimizer.from_config.__func__(
        _class_of(plain), optimizer.get_config()
    )
    made.rank, made.update_gap, made.scale = rank, update_gap, scale
    return _keras_internals.keep_exclusions(made, optimizer)
