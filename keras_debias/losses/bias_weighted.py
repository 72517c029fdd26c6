import keras
from keras import ops

from keras_debias.losses.utils import check_table
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class BiasWeighted:
    """Weighs each loss by how well a bias-only model predicts the label.

    The value is `b^q * loss`, with `b` the bias-only model's probability of
    the sample's own label. Its gradient is the sample's own, weighted by
    `b^q`. `GeneralizedCrossEntropy` weighs the same gradients by `p^q`, with
    `p` of the model that trains; so this is its counterpart for a bias that
    is known beforehand.

    Args:
        bias_probabilities: float array of shape `(n,)` with values from 0 to
            1: for each training sample the bias-only model's probability of
            the sample's own label.
        q: float in (0, 1]. The degree of amplification. Defaults to `0.7`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> objective = BiasWeighted(np.array([0.25, 1.0]), q=0.5)
    >>> losses = ops.convert_to_tensor([2.0, 2.0])
    >>> index = ops.convert_to_tensor([0, 1])
    >>> [float(value) for value in objective(losses, index)]
    [1.0, 2.0]

    Reference:
        The per-sample form of the generalized cross entropy ([Zhang and
        Sabuncu, 2018](https://arxiv.org/abs/1805.07836), equation 8).
    """

    needs_index = True

    def __init__(self, bias_probabilities, q=0.7):
        table = check_table(bias_probabilities, "bias_probabilities", 1)
        if table.min() < 0 or table.max() > 1:
            raise ValueError(
                "Expected `bias_probabilities` from 0 to 1. Received: values "
                f"from {table.min():g} to {table.max():g}"
            )
        if not (is_number(q) and 0 < q <= 1):
            raise ValueError(f"Expected `q` in (0, 1]. Received: q={q!r}")
        self.bias_probabilities = table
        self.q = q
        # A variable, so that graphs do not keep a tensor of another graph.
        self._weights = keras.Variable(
            table**q, dtype="float32", trainable=False, name="bias_weights"
        )

    @property
    def num_rows(self) -> int:
        """How many training rows it knows."""
        return len(self.bias_probabilities)

    def __call__(self, losses, index):
        weights = ops.take(self._weights, index, axis=0)
        rank = len(losses.shape)
        # One weight for all tokens, or all labels, of a sample.
        weights = ops.reshape(weights, (-1,) + (1,) * (rank - 1))
        return ops.cast(weights, losses.dtype) * losses

    def get_config(self):
        return {
            "bias_probabilities": self.bias_probabilities.tolist(),
            "q": self.q,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)
