"""A tokenizer of whole words, and tiny causal LMs that use it."""

import keras
import keras_hub
import numpy as np

from tests.architectures import randomize

LABELS = ("joy", "fear", "anger")
WORDS = (
    "Review Emotion very mad glad afraid the a day dog storm was it "
    "and run sad " + " ".join(LABELS)
).split()


def tokenizer(words=WORDS):
    """Byte-level BPE that knows each word, with a blank before it or not."""
    vocabulary = ["<|endoftext|>", *(chr(i) for i in range(33, 127))]
    vocabulary += ["Ġ", "Ċ"]
    merges = []
    # The blank joins first, then one letter after another.
    for whole in [*(f"Ġ{word}" for word in words), *words]:
        for end in range(2, len(whole) + 1):
            left, right = whole[: end - 1], whole[end - 1]
            if f"{left} {right}" not in merges:
                merges.append(f"{left} {right}")
                vocabulary.append(whole[:end])
    vocabulary = list(dict.fromkeys(vocabulary))
    return keras_hub.tokenizers.GPT2Tokenizer(
        vocabulary={token: i for i, token in enumerate(vocabulary)},
        merges=merges,
    )


def gpt2(seed=0, layers=2, width=8, words=WORDS, length=48, randomized=True):
    """A GPT-2 of a few layers, the same on every backend."""
    keras.utils.set_random_seed(seed)
    tokens = tokenizer(words)
    model = keras_hub.models.GPT2CausalLM(
        backbone=keras_hub.models.GPT2Backbone(
            vocabulary_size=tokens.vocabulary_size(),
            num_layers=layers,
            num_heads=2,
            hidden_dim=width,
            intermediate_dim=2 * width,
            max_sequence_length=length,
            dropout=0.0,
        ),
        preprocessor=keras_hub.models.GPT2CausalLMPreprocessor(
            tokens, sequence_length=length
        ),
    )
    if randomized:
        randomize(model, seed)
    return model


def llama(seed=0, words=WORDS):
    """A Llama with rotary positions; no preprocessor but the tokenizer."""
    keras.utils.set_random_seed(seed)
    tokens = tokenizer(words)
    model = keras_hub.models.LlamaCausalLM(
        backbone=keras_hub.models.LlamaBackbone(
            vocabulary_size=tokens.vocabulary_size(),
            num_layers=2,
            num_query_heads=2,
            num_key_value_heads=1,
            hidden_dim=8,
            intermediate_dim=12,
        ),
        preprocessor=keras_hub.models.GPT2CausalLMPreprocessor(
            tokens, sequence_length=48, add_start_token=False
        ),
    )
    randomize(model, seed)
    return model


def texts(count, seed=0):
    """Texts of two to five words, with a label each that a word gives away."""
    generator = np.random.default_rng(seed)
    words = ("glad", "afraid", "mad")
    filler = ("the", "a", "day", "dog", "storm", "was", "it", "and")
    labels = generator.integers(0, 3, count)
    rows = []
    for label in labels:
        chosen = list(generator.choice(filler, generator.integers(1, 5)))
        chosen.insert(int(generator.integers(len(chosen) + 1)), words[label])
        rows.append(" ".join(chosen))
    return np.array(rows, object), labels.astype("int32")
