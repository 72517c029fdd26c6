import keras
from keras import ops

from keras_debias.losses.row_parts import total
from keras_debias.regularizers.chunked_logits import check_outputs
from keras_debias.regularizers.chunked_logits import row_weights
from keras_debias.regularizers.regularizer import Regularizer
from keras_debias.utils.numbers import require_count


@keras.saving.register_keras_serializable(package="keras_debias")
class TopKEntropy(Regularizer):
    """Raises the entropy of the most likely candidates of each token.

    The mean over rows of the negative entropy of the `k` most likely outputs,
    renormalized among themselves. Minimizing it spreads probability over
    plausible candidates, and leaves the rest of the vocabulary alone.

    Args:
        weight: float of at least 0, or a learning-rate schedule. Defaults to
            `0.005`.
        k: int. How many candidates. Defaults to `20`.
        name: string. Name in the logs. Defaults to `None`: `"top_k_entropy"`.

    Raises:
        ValueError: If `k` is not a positive integer, or larger than the
            number of outputs.

    Example:

    >>> logits = np.zeros((1, 4), "float32")
    >>> round(float(TopKEntropy(k=2).call(None, logits)), 4)
    -0.6931

    Reference:
        BA-LoRA, equations (10) and (11): the negative entropy, to be
        minimized. The circulating script uses the whole vocabulary.
    """

    sums_rows = True

    def __init__(self, weight=0.005, k=20, name=None):
        super().__init__(weight, name)
        require_count(k, "k")
        self.k = k

    def call(self, y_true, y_pred, teacher_pred=None, mask=None):
        shape = check_outputs(y_pred, mask)
        if self.k > shape[-1]:
            raise ValueError(
                "Expected `k` of at most the number of outputs, "
                f"{shape[-1]}. Received: k={self.k}"
            )
        self.warn_if_idle(shape)
        weights = row_weights(y_pred, mask)
        # Softmax of the leading logits is the renormalized probability.
        leading, _ = ops.top_k(y_pred, self.k)
        logp = ops.log_softmax(ops.cast(leading, "float32"))
        each = ops.sum(ops.exp(logp) * logp, axis=-1, keepdims=True)
        return total(ops.sum(weights * each)) / total(ops.sum(weights))

    def idle_reason(self, shape):
        if self.k == 1:
            return (
                "the entropy of one candidate is 0. Received: k=1. Use k of "
                "at least 2"
            )
        return None

    def get_config(self):
        return {**super().get_config(), "k": self.k}
