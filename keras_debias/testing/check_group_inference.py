import keras
import numpy as np

from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.trainer import Trainer
from keras_debias.testing.check_recipe import check_has_groups
from keras_debias.testing.check_recipe import shuffled


def check_group_inference(inference, train, model_fn, budget, seed: int = 0):
    """Checks the contract of every way to infer groups.

    A copy from its config is equal. Every row gets a group, and all rows of a
    group have one label. The same seed gives the same groups. Groups do not
    depend on the groups of the data.

    Args:
        inference: a `GroupInference`.
        train: `kd.data.Split` with labels and groups.
        model_fn: function of the number of updates to a compiled network; see
            `kd.recipes.Trainer`.
        budget: `kd.recipes.Budget`, small: groups are inferred three times.
        seed: int. Seed of the runs. Defaults to `0`.

    Returns:
        The inferred `kd.data.Groups`.

    Raises:
        TypeError: If `inference` is not a `GroupInference`.
        ValueError: If `train` has no groups.
        AssertionError: If a check fails.

    Example:

    ```python
    kd.testing.check_group_inference(
        MyGroups(), train, build_model, kd.recipes.Budget(updates=10)
    )
    ```
    """
    if not isinstance(inference, GroupInference):
        raise TypeError(
            "Expected `inference` to be a `kd.recipes.GroupInference`. "
            f"Received: inference={inference!r}"
        )
    check_has_groups(train)
    config = keras.saving.serialize_keras_object(inference)
    again = keras.saving.deserialize_keras_object(config)
    np.testing.assert_equal(again.get_config(), inference.get_config())

    def infer(rows):
        trainer = Trainer(model_fn, budget, seed)
        return inference.infer(trainer, rows)

    groups = infer(train)
    np.testing.assert_equal(len(groups), len(train), "rows with a group")
    for number, name in enumerate(groups.names):
        labels = np.unique(train.y[groups.ids == number])
        np.testing.assert_equal(
            len(labels) <= 1, True, f"one label in the group {name!r}"
        )
    np.testing.assert_array_equal(infer(train).ids, groups.ids, "the same seed")
    other = train.with_groups(shuffled(train.groups))
    np.testing.assert_array_equal(
        infer(other).ids, groups.ids, "inferred with other groups"
    )
    return groups
