def renamed(config: dict, **names: str) -> dict:
    """A config of an earlier version with the present names of arguments.

    Args:
        config: dict from argument to value.
        **names: for each earlier name the present one.
    """
    return {names.get(name, name): value for name, value in config.items()}
