"""`kd.testing` for methods of one's own: what holds passes, else it fails."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from tests.recipes import toy

R = kd.recipes
BUDGET = R.Budget(updates=6, batch_size=24)


@keras.saving.register_keras_serializable(package="mine")
@dataclasses.dataclass(frozen=True)
class Weighted(R.Recipe):
    """Spends its budget, or half of it, and may look at groups."""

    share: float | None = None
    groups: bool = False

    def fit(self, trainer, train):
        weights = np.ones(len(train))
        if self.groups:
            weights += train.groups.ids
        sampler = kd.data.WeightedSampler(weights)
        return trainer.fit(train, share=self.share, sampler=sampler)


@keras.saving.register_keras_serializable(package="mine")
@dataclasses.dataclass(frozen=True)
class Signs(R.GroupInference):
    """By the first column, or by the groups of the data."""

    leaks: bool = False

    def cells(self, trainer, train, split=None):
        rows = train if split is None else split
        return rows.groups.ids if self.leaks else rows.x[:, 0] > 0


@keras.saving.register_keras_serializable(package="mine")
class Scaled(kd.projections.Projection):
    def __init__(self, flat=False):
        self.flat = flat

    def project(self, gradients, variables):
        found = [g / 2 for g in gradients["task"]]
        return [ops.sum(g) for g in found] if self.flat else found

    def get_config(self):
        return {"flat": self.flat}


@keras.saving.register_keras_serializable(package="mine")
class SmallLogits(kd.regularizers.Regularizer):
    """Mean square of the logits that count, or of all of them."""

    def __init__(self, weight=1.0, all_rows=False, name=None):
        super().__init__(weight, name)
        self.all_rows = all_rows

    def call(self, y_true, y_pred, teacher_pred=None, mask=None):
        squares = ops.mean(ops.square(ops.cast(y_pred, "float32")), axis=-1)
        if mask is None or self.all_rows:
            return ops.mean(squares)
        mask = ops.cast(mask, "float32")
        return ops.sum(squares * mask) / ops.sum(mask)

    def get_config(self):
        return {**super().get_config(), "all_rows": self.all_rows}


def test_recipe():
    train = toy.numbers(120)
    outputs = kd.testing.check_recipe(Weighted(), train, toy.build, BUDGET)
    assert outputs.shape == (120, 2)
    with pytest.raises(AssertionError, match="updates spent"):
        kd.testing.check_recipe(Weighted(0.5), train, toy.build, BUDGET)
    with pytest.raises(AssertionError, match="other groups"):
        kd.testing.check_recipe(Weighted(groups=True), train, toy.build, BUDGET)
    with pytest.raises(ValueError, match="with groups"):
        kd.testing.check_recipe(
            Weighted(), train.with_groups(None), toy.build, BUDGET
        )


def test_group_inference():
    train = toy.numbers(120)
    groups = kd.testing.check_group_inference(Signs(), train, toy.build, BUDGET)
    assert len(groups.names) == 4
    with pytest.raises(AssertionError, match="other groups"):
        kd.testing.check_group_inference(
            Signs(leaks=True), train, toy.build, BUDGET
        )


def test_projection():
    kd.testing.check_projection(Scaled())
    with pytest.raises(AssertionError):
        kd.testing.check_projection(Scaled(), idempotent=True)
    with pytest.raises(AssertionError):
        kd.testing.check_projection(Scaled(flat=True))


def test_regularizer():
    kd.testing.check_regularizer(SmallLogits())
    with pytest.raises(AssertionError):
        kd.testing.check_regularizer(SmallLogits(all_rows=True))


def test_adapter():
    """LoRA under a name of one's own; a set of paths that is not its own."""

    @keras.saving.register_keras_serializable(package="mine")
    class Mine(kd.adapters.LoRA):
        pass

    def build():
        inputs = keras.Input((4,))
        keras.utils.set_random_seed(0)
        hidden = keras.layers.Dense(6, activation="tanh", name="hidden")(inputs)
        return keras.Model(inputs, keras.layers.Dense(2, name="logits")(hidden))

    def create():
        return Mine(rank=2, targets="hidden")

    generator = np.random.default_rng(0)
    x = generator.standard_normal((8, 4)).astype("float32")
    data = x, (x[:, 0] > 0).astype("int32")
    paths = {"hidden/lora_a", "hidden/lora_b", "logits/kernel", "logits/bias"}
    held = kd.testing.check_adapter(
        create, build, data, paths, also_train="logits"
    )
    assert set(held["invariants"]) == {1, 2, 3, 4, 6, 7, 8, 9}
    with pytest.raises(AssertionError):
        kd.testing.check_adapter(
            create, build, data, paths - {"logits/bias"}, also_train="logits"
        )
