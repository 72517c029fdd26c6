import keras

from keras_debias.constraints import OrthogonalUpdate
from keras_debias.directions import Directions
from keras_debias.projections.projection import Projection


@keras.saving.register_keras_serializable(package="keras_debias")
class Subspace(Projection):
    """Keeps all that is learned orthogonal to some directions.

    For each trained layer that reads the residual stream, `V' (W - W0) = 0`:
    whatever lies along `V` in its input is used as the pretrained model uses
    it, no more and no less. For layers that write to it, `(W - W0) V = 0`.

    The gradients are projected, which by itself is not enough: Adam scales
    each entry of a gradient by itself, and weight decay knows no gradient.
    So `DebiasedModel` puts a `constraints.OrthogonalUpdate` on each weight
    concerned, which Keras optimizers apply after each update. Low-rank
    adapters start again, under the constraint; of weights that train as a
    whole, the part along `V` keeps its value. Biases, normalizations,
    embeddings, and a head that is not named among the `readers`, are free.

    What is left of an update along `V` is rounding in float32: with LoRA
    some 1e-8 of its length, for whole kernels up to 1e-7 of the kernel's.
    PiSSA's factors start large, so that after the first few steps the
    rounding of the factors can be a little over 1e-6 of the small update.

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
        https://arxiv.org/abs/2605.27676)), of which we know the abstract
        only; that a projected gradient is followed by a constraint is ours.
    """

    def __init__(self, directions):
        if isinstance(directions, dict):
            directions = keras.saving.deserialize_keras_object(directions)
        if not isinstance(directions, Directions):
            if not hasattr(directions, "shape"):
                raise TypeError(
                    "Expected `directions` to be `Directions` or an array of "
                    "shape (width, k). Received: "
                    f"directions={directions!r}. What `latent_factors` "
                    "returns has them as `.directions`."
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
