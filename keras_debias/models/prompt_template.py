"""Prompts that end where a label word follows."""

import dataclasses
import string
from collections.abc import Sequence

import keras


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class PromptTemplate:
    """A prompt after which a causal LM is asked for a label word.

    Args:
        prompt: format string such as `"Review: {text}\\nEmotion:"`. Its
            fields are the inputs; it ends where the label word, with a blank
            before it, follows.
        instruction: format string that comes first, on lines of its own, or
            `""`. `{labels}` is the list of label words. Defaults to `""`.

    Raises:
        ValueError: If `prompt` has no field, or a field has no name.
        TypeError: If `prompt` or `instruction` is not a string.

    Example:

    >>> template = PromptTemplate("Review: {text}\\nEmotion:")
    >>> template.fields
    ('text',)
    """

    prompt: str
    instruction: str = ""

    def __post_init__(self):
        for name in ("prompt", "instruction"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(
                    f"Expected `{name}` to be a string. Received: "
                    f"{name}={getattr(self, name)!r}"
                )
        names = _names(self.prompt) + _names(self.instruction)
        fields = self.fields and _names(self.prompt)
        if not fields or not all(n and n.isidentifier() for n in names):
            raise ValueError(
                "Expected `prompt` to be a format string with a named field "
                "for the text, such as 'Review: {text}\\nEmotion:'. "
                f"Received: prompt={self.prompt!r}, "
                f"instruction={self.instruction!r}"
            )

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the data, in their order of appearance."""
        names = _names(self.instruction) + _names(self.prompt)
        return tuple(n for n in dict.fromkeys(names) if n != "labels")

    @property
    def tail(self) -> str:
        """What follows the last field."""
        pieces = list(string.Formatter().parse(self.prompt))
        last = max(i for i, piece in enumerate(pieces) if piece[1] is not None)
        return "".join(piece[0] for piece in pieces[last + 1 :])

    def format(
        self,
        values: dict[str, str],
        labels: Sequence[str],
        instruction: bool = True,
    ) -> str:
        """The prompt for one row.

        Args:
            values: dict from field to text.
            labels: sequence of label words.
            instruction: bool. Whether the instruction comes first. Defaults
                to `True`.

        Returns:
            A string.

        Example:

        >>> template = PromptTemplate("Review: {text}\\nEmotion:")
        >>> template.format({"text": "What a day!"}, ["joy", "fear"])
        'Review: What a day!\\nEmotion:'
        """
        parts = [self.prompt]
        if instruction and self.instruction:
            parts.insert(0, self.instruction)
        words = ", ".join(labels)
        return "\n".join(parts).format(**values, labels=words)

    def get_config(self) -> dict:
        return {"prompt": self.prompt, "instruction": self.instruction}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _names(text: str) -> list[str]:
    return [
        name
        for _, name, _, _ in string.Formatter().parse(text)
        if name is not None
    ]
