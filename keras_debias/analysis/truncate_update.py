import keras
import numpy as np

from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.checks import require_model
from keras_debias.adapters.lora import LoRA
from keras_debias.adapters.selection import layer_paths
from keras_debias.analysis.ablation import require_floats
from keras_debias.analysis.kernel_updates import model_updates
from keras_debias.analysis.kernel_updates import require_finite
from keras_debias.linalg import kernel_view
from keras_debias.utils.networks import network_of
from keras_debias.utils.numbers import is_number
from keras_debias.utils.numbers import require_count

KEEP = ("top", "bottom", "random")


def truncate_update(
    model: keras.Model,
    base=None,
    *,
    k: int | None = None,
    energy: float | None = None,
    keep: str = "top",
    seed: int = 0,
) -> dict[str, int]:
    """Keeps a few singular components of each layer's update, in place.

    "Shortcuts in the tail": the singular value decomposition of each update
    is cut after the leading components. The paper finds the shortcut in the
    components that are dropped. Neither labels nor training are needed.

    Args:
        model: a fine-tuned `keras.Model`: with `LoRA`, or any with `base`.
        base: the model before fine-tuning, or `kernels` of it. Needed
            without adapters; with adapters other than LoRA, merge them
            first. Defaults to `None`.
        k: int. How many components to keep in each layer; those of lower
            rank keep all. Defaults to `None`: as `energy` says.
        energy: float in (0, 1]. Instead of `k`: the share of the squared
            length of each update that the leading components kept must
            hold; `"bottom"` and `"random"` keep as many. Defaults to `None`.
        keep: `"top"`, or for the controls `"bottom"` (the smallest that are
            not zero) or `"random"`. Defaults to `"top"`.
        seed: int. Seed of the random choice. Defaults to `0`.

    Returns:
        A dict from path to the number of components kept.

    Raises:
        ValueError: If not exactly one of `k` and `energy` is given, one is
            out of range, nothing was trained, an update is not finite, the
            layers of the two models differ, or a kernel to be written is
            quantized. The model is unchanged then.

    Example:

    ```python
    kd.analysis.truncate_update(classifier, k=2)
    ```

    Reference:
        [Shortcuts in the Tail, 2026](https://arxiv.org/abs/2606.07596).
    """
    check_truncation(k, energy, keep)
    require_model(model)
    model = network_of(model)
    updates = _updates(model, base)
    require_finite(updates)
    generator = np.random.default_rng(seed)
    plan, ranks = {}, []
    for path, (p, q) in updates.items():
        u, s, vt = _svd(p, q)
        if not len(s):
            continue
        ranks.append(len(s))
        if energy is None:
            count = int(k or 0)
        else:
            held = np.cumsum(np.square(s)) / np.sum(np.square(s))
            count = int(np.searchsorted(held, energy - 1e-12) + 1)
        count = min(count, len(s))
        if keep == "top":
            chosen = np.arange(count)
        elif keep == "bottom":
            chosen = np.arange(len(s) - count, len(s))
        else:
            chosen = generator.permutation(len(s))[:count]
        plan[path] = (u[:, chosen], s[chosen], vt[chosen])
    if not plan:
        raise ValueError(
            "Expected a model that was fine-tuned. Received: "
            f"{len(updates)} layers without any update. Call `fit` first."
        )
    if k is not None and k > max(ranks):
        raise ValueError(
            f"Expected `k` of at most {max(ranks)}, the largest rank of an "
            f"update; above it, nothing is removed. Received: k={k}"
        )
    layers = layer_paths(model)
    for path, (u, s, vt) in plan.items():
        _write(layers[path], u, s, vt, base is None, updates[path])
    return {path: len(s) for path, (_, s, _) in plan.items()}


def check_truncation(k, energy, keep) -> None:
    """Raises unless the settings of `truncate_update` are in range."""
    if (k is None) == (energy is None):
        raise ValueError(
            f"Expected either `k` or `energy`. Received: k={k}, energy={energy}"
        )
    if k is not None:
        require_count(k, "k")
    if energy is not None and not (is_number(energy) and 0 < energy <= 1):
        raise ValueError(
            f"Expected `energy` in (0, 1]. Received: energy={energy}"
        )
    if keep not in KEEP:
        raise ValueError(
            f"Expected `keep` to be one of {KEEP}. Received: keep={keep!r}"
        )


def _updates(model, base):
    if base is not None:
        if adapted_layers(model):
            raise ValueError(
                "Expected a model without adapters beside `base`. Received: "
                f"model={model.name!r}, which has some. Merge them, or leave "
                "out `base`."
            )
        updates = model_updates(model, base)
        layers = layer_paths(model)
        for path in updates:
            require_floats(path, layers[path])
        return updates
    updates = {}
    for path, layer in adapted_layers(model).items():
        for adapter in adapters_of(layer):
            if not adapter.trains_kernel:
                continue
            if type(adapter) is not LoRA:
                raise ValueError(
                    "Expected LoRA, whose factors can hold a truncated "
                    f"update. Received: '{path}' with {adapter!r}. Keep "
                    "`base = kernels(model)` before, merge, and pass `base`."
                )
            updates[path] = adapter.kernel_update(layer)
    if not updates:
        raise ValueError(
            "Expected a model with adapters, or `base`. Received: "
            f"model={model.name!r} without adapters, base=None"
        )
    return updates


def _svd(p, q):
    """The singular value decomposition of `P Q`, without forming it."""
    if q is None:
        u, s, vt = np.linalg.svd(p, full_matrices=False)
    else:
        left, r = np.linalg.qr(p)
        right, t = np.linalg.qr(q.T)
        u, s, vt = np.linalg.svd(r @ t.T)
        u, vt = left @ u, vt @ right.T
    # float32 weights: less is rounding
    above = s > 1e-6 * max(s[0], 1e-30)
    return u[:, above], s[above], vt[above]


def _write(layer, u, s, vt, adapted, update):
    if adapted:
        root = np.sqrt(s / layer.scaling)
        for variable, value in (
            (layer.lora_a, u * root),
            (layer.lora_b, root[:, None] * vt),
        ):
            full = np.zeros(variable.shape, "float32")
            full[: value.shape[0], : value.shape[1]] = value
            variable.assign(full)
        return
    view = kernel_view(layer)
    kernel = view.to_matrix(layer.kernel.value)
    matrix = keras.ops.convert_to_numpy(kernel) - update[0] + (u * s) @ vt
    layer.kernel.assign(
        view.from_matrix(keras.ops.convert_to_tensor(matrix.astype("float32")))
    )
