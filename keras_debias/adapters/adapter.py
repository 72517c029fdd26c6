class Adapter:
    """Base class of all adapters: a small change to some layers that trains.

    An adapter is a value: it holds settings and no weights, so one object can
    be applied to many models. `keras_debias.adapters.apply` calls `prepare`
    for every chosen layer first, which may raise (`check`) and must not
    change anything, and `attach` for all of them afterwards, which must not
    fail. `placeholder` stands in for `prepare` where saved weights follow.

    Args:
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. The layers to adapt.
    """

    # Two adapters of one kind cannot share a layer.
    kind = None

    def __init__(self, targets=("query", "value")):
        if isinstance(targets, (list, tuple)):
            targets = tuple(targets)
        self.targets = targets

    def get_config(self) -> dict:
        targets = self.targets
        if callable(targets):
            targets = None
        elif not isinstance(targets, str):
            targets = list(targets)
        return {"targets": targets}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        settings = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({settings})"
