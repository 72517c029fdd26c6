"""The one 2-D view of any kernel, and small linear algebra on it."""

import dataclasses
import functools
import math

import keras
import numpy as np
import scipy.linalg
from keras import ops

from keras_debias import _keras_internals


@dataclasses.dataclass(frozen=True)
class KernelView:
    """The kernel of a `Dense` or `EinsumDense` layer as inputs x outputs.

    An einsum such as `"btd,ndh->btnh"` sums over some axes of its kernel
    (here `d`: the inputs) and keeps the others (`n`, `h`: the outputs).
    Flattening each kind in the kernel's own order gives the matrix that
    low-rank factors live on, whatever the order of the axes.

    Args:
        equation: string. The einsum of the layer; `Dense` is
            `"...a,ab->...b"`.
        shape: tuple of ints. The shape of the kernel.

    Example:

    >>> view = KernelView("btd,ndh->btnh", (4, 16, 8))
    >>> view.inputs, view.outputs
    (16, 32)
    """

    equation: str
    shape: tuple[int, ...]

    def __post_init__(self):
        shared = set(self._kernel) & set(self._input) & set(self._output)
        summed = set(self._kernel) - set(self._input) - set(self._output)
        if shared or summed:
            raise ValueError(
                "Expected an `equation` in which each kernel axis is either "
                "summed with the input or kept in the output. Received: "
                f"equation={self.equation!r}, in which the axes "
                f"{sorted(shared | summed)} are neither. Leave this layer "
                "out of `targets`."
            )

    @functools.cached_property
    def _input(self) -> str:
        return self.equation.split("->")[0].split(",")[0]

    @functools.cached_property
    def _kernel(self) -> str:
        return self.equation.split("->")[0].split(",")[1]

    @functools.cached_property
    def _output(self) -> str:
        return self.equation.split("->")[1]

    @functools.cached_property
    def _summed(self) -> str:
        return "".join(c for c in self._kernel if c in self._input)

    @functools.cached_property
    def _outer(self) -> str:
        return "".join(c for c in self._kernel if c not in self._input)

    @functools.cached_property
    def _batch(self) -> str:
        """The axes of the output that come from the input."""
        output = self._output
        for letter in self._outer:
            output = output.replace(letter, "")
        return output

    def _sizes(self, letters: str) -> tuple[int, ...]:
        sizes = dict(zip(self._kernel, self.shape))
        return tuple(sizes[letter] for letter in letters)

    @functools.cached_property
    def inputs(self) -> int:
        return math.prod(self._sizes(self._summed))

    @functools.cached_property
    def outputs(self) -> int:
        return math.prod(self._sizes(self._outer))

    @functools.cached_property
    def _axes(self) -> tuple[int, ...]:
        return tuple(self._kernel.index(c) for c in self._summed + self._outer)

    def to_matrix(self, kernel):
        """The kernel as a matrix of shape `(inputs, outputs)`."""
        kernel = ops.transpose(kernel, self._axes)
        return ops.reshape(kernel, (self.inputs, self.outputs))

    def from_matrix(self, matrix):
        """A matrix of shape `(inputs, outputs)` as a kernel."""
        kernel = ops.reshape(matrix, self._sizes(self._summed + self._outer))
        return ops.transpose(kernel, tuple(np.argsort(self._axes).tolist()))

    @functools.cached_property
    def _is_trailing(self) -> bool:
        """Whether plain reshapes around a matmul do what the einsum does."""
        return (
            self._input == self._batch + self._summed
            and self._output == self._batch + self._outer
        )

    def down(self, x, a):
        """`x A`: inputs of the layer times a factor `(inputs, rank)`."""
        if self._is_trailing:
            if len(self._summed) > 1:
                batch = ops.shape(x)[: -len(self._summed)]
                x = ops.reshape(x, (*batch, self.inputs))
            return ops.matmul(x, a)
        letter = self._free_letter
        a = ops.reshape(a, (*self._sizes(self._summed), a.shape[-1]))
        return ops.einsum(
            f"{self._input},{self._summed}{letter}->{self._batch}{letter}",
            x,
            a,
        )

    def up(self, h, b):
        """`h B`: rank-sized activations times a factor `(rank, outputs)`."""
        if self._is_trailing:
            y = ops.matmul(h, b)
            if len(self._outer) > 1:
                batch = ops.shape(y)[:-1]
                y = ops.reshape(y, (*batch, *self._sizes(self._outer)))
            return y
        letter = self._free_letter
        b = ops.reshape(b, (b.shape[0], *self._sizes(self._outer)))
        return ops.einsum(
            f"{self._batch}{letter},{letter}{self._outer}->{self._output}",
            h,
            b,
        )

    def scale(self, y, factors):
        """Outputs of the layer times one factor for each output."""
        factors = ops.reshape(factors, self._sizes(self._outer))
        if self._is_trailing:
            return ops.multiply(y, factors)
        return ops.einsum(
            f"{self._output},{self._outer}->{self._output}", y, factors
        )

    def input_rows(self, x):
        """Inputs of the layer as `(batch, positions, inputs)`."""
        return self._rows(x, self._input, self._summed, self.inputs)

    def output_rows(self, y):
        """Outputs of the layer as `(batch, positions, outputs)`."""
        return self._rows(y, self._output, self._outer, self.outputs)

    def _rows(self, x, letters, last, size):
        if not self._is_trailing:
            order = [letters.index(c) for c in self._batch + last]
            x = ops.transpose(x, order)
        return ops.reshape(x, (ops.shape(x)[0], -1, size))

    def trailing_shape(self, side: str) -> tuple[int, ...] | None:
        """The axes of `"inputs"` or `"outputs"` that end a layer's tensors.

        In the kernel's own order, or `None` where they are elsewhere.
        """
        letters = self._summed if side == "inputs" else self._outer
        tensor = self._input if side == "inputs" else self._output
        return self._sizes(letters) if tensor.endswith(letters) else None

    @functools.cached_property
    def rows_come_first(self) -> bool:
        """Whether the first axis of inputs and outputs is the same one."""
        return (
            self._input[0] == self._output[0] == self._batch[:1]
            and self._input[0] not in self._summed
        )

    @functools.cached_property
    def keeps_order(self) -> bool:
        """Whether outputs have the order of the kernel's own axes."""
        return [c for c in self._output if c in self._outer] == list(
            self._outer
        )

    @functools.cached_property
    def _free_letter(self) -> str:
        letters = "abcdefghijklmnopqrstuvwxyz"
        return next(c for c in letters if c not in self.equation)


