"""
Title: Bring your adapter to Transformers and back
Author: The keras_debias authors
Date created: 2026/11/29
Last modified: 2026/11/29
Description: Exchange adapters and checkpoints with PEFT, Transformers and vLLM.
Accelerator: None
"""

"""
## Introduction

You fine-tune here, and serve elsewhere: with Transformers and PEFT, or with a
server such as vLLM that reads their files. Or a colleague has trained an
adapter in PEFT, and you want to know how it treats groups. Both times the
adapter should go from one library to the other and compute the same.

In this guide we train an adapter without group labels, write it as PEFT does,
and load it in PEFT: the logits agree to four digits and more. Then PEFT trains
on, and we read the result back. At the end we write the merged model as an
ordinary checkpoint, and say which adapters travel, and how a server reads them.
"""

"""
## Setup

```shell
pip install "keras-debias[torch]" transformers peft
```

PEFT runs on torch; Keras may run on any backend.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pathlib
import tempfile

import keras
import keras_hub
import numpy as np
import peft
import torch
import transformers
from keras import ops

import keras_debias as kd

NUM_CLASSES = 2
LENGTH = 12
RANK = 4
SEED = 0

folder = pathlib.Path(tempfile.mkdtemp())

"""
## A base that both libraries read

In earnest this is a name on the Hugging Face hub, such as
`"google-bert/bert-base-uncased"`, and both libraries download it. Here it is a
tiny BERT of random weights in a folder, so that the guide needs no network.
"""

torch.manual_seed(SEED)
config = transformers.BertConfig(
    vocab_size=64,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=LENGTH,
    hidden_act="gelu_new",
    initializer_range=0.3,
    num_labels=NUM_CLASSES,
)
BASE = str(folder / "base")
transformers.BertForSequenceClassification(config).save_pretrained(BASE)

"""
KerasHub's presets take the same name or folder. With a tokenizer you would use
`keras_hub.models.TextClassifier.from_preset(...)` and raw text.
"""


def build():
    """The classifier in Keras, with a new head."""
    keras.utils.set_random_seed(SEED)
    backbone = keras_hub.models.Backbone.from_preset(BASE)
    return keras_hub.models.BertTextClassifier(
        backbone=backbone, num_classes=NUM_CLASSES, preprocessor=None
    )


classifier = build()

"""
The task: whether a row has token 7 in it. In training, token 9 goes with it in
nine rows of ten: a shortcut. In the test it says nothing. The task is easy, so
that a few seconds are enough.
"""


def rows(count, strength, seed):
    """Token ids and labels; token 9 goes with the label that often."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(10, 64, (count, LENGTH)).astype("int32")
    labels = generator.integers(0, 2, count)
    follows = generator.random(count) < strength
    tokens[labels == 1, 3] = 7
    tokens[np.where(follows, labels == 1, labels == 0), 5] = 9
    inputs = {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": np.ones_like(tokens),
    }
    return inputs, labels.astype("int32")


x, y = rows(512, 0.9, seed=1)
x_test, y_test = rows(512, 0.5, seed=2)

"""
## Train here

`LoRA` on query, key and value, and a projection that needs no group labels. The
head, new and random, trains along.
"""

