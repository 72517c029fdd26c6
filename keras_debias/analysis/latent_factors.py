import keras
import numpy as np

from keras_debias.adapters.checks import require_model
from keras_debias.analysis.kernel_updates import adapter_updates
from keras_debias.analysis.kernel_updates import model_updates
from keras_debias.analysis.kernel_updates import require_finite
from keras_debias.analysis.kernel_updates import side_factor
from keras_debias.analysis.update_spectrum import UpdateSpectrum
from keras_debias.directions import SIDES
from keras_debias.directions import role_of
from keras_debias.utils.layer_roles import READERS
from keras_debias.utils.layer_roles import WRITERS
from keras_debias.utils.numbers import require_count
from keras_debias.utils.numbers import require_seed


def latent_factors(
    model: keras.Model,
    k: int = 1,
    *,
    base=None,
    side: str = "read",
    scope: str = "shared",
    readers=READERS,
    writers=WRITERS,
    null=(),
    null_draws: int = 100,
    seed: int = 0,
) -> UpdateSpectrum:
    """Finds the directions of the residual stream that fine-tuning changed.

    It reads the weights alone, without data. The directions are the leading
    eigenvectors of the sum of the normalized Gram matrices of all layers'
    updates `U`,

    ```
    sum over layers of U U' / |U|^2      (readers; writers: U' U)
    ```

    which is computed from the low-rank factors, without any full matrix.

    The shares of the directions are compared with those of random adapters:
    the same layers with the same singular values in random directions. A
    direction is `detected` if its share is 1.5 times the largest share that
    99 of 100 random adapters stay below. Nothing is detected after training
    on shuffled labels or on a shuffled factor.

    Args:
        model: a fine-tuned `keras.Model` with adapters of kernels, or any
            fine-tuned model with `base`.
        k: int. How many directions. Defaults to `1`.
        base: the same model before fine-tuning, if there are no adapters.
            Defaults to `None`.
        side: `"read"`, `"write"`, or `"both"`: layers that read the residual
            stream, that write to it, or all of them. Defaults to `"read"`.
        scope: `"shared"` for one set of directions, `"layer"` for one each.
            Defaults to `"shared"`.
        readers: names or globs of layers that read. Defaults to those of
            KerasHub's models; adapted layers of unknown names count as readers.
        writers: names or globs of layers that write. Defaults to those of
            KerasHub's models.
        null: sequence of `UpdateSpectrum`, of the same model fine-tuned on
            shuffled labels. A detected direction must have a larger share
            than any of theirs. Use it where every fine-tuning has one strong
            direction, as with two classes in a nearly linear network.
            Defaults to `()`.
        null_draws: int. How many random adapters. Defaults to `100`.
        seed: int. Seed of the random adapters. Defaults to `0`.

    Returns:
        An `UpdateSpectrum`.

    Raises:
        ValueError: If there are no adapters and no `base`, nothing was
            trained, an update is not finite, the layers of the two models
            differ, no layer is on the side asked for, widths differ, `k` is
            more than the rank, or a number is out of range.

    Example:

    ```python
    found = kd.analysis.latent_factors(naive, k=4)
    print(found)
    model = kd.DebiasedModel(
        classifier, projection=kd.projections.Subspace(found.directions)
    )
    ```

    Reference:
        GRASP ([Gilligan-Lee et al., 2026](https://arxiv.org/abs/2605.27676)).
        Established there: such factors can be identified, unsupervised, from
        the weights of a naive LoRA fine-tune. How is not in what we have of
        the paper, its abstract: the sum above, its scaling, and the test
        against random adapters (parallel analysis, [Horn, 1965](
        https://doi.org/10.1007/BF02289447)) are ours.
    """
    if side not in SIDES:
        raise ValueError(
            f"Expected `side` to be one of {SIDES}. Received: side={side!r}"
        )
    if scope not in ("shared", "layer"):
        raise ValueError(
            'Expected `scope` to be "shared" or "layer". '
            f"Received: scope={scope!r}"
        )
    require_count(k, "k")
    require_count(null_draws, "null_draws")
    require_seed(seed)
    require_model(model)
    if base is None:
        updates = adapter_updates(model)
    else:
        updates = model_updates(model, base)
    require_finite(updates)
    factors = {}
    for path, update in updates.items():
        role = role_of(path, readers, writers, adapted=base is None)
        if role is not None and side in (role, "both"):
            factors[path] = side_factor(update, role)
    if not factors:
        raise ValueError(
            f"Expected layers on the side {side!r}. Received: updates of "
            f"{list(updates)[:4]}, readers={readers}, writers={writers}."
        )
    factors = {p: f for p, f in factors.items() if np.linalg.norm(f) > 0}
    if not factors:
        raise ValueError(
            "Expected a model that was fine-tuned. Received: "
            f"{len(updates)} layers without any update. Call `fit` first."
        )
    factors = {p: f / np.linalg.norm(f) for p, f in factors.items()}
    return UpdateSpectrum.of_factors(
        factors,
        k,
        side=side,
        scope=scope,
        readers=readers,
        writers=writers,
        null_draws=null_draws,
        seed=seed,
        floor=max((float(n.spectrum[0]) for n in null), default=0.0),
    )
