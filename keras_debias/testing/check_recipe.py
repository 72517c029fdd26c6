import keras
import numpy as np

from keras_debias.data.groups import Groups
from keras_debias.recipes.recipe import Recipe
from keras_debias.recipes.trainer import Trainer


def check_recipe(recipe, train, model_fn, budget, seed: int = 0) -> np.ndarray:
    """Checks the contract of every recipe.

    A copy from its config is equal. It spends exactly the budget. Outputs are
    finite, and the same seed gives the same outputs. It does not use groups
    unless `needs_groups` is true.

    Args:
        recipe: a `Recipe`.
        train: `kd.data.Split` with labels and groups.
        model_fn: function of the number of updates to a compiled network; see
            `kd.recipes.Trainer`.
        budget: `kd.recipes.Budget`, small: the recipe runs two or three times.
        seed: int. Seed of the runs. Defaults to `0`.

    Returns:
        The outputs for the training rows.

    Raises:
        TypeError: If `recipe` is not a `Recipe`.
        ValueError: If `train` has no groups.
        AssertionError: If a check fails.

    Example:

    ```python
    kd.testing.check_recipe(
        MyRecipe(), train, build_model, kd.recipes.Budget(updates=10)
    )
    ```
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(
            "Expected `recipe` to be a `kd.recipes.Recipe`. "
            f"Received: recipe={recipe!r}"
        )
    check_has_groups(train)
    config = keras.saving.serialize_keras_object(recipe)
    again = keras.saving.deserialize_keras_object(config)
    np.testing.assert_equal(str(again.get_config()), str(recipe.get_config()))

    def run(rows):
        trainer = Trainer(model_fn, budget, seed)
        model = recipe.fit(trainer, rows)
        np.testing.assert_equal(
            trainer.updates, budget.updates_for(len(rows)), "updates spent"
        )
        outputs = np.asarray(model.predict(rows.x, verbose=0))
        np.testing.assert_equal(len(outputs), len(rows), "rows of the outputs")
        np.testing.assert_equal(np.isfinite(outputs).all(), True, "finite")
        return outputs

    outputs = run(train)
    np.testing.assert_array_equal(run(train), outputs, "the same seed")
    if not recipe.needs_groups:
        np.testing.assert_array_equal(
            run(train.with_groups(shuffled(train.groups))),
            outputs,
            "outputs with other groups",
        )
    return outputs


def check_has_groups(train) -> None:
    """Raises unless there are groups to shuffle."""
    if train.groups is None:
        raise ValueError(
            f"Expected `train` with groups. Received: {train!r}. Add some "
            "with `train.with_groups(...)`: the check shuffles them."
        )


def shuffled(groups) -> Groups:
    """The same groups, of other rows."""
    ids = np.random.default_rng(0).permutation(groups.ids)
    return Groups(ids, groups.names)
