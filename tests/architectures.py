"""Every architecture the contract tests run on, as one table.

Each entry is a tiny randomly initialized model: two layers, a few units wide,
a vocabulary of 32 tokens. `build(seed)` gives the same weights on every
backend, because they are drawn by NumPy, and none of them is left at zero, so
that a forgotten bias or a swapped axis shows in the outputs.
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
import keras_hub
import numpy as np

BATCH_SIZE = 8
SEQUENCE_LENGTH = 6
VOCABULARY_SIZE = 32
NUM_CLASSES = 3
NUM_LAYERS = 2
NUM_HEADS = 2
HIDDEN_DIM = 8
INTERMEDIATE_DIM = 12
IMAGE_SHAPE = (8, 8, 3)

TEXT_CLASSIFICATION = "text_classification"
CAUSAL_LM = "causal_lm"
IMAGE_CLASSIFICATION = "image_classification"

WORDS = (
    "the doctor saw lawyer actor judge paid who by was near not and slept "
    "stopped believed"
).split()


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes:
        name: Short name, used as the test id.
        task: One of `"text_classification"`, `"causal_lm"` and
            `"image_classification"`.
        create: Function from a dropout rate to a built, uncompiled model.
        create_data: Function from a `numpy.random.Generator` to `(x, y)`.
        targets: What to adapt: roles, or layer names where there are no roles.
            Empty for architectures that are only fine-tuned fully.
        target_paths: Paths of the layers that `targets` must resolve to.
        also_train: Selector for the head of a model without a backbone, else
            `None`.
        head: Paths of the variables that train beside an adapter.
    """

    name: str
    task: str
    create: Callable
    create_data: Callable
    targets: tuple = ("query", "value")
    target_paths: tuple = ()
    also_train: tuple | None = None
    head: tuple = ()

    def build(self, seed=0, dropout=0.0):
        """Returns a built model, uncompiled, with weights fixed by `seed`."""
        keras.utils.set_random_seed(seed)
        model = self.create(dropout)
        randomize(model, seed)
        return model

    def data(self, seed=0):
        """Returns a batch `(x, y)` of NumPy arrays, fixed by `seed`."""
        return self.create_data(np.random.default_rng(seed))

    def loss(self):
        """Returns a new loss that suits the model's outputs."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @property
    def adaptable(self):
        return bool(self.targets)

    def __str__(self):
        return self.name


def randomize(model, seed):
    """Draws all trainable weights from NumPy, the same on every backend."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        value = keras.ops.convert_to_numpy(variable)
        noise = rng.standard_normal(value.shape)
        if np.ptp(value) == 0:
            # Biases, scales and whatever else starts as a constant keep it.
            value = value + 0.1 * noise
        else:
            value = min(0.3, np.prod(value.shape[:-1]) ** -0.5) * noise
        variable.assign(value.astype("float32"))


# Data.


def _tokens(rng):
    token_ids = rng.integers(2, VOCABULARY_SIZE, (BATCH_SIZE, SEQUENCE_LENGTH))
    mask = np.ones_like(token_ids)
    # The last rows are shorter than the others.
    mask[-2:, -2:] = 0
    return (token_ids * mask).astype("int32"), mask.astype("int32")


def _labels(rng):
    return rng.integers(0, NUM_CLASSES, BATCH_SIZE).astype("int32")


