import keras
import numpy as np
from keras import ops

from keras_debias.linalg import KernelView


@keras.saving.register_keras_serializable(package="keras_debias")
class OrthogonalUpdate(keras.constraints.Constraint):
    """Keeps the change of a weight orthogonal to some directions.

    With directions `V` and a weight `W` that started as `W0`, seen as a
    matrix inputs x outputs: `V' (W - W0) = 0` on the side of the inputs, or
    `(W - W0) V = 0` on the side of the outputs. Keras optimizers apply a
    constraint after each update, after weight decay and accumulation, inside
    compiled steps: nothing that the optimizer does to a gradient leaks back.

    Of `W0` only its part along the directions is kept.

    Args:
        directions: float array of shape `(width, k)` with orthonormal
            columns, where `width` is the size of the side.
        side: `"read"` for the side of the inputs, `"write"` for that of the
            outputs. Defaults to `"read"`.
        component: float array, `V' W0` of shape `(k, outputs)` or `W0 V` of
            shape `(inputs, k)`. Defaults to `None`: zero, as for factors.
        equation: string. The einsum equation of the layer whose kernel the
            weight is. Defaults to `"...a,ab->...b"`: a matrix.

    Raises:
        ValueError: If `directions` is not a finite matrix, or `side` is
            unknown.
        TypeError: If `directions` are not numbers.

    Example:

    >>> down = np.array([[1.0], [0.0]])
    >>> constraint = OrthogonalUpdate(down)
    >>> kernel = constraint(np.ones((2, 3), "float32"))
    >>> keras.ops.convert_to_numpy(kernel)[0].tolist()
    [0.0, 0.0, 0.0]

    Reference:
        Our reading of GRASP; see `keras_debias.grasp`.
    """

    def __init__(
        self,
        directions,
        side="read",
        component=None,
        equation="...a,ab->...b",
    ):
        try:
            directions = np.array(directions, "float32")
        except (TypeError, ValueError) as error:
            raise TypeError(
                "Expected `directions` to be numbers of shape (width, k). "
                f"Received: directions={directions!r}"
            ) from error
        if directions.ndim != 2 or not np.isfinite(directions).all():
            raise ValueError(
                "Expected finite `directions` of shape (width, k). "
                f"Received: shape {directions.shape} with "
                f"{np.sum(~np.isfinite(directions))} that are not finite"
            )
        if side not in ("read", "write"):
            raise ValueError(
                'Expected `side` to be "read" or "write". '
                f"Received: side={side!r}"
            )
        self.directions = directions
        self.side = side
        if component is not None:
            component = np.array(component, "float32")
        self.component = component
        self.equation = equation

    def __call__(self, w):
        return self._project(w, self.component)

    def project_gradient(self, gradient):
        """The part of a gradient that may change the weight.

        Args:
            gradient: tensor of the shape of the weight.

        Returns:
            A tensor of the same shape and dtype.

        Example:

        >>> constraint = OrthogonalUpdate(np.array([[1.0], [0.0]]))
        >>> gradient = constraint.project_gradient(np.ones((2, 3), "float32"))
        >>> keras.ops.convert_to_numpy(gradient)[:, 0].tolist()
        [0.0, 1.0]
        """
        return self._project(gradient, None)

    def _project(self, w, component):
        w = ops.convert_to_tensor(w)
        view = KernelView(self.equation, tuple(int(s) for s in w.shape))
        matrix = ops.cast(view.to_matrix(w), "float32")
        v = ops.convert_to_tensor(self.directions)
        target = 0.0 if component is None else ops.convert_to_tensor(component)
        # Twice: accelerators multiply matrices at less than float32.
        for _ in range(2):
            if self.side == "read":
                along = ops.matmul(ops.transpose(v), matrix) - target
                matrix = matrix - ops.matmul(v, along)
            else:
                along = ops.matmul(matrix, v) - target
                matrix = matrix - ops.matmul(along, ops.transpose(v))
        return ops.cast(view.from_matrix(matrix), w.dtype)

    def get_config(self):
        component = self.component
        return {
            "directions": self.directions.tolist(),
            "side": self.side,
            "component": None if component is None else component.tolist(),
            "equation": self.equation,
        }
