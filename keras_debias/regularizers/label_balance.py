import math

import keras
from keras import ops

from keras_debias.regularizers.regularizer import Regularizer


def smooth_norm(vector, smoothing):
    """The Euclidean norm, with a gradient of zero at zero."""
    total = ops.sum(ops.square(vector))
    return ops.sqrt(total + smoothing**2) - smoothing


def label_means(y_true, y_pred, mask=None):
    """Mean scores of each label over the rows that have it, or have not.

    Args:
        y_true: int labels `(batch,)` or `(batch, 1)`, or multi-hot ones of
            the shape of `y_pred`.
        y_pred: scores of shape `(batch, labels)`.
        mask: bool tensor of shape `(batch,)`, or `None`: which rows count.

    Returns:
        `(contain, lack, has_contain, has_lack)`, each of shape `(labels,)`:
        the two means, zero where there is no row, and ones where there is.
    """
    scores = ops.cast(y_pred, "float32")
    labels = scores.shape[-1]
    shape = tuple(y_true.shape)
    if len(shape) == 2 and shape[-1] == labels and labels != 1:
        contain = ops.cast(y_true, "float32")
    else:
        contain = ops.one_hot(
            ops.cast(ops.reshape(y_true, (-1,)), "int32"), labels
        )
    contain = ops.cast(contain > 0.5, "float32")
    lack = 1.0 - contain
    if mask is not None:
        rows = ops.expand_dims(ops.cast(mask, "float32"), -1)
        contain, lack = contain * rows, lack * rows

    def mean(weights):
        count = ops.sum(weights, axis=0)
        kept = ops.where(weights > 0, scores, ops.zeros_like(scores))
        total = ops.sum(kept, axis=0)
        return total / ops.maximum(count, 1.0), ops.cast(count > 0, "float32")

    (in_mean, has_in), (out_mean, has_out) = mean(contain), mean(lack)
    return in_mean, out_mean, has_in, has_out


class _LabelTerm(Regularizer):
    """What the two terms share: checks of the shapes."""

    def __init__(self, weight=1.0, smoothing=1e-3, name=None):
        super().__init__(weight, name)
        if not (math.isfinite(smoothing) and smoothing > 0):
            raise ValueError(
                "Expected `smoothing` to be a finite number above 0. "
                f"Received: smoothing={smoothing}"
            )
        self.smoothing = smoothing

    def call(self, y_true, y_pred, teacher_pred=None, mask=None):
        if len(y_pred.shape) != 2 or y_true is None:
            raise ValueError(
                "Expected scores of shape (batch, labels) and the labels of "
                f"each row. Received: y_pred of shape {tuple(y_pred.shape)}, "
                f"y_true={'None' if y_true is None else tuple(y_true.shape)}."
                " Wrap a causal LM in a `LabelWordClassifier`."
            )
        return self.value(*label_means(y_true, y_pred, mask))

    def value(self, contain, lack, has_contain, has_lack):
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "smoothing": self.smoothing}


@keras.saving.register_keras_serializable(package="keras_debias")
class LabelPropensity(_LabelTerm):
    """How unequal the mean scores of labels are: `bal1`.

    `||H^C - mean(H^C)|| + ||H^N - mean(H^N)||` over the labels of a batch,
    where `H^C` holds each label's mean score over the rows that have it and
    `H^N` over those that have not. Labels that no row has are left out;
    those that every row has are left out of the second norm.

    Args:
        weight: float or schedule. `beta`. Defaults to `1.0`.
        smoothing: float above 0. The norms are `sqrt(n^2 + s^2) - s`, whose
            gradient at zero is zero. Defaults to `1e-3`.
        name: string. Defaults to `"label_propensity"`.

    Reference:
        Bias-aware PEFT, equation 2.
    """

    def value(self, contain, lack, has_contain, has_lack):
        def spread(means, present):
            count = ops.maximum(ops.sum(present), 1.0)
            center = ops.sum(means * present) / count
            return smooth_norm((means - center) * present, self.smoothing)

        first = spread(contain, has_contain)
        return first + spread(lack, has_contain * has_lack)


