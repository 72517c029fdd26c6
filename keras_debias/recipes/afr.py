import dataclasses

import keras
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.special import softmax

from keras_debias.data import sampling
from keras_debias.data.duplicates import content_keys
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.checks import check_head
from keras_debias.recipes.checks import check_share
from keras_debias.recipes.recipe import Recipe


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class AFR(Recipe):
    """Automatic feature reweighting: refits the last layer on hard samples.

    A part of the training data, stratified by class, is held out. All of the
    budget goes into plain fine-tuning on the rest. Then the last layer is
    fitted again on the held-out part, where each sample has the weight

    ```
    exp(-gamma p) / (number of samples of its class)
    ```

    with `p` the fine-tuned model's probability of its label. A penalty keeps
    the layer near the fine-tuned one. No group labels are used. The last fit
    is not an optimizer update; its time counts as training time.

    Attributes:
        held_out: float in (0, 1). The part held out. Defaults to `0.2`.
        gamma: float, at least 0. How much more the samples count that the
            model gets wrong: at most `exp(gamma)` times. Defaults to `4.0`.
        penalty: float, above 0. Factor of the squared distance from the
            fine-tuned layer. Defaults to `1.0`.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if the network
            does not end in a `Dense` layer with one output for each class, or
            a class has no held-out sample.

    Example:

    ```python
    model = kd.recipes.AFR(gamma=4.0).fit(trainer, train)
    ```

    Reference:
        [Qiu et al., 2023](https://arxiv.org/abs/2306.11074). They stop the
        last fit early and choose it, `gamma` and the penalty by the worst
        group of validation data; here it runs to the minimum, and nothing is
        chosen.
    """

    held_out: float = 0.2
    gamma: float = 4.0
    penalty: float = 1.0

    def __post_init__(self):
        check_share(self.held_out, "held_out")
        if not (np.isfinite(self.gamma) and self.gamma >= 0):
            raise ValueError(
                "Expected `gamma` to be a finite number of at least 0. "
                f"Received: gamma={self.gamma}"
            )
        if not (np.isfinite(self.penalty) and self.penalty > 0):
            raise ValueError(
                "Expected `penalty` to be a finite number above 0. "
                f"Received: penalty={self.penalty}"
            )

    def fit(self, trainer, train):
        check_class_labels(train, self)
        generator = np.random.default_rng([trainer.seed, 2])
        held = sampling.stratified_mask(
            train.y, self.held_out, generator, content_keys(train.x)
        )
        hard, rest = train.take(held), train.take(~held)
        if not np.isin(train.y, hard.y).all():
            missing = np.setdiff1d(train.y, hard.y).tolist()
            raise ValueError(
                "Expected held-out samples of every class. Received: none of "
                f"the classes {missing}. Raise `held_out={self.held_out}`."
            )
        updates = trainer.claim_updates(None, rest)
        model = trainer.build(updates)
        check_head(model.model, train)
        model = trainer.advance(model, rest, updates)
        head, features = trainer.features(model, hard)
        weights = self.weights(trainer.predict(model, hard), hard.y)
        trainer.notes["effective_samples"] = float(
            1 / np.sum(np.square(weights))
        )
        start = [np.asarray(w, "float64") for w in head.get_weights()]
        head.set_weights(self.refit(*start, features, hard.y, weights))
        return model

    def weights(self, probabilities, y) -> np.ndarray:
        """The weight of each sample; they sum to one.

        Args:
            probabilities: float array `(n, classes)`.
            y: int array `(n,)` of labels.

        Returns:
            A float64 array of shape `(n,)`.

        Example:

        >>> weights = AFR(gamma=4.0).weights([[0.9, 0.1], [0.2, 0.8]], [0, 0])
        >>> weights.round(3).tolist()
        [0.057, 0.943]
        """
        chosen = np.asarray(probabilities, "float64")[np.arange(len(y)), y]
        # The largest exponent is zero: no overflow, whatever `gamma` is.
        weights = np.exp(-self.gamma * (chosen - chosen.min()))
        weights = weights / np.bincount(y)[y]
        return weights / weights.sum()

    def refit(self, kernel, bias, features, y, weights) -> list:
        """The last layer with the least weighted loss and penalty.

        Args:
            kernel, bias: the fine-tuned layer, `(width, classes)` and
                `(classes,)`.
            features: float array `(n, width)`.
            y: int array `(n,)` of labels.
            weights: float array `(n,)`.

        Returns:
            `[kernel, bias]`, float64 arrays.
        """
        inputs = np.concatenate(
            [features, np.ones((len(features), 1))], axis=1
        ).astype("float64")
        start = np.concatenate([kernel, bias[None]])
        targets = np.eye(start.shape[1])[y]

        def loss(flat):
            layer = flat.reshape(start.shape)
            logits = inputs @ layer
            moved = layer - start
            value = -np.sum(weights[:, None] * targets * log_softmax(logits, 1))
            error = weights[:, None] * (softmax(logits, 1) - targets)
            gradient = inputs.T @ error + 2 * self.penalty * moved
            return (
                value + self.penalty * np.sum(np.square(moved)),
                gradient.ravel(),
            )

        found = minimize(
            loss,
            start.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-8},
        )
        layer = found.x.reshape(start.shape)
        return [layer[:-1], layer[-1]]
