class Configurable:
    """A value with settings: its config, an equal object of it, its `repr`.

    A subclass with arguments overrides `get_config`.
    """

    def get_config(self) -> dict:
        """The arguments of the constructor, by name."""
        return {}

    @classmethod
    def from_config(cls, config):
        """An equal object, from `get_config`."""
        return cls(**config)

    def __repr__(self):
        settings = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({settings})"