def _token_data(rng, segments=False):
    token_ids, mask = _tokens(rng)
    x = {"token_ids": token_ids, "padding_mask": mask}
    if segments:
        x["segment_ids"] = np.zeros_like(token_ids)
        x["segment_ids"][:, SEQUENCE_LENGTH // 2 :] = 1
    return x, _labels(rng)


def _next_token_data(rng):
    x, _ = _token_data(rng)
    return x, np.roll(x["token_ids"], -1, axis=1)


def _plain_token_data(rng):
    return _tokens(rng)[0], _labels(rng)


def _encoder_decoder_data(rng):
    x = {}
    for side in ("encoder", "decoder"):
        x[f"{side}_token_ids"], x[f"{side}_padding_mask"] = _tokens(rng)
    return x, _labels(rng)


def _sentence_pair_data(rng):
    def sentences():
        return np.array(
            [
                " ".join(rng.choice(WORDS, rng.integers(2, 4)))
                for _ in range(BATCH_SIZE)
            ],
            dtype=object,
        )

    return (sentences(), sentences()), _labels(rng)


def _image_data(rng):
    images = rng.standard_normal((BATCH_SIZE, *IMAGE_SHAPE))
    return images.astype("float32"), _labels(rng)


# Text classifiers.


def _encoder_arguments(dropout):
    return {
        "vocabulary_size": VOCABULARY_SIZE,
        "num_layers": NUM_LAYERS,
        "num_heads": NUM_HEADS,
        "hidden_dim": HIDDEN_DIM,
        "intermediate_dim": INTERMEDIATE_DIM,
        "max_sequence_length": SEQUENCE_LENGTH,
        "dropout": dropout,
    }


def _text_classifier(dropout, backbone, classifier, **kwargs):
    return classifier(
        backbone=backbone(**_encoder_arguments(dropout), **kwargs),
        num_classes=NUM_CLASSES,
        dropout=dropout,
        compile=False,
    )


def _bert_text(dropout):
    tokenizer = keras_hub.tokenizers.BertTokenizer(
        vocabulary=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    )
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        tokenizer, sequence_length=10
    )
    arguments = _encoder_arguments(dropout) | {"max_sequence_length": 10}
    return keras_hub.models.BertTextClassifier(
        backbone=keras_hub.models.BertBackbone(**arguments),
        preprocessor=preprocessor,
        num_classes=NUM_CLASSES,
        dropout=dropout,
        compile=False,
    )


def _t5(dropout):
    arguments = _encoder_arguments(dropout)
    del arguments["max_sequence_length"]
    backbone = keras_hub.models.T5Backbone(**arguments)
    x = backbone(backbone.input)["decoder_sequence_output"]
    x = keras.layers.GlobalAveragePooling1D(name="pooling")(x)
    outputs = keras.layers.Dense(NUM_CLASSES, name="logits")(x)
    return keras.Model(backbone.input, outputs, name="t5_classifier")


# Causal language models.


def _decoder_arguments(dropout):
    return {
        "vocabulary_size": VOCABULARY_SIZE,
        "num_layers": NUM_LAYERS,
        "num_query_heads": NUM_HEADS,
        "num_key_value_heads": 1,
        "hidden_dim": HIDDEN_DIM,
        "intermediate_dim": INTERMEDIATE_DIM,
        "dropout": dropout,
    }


def _causal_lm(dropout, backbone, causal_lm, arguments, **kwargs):
    return causal_lm(
        backbone=backbone(**arguments(dropout), **kwargs),
        preprocessor=None,
        compile=False,
    )


# Image classifiers.


def _vit(dropout):
    backbone = keras_hub.models.ViTBackbone(
        image_shape=IMAGE_SHAPE,
        patch_size=4,
        num_layers=NUM_LAYERS,
        num_heads=NUM_HEADS,
        hidden_dim=HIDDEN_DIM,
        mlp_dim=INTERMEDIATE_DIM,
        dropout_rate=dropout,
        attention_dropout=dropout,
    )
    return keras_hub.models.ViTImageClassifier(
        backbone=backbone,
        num_classes=NUM_CLASSES,
        dropout=dropout,
        compile=False,
    )


def _resnet(dropout):
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=IMAGE_SHAPE,
    )
    return keras_hub.models.ResNetImageClassifier(
        backbone=backbone,
        num_classes=NUM_CLASSES,
        dropout=dropout,
        compile=False,
    )


# Models of one's own.


def _functional(dropout):
    inputs = keras.Input((SEQUENCE_LENGTH,), dtype="int32", name="token_ids")
    x = keras.layers.Embedding(VOCABULARY_SIZE, HIDDEN_DIM, name="embedding")(
        inputs
    )
    for index in range(NUM_LAYERS):
        attended = keras.layers.MultiHeadAttention(
            NUM_HEADS,
            HIDDEN_DIM // NUM_HEADS,
            dropout=dropout,
            name=f"attention_{index}",
        )(x, x)
        x = keras.layers.LayerNormalization(name=f"norm_{index}")(x + attended)
        hidden = keras.layers.Dense(
            INTERMEDIATE_DIM, activation="gelu", name=f"hidden_{index}"
        )(x)
        x = x + keras.layers.Dense(HIDDEN_DIM, name=f"output_{index}")(hidden)
    x = keras.layers.GlobalAveragePooling1D(name="pooling")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    outputs = keras.layers.Dense(NUM_CLASSES, name="logits")(x)
    return keras.Model(inputs, outputs, name="functional")


