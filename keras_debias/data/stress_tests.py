"""Stress tests of inference: a distracting phrase is added to each pair."""

import re
from typing import Any

from keras_debias.data.split import Split

# The published distractors: the text that each is added to, and the phrase.
STRESS_TESTS = {
    "word_overlap": (1, "and true is true"),
    "negation": (1, "and false is not true"),
    "length_mismatch": (0, " ".join(["and true is true"] * 5)),
}
# Those that do not add a phrase: available as files only.
PUBLISHED_STRESS_TESTS = ("antonym", "numerical_reasoning", "spelling_error")


def stress_test(split: Split, kind: str) -> Split:
    """Adds the distracting phrase before the final punctuation.

    Args:
        split: `Split` of pairs of texts.
        kind: string, one of `STRESS_TESTS`.

    Returns:
        A `Split` named `"nli_stress"`, grouped by label.

    Raises:
        ValueError: If `kind` is a test that is not made by adding a phrase.

    Reference:

    - [Naik et al., 2018](https://aclanthology.org/C18-1198/).
    """
    if kind not in STRESS_TESTS:
        raise ValueError(
            f"Expected a file NAME/SPLIT.parquet of the stress test {kind!r}, "
            f"which no phrase makes. Received: none. Made here are "
            f"{tuple(STRESS_TESTS)}."
        )
    part, phrase = STRESS_TESTS[kind]
    texts = [list(column) for column in split.x]
    texts[part] = [_before_stop(text, phrase) for text in texts[part]]
    return Split(
        tuple(texts),
        split.y,
        label_names=split.label_names,
        name="nli_stress",
    ).with_label_groups()


def _before_stop(text: str, phrase: str) -> str:
    match: Any = re.fullmatch(r"(.*?)(\s*[.!?]*)", text, re.DOTALL)
    body, stop = match.groups()
    return f"{body} {phrase}{stop}"
