import contextlib
import copy
import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.blocks import blocks
from keras_debias.analysis.layer_curves import plot_layer_curves
from keras_debias.data.split import Split
from keras_debias.layers.prompted_block import PromptedBlock
from keras_debias.models.label_word_classifier import LabelWordClassifier
from keras_debias.utils.networks import network_of
from keras_debias.utils.progress import Progress
from keras_debias.utils.short_repr import ShortRepr


@dataclasses.dataclass(frozen=True, repr=False)
class TargetLayerSearch(ShortRepr):
    """How much each layer's attention determines the label word.

    Attributes:
        layer: int. The layer with the largest value.
        curve: tuple of floats, one for each layer: the mean KL divergence.
        pairs: tuple of `(label, wrong label)`, one for each sample.

    Example:

    >>> search = TargetLayerSearch(1, (0.1, 0.4), (("joy", "fear"),))
    >>> search.curve[search.layer]
    0.4
    """

    layer: int
    curve: tuple[float, ...]
    pairs: tuple[tuple[str, str], ...]

    def plot(self, path) -> None:
        """Saves the curve as a picture; needs matplotlib.

        Args:
            path: path of a picture to be written.
        """
        plot_layer_curves(
            path,
            {"": self.curve},
            "Attention output exchanged for a wrong label's",
            marked=self.layer,
            ylabel="Mean KL divergence",
        )


def find_target_layer(
    model: keras.Model,
    split: Split,
    samples: int = 20,
    seed: int = 0,
    batch_size: int = 8,
) -> TargetLayerSearch:
    """The layer whose attention output decides most, by interchange.

    Each sampled prompt is continued by one of its labels (of several, the
    one with the highest score) and by the wrong label with the highest
    score. The output of the attention of one layer, at the tokens of the
    label, is replaced by what it is for the wrong label. What is measured is
    the KL divergence of the next-token distribution after the label, from
    before to after; the layer with the largest mean is the target.

    Labels of unequal length are exchanged at their last token only. The
    pass is repeated for every layer, so it costs `2 (layers + 1)` forward
    passes of the samples. Weights stay as they are.

    Args:
        model: a `LabelWordClassifier`, or a `DebiasedModel` around one.
        split: `Split` with labels.
        samples: int. How many rows, drawn by `seed` from those that have a
            label and lack one. Defaults to `20`.
        seed: int. Defaults to `0`.
        batch_size: int. Prompts at a time. Defaults to `8`.

    Returns:
        A `TargetLayerSearch`.

    Raises:
        TypeError: If `model` is no `LabelWordClassifier`.
        ValueError: If there are not so many rows, the curve is zero
            everywhere, or the model has `PromptTuning`.

    Example:

    ```python
    found = kd.analysis.find_target_layer(classifier, train)
    kd.adapters.apply(classifier, kd.adapters.TargetLayer(found.layer))
    ```

    Reference:
        Bias-aware PEFT, appendix A. The paper leaves open where activations
        are exchanged: prompts are the same and attention is causal, so they
        differ from the first token of the label on.
    """
    classifier = network_of(model)
    if not isinstance(classifier, LabelWordClassifier):
        classifier = model
    if not isinstance(classifier, LabelWordClassifier):
        raise TypeError(
            "Expected `model` to be a `LabelWordClassifier`, or a "
            f"`DebiasedModel` around one. Received: model={model!r}"
        )
    for block in blocks(classifier):
        if isinstance(block.layer, PromptedBlock):
            raise ValueError(
                "Expected blocks that call their attention once. Received: "
                f"'{block.layer.name}' with {adapters_of(block.layer)}, which "
                "calls it on the prompt too. Search before `PromptTuning`."
            )
    gold, rows = _sample(classifier, split, samples, seed)
    scores = classifier.predict(rows, batch_size=batch_size, verbose=0)
    right = np.where(gold, scores, -np.inf).argmax(axis=1)
    wrong = np.where(gold, -np.inf, scores).argmax(axis=1)
    inputs = _continuations(classifier, rows, right, wrong)
    layers = [b.modules["attention_output"][0] for b in blocks(classifier)]
    with _interchangeable(layers) as exchange:
        network = _Interchange(classifier, exchange)

        def distribution(layer):
            number = np.full(samples, layer, "int32")
            found = network.predict(
                {**inputs, "layer": number}, batch_size=batch_size, verbose=0
            )
            return np.asarray(found, "float64")

        title = "Exchanging the attention of layers"
        progress = Progress(title, len(layers) + 1, "layer")
        before = distribution(-1)
        progress.add(1)
        curve = []
        for layer in range(len(layers)):
            after = distribution(layer)
            # The sum of `p (log p - log q)`, without its cancellations.
            change = after - before
            each = np.exp(before) * (np.expm1(change) - change)
            each = each.sum(axis=-1)
            curve.append(float(each.mean()))
            progress.add(1)
    if not np.isfinite(curve).all() or max(curve) <= 1e-12:
        raise ValueError(
            "Expected label words that the model tells apart. Received: a "
            f"curve of {curve}: no layer's attention makes a difference "
            "between a label and a wrong one. Use other label words."
        )
    names = classifier.label_names
    return TargetLayerSearch(
        int(np.argmax(curve)),
        tuple(curve),
        tuple((names[a], names[b]) for a, b in zip(right, wrong)),
    )


