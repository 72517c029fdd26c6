def identity(losses):
    """The task's own objective: per-sample losses as they are."""
    return losses
