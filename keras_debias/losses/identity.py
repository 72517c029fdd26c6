def identity(losses):
    """The task's own objective: per-sample losses as they are.

    Args:
        losses: tensor of shape `(rows,)`.

    Returns:
        The same tensor.

    Example:

    >>> identity(np.array([0.5, 2.0])).tolist()
    [0.5, 2.0]
    """
    return losses
