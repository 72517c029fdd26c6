import keras

from keras_debias.adapters.bottleneck_adapter import BottleneckAdapter


@keras.saving.register_keras_serializable(package="keras_debias")
class Houlsby(BottleneckAdapter):
    """Bottleneck adapters after the attention and the feed-forward layers.

    Each output projection is followed by `h + f(h D + d) U + u`, before the
    residual is added. For hidden states of size `n`, an adapter has
    `2 n width + n + width` weights, and a block has two adapters. They cannot
    be merged: `adapters.merge` raises.

    A learning rate to start from is `1e-3`.

    Args:
        width: int. Size of the narrow layer. Defaults to `64`, the paper's
            for BERT-large; 8 to 64 do nearly as well there.
        activation: string or function, as for `keras.layers.Dense`. Defaults
            to `"gelu"`, as in the authors' code.
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. The layers that an adapter follows. Defaults to
            `None`: both output projections of all transformer blocks.

    Raises:
        ValueError: If `width` is not positive or `activation` is unknown; when
            applied, if the model has no transformer blocks and `targets` is
            `None`.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.Houlsby(width=64))
    ```

    Reference:
        [Houlsby et al., 2019](https://arxiv.org/abs/1902.00751). There all
        kernels start near zero and normalizations train as well; here `U`
        starts at zero, so that applying it changes nothing, and normalizations
        are named in `also_train`. KerasHub's dropout comes after the adapter,
        the paper's before it.
    """

    modules = ("attention_output", "feedforward_output")

    def __init__(self, width=64, activation="gelu", targets=None):
        super().__init__(width, activation, targets)
