import keras

from keras_debias.adapters.lora import LoRA


@keras.saving.register_keras_serializable(package="keras_debias")
class DoRA(LoRA):
    """Weight-decomposed low-rank adaptation: length and direction apart.

    Each kernel column (the weights of one output) is a length times a
    direction. The direction is that of `V = W + s A B`, the length a weight
    `m` of its own, which starts at the column's: the layers compute
    `y_j = m_j (x V)_j / |V_j|`. That is one more weight for each output than
    `LoRA` has.

    Args:
        rank: int. Rank of each update. Defaults to `8`.
        alpha: float. Numerator of the scale. `None` means `rank`. Defaults
            to `None`.
        dropout: float in [0, 1). Dropout on the inputs of the factors.
            Defaults to `0.0`.
        rank_stabilized: bool. Scale by `alpha / sqrt(rank)`. Defaults to
            `False`.
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. Defaults to `("query", "value")`.
        train_bias: bool. Whether the biases of the adapted layers train.
            Defaults to `False`.

    Raises:
        ValueError: If `rank`, `alpha` or `dropout` is out of range.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.DoRA(rank=8))
    ```

    Reference:
        [Liu et al., 2024](https://arxiv.org/abs/2402.09353). As in its
        section 4.3, and in PEFT, `|V_j|` is a constant to the gradient.
        PEFT's dropout reaches the scaled part of the pretrained product as
        well, ours the factors only. A column of zeros stays zero.
    """

    has_magnitude = True
