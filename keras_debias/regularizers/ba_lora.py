import keras

from keras_debias.regularizers.consistency import Consistency
from keras_debias.regularizers.diversity import Diversity
from keras_debias.regularizers.regularizer import Regularizer
from keras_debias.regularizers.spectral_concentration import (
    SpectralConcentration,
)
from keras_debias.regularizers.spectral_norm import SpectralNorm
from keras_debias.regularizers.teacher_cache import TeacherCache
from keras_debias.regularizers.top_k_entropy import TopKEntropy
from keras_debias.regularizers.two_phase import TwoPhase
from keras_debias.utils.numbers import is_number
from keras_debias.utils.numbers import require_flags


def ba_lora(
    generation: bool = False,
    steps: int | None = None,
    *,
    scale: float = 1.0,
    k: int | None = None,
    candidates: int = 20,
    temperature: float = 2.0,
    teacher: keras.Model | None = None,
    cache: TeacherCache | None = None,
) -> list[Regularizer]:
    """The three regularizers of BA-LoRA with the paper's weights.

    For classification: `Consistency` 0.15, `Diversity` 0.03 and
    `SpectralConcentration` 0.03 with the nuclear norm. For generation:
    `Consistency` 0.025 falling to zero along a cosine, `TopKEntropy` and
    `SpectralConcentration` with the Frobenius norm, both 0.005 in two
    phases.

    Args:
        generation: bool. The set for a causal language model. Defaults to
            `False`: the set for a classifier.
        steps: int. Updates of the whole run, `epochs * batches`: the
            schedules of the set for generation need it. Defaults to `None`.
        scale: float above 0. Multiplies all three weights: the one number
            that appendix D.1 tunes. Defaults to `1.0`.
        k: int. Number of leading singular values. `None` means the paper's, 5
            for classification and 10 for generation. Defaults to `None`.
        candidates: int. `k` of `TopKEntropy`, for generation. Defaults to
            `20`.
        temperature: float above 0, of `Consistency`. Defaults to `2.0`.
        teacher: see `Consistency`. Defaults to `None`.
        cache: see `Consistency`. Defaults to `None`.

    Returns:
        A list of three regularizers.

    Raises:
        ValueError: If an argument is out of range, or `steps` is missing
            for generation or given for classification.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.PiSSA(rank=8))
    model = kd.DebiasedModel(
        classifier, regularizers=kd.regularizers.ba_lora(k=1)
    )
    ```

    Reference:
        BA-LoRA, section 3.1 and appendix B.4. With fewer than six classes and
        the paper's `k=5`, the spectral term of classification is constant, and
        a warning says so.
    """
    if not (is_number(scale) and scale > 0):
        raise ValueError(
            f"Expected `scale` to be above 0. Received: scale={scale}"
        )
    require_flags(generation=generation)
    if generation and steps is None:
        raise ValueError(
            "Expected `steps`, the number of updates of the run: the weights "
            "for generation follow schedules. Received: steps=None. Pass "
            "`epochs * batches`."
        )
    if not generation and steps is not None:
        raise ValueError(
            "Expected no `steps` for classification, whose weights are "
            f"constant. Received: steps={steps}. Pass `generation=True` for "
            "the other set."
        )
    if generation:
        falling = keras.optimizers.schedules.CosineDecay(0.025 * scale, steps)
        late = TwoPhase(0.005 * scale, steps)
        return [
            Consistency(falling, temperature, teacher, cache),
            TopKEntropy(late, candidates),
            SpectralConcentration(
                late, 10 if k is None else k, SpectralNorm.FROBENIUS
            ),
        ]
    return [
        Consistency(0.15 * scale, temperature, teacher, cache),
        Diversity(0.03 * scale),
        SpectralConcentration(0.03 * scale, 5 if k is None else k),
    ]
