import keras

from keras_debias.adapters.bottleneck_adapter import BottleneckAdapter


@keras.saving.register_keras_serializable(package="keras_debias")
class Pfeiffer(BottleneckAdapter):
    """A bottleneck adapter after the feed-forward layer of each block.

    Half of `Houlsby`: the feed-forward output is followed by
    `h + f(h D + d) U + u`, before the residual is added. It cannot be merged:
    `adapters.merge` raises.

    A learning rate to start from is `1e-3`.

    Args:
        width: int. Size of the narrow layer. Defaults to `48`, the paper's
            sixteenth of 768.
        activation: string or function, as for `keras.layers.Dense`. Defaults
            to `"relu"`.
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. The layers that an adapter follows. Defaults to
            `None`: the feed-forward outputs of all transformer blocks.

    Raises:
        ValueError: If `width` is not positive or `activation` is unknown; when
            applied, if the model has no transformer blocks and `targets` is
            `None`.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.Pfeiffer(width=48))
    ```

    Reference:
        [Pfeiffer et al., 2021](https://arxiv.org/abs/2005.00247). There, as
        in AdapterHub, the adapter reads the normalized sum with the
        residual; here it reads the feed-forward output itself, which works
        in blocks that normalize first as well. `U` starts at zero.
    """

    modules = ("feedforward_output",)

    def __init__(self, width=48, activation="relu", targets=None):
        super().__init__(width, activation, targets)