def kernel_view(layer: keras.Layer) -> KernelView:
    """The 2-D view of the kernel of a built `Dense` or `EinsumDense`."""
    if isinstance(layer, keras.layers.EinsumDense):
        equation = layer.equation.replace(" ", "")
    else:
        equation = "...a,ab->...b"
    return _known_view(equation, _keras_internals.kernel_shape(layer))


# A model has few kinds of kernels, and asks for their views in every step.
_known_view = functools.lru_cache(maxsize=1024)(KernelView)


# Directions of a block of `truncated_svd`, at least.
_BLOCK_SIZE = 16
# What is left of a block, as a share of it: nothing below the first, and
# below the second so little that rounding points into what was taken out.
_RANK_TOLERANCE = 1e-5
_REORTHOGONALIZE_BELOW = 1e-2


def truncated_svd(
    matrix: np.ndarray, rank: int, exact: bool = True, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The leading singular triplets of a matrix.

    Args:
        matrix: float array of shape `(m, n)`.
        rank: int. How many triplets.
        exact: bool. Otherwise they are the best ones in a Krylov space: what
            a block of random directions becomes under products with the
            matrix and its transpose. Of kernels of pretrained models, and of
            random matrices up to 4096 x 4096, their product holds 0.99 of
            the norm of the exact one. Where that space is no smaller than
            the matrix, the exact decomposition is taken anyway.
        seed: int. Seed of the random directions.

    Returns:
        `(U, s, Vt)` of shapes `(m, rank)`, `(rank,)`, `(rank, n)`, float32.

    Reference:
        [Musco and Musco, 2015](https://arxiv.org/abs/1504.05477)
    """
    matrix = np.asarray(matrix, dtype="float32")
    smaller, size = min(matrix.shape), max(rank, _BLOCK_SIZE)
    # The error falls with them, and grows with the logarithm of the size.
    num_blocks = math.ceil(math.log(max(smaller / size, 1))) + 2
    found = None
    if not exact and num_blocks * size < smaller:
        found = _in_krylov_space(matrix, rank, size, num_blocks, seed)
    if found is None:
        found = np.linalg.svd(matrix, full_matrices=False)
    u, s, vt = found
    return u[:, :rank], s[:rank], vt[:rank]


def _in_krylov_space(matrix, rank, size, num_blocks, seed):
    """Its singular triplets there, or `None` where it has too few."""
    if matrix.shape[0] > matrix.shape[1]:
        found = _in_krylov_space(matrix.T, rank, size, num_blocks, seed)
        return None if found is None else (found[2].T, found[1], found[0].T)
    generator = np.random.default_rng(seed)
    start = (matrix.shape[1], size)
    block = matrix @ generator.standard_normal(start, dtype="float32")
    basis = np.empty((matrix.shape[0], 0), "float32")
    image = np.empty((matrix.shape[1], 0), "float32")
    for _ in range(num_blocks):
        length = np.linalg.norm(block)
        block = block - basis @ (basis.T @ block)
        # Columns in order of what is left of them: the last may be rounding.
        block, r, _ = scipy.linalg.qr(
            block, mode="economic", pivoting=True, check_finite=False
        )
        left = np.abs(np.diag(r)) / max(length, np.finfo("float32").tiny)
        block, left = (
            block[:, left > _RANK_TOLERANCE],
            left[left > _RANK_TOLERANCE],
        )
        if not block.size:
            break
        if left[-1] < _REORTHOGONALIZE_BELOW:
            block, _ = np.linalg.qr(block - basis @ (basis.T @ block))
        product = matrix.T @ block
        basis = np.concatenate([basis, block], axis=1)
        image = np.concatenate([image, product], axis=1)
        block = matrix @ product
    if basis.shape[1] < rank:
        return None
    squares, turn = np.linalg.eigh(image.T @ image)
    squares, turn = squares[::-1][:rank], turn[:, ::-1][:, :rank]
    s = np.sqrt(np.maximum(squares, 0.0))
    v = image @ turn / np.where(s > 0, s, 1.0)
    return basis @ turn, s, v.T


def dot(a: list, b: list):
    """The dot product of two lists of tensors as one vector, in float32."""
    return sum(
        ops.sum(ops.cast(x, "float32") * ops.cast(y, "float32"))
        for x, y in zip(a, b)
    )


def norm(tensors: list):
    """The Euclidean norm of a list of tensors as one vector, in float32.

    Scaled by the largest entry first, so that neither tiny nor loss-scaled
    gradients leave the range of float32 when squared.
    """
    tensors = [ops.cast(t, "float32") for t in tensors]
    largest = ops.max(ops.stack([ops.max(ops.abs(t)) for t in tensors]))
    scale = ops.where(largest > 0, largest, ops.ones_like(largest))
    squares = sum(ops.sum(ops.square(t / scale)) for t in tensors)
    return scale * ops.sqrt(squares)


def norms(tensors: list):
    """The Euclidean norm of each tensor, as `norm` computes it.

    Few operations a tensor: what follows of them is computed for all at once.
    """
    tensors = [ops.cast(t, "float32") for t in tensors]
    largest = ops.stack([ops.max(ops.abs(t)) for t in tensors])
    scales = ops.where(largest > 0, largest, ops.ones_like(largest))
    squares = [
        ops.sum(ops.square(t / scale))
        for t, scale in zip(tensors, ops.unstack(scales), strict=True)
    ]
    return scales * ops.sqrt(ops.stack(squares))


def remove_component(tensors: list, direction: list) -> list:
    """`tensors` minus their part along `direction`, both one vector.

    A zero `direction` removes nothing.
    """
    length = norm(direction)
    safe = ops.where(length > 0, length, ops.ones_like(length))
    unit = [ops.cast(d, "float32") / safe for d in direction]
    along = dot(tensors, unit)
    return [
        ops.cast(ops.cast(t, "float32") - along * u, t.dtype)
        for t, u in zip(tensors, unit)
    ]
