import numpy as np


def first_stage_predictions(
    trainer, train, share
) -> tuple[np.ndarray, np.ndarray]:
    """The classes that a plainly trained first model gives the rows.

    The number of its mistakes goes to the trainer's notes.

    Args:
        trainer: `Trainer` of the run.
        train: `kd.data.Split`.
        share: float, the first model's part of the budget.

    Returns:
        `(guesses, wrong)`, arrays of shape `(n,)` of ints and bools.

    Raises:
        ValueError: If the model gets every row right, or every row wrong.
    """
    first = trainer.fit(train, share=share, is_final=False)
    guesses = trainer.predict(first, train).argmax(-1).astype("int32")
    wrong = guesses != train.y
    check_mistakes(trainer, wrong, share)
    return guesses, wrong


def check_mistakes(trainer, wrong: np.ndarray, share) -> None:
    """Notes the number of mistakes; raises if it is none, or all."""
    trainer.notes["mistakes"] = int(wrong.sum())
    if wrong.all() or not wrong.any():
        raise ValueError(
            "Expected a first model that gets some rows wrong and some "
            f"right. Received: {int(wrong.sum())} of {len(wrong)} wrong. "
            f"Change `first_share={share}`."
        )
