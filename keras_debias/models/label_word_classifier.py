import contextlib
from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd
from keras import ops

from keras_debias.data.arguments import check_number
from keras_debias.data.batches import Batches
from keras_debias.data.labels import check_label_names
from keras_debias.data.split import Split
from keras_debias.evaluation.label_report import tune_threshold
from keras_debias.losses.label_cross_entropy import LabelCrossEntropy
from keras_debias.models.label_tokens import LabelLayout
from keras_debias.models.label_tokens import tokenize_labels
from keras_debias.models.label_word_preprocessor import LabelWordPreprocessor
from keras_debias.models.prompt_template import PromptTemplate
from keras_debias.utils.numbers import require_count


@keras.saving.register_keras_serializable(package="keras_debias")
class LabelWordClassifier(keras.Model):
    """A causal language model as a classifier over label words.

    The text goes into a prompt, and the output is one score for each label,
    `(batch, labels)`: where every label is one token, its logit after the
    prompt; else the mean log-probability of its tokens, for all labels
    alike. All labels that share the prompt are scored in one pass over it;
    a label of several tokens adds a row only if no other row begins with its
    tokens.

    With the default loss and `lm_loss`, the total loss is the language
    model's: `-log p(label | prompt)` over the whole vocabulary, averaged over
    the labels of a row where it has several. The loss on the scores is the
    part that depends on the labels; the rest, `-log` of the probability of
    any label, comes by `add_loss`, without sample weights.

    `fit`, `evaluate` and `predict` take texts and a `Split`; inside a
    `DebiasedModel`, groups, regularizers and projections as well. With
    several labels to a row, call `tune_threshold` on data held out for it:
    `kd.evaluate` predicts the labels above this threshold, as the scores of
    a language model have no natural zero.

    Args:
        causal_lm: a KerasHub causal LM with a preprocessor.
        labels: sequence of label words, in the order of the outputs; or a
            dict from the names of the labels to their words, such as
            `{"entailment": "True", "not_entailment": "False"}`. See
            `kd.models.LABELS`.
        template: `PromptTemplate`, or a format string such as
            `"Review: {text}\\nEmotion:"`; see `kd.models.TEMPLATES`.
        multi_label: bool. Whether rows have any number of labels: `y` is
            multi-hot then. Defaults to `False`.
        instruction: bool. Whether the instruction of the template comes
            first. Defaults to `True`.
        sequence_length: int. Tokens of a prompt with what follows it.
            Defaults to `None`: 256, or the model's own where that is less.
        pad_to_multiple: int. Pad to the longest prompt of a batch, rounded up
            to a multiple of so many tokens, instead of to `sequence_length`:
            less to compute, but a program to compile for each length.
            Defaults to `None`.
        first_token: bool. Score a label of several tokens by the logit of
            its first one alone. Defaults to `False`.
        lm_loss: bool. Whether the probability of all other words counts in
            the loss. Defaults to `True`.
        label_tokens: list of lists of ints, the tokens of each label.
            Defaults to `None`: what the tokenizer makes of them.
        threshold: float. With `multi_label`, labels whose log-probability
            among the labels is above it are predicted; see
            `tune_threshold`. Defaults to `None`: not known yet.
        name: string. Name of the model. Defaults to `None`.

    Raises:
        TypeError: If `causal_lm` is not a causal LM with token embeddings
            that also give the logits.
        ValueError: If labels are repeated, tokenize to nothing or to the
            same tokens, the template has no field, or a length is out of
            range.

    Example:

    ```python
    causal_lm = keras_hub.models.CausalLM.from_preset(kd.presets.smollm2())
    classifier = kd.models.LabelWordClassifier(
        causal_lm, ["anger", "joy", "fear"], "Review: {text}\\nEmotion:"
    )
    classifier.predict(["What a day!"])
    ```

    Reference:
        Bias-aware PEFT, sections 3 and 4; templates in its Table 9.
    """

    had_optimizer_state = False
    # They have no zero by which one could tell labels.
    scores_label_words = True

    def __init__(
        self,
        causal_lm,
        labels: Sequence[str] | Mapping[str, str],
        template: PromptTemplate | str,
        multi_label: bool = False,
        instruction: bool = True,
        sequence_length: int | None = None,
        pad_to_multiple: int | None = None,
        first_token: bool = False,
        lm_loss: bool = True,
        label_tokens=None,
        threshold: float | None = None,
        name: str | None = None,
    ):
        if isinstance(template, str):
            template = PromptTemplate(template)
        if not isinstance(template, PromptTemplate):
            raise TypeError(
                "Expected `template` to be a `PromptTemplate` or a format "
                f"string. Received: template={template!r}"
            )
        lm_preprocessor = getattr(causal_lm, "preprocessor", None)
        embedding = getattr(
            getattr(causal_lm, "backbone", None), "token_embedding", None
        )
        if lm_preprocessor is None or not hasattr(embedding, "reverse_dtype"):
            raise TypeError(
                "Expected `causal_lm` to be a KerasHub causal LM with a "
                "preprocessor, whose `backbone.token_embedding` also gives "
                f"the logits. Received: causal_lm={causal_lm!r}"
            )
        names: Sequence[str]
        words: Sequence[str]
        if isinstance(labels, Mapping):
            names, words = tuple(labels), tuple(labels.values())
        else:
            names = words = labels
        label_names, labels = (
            check_label_names(names),
            check_label_names(words),
        )
        if label_tokens is None:
            label_tokens = tokenize_labels(
                lm_preprocessor.tokenizer, labels, template.tail
            )
        label_tokens = tuple(tuple(map(int, ids)) for ids in label_tokens)
        empty = [n for n, ids in zip(labels, label_tokens) if not ids]
        if empty or len(label_tokens) != len(labels):
            raise ValueError(
                f"Expected at least one token for each of {labels}. "
                f"Received: {label_tokens}. Rename labels that the tokenizer "
                "drops."
            )
        scored = tuple(ids[:1] for ids in label_tokens)
        scored = scored if first_token else label_tokens
        if len(set(scored)) < len(labels):
            same = [
                label
                for label, ids in zip(labels, scored)
                if scored.count(ids) > 1
            ]
            raise ValueError(
                "Expected labels that differ in the tokens they are scored "
                f"by. Received: {same}, which do not. Rename them, or leave "
                "out `first_token=True`."
            )
        if threshold is not None:
            check_number("threshold", threshold)
        own = getattr(causal_lm.backbone, "max_sequence_length", None)
        if sequence_length is None:
            sequence_length = min(256, own or 256)
        require_count(sequence_length, "sequence_length")
        if own and sequence_length > own:
            raise ValueError(
                f"Expected `sequence_length` of at most {own}, the tokens that "
                "the model reads at once. Received: "
                f"sequence_length={sequence_length}"
            )
        if pad_to_multiple is not None:
            require_count(pad_to_multiple, "pad_to_multiple")
        super().__init__(name=name, dtype=causal_lm.dtype_policy)
        self.causal_lm = causal_lm
        self.label_names = label_names
        self.label_words = labels
        self.template = template
        self.multi_label = multi_label
        self.threshold = threshold
        self.instruction = instruction
        self.first_token = first_token
        self.lm_loss = lm_loss
        self.label_tokens = label_tokens
        self.sequence_length = sequence_length
        self.pad_to_multiple = pad_to_multiple
        self.layout = LabelLayout(scored)
        self._preprocessor = LabelWordPreprocessor(
            lm_preprocessor,
            labels,
            self.layout,
            template,
            instruction,
            sequence_length,
            pad_to_multiple,
        )
        self.built = True
        self.compile()

    def compile(self, optimizer="auto", loss="auto", metrics="auto", **kwargs):
        """As `keras.Model.compile`, with defaults for all arguments.

        Args:
            optimizer: as for Keras. Defaults to `"auto"`: AdamW with a
                learning rate of 5e-5.
            loss: a function of the scores, from logits. Defaults to `"auto"`:
                (the part that depends on the labels of) the language model's.
            metrics: as for Keras. Defaults to `"auto"`: the accuracy, for
                several labels the categorical accuracy.
            **kwargs: other arguments of `keras.Model.compile`.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.AdamW(5e-5)
        if isinstance(loss, str) and loss == "auto":
            loss = LabelCrossEntropy() if self.multi_label else None
            loss = loss or keras.losses.SparseCategoricalCrossentropy(
                from_logits=True
            )
        if isinstance(metrics, str) and metrics == "auto":
            name = "categorical_accuracy" if self.multi_label else "accuracy"
            metrics = [name]
        super().compile(
            optimizer=optimizer, loss=loss, metrics=metrics, **kwargs
        )

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.had_optimizer_state:
            self.optimizer.build(self.trainable_variables)

    @property
    def backbone(self):
        """The backbone of the causal LM."""
        return self.causal_lm.backbone

    @property
    def preprocessor(self):
        """Texts to token arrays: a `LabelWordPreprocessor`."""
        return self._preprocessor

    @property
    def num_labels(self) -> int:
        """The number of labels."""
        return len(self.label_names)

    def generate(self, *args, **kwargs):
        """Generates text with the causal LM; arguments are those of its own."""
        return self.causal_lm.generate(*args, **kwargs)

    def preprocess_samples(self, x, y=None, sample_weight=None):
        """Texts as token arrays; labels and weights pass through.

        Args:
            x: texts, as `fit` takes them, or a dict that holds `token_ids`.
            y: labels. Defaults to `None`.
            sample_weight: array. Defaults to `None`.

        Returns:
            `x`, `(x, y)` or `(x, y, sample_weight)`, as there are.
        """
        if not (isinstance(x, dict) and "token_ids" in x):
            x = self.preprocessor(x)
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    # From tokens to scores.

    def call(self, inputs, training=None):
        hidden = self.answer_states(inputs, training)
        return self.scores(self.vocabulary_logits(hidden), with_loss=True)

    def answer_states(self, inputs, training=None):
        """Final hidden states where label tokens follow.

        Args:
            inputs: dict of `token_ids`, `padding_mask` and `answer`, from
                `preprocess_samples`.
            training: bool. Defaults to `None`.

        Returns:
            A tensor of shape `(batch, rows * depth, width)`.
        """
        tokens, mask = inputs["token_ids"], inputs["padding_mask"]
        length = ops.shape(tokens)[-1]
        flat = {
            "token_ids": ops.reshape(tokens, (-1, length)),
            "padding_mask": ops.reshape(mask, (-1, length)),
        }
        hidden = self.backbone(flat, training=training)
        return self.at_answers(hidden, inputs["answer"])

    def at_answers(self, hidden, answer):
        """Picks the scored positions out of hidden states of all tokens.

        Args:
            hidden: tensor of shape `(batch * rows, tokens, width)`.
            answer: int tensor of shape `(batch,)`: the position before the
                first token of a label.

        Returns:
            A tensor of shape `(batch, rows * depth, width)`.
        """
        rows, depth = len(self.layout.rows), self.layout.depth
        width = hidden.shape[-1]
        positions = ops.expand_dims(ops.cast(answer, "int32"), 1)
        positions = positions + ops.arange(depth, dtype="int32")
        positions = ops.repeat(positions, rows, axis=0)
        # Short labels end before the row does: no position is out of range.
        positions = ops.minimum(positions, ops.shape(hidden)[1] - 1)
        picked = ops.take_along_axis(
            hidden, ops.expand_dims(positions, -1), axis=1
        )
        return ops.reshape(picked, (-1, rows * depth, width))

    def vocabulary_logits(self, hidden):
        """Logits over the vocabulary, in float32 whatever the policy.

        In half precision neighboring logits of common size are equal.

        Args:
            hidden: tensor of shape `(..., width)`.

        Returns:
            A tensor of shape `(..., vocabulary)`.
        """
        embedding = self.backbone.token_embedding
        with _float32_logits(embedding):
            return embedding(hidden, reverse=True)

    def scores(self, logits, with_loss=False):
        """The scores of the labels from logits at the scored positions.

        Args:
            logits: tensor of shape `(batch, rows * depth, vocabulary)`.
            with_loss: bool. Whether to add the loss of all other words, where
                `lm_loss` is set. Defaults to `False`.

        Returns:
            A tensor of shape `(batch, labels)`.
        """
        place, token, weight = self.layout.places()
        total = ops.logsumexp(logits, axis=-1, keepdims=True)
        if self.layout.is_single:
            scores = ops.take(logits[:, 0, :], token[:, 0], axis=-1)
            total = total[:, 0, 0]
        else:
            used, column = np.unique(token, return_inverse=True)
            column = column.reshape(token.shape)
            chosen = ops.take(logits, used, axis=-1) - total
            places = chosen.shape[1]
            chosen = ops.reshape(chosen, (-1, places * len(used)))
            index = (place * len(used) + column).reshape(-1).astype("int32")
            chosen = ops.take(chosen, index, axis=-1)
            chosen = ops.reshape(chosen, (-1, *token.shape))
            weight = ops.convert_to_tensor(weight)
            scores = ops.sum(chosen * weight, axis=-1)
            total = 0.0
        if with_loss and self.lm_loss:
            missed = total - ops.logsumexp(scores, axis=-1)
            self.add_loss(ops.mean(missed))
        return scores

    # Keras' own methods, with texts.

    def _batches(self, x, y, sample_weight, batch_size, shuffle=False):
        if isinstance(x, Split):
            if y is not None or sample_weight is not None:
                raise ValueError(
                    "Expected `y` and `sample_weight` inside the Split. "
                    f"Received: y={type(y).__name__}, "
                    f"sample_weight={type(sample_weight).__name__}"
                )
            if x.label_names not in (None, self.label_names):
                x = x.align_labels(self.label_names)
            x, y, sample_weight = x.x, x.y, x.sample_weight
        arrays = (list, tuple, dict, np.ndarray, pd.Series, pd.DataFrame)
        if not isinstance(x, arrays):
            return x, y, sample_weight, None
        batches = Batches(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            shuffle=shuffle,
            preprocess=self.preprocess_samples,
        )
        return batches, None, None, batches

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        callbacks=None,
        validation_data=None,
        validation_batch_size=None,
        shuffle=True,
        sample_weight=None,
        **kwargs,
    ):
        """As `keras.Model.fit`; texts, arrays and Splits are shuffled.

        Args:
            x: texts, a `kd.data.Split`, or what Keras takes. The labels of a
                `Split` are matched by name. Defaults to `None`.
            y, batch_size, callbacks: as for Keras. Default to `None`.
            validation_data: `(x, y)`, `(x, y, sample_weight)` or a `Split`.
                Defaults to `None`.
            validation_batch_size: int. Defaults to `None`: `batch_size`.
            shuffle: bool. Defaults to `True`.
            sample_weight: as for Keras. Defaults to `None`.
            **kwargs: other arguments of `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.
        """
        x, y, sample_weight, batches = self._batches(
            x, y, sample_weight, batch_size, shuffle
        )
        callbacks = list(callbacks or [])
        if batches is not None:
            callbacks.insert(0, _Epochs(batches))
        if validation_data is not None:
            if not isinstance(validation_data, (list, tuple)):
                validation_data = (validation_data,)
            parts = (*validation_data, None, None)[:3]
            size = validation_batch_size or batch_size
            *parts, own = self._batches(*parts, size)
            validation_data = (
                parts[0]
                if own is not None
                else tuple(part for part in parts if part is not None)
            )
        return super().fit(
            x,
            y,
            batch_size=None if batches is not None else batch_size,
            callbacks=callbacks,
            validation_data=validation_data,
            shuffle=shuffle and batches is None,
            sample_weight=sample_weight,
            **kwargs,
        )

    def evaluate(
        self, x=None, y=None, batch_size=None, sample_weight=None, **kwargs
    ):
        """As `keras.Model.evaluate`, of texts and Splits too.

        Args:
            x: texts, a `kd.data.Split`, or what Keras takes. Defaults to
                `None`.
            y, batch_size, sample_weight: as for Keras. Default to `None`.
            **kwargs: other arguments of `keras.Model.evaluate`.

        Returns:
            The loss and the metrics, as Keras returns them.
        """
        x, y, sample_weight, batches = self._batches(
            x, y, sample_weight, batch_size
        )
        return super().evaluate(
            x,
            y,
            batch_size=None if batches is not None else batch_size,
            sample_weight=sample_weight,
            **kwargs,
        )

    def predict(self, x, batch_size=None, **kwargs):
        """As `keras.Model.predict`, of texts and Splits too.

        Args:
            x: texts, a `kd.data.Split`, or what Keras takes.
            batch_size: int. Defaults to `None`.
            **kwargs: other arguments of `keras.Model.predict`.

        Returns:
            A float32 array of scores of shape `(n, labels)`.
        """
        x, _, _, batches = self._batches(
            x.x if isinstance(x, Split) else x, None, None, batch_size
        )
        return super().predict(
            x, batch_size=None if batches is not None else batch_size, **kwargs
        )

    def tune_threshold(self, split: Split, batch_size=None) -> float:
        """Sets the threshold with the highest weighted F1 on held-out rows.

        It is saved with the model. Tune it again after training goes on.

        Args:
            split: `kd.data.Split` with multi-hot labels.
            batch_size: int, for predictions. Defaults to `None`.

        Returns:
            The threshold: a log-probability among the labels.

        Raises:
            ValueError: If the model has one label a row, or the labels of
                `split` are not multi-hot.
        """
        if not self.multi_label:
            raise ValueError(
                "Expected a classifier with `multi_label=True`. Received: one "
                "with one label a row, which is that of the highest score"
            )
        if not isinstance(split, Split) or np.ndim(split.y) != 2:
            raise ValueError(
                "Expected a `kd.data.Split` with multi-hot labels. Received: "
                f"{split!r}"
            )
        if split.label_names not in (None, self.label_names):
            split = split.align_labels(self.label_names)
        scores = self.predict(split.x, batch_size=batch_size, verbose=0)
        self.threshold = tune_threshold(scores, split.y)
        return self.threshold

    # Saving.

    def get_config(self):
        causal_lm = keras.saving.serialize_keras_object(self.causal_lm)
        # It compiles itself when it is made, and cannot from a config.
        causal_lm.pop("compile_config", None)
        return {
            "name": self.name,
            "causal_lm": causal_lm,
            "labels": dict(zip(self.label_names, self.label_words)),
            "template": keras.saving.serialize_keras_object(self.template),
            "multi_label": self.multi_label,
            "instruction": self.instruction,
            "sequence_length": self.sequence_length,
            "pad_to_multiple": self.pad_to_multiple,
            "first_token": self.first_token,
            "lm_loss": self.lm_loss,
            # A tokenizer gets its vocabulary after the models are made.
            "label_tokens": [list(ids) for ids in self.label_tokens],
            "threshold": self.threshold,
            # Inside a `DebiasedModel`, the optimizer of this one stays idle.
            "has_optimizer_state": bool(
                self.optimizer is not None and self.optimizer.built
            ),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        had_optimizer_state = config.pop("has_optimizer_state")
        for part in ("causal_lm", "template"):
            config[part] = keras.saving.deserialize_keras_object(
                config[part], custom_objects=custom_objects
            )
        model = cls(**config)
        model.had_optimizer_state = had_optimizer_state
        return model


class _Epochs(keras.callbacks.Callback):
    """Tells batches which epoch it is, so that each has its own order."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch


@contextlib.contextmanager
def _float32_logits(embedding):
    """Makes an embedding give float32 logits, for one call."""
    before = embedding.reverse_dtype
    embedding.reverse_dtype = "float32"
    try:
        yield
    finally:
        embedding.reverse_dtype = before