def _sample(classifier, split, samples, seed):
    """`(gold, inputs)` of the drawn rows."""
    if split.y is None:
        raise ValueError(f"Expected a split with labels. Received: {split!r}")
    if split.label_names not in (None, classifier.label_names):
        split = split.align_labels(classifier.label_names)
    gold = split.y
    if gold.ndim == 1:
        gold = np.eye(classifier.num_labels)[gold]
    gold = gold > 0.5
    able = np.flatnonzero(gold.any(axis=1) & ~gold.all(axis=1))
    if not 1 <= samples <= len(able):
        raise ValueError(
            f"Expected `samples` from 1 to {len(able)}, the rows of `split` "
            f"that have a label and lack one. Received: samples={samples}"
        )
    drawn = np.random.default_rng(seed).permutation(able)[:samples]
    return gold[drawn], split.take(drawn).x


def _continuations(classifier, x, right, wrong) -> dict[str, np.ndarray]:
    """Prompts with both labels, and what is to be exchanged where."""
    depth = max(map(len, classifier.label_tokens))
    # Whole labels follow the prompt, where scores need all but the last token.
    preprocessor = copy.copy(classifier.preprocessor)
    follow = max(map(len, preprocessor.layout.rows))
    preprocessor.sequence_length -= depth - follow
    prompts = preprocessor(x)
    count = len(right)
    length = int(prompts["answer"].max()) + 1 + depth
    tokens = np.zeros((count, 2, length), "int32")
    mask = np.zeros_like(tokens)
    swap = np.zeros((count, length), "int32")
    source = np.tile(np.arange(length, dtype="int32"), (count, 1))
    last = np.zeros(count, "int32")
    for row in range(count):
        start = int(prompts["answer"][row]) + 1
        ends = []
        for side, label in enumerate((right[row], wrong[row])):
            ids = classifier.label_tokens[label]
            tokens[row, side, :start] = prompts["token_ids"][row, 0, :start]
            tokens[row, side, start : start + len(ids)] = ids
            mask[row, side, : start + len(ids)] = 1
            ends.append(start + len(ids) - 1)
        last[row] = ends[0]
        if ends[0] == ends[1]:
            swap[row, start : ends[0] + 1] = 1
        else:
            swap[row, ends[0]] = 1
            source[row, ends[0]] = ends[1]
    return {
        "token_ids": tokens,
        "padding_mask": mask,
        "swap": swap,
        "source": source,
        "last": last,
    }


class _Interchange(keras.Model):
    """Log-probabilities after the label, with one layer exchanged."""

    def __init__(self, classifier, exchange):
        super().__init__(dtype=classifier.dtype_policy, name="interchange")
        self.classifier = classifier
        self.exchange = exchange
        self.built = True

    def call(self, inputs):
        tokens, mask = inputs["token_ids"], inputs["padding_mask"]
        length = ops.shape(tokens)[-1]

        def flat(values):
            values = ops.transpose(values, (1, 0, 2))
            return ops.reshape(values, (-1, length))

        # The prompts with their labels first, then those with wrong ones.
        for name in ("swap", "source", "layer"):
            self.exchange[name] = inputs[name]
        hidden = self.classifier.backbone(
            {"token_ids": flat(tokens), "padding_mask": flat(mask)},
            training=False,
        )
        self.exchange.clear()
        hidden = hidden[: ops.shape(tokens)[0]]
        last = ops.reshape(ops.cast(inputs["last"], "int32"), (-1, 1, 1))
        hidden = ops.take_along_axis(hidden, last, axis=1)
        logits = self.classifier.vocabulary_logits(hidden)
        return ops.log_softmax(logits[:, 0, :], axis=-1)


class _Exchanged:
    """Mixed into a layer: outputs of the first half from the second."""

    def call(self, *args, **kwargs):
        outputs = super().call(*args, **kwargs)
        given = self.exchange
        count = ops.shape(given["swap"])[0]
        first, second = outputs[:count], outputs[count:]
        source = ops.expand_dims(ops.cast(given["source"], "int32"), -1)
        moved = ops.take_along_axis(second, source, axis=1)
        mine = ops.equal(ops.cast(given["layer"], "int32"), self.number)
        chosen = ops.logical_and(
            ops.not_equal(given["swap"], 0), ops.expand_dims(mine, -1)
        )
        first = ops.where(ops.expand_dims(chosen, -1), moved, first)
        return ops.concatenate([first, second], axis=0)


@functools.cache
def _exchanged_class(plain):
    return type(plain.__name__, (_Exchanged, plain), {})


@contextlib.contextmanager
def _interchangeable(layers):
    """Lets the outputs of layers be exchanged, by what the dict holds."""
    exchange = _Exchange()
    plain = [type(layer) for layer in layers]
    try:
        for number, layer in enumerate(layers):
            layer.__class__ = _exchanged_class(type(layer))
            object.__setattr__(layer, "exchange", exchange)
            object.__setattr__(layer, "number", number)
        yield exchange
    finally:
        for layer, before in zip(layers, plain):
            layer.__class__ = before
            for name in ("exchange", "number"):
                layer.__dict__.pop(name, None)


class _Exchange:
    """What is exchanged in the present pass; Keras does not track it."""

    def __init__(self):
        self.values = {}

    def __setitem__(self, name, value):
        self.values[name] = value

    def __getitem__(self, name):
        return self.values[name]

    def clear(self):
        self.values = {}
