"""
Title: Fine-grained classification with a language model, without label bias
Author: The keras_debias authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Score label words, measure label bias, and train one layer.
Accelerator: None
"""

"""
## Introduction

A language model classifies a text by the word it puts after a prompt: "Review:
we lost the game. Emotion:" goes on with "sadness". With many labels, close in
meaning, two things go wrong. The model prefers words it has seen often
("joy" over "trust"), whatever the text says, and it hardly tells apart the
rows that have a rare label from those that have not.

In this guide we make a classifier out of a causal language model and a list of
label words, measure both biases, correct them after the fact, and then train a
single layer, under 10 % of a toy model and under 1 % of a real one, with a
loss that balances the labels. At the end we look at where in the network the
bias builds up.
"""

"""
## Setup

```shell
pip install "keras-debias[torch]"
```

One line chooses the backend: `"torch"`, `"tensorflow"` or `"jax"`. It has to
stand before Keras is imported.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import numpy as np

import keras_debias as kd

BATCH_SIZE = 16
EPOCHS = 8
LEARNING_RATE = 3e-3
LENGTH = 24
SEED = 0

"""
## A small language model with a taste for one word

A real run starts from a preset, `keras_hub.models.CausalLM.from_preset(...)`;
`examples/bias_aware_emotions.py` does so with SmolLM2-135M. Here we make a
model in seconds, so that we know what it has learned: a tokenizer of whole
words, a GPT-2 of four layers, and sentences in which "joy" is named far more
often than "trust".
"""

LABELS = ("joy", "anger", "fear", "trust")
CUES = {
    "joy": ("won", "sunshine", "cake"),
    "anger": ("insult", "noise", "cheated"),
    "fear": ("storm", "dark", "snake"),
    "trust": ("promise", "friend", "honest"),
}
AFTER = {"joy": "good", "anger": "bad", "fear": "oh", "trust": "well"}
FILLER = "the a we had day it was with our and very some".split()
WORDS = [*LABELS, *sum(CUES.values(), ()), *AFTER.values(), *FILLER]
WORDS += ["Review", "Emotion"]


def word_tokenizer(words):
    vocabulary = ["<|endoftext|>", *(chr(i) for i in range(33, 127))]
    vocabulary += ["Ġ", "Ċ"]
    merges = []
    for whole in [*(f"Ġ{word}" for word in words), *words]:
        for end in range(2, len(whole) + 1):
            merges.append(f"{whole[: end - 1]} {whole[end - 1]}")
            vocabulary.append(whole[:end])
    merges, vocabulary = (list(dict.fromkeys(x)) for x in (merges, vocabulary))
    ids = {token: number for number, token in enumerate(vocabulary)}
    return keras_hub.tokenizers.GPT2Tokenizer(vocabulary=ids, merges=merges)


def texts(count, frequencies, seed):
    """Texts with one cue among filler, and the label of the cue."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(len(LABELS), count, p=frequencies)
    rows = []
    for label in labels:
        words = list(generator.choice(FILLER, generator.integers(2, 6)))
        cue = generator.choice(CUES[LABELS[label]])
        words.insert(int(generator.integers(len(words) + 1)), cue)
        rows.append(" ".join(words))
    return np.array(rows, object), labels.astype("int32")


keras.utils.set_random_seed(SEED)
tokenizer = word_tokenizer(WORDS)
causal_lm = keras_hub.models.GPT2CausalLM(
    backbone=keras_hub.models.GPT2Backbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=4,
        num_heads=4,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=LENGTH,
        dropout=0.0,
    ),
    preprocessor=keras_hub.models.GPT2CausalLMPreprocessor(
        tokenizer, sequence_length=LENGTH
    ),
)

"""
In the sentences for pretraining, the label follows the cue in 35 cases of
100. In the others it is drawn by its frequency alone: the model learns the
task, and that betting on the frequencies pays. After each label comes a word
that goes with it.
"""

