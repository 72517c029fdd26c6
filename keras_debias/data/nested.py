"""Flattens columns of lists and dicts of hub datasets."""

import numpy as np
import pandas as pd

ANSWERS = ("answers", "answers_spans")
LETTERS = ("A", "B", "C", "D", "E")


def first_answer(frame: pd.DataFrame) -> pd.DataFrame:
    """The first of several right answers, as text.

    They are a list of strings, or a dict with the list under `text` or
    `spans`; a string stays as it is.
    """
    (column,) = [name for name in ANSWERS if name in frame]
    return frame.assign(**{column: frame[column].map(_first)})


def _first(value) -> str | None:
    if isinstance(value, dict):
        value = value.get("text", value.get("spans"))
    if isinstance(value, str) or value is None:
        return value
    value = list(np.asarray(value, dtype=object).ravel())
    return str(value[0]) if value else None


def choices(frame: pd.DataFrame) -> pd.DataFrame:
    """The texts of the choices in columns named after their letters.

    `choices` holds dicts of two lists, `label` and `text`; `answerKey`
    becomes `label`. A frame that has the columns stays as it is.
    """
    if "choices" not in frame:
        return frame
    texts = {
        letter: [
            dict(zip(value["label"], value["text"], strict=True))[letter]
            for value in frame["choices"]
        ]
        for letter in LETTERS
    }
    frame = frame.assign(**texts)
    if "answerKey" in frame:
        frame = frame.rename(columns={"answerKey": "label"})
    return frame
