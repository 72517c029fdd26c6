import keras

from keras_debias.adapters.projection_bias import ProjectionBias


@keras.saving.register_keras_serializable(package="keras_debias")
class ValueBias(ProjectionBias):
    """Trains the bias of every value projection, and nothing else.

    Where the model has a value bias, it trains; where it has none (Llama,
    Gemma, Mistral, ...), one of zeros is injected. It has one entry for each
    output of the value projections: 9,216 weights in BERT-base, 0.01 %.

    Attention weights sum to one over the keys, so a value bias is added to the
    output of attention unchanged. It is equivalent to a bias of the output
    projection, into which `adapters.merge` puts an injected bias.

    When it helps: with little data and few weights. SST-2, MiniLM, 1,000
    samples, three seeds: 74.0 ± 0.9 % (query bias 69.8, key bias 58.3, LoRA
    80.0, all weights 81.2).

    Args:
        form: how the bias trains: `VectorBias()`, `LoRABias(rank=8)`,
            `VeRABias()`, `VeRAScalarBias()`, `DoRABias()` or `PiSSABias()`.
            Defaults to `None`, which means `VectorBias()`.
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. The value projections; `None` finds those of all
            attention layers. Defaults to `None`.

    Raises:
        TypeError: If `form` is not the form of a bias.
        ValueError: When applied, if the model has no attention, its
            projections cannot be told apart, its attention is linear, or the
            bias trains already.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.ValueBias())
    ```

    Reference:
        BEFT: Huang, Balashankar and Aminifar, *Bias-Efficient Fine-Tuning of
        Language Models in Low-Data Regimes*.
    """

    role = "value"
