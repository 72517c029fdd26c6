import keras
import numpy as np

from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.merge import require_enabled
from keras_debias.layers.kernel_forms import AdaLoRAKernel
from keras_debias.layers.low_rank import LowRankUpdate
from keras_debias.utils.numbers import is_number


class RankAllocator(keras.callbacks.Callback):
    """Lowers the ranks of the `AdaLoRA` layers that need them least.

    The budget is the number of triplets of all layers. It decreases from the
    adapter's ranks to `target_rank` a layer, as a cubic function of the step.
    The importance of a triplet is computed from the entries of its `e`, its
    column of `P` and its row of `Q`: the smoothed `|w dL/dw|` times its
    smoothed variation. The least important triplets get `e = 0`. They may
    return until the last `final_steps`, and are masked after that. A resumed
    run continues the budget and measures sensitivities again.

    Args:
        target_rank: int. Average rank that is left. Defaults to `8`.
        initial_steps: int. Updates before the budget falls. Defaults to `0`.
        final_steps: int. Updates with the final ranks. Defaults to `0`.
        interval: int. Updates from one allocation to the next. Defaults to
            `1`.
        total_steps: int. Updates of the whole training. `None` means epochs
            times steps of `fit`. Defaults to `None`.
        beta1: float in (0, 1). Share of the past in the smoothed sensitivity.
            Defaults to `0.85`.
        beta2: float in (0, 1). The same for its variation. Defaults to `0.85`.

    Attributes:
        ranks: dict from the path of a layer to its rank, once allocated.

    Raises:
        ValueError: If an argument is out of range; when training begins, if
            the model has no `AdaLoRA`, its rank is below `target_rank`, or
            the steps do not fit into the training.
        TypeError: If the model is not a `DebiasedModel`.

    Example:

    ```python
    allocator = kd.callbacks.RankAllocator(target_rank=8, final_steps=100)
    model.fit(train, epochs=3, callbacks=[allocator])
    allocator.ranks
    ```

    Reference:
        [Zhang et al., 2023](https://arxiv.org/abs/2303.10512), sections 3.2
        and 3.3. The gradient is that of the update, hence with regularizers
        and after projections.
    """

    def __init__(
        self,
        target_rank: int = 8,
        initial_steps: int = 0,
        final_steps: int = 0,
        interval: int = 1,
        total_steps: int | None = None,
        beta1: float = 0.85,
        beta2: float = 0.85,
    ):
        super().__init__()
        for name, value, least in (
            ("target_rank", target_rank, 1),
            ("initial_steps", initial_steps, 0),
            ("final_steps", final_steps, 0),
            ("interval", interval, 1),
            ("total_steps", 1 if total_steps is None else total_steps, 1),
        ):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or value < least:
                raise ValueError(
                    f"Expected `{name}` to be an integer of at least {least}. "
                    f"Received: {name}={value!r}"
                )
        for name, value in (("beta1", beta1), ("beta2", beta2)):
            if not (is_number(value) and 0 < value < 1):
                raise ValueError(
                    f"Expected `{name}` in (0, 1). Received: {name}={value!r}"
                )
        self.target_rank = target_rank
        self.initial_steps = initial_steps
        self.final_steps = final_steps
        self.interval = interval
        self.total_steps = total_steps
        self.beta1 = beta1
        self.beta2 = beta2
        self.ranks: dict[str, int] = {}

    def set_model(self, model):
        super().set_model(model)
        if not hasattr(model, "track_sensitivity"):
            raise TypeError(
                "Expected a `DebiasedModel`: other models do not keep their "
                f"gradients. Received: model={model!r}"
            )
        self._adapted = {
            path: layer
            for path, layer in adapted_layers(self.model).items()
            if isinstance(layer, LowRankUpdate)
            and isinstance(layer.form, AdaLoRAKernel)
        }
        ranks = [layer.rank for layer in self._adapted.values()]
        if not ranks or self.target_rank > min(ranks):
            raise ValueError(
                "Expected a model with `AdaLoRA` of at least the rank "
                f"{self.target_rank}. Received: layers of the ranks "
                f"{sorted(set(ranks))}. Apply `AdaLoRA(rank=...)`, or give "
                "another `target_rank`."
            )
        self._budgets = sum(ranks), self.target_rank * len(ranks)
        self._sensitivity = self.model.track_sensitivity(
            [v for x in self._adapted.values() for v in self._triplet(x)],
            self.beta1,
            self.beta2,
        )

    def on_train_begin(self, logs=None):
        require_enabled(self.model)
        self._done = None
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        self._total = self.total_steps or (steps or 0) * (epochs or 0)
        if self._total <= self.initial_steps + self.final_steps:
            raise ValueError(
                "Expected `initial_steps` and `final_steps` that leave some "
                f"of the {self._total} updates in between. Received: "
                f"initial_steps={self.initial_steps}, "
                f"final_steps={self.final_steps}. Give `total_steps` where "
                "the length of the data is unknown."
            )

    def on_epoch_begin(self, epoch, logs=None):
        # A resumed run continues where it stopped.
        if self._done is None:
            self._done = epoch * (self.params.get("steps") or 0)
        self._before = self._done

    def on_train_batch_end(self, batch, logs=None):
        # Not one by one with `steps_per_execution`.
        done, self._done = self._done, self._before + batch + 1
        step, last = self._done, self._total - self.final_steps
        if done >= last or step <= self.initial_steps:
            return
        if step >= last or step // self.interval > done // self.interval:
            self._sync()
            self._allocate(self.budget(step), for_good=step >= last)

    def budget(self, step: int) -> int:
        """The number of triplets of all layers after some updates.

        Args:
            step: int. The number of updates since training began.

        Returns:
            An int.
        """
        start, target = self._budgets
        last = self._total - self.final_steps
        if step <= self.initial_steps:
            return start
        if step >= last:
            return target
        left = 1 - (step - self.initial_steps) / (last - self.initial_steps)
        return int((start - target) * left**3 + target)

    def _sync(self):
        # On jax, `fit` keeps the weights outside of the model.
        sync = getattr(self.model, "jax_state_sync", None)
        if sync is not None:
            sync()

    @staticmethod
    def _triplet(layer):
        return [layer.lora_a, layer.lora_e, layer.lora_b]

    def _allocate(self, budget, for_good):
        found = iter(self._sensitivity.scores())
        scores = []
        for a, e, b in zip(found, found, found):
            scores.append(a.mean(axis=0) + e + b.mean(axis=1))
        order = np.argsort(np.concatenate(scores), kind="stable")
        kept = np.ones(len(order), bool)
        kept[order[: len(order) - budget]] = False
        places = np.cumsum([len(s) for s in scores])[:-1]
        for (path, layer), mask in zip(
            self._adapted.items(), np.split(kept, places)
        ):
            mask = mask.astype("float32")
            layer.lora_e.assign(as_array(layer.lora_e) * mask)
            if for_good:
                layer.lora_mask.assign(mask)
            self.ranks[path] = int(mask.sum())
