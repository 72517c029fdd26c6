import keras

from keras_debias.adapters.projection_bias import ProjectionBias


@keras.saving.register_keras_serializable(package="keras_debias")
class QueryBias(ProjectionBias):
    """Trains the bias of every query projection, and nothing else.

    Like `ValueBias`, for comparison: a query bias acts only inside the
    softmax.

    Args:
        form: as for `ValueBias`. Defaults to `None`.
        targets: as for `ValueBias`, the query projections. Defaults to
            `None`.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.QueryBias())
    ```

    Reference:
        BEFT: Huang, Balashankar and Aminifar, *Bias-Efficient Fine-Tuning of
        Language Models in Low-Data Regimes*.
    """

    role = "query"