kd.adapters.apply(
    classifier, kd.adapters.LoRA(RANK, targets=("query", "key", "value"))
)
model = kd.DebiasedModel(classifier, kd.projections.EDGE(), seed=SEED)
model.compile(
    keras.optimizers.Adam(5e-3),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(x, y, batch_size=32, epochs=8, verbose=0)


def keras_logits(model):
    return ops.convert_to_numpy(model(x_test, training=False))


def accuracy(logits):
    return float((logits.argmax(-1) == y_test).mean())


ours = keras_logits(classifier)
print(f"accuracy without the shortcut, in Keras: {accuracy(ours):.3f}")
assert accuracy(ours) > 0.9

"""
## To PEFT

One call writes the folder that PEFT's own `save_pretrained` would write. The
head goes along under the name that Transformers gives it, `classifier`, and
`base_model_name_or_path` tells PEFT, and servers, on which base it belongs.
"""

kd.adapters.export_peft(
    classifier, folder / "adapter", base_model_name_or_path=BASE
)
print((folder / "adapter" / "adapter_config.json").read_text())

"""
PEFT's `Auto` classes need nothing but the folder.
"""


def peft_logits(network):
    tokens = torch.tensor(x_test["token_ids"]).long()
    with torch.no_grad():
        return network.eval()(input_ids=tokens).logits.numpy()


theirs = peft.AutoPeftModelForSequenceClassification.from_pretrained(
    folder / "adapter", is_trainable=True
)
difference = np.abs(peft_logits(theirs) - ours).max()
print(f"largest difference of a logit: {difference:.1e}")
assert difference < 1e-4 * max(1, np.abs(ours).max())

"""
## And back

PEFT trains the same adapter on, on rows without the shortcut.
"""

optimizer = torch.optim.Adam(
    [p for p in theirs.parameters() if p.requires_grad], lr=5e-3
)
x_more, y_more = rows(256, 0.5, seed=3)
theirs.train()
for start in range(0, 256, 32):
    tokens = torch.tensor(x_more["token_ids"][start : start + 32]).long()
    labels = torch.tensor(y_more[start : start + 32]).long()
    theirs(input_ids=tokens, labels=labels).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
theirs.save_pretrained(folder / "from_peft")

"""
`kd.adapters.load` reads folders of both libraries. `trainable=True` lets it
train on here, with regularizers, projections and all else.
"""

again = build()
kd.adapters.load(again, folder / "from_peft", trainable=True)
expected = peft_logits(theirs)
found = keras_logits(again)
print(f"accuracy, trained on in PEFT: {accuracy(found):.3f}")
assert np.abs(found - expected).max() < 1e-4 * max(1, np.abs(expected).max())

with kd.adapters.disabled(again):
    assert np.abs(keras_logits(again) - found).max() > 0.1

"""
The split of the score by group is then one call: `kd.evaluate(again, ...)`, as
in [measure robustness](measure_robustness.md).

## Other adapters

| here | in PEFT | there and back |
| --- | --- | --- |
| `LoRA`, rank-stabilized too, `LoRAFA` | LoRA | yes |
| `DoRA` | DoRA | yes |
| `PiSSA`, `MiLoRA`, `OLoRA` | LoRA of twice the rank on the base | as LoRA |
| `VeRA` | VeRA | read as LoRA with the same product |
| `AdaLoRA` | LoRA | their AdaLoRA is read as LoRA |
| `IA3` | IA3 | yes |
| `ValueBias`, `KeyBias`, `QueryBias` | BEFT | yes |
| `LoRA` with `AllBiases` | LoRA with `bias="all"` | read |
| `PrefixTuning` | prefix tuning | yes, with rotary positions |
| `PromptTuning` | prompt tuning | yes, with rotary positions |
| `Houlsby`, `Pfeiffer`, `TargetLayer` | none | `kd.adapters.save` |

What PEFT has no form for is refused, with its reason. Of GPT-2, query, key and
value are one weight in Hugging Face: their factors are written as one adapter
of that weight, which computes the same.
"""

other = build()
kd.adapters.apply(other, kd.adapters.TargetLayer(1))
try:
    kd.adapters.export_peft(other, folder / "refused")
except ValueError as error:
    print(str(error)[:120])
assert not (folder / "refused").exists()

"""
## A whole checkpoint

Merged, the model is an ordinary one. `export_transformers` writes BERT,
RoBERTa, XLM-RoBERTa and DistilBERT classifiers; of causal language models,
KerasHub's own `model.export_to_transformers(folder)` does it.
"""

kd.adapters.merge(again)
kd.adapters.export_transformers(
    again, folder / "merged", label_names=("absent", "present")
)
auto = transformers.AutoModelForSequenceClassification
merged = auto.from_pretrained(folder / "merged")
assert np.abs(peft_logits(merged) - found).max() < 1e-3
print(merged.config.id2label)

"""
## Serve it

A server that reads folders of PEFT takes the folder of a low-rank adapter as it
is. With vLLM, which this guide does not run:

```shell
vllm serve HuggingFaceTB/SmolLM2-135M --enable-lora --max-lora-rank 16 \\
    --lora-modules debiased=/path/to/adapter
```

Requests then name `debiased` as their model. `--max-lora-rank` must be at least
the rank in `adapter_config.json`, which is twice yours for `PiSSA`, `MiLoRA`
and `OLoRA`. vLLM reads LoRA of one rank and one alpha, without DoRA and without
trained biases; since August 2026 the head of a sequence classifier too. Of all
else serve the merged checkpoint: `vllm serve /path/to/merged`.

## Next steps

- [BA-LoRA](ba_lora.md) and [bias terms](bias_terms.md) train adapters that go
  the same way.
- `keras-debias export-peft` does the same on the command line.
"""
