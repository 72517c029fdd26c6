import dataclasses
from typing import Any

import keras

from keras_debias.analysis.truncate_update import check_truncation
from keras_debias.analysis.truncate_update import truncate_update
from keras_debias.recipes.direction_stages import fine_tune
from keras_debias.recipes.recipe import Recipe


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class Truncation(Recipe):
    """Fine-tunes, and keeps a few singular components of each update.

    The update of each layer is replaced by its leading components
    (`analysis.truncate_update`): the paper finds the shortcut in the tail. It
    needs no group labels and no further training.

    When it helps: a little where the shortcut is weaker than the task. SNLI
    with a planted token, three seeds, the leading component alone: worst
    group 27.6 ± 5.3 % (plain 17.6 ± 4.4), and 60.3 ± 1.3 % in distribution
    (plain 64.3 ± 0.9).

    Attributes:
        k: int. How many components to keep in each layer. Defaults to `1`.
        energy: float in (0, 1]. The share of the squared length of each update
            to keep, instead of `k`, which must be `None` then. Defaults to
            `None`.
        keep: `"top"`, or for the controls `"bottom"` or `"random"`. Defaults
            to `"top"`.
        adapters: `LoRA`, or `None` for a network that trains as a whole or
            has LoRA already. Defaults to `None`.

    Raises:
        ValueError: If an argument is out of range; in `fit`, what
            `truncate_update` raises.

    Example:

    ```python
    methods = {
        "ERM": kd.recipes.FineTuning(),
        "leading component": kd.recipes.Truncation(k=1),
        "smallest component": kd.recipes.Truncation(k=1, keep="bottom"),
    }
    ```

    Reference:
        [Shortcuts in the Tail, 2026](https://arxiv.org/abs/2606.07596).
    """

    k: int | None = 1
    energy: float | None = None
    keep: str = "top"
    adapters: Any = None

    def __post_init__(self):
        check_truncation(self.k, self.energy, self.keep)

    def fit(self, trainer, train):
        model, base = fine_tune(
            trainer, train.with_groups(None), None, adapters=self.adapters
        )
        components = truncate_update(
            model,
            base,
            k=self.k,
            energy=self.energy,
            keep=self.keep,
            seed=trainer.seed,
        )
        trainer.notes["components"] = components
        return model