FREQUENCIES = np.array([0.62, 0.25, 0.09, 0.04])
generator = np.random.default_rng(SEED + 1)
reviews, cued = texts(1500, FREQUENCIES, seed=SEED)
drawn = generator.choice(len(LABELS), len(cued), p=FREQUENCIES)
named = np.where(generator.random(len(cued)) < 0.35, cued, drawn)
corpus = [
    f"Review: {review}\nEmotion: {LABELS[label]} {AFTER[LABELS[label]]}"
    for review, label in zip(reviews, named)
]
tokens = kd.data.prompt_response(
    [""] * len(corpus), corpus, tokenizer, sequence_length=LENGTH
)
causal_lm.compile(
    keras.optimizers.Adam(3e-3),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
causal_lm.preprocessor, preprocessor = None, causal_lm.preprocessor
causal_lm.fit(
    tokens.x,
    tokens.y,
    sample_weight=tokens.sample_weight,
    batch_size=64,
    epochs=16,
    shuffle=False,
    verbose=0,
)
causal_lm.preprocessor = preprocessor

"""
## A classifier out of label words

`LabelWordClassifier` takes the language model, the label words and a template.
The template is a format string that ends where the label follows. Its output
is one score for each label; all labels are scored in one pass over the prompt.
"""

classifier = kd.models.LabelWordClassifier(
    causal_lm, LABELS, "Review: {text}\nEmotion:", sequence_length=LENGTH
)
even = np.full(len(LABELS), 1 / len(LABELS))
train = kd.data.Split(*texts(160, FREQUENCIES, seed=1), label_names=LABELS)
test = kd.data.Split(*texts(400, even, seed=2), label_names=LABELS)
print(classifier.preprocessor.prompts(test.x[:1])[0])

"""
## Measure the bias

`label_report()` gives F1 and, beside it, two numbers about the scores. The
**propensity** is how far the mean scores of the labels lie apart: a model
without a preference has little. The **discrimination** is how much higher a
label's score is in the rows that have it than in those that do not.
"""


def measure(scores):
    report = kd.evaluation.label_report(scores, test.y, LABELS)
    print(
        f"weighted F1 {report.weighted_f1:.2f}, propensity "
        f"{report.propensity:.2f}, discrimination {report.discrimination:.2f}"
    )
    return report


zero_shot_scores = classifier.predict(test, verbose=0)
zero_shot = measure(zero_shot_scores)
said = np.bincount(zero_shot_scores.argmax(axis=1), minlength=len(LABELS))
print(dict(zip(LABELS, said.tolist())))
assert said[0] > 2 * (test.y == 0).sum()

"""
The test set has the labels in equal parts, and yet the model says "joy" more
than twice as often as it should, and "trust" hardly at all.

## Correct the scores after the fact

Contextual calibration asks the model about texts without content and divides
by what it says; domain-context calibration does so with random words of the
domain. Nothing is trained.
"""

prior = classifier.predict(list(kd.evaluation.CONTENT_FREE), verbose=0)
contextual = measure(kd.evaluation.calibrated_scores(zero_shot_scores, prior))
words = kd.evaluation.domain_texts(train.x, n=20, seed=SEED)
prior = classifier.predict(words, verbose=0)
domain = measure(kd.evaluation.calibrated_scores(zero_shot_scores, prior))
assert domain.weighted_f1 > zero_shot.weighted_f1

"""
The correction shifts each label by a constant: the preference goes away. It
cannot tell the labels apart any better: the discrimination stays what it is.

## Find the layer to train

`find_target_layer()` continues each prompt by its label and by the best wrong
one, and puts the attention output of the second into the first, one layer at a
time. The layer where that changes most what the model says next is the target.
"""

search = kd.analysis.find_target_layer(classifier, train, seed=SEED)
print("target layer:", search.layer)
print("divergence by layer:", [f"{value:.1e}" for value in search.curve])
assert 0 <= search.layer < 4

"""
`TargetLayer` trains two kernels of that layer, the output of its attention and
of its feed-forward part, and a vector that is added to what enters it.
"""

kd.adapters.apply(classifier, kd.adapters.TargetLayer(search.layer))
summary = kd.adapters.summary(classifier)
print(summary)
assert summary.share < 0.10

"""
## Train it with balanced labels

`LabelBalance` adds two terms to the language model's loss, both computed from
the mean scores of a batch: one pulls the labels' means together, one pushes
the rows with a label away from those without. The logs show both, before their
factors.

The training set has the labels as unequally as the pretraining had. We train
twice from the same start: plainly, and balanced.
"""


def train_from_here(regularizers):
    start = [np.array(keras.ops.convert_to_numpy(v)) for v in target]
    model = kd.DebiasedModel(classifier, regularizers=regularizers, seed=SEED)
    model.compile(keras.optimizers.AdamW(LEARNING_RATE))
    history = model.fit(
        train, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0
    ).history
    scores = model.predict(test, verbose=0)
    end = [np.array(keras.ops.convert_to_numpy(v)) for v in target]
    for variable, value in zip(target, start):
        variable.assign(value)
    return scores, history, end


target = classifier.trainable_variables
plain_scores, _, _ = train_from_here(None)
plain = measure(plain_scores)
balance = kd.regularizers.LabelBalance(beta=0.5, gamma=0.5)
scores, history, trained = train_from_here(balance)
balanced = measure(scores)
for name in ("loss", "label_propensity", "label_discrimination"):
    print(f"{name}: {history[name][0]:.2f} -> {history[name][-1]:.2f}")
assert balanced.weighted_f1 > plain.weighted_f1
assert balanced.propensity < plain.propensity
assert balanced.discrimination > plain.discrimination

"""
## Compare

On texts with all labels in equal parts, from the same 160 rows in the same
order:
"""

rows = {
    "zero-shot": zero_shot,
    "contextual calibration": contextual,
    "domain calibration": domain,
    "one layer": plain,
    "one layer, balanced": balanced,
}
for name, report in rows.items():
    print(f"{name:24} F1 {report.weighted_f1:.2f}  macro {report.macro_f1:.2f}")
assert plain.discrimination > 2 * zero_shot.discrimination
assert domain.propensity < balanced.propensity < plain.propensity

"""
Training on skewed labels makes the model tell them apart, more than twice as
well as before, and keeps most of the preference; balanced, it loses most of
that as well. Domain calibration, which costs nothing, does just as well here:
this model's trouble was made of a constant preference. Measure it first.

Balancing is no free lunch: `bal2` has no lower bound, and grows scores as long
as it is allowed to. `LabelBalance(cap=...)` stops it at a norm. What else the
model could do, `kd.evaluation.perplexity()` tells on running text.

## Where the bias builds up

`bias_accumulation()` reads the label scores off after every layer, with the
final normalization and the output embedding on the hidden states. It is a
picture of the network before and after training.
"""

before = kd.analysis.bias_accumulation(classifier, test)
for variable, value in zip(target, trained):
    variable.assign(value)
after = kd.analysis.bias_accumulation(classifier, test)
print("propensity by layer, before:", np.round(before.propensity, 2).tolist())
print("propensity by layer, after: ", np.round(after.propensity, 2).tolist())
assert after.discrimination[-1] > before.discrimination[-1]
before.plot_contain("contain_before.png")
after.plot_labels("labels_after.png", ["joy", "trust"])

"""
## Going lower-level

The pretrained model is still there: adapters switch off.
"""

with kd.adapters.disabled(classifier):
    again = classifier.predict(test, verbose=0)
assert np.allclose(again, zero_shot_scores, atol=1e-5)

"""
`TargetLayerFreezing` starts from any adapters, and after some epochs freezes
all but the target layer:

```python
kd.adapters.apply(classifier, kd.adapters.LoRA(targets="*_output*"))
model.fit(
    train,
    epochs=3,
    callbacks=[kd.callbacks.TargetLayerFreezing(1, data=train)],
)
```

## Next steps

- `examples/bias_aware_emotions.py` is the same with a real model and real
  emotions, several labels to a text, LoRA and neuron pruning beside it.
- `kd.models.TEMPLATES` has prompts with instructions for twelve datasets.
- `kd.regularizers.LabelBalance` works on the logits of any classifier.
"""