@keras.saving.register_keras_serializable(package="keras_debias_tests")
class SubclassedClassifier(keras.Model):
    """A classifier written as a `keras.Model` subclass."""

    def __init__(self, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.dropout = dropout
        self.embedding = keras.layers.Embedding(
            VOCABULARY_SIZE, HIDDEN_DIM, name="embedding"
        )
        self.attention_layers = [
            keras.layers.GroupQueryAttention(
                HIDDEN_DIM // NUM_HEADS,
                num_query_heads=NUM_HEADS,
                num_key_value_heads=1,
                dropout=dropout,
                name=f"attention_{index}",
            )
            for index in range(NUM_LAYERS)
        ]
        self.hidden = keras.layers.Dense(
            HIDDEN_DIM, activation="tanh", name="hidden"
        )
        self.pooling = keras.layers.GlobalAveragePooling1D(name="pooling")
        self.logits = keras.layers.Dense(NUM_CLASSES, name="logits")

    def call(self, token_ids, training=False):
        x = self.embedding(token_ids)
        for attention in self.attention_layers:
            x = x + attention(x, x, training=training)
        x = self.pooling(self.hidden(x))
        return self.logits(x)

    def get_config(self):
        return {**super().get_config(), "dropout": self.dropout}


def _subclassed(dropout):
    model = SubclassedClassifier(dropout, name="subclassed")
    # A subclassed model has no variables before its first call.
    model(np.zeros((1, SEQUENCE_LENGTH), "int32"))
    return model


def _sequential(dropout):
    return keras.Sequential(
        [
            keras.Input((SEQUENCE_LENGTH,), dtype="int32"),
            keras.layers.Embedding(
                VOCABULARY_SIZE, HIDDEN_DIM, name="embedding"
            ),
            keras.layers.Dense(
                INTERMEDIATE_DIM, activation="relu", name="hidden_0"
            ),
            keras.layers.Dropout(dropout, name="dropout"),
            keras.layers.Dense(HIDDEN_DIM, activation="relu", name="hidden_1"),
            keras.layers.GlobalAveragePooling1D(name="pooling"),
            keras.layers.Dense(NUM_CLASSES, name="logits"),
        ],
        name="sequential",
    )


# The table.

_models = keras_hub.models
_segment_data = functools.partial(_token_data, segments=True)


def _paths(*templates):
    return tuple(
        template.format(index=index)
        for index in range(NUM_LAYERS)
        for template in templates
    )


def _dense(*names):
    return tuple(
        f"{name}/{part}" for name in names for part in ("kernel", "bias")
    )


def _text_row(name, prefix, blocks, head=(), data=_token_data, **kwargs):
    create = functools.partial(
        _text_classifier,
        backbone=getattr(_models, f"{prefix}Backbone"),
        classifier=getattr(_models, f"{prefix}TextClassifier"),
        **kwargs,
    )
    return Architecture(
        name=name,
        task=TEXT_CLASSIFICATION,
        create=create,
        create_data=data,
        target_paths=_paths(f"{blocks}/query", f"{blocks}/value"),
        head=_dense(*head, "logits"),
    )


def _lm_row(name, prefix, blocks, arguments=_decoder_arguments, **kwargs):
    create = functools.partial(
        _causal_lm,
        backbone=getattr(_models, f"{prefix}Backbone"),
        causal_lm=getattr(_models, f"{prefix}CausalLM"),
        arguments=arguments,
        **kwargs,
    )
    return Architecture(
        name=name,
        task=CAUSAL_LM,
        create=create,
        create_data=_next_token_data,
        target_paths=_paths(f"{blocks}/query", f"{blocks}/value"),
    )


_ENCODER_BLOCKS = "transformer_layer_{index}/self_attention_layer"
_DECODER_BLOCKS = "transformer_layer_{index}/self_attention"

# Layers of other rows in another order, or with other options: `tests.matrix`
# has them with some of the adapters only.
VARIANTS = (
    _text_row(
        "xlm_roberta", "XLMRoberta", _ENCODER_BLOCKS, head=("pooled_dense",)
    ),
    # Gemma 2: soft caps, windows, norms behind layers as well.
    _lm_row(
        "gemma2",
        "Gemma",
        "decoder_block_{index}/attention",
        head_dim=4,
        query_head_dim_normalize=False,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        attention_logit_soft_cap=50.0,
        final_logit_soft_cap=30.0,
        use_sliding_window_attention=True,
        sliding_window_size=3,
    ),
    # Qwen 2.5: biases of queries, keys and values.
    _lm_row("qwen2", "Qwen", _DECODER_BLOCKS),
)

ARCHITECTURES = (
    _text_row("bert", "Bert", _ENCODER_BLOCKS, data=_segment_data),
    Architecture(
        name="bert_text",
        task=TEXT_CLASSIFICATION,
        create=_bert_text,
        create_data=_sentence_pair_data,
        target_paths=_paths(
            f"{_ENCODER_BLOCKS}/query", f"{_ENCODER_BLOCKS}/value"
        ),
        head=_dense("logits"),
    ),
    _text_row("roberta", "Roberta", _ENCODER_BLOCKS, head=("pooled_dense",)),
    _text_row(
        "distil_bert", "DistilBert", _ENCODER_BLOCKS, head=("pooled_dense",)
    ),
    _text_row(
        "deberta_v3",
        "DebertaV3",
        "disentangled_attention_encoder_layer_{index}/self_attention_layer",
        head=("pooled_dense",),
        bucket_size=4,
    ),
    _lm_row("gpt2", "GPT2", _DECODER_BLOCKS, arguments=_encoder_arguments),
    _lm_row("opt", "OPT", _DECODER_BLOCKS, arguments=_encoder_arguments),
    _lm_row("llama", "Llama", _DECODER_BLOCKS),
    _lm_row("gemma", "Gemma", "decoder_block_{index}/attention", head_dim=4),
    _lm_row(
        "gemma3",
        "Gemma3",
        "decoder_block_{index}/attention",
        head_dim=4,
        image_size=8,
    ),
    _lm_row("mistral", "Mistral", _DECODER_BLOCKS, sliding_window=3),
    _lm_row("qwen3", "Qwen3", _DECODER_BLOCKS, head_dim=4),
    Architecture(
        name="t5",
        task=TEXT_CLASSIFICATION,
        create=_t5,
        create_data=_encoder_decoder_data,
        target_paths=_paths(
            *(
                f"transformer_{attention}/{role}_projector"
                for attention in (
                    "encoder_layer_{index}/self_attention",
                    "decoder_layer_{index}/self_attention",
                    "decoder_layer_{index}/cross_attention",
                )
                for role in ("query", "value")
            )
        ),
        also_train=("logits",),
        head=_dense("logits"),
    ),
    Architecture(
        name="vit",
        task=IMAGE_CLASSIFICATION,
        create=_vit,
        create_data=_image_data,
        # ViT counts its blocks from one.
        target_paths=tuple(
            f"vit_encoder/transformer_block_{index + 1}/mha/{role}"
            for index in range(NUM_LAYERS)
            for role in ("query", "value")
        ),
        head=_dense("predictions"),
    ),
    Architecture(
        name="resnet",
        task=IMAGE_CLASSIFICATION,
        create=_resnet,
        create_data=_image_data,
        targets=(),
        head=_dense("predictions"),
    ),
    Architecture(
        name="functional",
        task=TEXT_CLASSIFICATION,
        create=_functional,
        create_data=_plain_token_data,
        target_paths=_paths(
            "attention_{index}/query", "attention_{index}/value"
        ),
        also_train=("logits",),
        head=_dense("logits"),
    ),
    Architecture(
        name="subclassed",
        task=TEXT_CLASSIFICATION,
        create=_subclassed,
        create_data=_plain_token_data,
        target_paths=_paths(
            "subclassed/attention_{index}/query",
            "subclassed/attention_{index}/value",
        ),
        also_train=("logits",),
        head=_dense("subclassed/logits"),
    ),
    Architecture(
        name="sequential",
        task=TEXT_CLASSIFICATION,
        create=_sequential,
        create_data=_plain_token_data,
        targets=("hidden_0", "hidden_1"),
        target_paths=_paths("hidden_{index}"),
        also_train=("logits",),
        head=_dense("logits"),
    ),
    *VARIANTS,
)
