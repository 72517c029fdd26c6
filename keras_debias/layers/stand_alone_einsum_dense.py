from keras_debias.layers.low_rank_layers import LowRankEinsumDense
from keras_debias.layers.stand_alone import StandAlone


class StandAloneEinsumDense(StandAlone, LowRankEinsumDense):
    """An `EinsumDense` layer that is made with its adapter.

    A subclass names the adapter and its settings besides those of LoRA.
    """

    def __init__(
        self,
        equation,
        output_shape,
        rank=8,
        alpha=None,
        dropout=0.0,
        rank_stabilized=False,
        train_kernel=True,
        train_bias=False,
        **kwargs,
    ):
        own = {k: kwargs.pop(k) for k in self.own_settings if k in kwargs}
        super().__init__(equation, output_shape, **kwargs)
        self.keep_adapter(
            train_kernel,
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            rank_stabilized=rank_stabilized,
            train_bias=train_bias,
            **own,
        )
