import dataclasses

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from keras_debias.data import sampling
from keras_debias.data.duplicates import content_keys
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.checks import check_head
from keras_debias.recipes.checks import check_share
from keras_debias.recipes.group_recipe import GroupRecipe
from keras_debias.utils.numbers import is_number
from keras_debias.utils.renamed import renamed

# Where an inferred group has fewer held-out rows, rows are weighted, not drawn.
MIN_DRAWN = 10


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class DFR(GroupRecipe):
    """Plain fine-tuning, then a new last layer on balanced held-out rows.

    A part of the training rows, stratified by group, is held out. All of the
    budget goes into plain fine-tuning on the others. Then the last layer is
    fitted again: logistic regression on the features of held-out rows, drawn
    so that all groups are of one size, averaged over several draws. The
    regression is not an optimizer update; its time counts as training time.
    Where an inferred group has fewer than 10 held-out rows, all held-out rows
    are used once, with weights that make the groups equal.

    Attributes:
        groups: see `GroupRecipe`. Defaults to `None`: those of the data.
        held_out: float in (0, 1). The part held out. Defaults to `0.2`.
        draws: int. Balanced draws to average over. Defaults to `10`.
        C: float, above 0. The inverse of the strength of the regression's
            penalty, as in scikit-learn. Defaults to `1.0`.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if the network
            does not end in a `Dense` layer with one output for each class, or
            a group has no held-out row. An inferred group without held-out
            rows is left out, unless its class would have none.

    Example:

    ```python
    model = kd.recipes.DFR().fit(trainer, train)
    ```

    Reference:
        [Kirichenko et al., 2023](https://arxiv.org/abs/2204.02937). They use
        an L1 penalty, with `C` chosen on validation groups; here it is L2
        with a given `C`.
    """

    held_out: float = 0.2
    draws: int = 10
    C: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_share(self.held_out, "held_out")
        if int(self.draws) != self.draws or self.draws < 1:
            raise ValueError(
                "Expected `draws` to be an integer of at least 1. "
                f"Received: draws={self.draws!r}"
            )
        if not (is_number(self.C) and self.C > 0):
            raise ValueError(
                "Expected `C` to be a finite number above 0. "
                f"Received: C={self.C!r}"
            )

    def fit_groups(self, trainer, train):
        check_class_labels(train, self)
        generator = np.random.default_rng([trainer.seed, 2])
        held = sampling.stratified_mask(
            train.groups.ids, self.held_out, generator, content_keys(train.x)
        )
        balanced, rest = train.take(held), train.take(~held)
        filled, ids = np.unique(balanced.groups.ids, return_inverse=True)
        names = train.groups.names
        absent = [name for i, name in enumerate(names) if i not in filled]
        if absent:
            self._check_absent(absent, train, balanced)
        sizes = np.bincount(ids)
        updates = trainer.claim_updates(None, rest)
        model = trainer.build(updates)
        check_head(model.model, train)
        model = trainer.advance(model, rest, updates)
        head, features = trainer.features(model, balanced)
        trainer.notes["rows_a_group"] = int(sizes.min())
        if self.groups is not None:
            trainer.notes["groups_without_held_out_rows"] = absent
        scaler = StandardScaler().fit(features)
        features = scaler.transform(features)
        if self.groups is not None and sizes.min() < MIN_DRAWN:
            # Too few to draw as many of each: all rows, with weights.
            parts = [(slice(None), 1.0 / sizes[ids] * sizes.mean())]
        else:
            parts = [
                (sampling.draw(ids, sizes.min() * len(sizes), generator), None)
                for _ in range(self.draws)
            ]
        kernel, bias = 0.0, 0.0
        for rows, weights in parts:
            found = LogisticRegression(C=self.C, max_iter=1000).fit(
                features[rows], balanced.y[rows], weights
            )
            new = self._as_layer(found, head.units)
            kernel, bias = kernel + new[0], bias + new[1]
        kernel = kernel / len(parts) / scaler.scale_[:, None]
        bias = bias / len(parts) - scaler.mean_ @ kernel
        head.set_weights([kernel, bias])
        return model

    def _check_absent(self, absent, train, balanced):
        """Raises if groups without held-out rows cannot be left out."""
        if self.groups is not None and set(balanced.y) == set(train.y):
            return
        counts = train.groups.counts()
        raise ValueError(
            f"Expected held-out rows of every group. Received: none of {absent}"
            ". "
            + (
                f"Raise `held_out={self.held_out}`."
                if min(counts[name] for name in absent) > 1
                else "A group of one row cannot be divided: merge it with "
                "another, or leave it out with `train.take(...)`."
            )
        )

    @classmethod
    def from_config(cls, config):
        return super().from_config(renamed(config, strength="C"))

    @staticmethod
    def _as_layer(found, units):
        """Kernel and bias with one output for each class, also for two."""
        coefficients, intercept = found.coef_, found.intercept_
        if len(coefficients) == 1:
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercept = np.concatenate([-intercept, intercept]) / 2
        kernel = np.zeros((coefficients.shape[1], units))
        # A class without rows is never predicted.
        bias = np.full(units, -1e4)
        kernel[:, found.classes_] = coefficients.T
        bias[found.classes_] = intercept
        return kernel, bias
