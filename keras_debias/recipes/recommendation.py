import dataclasses
import os

import keras

from keras_debias.recipes import recommendation_page
from keras_debias.recipes.recipe import Recipe
from keras_debias.utils.files import write_text
from keras_debias.utils.short_repr import ShortRepr


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True, repr=False)
class Recommendation(ShortRepr, Recipe):
    """The method that `kd.recommended` chose, and why.

    It is a recipe: it trains by that method, and puts the reason into the
    notes of the result.

    Attributes:
        recipe: `kd.recipes.Recipe`, the method.
        reason: string, in words.
        evidence: dict from the name of a figure to its value. Defaults to an
            empty one.

    Raises:
        TypeError: If `recipe` is not a `Recipe`.

    Example:

    >>> found = Recommendation(
    ...     kd.recipes.FineTuning(),
    ...     reason="no cue predicts the label",
    ...     evidence={"findings": 0},
    ... )
    >>> print(found.reason)
    no cue predicts the label
    """

    recipe: Recipe
    reason: str
    evidence: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.recipe, Recipe):
            raise TypeError(
                "Expected `recipe` to be a `kd.recipes.Recipe`. Received: "
                f"recipe={self.recipe!r}"
            )

    def fit(self, trainer, train):
        trainer.notes["recommended"] = type(self.recipe).__name__
        trainer.notes["reason"] = self.reason
        trainer.notes["evidence"] = self.evidence
        return self.recipe.fit(trainer, train)

    def to_html(
        self, path: str | os.PathLike, title: str = "Recommended method"
    ) -> None:
        """Writes one HTML page that needs no other file.

        Args:
            path: path of the file.
            title: string, the heading. Defaults to `"Recommended method"`.
        """
        content = recommendation_page.page(self, title)
        write_text(path, content)

    def _repr_html_(self) -> str:
        return recommendation_page.body(self)

    def __str__(self) -> str:
        lines = [f"Recommended: {self.recipe}", f"Why: {self.reason}"]
        lines += [
            f"  {name}: {_spelled(value)}"
            for name, value in self.evidence.items()
        ]
        return "\n".join(lines)


def _spelled(value):
    return f"{value:.3f}" if isinstance(value, float) else value
