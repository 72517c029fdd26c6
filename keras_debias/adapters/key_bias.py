import keras

from keras_debias.adapters.projection_bias import ProjectionBias


@keras.saving.register_keras_serializable(package="keras_debias")
class KeyBias(ProjectionBias):
    """Trains the bias of every key projection, and nothing else.

    Like `ValueBias`, for comparison. Without rotary positions and without a
    normalization of the keys, it shifts each row of scores by a constant,
    which the softmax removes: only the head learns. With either of them
    (Llama, Gemma, Mistral, Qwen) it has an effect, which the paper does not
    cover.

    Args:
        form: as for `ValueBias`. Defaults to `None`.
        targets: as for `ValueBias`, the key projections. Defaults to `None`.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.KeyBias())
    ```

    Reference:
        BEFT: Huang, Balashankar and Aminifar, *Bias-Efficient Fine-Tuning of
        Language Models in Low-Data Regimes*.
    """

    role = "key"
