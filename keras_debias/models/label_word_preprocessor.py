import warnings

import numpy as np

from keras_debias.data.batches import to_arrays
from keras_debias.data.prompt_response import token_lists
from keras_debias.models.label_tokens import LabelLayout
from keras_debias.models.prompt_template import PromptTemplate


class LabelWordPreprocessor:
    """Texts as the token arrays of a `LabelWordClassifier`.

    Args:
        lm_preprocessor: the preprocessor of a KerasHub causal LM.
        labels: tuple of label words.
        layout: `LabelLayout`.
        template: `PromptTemplate`.
        instruction: bool. Whether prompts carry the instruction.
        sequence_length: int. Tokens of a prompt and what is scored with it.
        pad_to_multiple: int or `None`. See `LabelWordClassifier`.

    Attributes:
        num_truncated: int. How many prompts were too long so far.
    """

    def __init__(
        self,
        lm_preprocessor,
        labels: tuple[str, ...],
        layout: LabelLayout,
        template: PromptTemplate,
        instruction: bool,
        sequence_length: int,
        pad_to_multiple: int | None = None,
    ):
        self.tokenizer = lm_preprocessor.tokenizer
        self.has_start = getattr(lm_preprocessor, "add_start_token", False)
        self.labels = labels
        self.layout = layout
        self.template = template
        self.instruction = instruction
        self.sequence_length = sequence_length
        self.pad_to_multiple = pad_to_multiple
        self.num_truncated = 0

    def prompts(self, x) -> list[str]:
        """The prompts of some rows.

        Args:
            x: one array or list of strings for each field of the template,
                as a tuple in their order or a dict by name; the array itself
                where there is one field.
        """
        fields = self.template.fields
        if not isinstance(x, (tuple, dict)):
            x = (x,)
        names = set(x) if isinstance(x, dict) else len(x)
        if names not in (set(fields), len(fields)):
            raise ValueError(
                f"Expected texts for the fields {fields} of the template. "
                f"Received: {names}"
            )
        x = x if isinstance(x, dict) else dict(zip(fields, x))
        columns = {}
        for name, column in x.items():
            column = np.atleast_1d(to_arrays(column))
            if column.ndim > 1:
                raise ValueError(
                    f"Expected one text a row for the field {name!r}. "
                    f"Received: an array of the shape {column.shape}. Pass a "
                    "single column, as a list or an array of strings."
                )
            columns[name] = [
                text.decode() if isinstance(text, bytes) else str(text)
                for text in column
            ]
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"Expected as many texts for each field. Received: {lengths}"
            )
        return [
            self.template.format(
                dict(zip(columns, row)), self.labels, self.instruction
            )
            for row in zip(*columns.values())
        ]

    def __call__(self, x) -> dict[str, np.ndarray]:
        """Token arrays of prompts.

        Returns:
            A dict of int32 arrays: `token_ids` and `padding_mask` of shape
            `(n, rows, sequence_length)`, and `answer` of shape `(n,)`, the
            position after which the label follows.
        """
        rows = self.layout.rows
        # Asked for late: a tokenizer that is loaded gets them last.
        start = getattr(self.tokenizer, "start_token_id", None)
        before = [start] if self.has_start and start is not None else []
        pad = getattr(self.tokenizer, "pad_token_id", None) or 0
        room = self.sequence_length - max(map(len, rows)) - len(before)
        tail = self.template.tail
        keep = len(token_lists(self.tokenizer, [tail])[0]) if tail else 0
        lists = token_lists(self.tokenizer, self.prompts(x))
        cut = sum(len(ids) > room for ids in lists)
        if cut:
            self.num_truncated += cut
            if keep >= room:
                raise ValueError(
                    "Expected a `sequence_length` that leaves room for the "
                    f"text. Received: sequence_length={self.sequence_length}"
                )
            warnings.warn(
                f"{cut} of {len(lists)} prompts are longer than the {room} "
                "tokens that `sequence_length` leaves. What is cut is the "
                "end of the text; where the instruction alone is longer, "
                "all of it. `preprocessor.num_truncated` counts them.",
                stacklevel=2,
            )
        length = self.sequence_length
        if self.pad_to_multiple:
            spare = self.sequence_length - room
            longest = min(room, max(map(len, lists))) + spare
            length = -(-longest // self.pad_to_multiple) * self.pad_to_multiple
            length = min(length, self.sequence_length)
        shape = (len(lists), len(rows), length)
        token_ids = np.full(shape, pad, "int32")
        mask = np.zeros(shape, "int32")
        answer = np.zeros(len(lists), "int32")
        for index, ids in enumerate(lists):
            if len(ids) > room:
                ids = ids[: room - keep] + ids[len(ids) - keep :]
            ids = before + ids
            answer[index] = len(ids) - 1
            for row, path in enumerate(rows):
                whole = ids + list(path)
                token_ids[index, row, : len(whole)] = whole
                mask[index, row, : len(whole)] = 1
        return {"token_ids": token_ids, "padding_mask": mask, "answer": answer}
