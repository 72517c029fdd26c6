import keras

from keras_debias.constraints import OrthogonalUpdate
from keras_debias.directions import Directions
from keras_debias.projections.projection import Projection


@keras.saving.register_keras_serializable(package="keras_debias")
class Subspace(Projection):
    """Keeps updates of weights orthogonal to some directions.

    For each trained layer that reads the residual stream, `V' (W - W0) = 0`:
    the component of its input along `V` keeps the effect that it has in the
    pretrained model. For layers that write, `(W - W0) V = 0`.

    Projecting gradients is not enough, because Adam scales each entry of a
    gradient separately, and weight decay does not depend on gradients. So
    `DebiasedModel` sets a `constraints.OrthogonalUpdate` on each of these
    weights, which Keras optimizers apply after each update. Low-rank adapters
    are initialized again under the constraint. Kernels that train as a whole
    keep their component along `V`. Biases, normalizations, embeddings, and a
    head that is not named among the `readers`, are not constrained.

    The component of an update along `V` that remains is float32 rounding:
    about 1e-8 of the length of the update with LoRA, and up to 1e-7 of the
    kernel's length for whole kernels. PiSSA's factors start large, so in the
    first steps it can be slightly above 1e-6 of the small update.

    Args:
        directions: `keras_debias.Directions`, or a float array of shape
            `(width, k)` for all layers that read.

    Raises:
        TypeError: If `directions` is neither.

    Example:

    ```python
    found = kd.analysis.latent_factors(naive, k=1)
    model = kd.DebiasedModel(
        classifier,
        projection=[
            kd.projections.EDGE(),
            kd.projections.Subspace(found.directions),
        ],
    )
    ```

    Reference:
        Our reading of GRASP ([Gilligan-Lee et al., 2026](
        https://arxiv.org/abs/2605.27676)), of which we know the abstract only.
        The constraint after the projected gradient is our addition.
    """

    def __init__(self, directions):
        if isinstance(directions, dict):
            directions = keras.saving.deserialize_keras_object(directions)
        if not isinstance(directions, Directions):
            if not hasattr(directions, "shape"):
                raise TypeError(
                    "Expected `directions` to be `Directions` or an array of "
                    "shape (width, k). Received: "
                    f"directions={directions!r}. The result of "
                    "`latent_factors` has them as `.directions`."
                )
            directions = Directions(directions)
        self.directions = directions

    def project(self, gradients, variables):
        return [
            variable.constraint.project_gradient(gradient)
            if isinstance(variable.constraint, OrthogonalUpdate)
            else gradient
            for gradient, variable in zip(gradients["task"], variables)
        ]

    def get_config(self):
        return {
            "directions": keras.saving.serialize_keras_object(self.directions)
        }

    def __repr__(self):
        return f"Subspace({self.directions!r})"