@keras.saving.register_keras_serializable(package="keras_debias")
class LabelDiscrimination(_LabelTerm):
    """How far labels are told apart, negated: `bal2`.

    `-||H^C - H^N||` over the labels that some rows of the batch have and
    others have not; see `LabelPropensity`. The term has no lower bound; with
    `cap`, a norm above it neither counts nor learns.

    Args:
        weight: float or schedule. `gamma`. Defaults to `1.0`.
        cap: float above 0, or `None` for none. The largest norm that counts.
            Defaults to `None`, as in the paper.
        smoothing: float above 0. See `LabelPropensity`.
        name: string. Defaults to `"label_discrimination"`.

    Reference:
        Bias-aware PEFT, equation 3.
    """

    def __init__(self, weight=1.0, cap=None, smoothing=1e-3, name=None):
        super().__init__(weight, smoothing, name)
        if cap is not None and not (math.isfinite(cap) and cap > 0):
            raise ValueError(
                "Expected `cap` to be a finite number above 0, or `None`. "
                f"Received: cap={cap}"
            )
        self.cap = cap

    def value(self, contain, lack, has_contain, has_lack):
        both = has_contain * has_lack
        norm = smooth_norm((contain - lack) * both, self.smoothing)
        return -norm if self.cap is None else -ops.minimum(norm, self.cap)

    def get_config(self):
        return {**super().get_config(), "cap": self.cap}


@keras.saving.register_keras_serializable(package="keras_debias")
class LabelBalance(Regularizer):
    """The two bias-balance losses: `beta * bal1 + gamma * bal2`.

    Works on the scores of a `LabelWordClassifier` and on the class logits of
    any classifier. A `DebiasedModel` takes it for its two terms,
    `LabelPropensity` and `LabelDiscrimination`, and logs each under its own
    name, before its factor. Both are statistics of a batch: with fewer rows
    than labels they are rough.

    Args:
        beta: float or schedule. Factor of `bal1`. Defaults to `1.0`.
        gamma: float or schedule. Factor of `bal2`. Defaults to `1.0`.
        cap: float or `None`. See `LabelDiscrimination`. Defaults to `None`.
        smoothing: float. See `LabelPropensity`. Defaults to `1e-3`.
        name: string.

    Example:

    ```python
    model = kd.DebiasedModel(
        classifier, regularizers=kd.regularizers.LabelBalance()
    )
    ```

    Reference:
        Bias-aware PEFT, equations 2 to 4, with `alpha` = 1 for the task's
        loss.
    """

    def __init__(
        self, beta=1.0, gamma=1.0, cap=None, smoothing=1e-3, name=None
    ):
        super().__init__(1.0, name)
        self.propensity = LabelPropensity(beta, smoothing)
        self.discrimination = LabelDiscrimination(gamma, cap, smoothing)

    @property
    def terms(self):
        return [self.propensity, self.discrimination]

    def call(self, y_true, y_pred, teacher_pred=None, mask=None):
        if any(callable(term.weight) for term in self.terms):
            raise ValueError(
                "Expected numbers for `beta` and `gamma` outside a "
                "`DebiasedModel`. Received: a schedule"
            )
        return sum(
            term.weight * term.call(y_true, y_pred, teacher_pred, mask)
            for term in self.terms
        )

    def get_config(self):
        configs = [term.get_config() for term in self.terms]
        return {
            "beta": configs[0]["weight"],
            "gamma": configs[1]["weight"],
            "cap": configs[1]["cap"],
            "smoothing": configs[1]["smoothing"],
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in ("beta", "gamma"):
            if isinstance(config[name], dict):
                config[name] = keras.saving.deserialize_keras_object(
                    config[name]
                )
        return cls(**config)
