import re
import typing
from typing import Any

import keras

from keras_debias.data.arguments import check_int
from keras_debias.optimizers import WarmUp
from keras_debias.projections import EDGE
from keras_debias.recipes.budget import Budget
from keras_debias.recipes.fine_tuning import FineTuning
from keras_debias.recipes.published_setting import PublishedSetting
from keras_debias.recipes.published_tables import tables
from keras_debias.regularizers import LabelBalance
from keras_debias.regularizers import ba_lora

REGIMES = ("low", "medium", "high")


def published(
    paper: typing.Literal["edge", "ba_lora", "beft", "bias_aware_peft"],
    model: str,
    task: str,
    rows: int,
    *,
    regime: typing.Literal["low", "medium", "high"] = "low",
    epochs: float | None = None,
) -> PublishedSetting:
    """The setting of an experiment of a paper: method, adapter, optimizer.

    | paper | models | stated in |
    | --- | --- | --- |
    | `edge` | `roberta_base`, `gpt2`, `resnet18` | section 5.2 |
    | `ba_lora` | `deberta_v3_base`, `roberta_base`, `t5_base`, `llama2_7b` | \
Tables 8 and 9, appendix B.4 |
    | `beft` | `bert_base`, `roberta_base`, `bert_large`, `opt_1.3b`, \
`opt_6.7b` | Tables 18 to 22 |
    | `bias_aware_peft` | `gemma2_2b`, `gemma2_9b`, `mistral_7b`, \
`llama3.2_1b`, `llama3.2_3b` | section 5.1, Table 1 |

    Where a paper says nothing, the setting has AdamW without weight decay, a
    linearly decreasing learning rate, and this library's defaults of the
    method. The batch size of BEFT's Table 22 is that of its other tables.
    BA-LoRA's terms compare classes: for STS-B, a regression, its setting is
    PiSSA alone. A model is a name of the table only: any network can be
    prepared.

    Args:
        paper: string, one of the table.
        model: string, one of the paper's.
        task: string, such as `"rte"` or `"SST-2"`: case and hyphens do not
            matter. For EDGE `"nli"`, or `"images"` for `resnet18`.
        rows: int, the number of training rows, which sets the length of the
            schedules.
        regime: string, of BEFT's data regimes on `bert_base`; see
            `kd.data.low_data`. The other tables have `"low"` only. Defaults to
            `"low"`.
        epochs: float, in place of the paper's. EDGE (early stopping), the
            OPT models of BEFT and Bias-aware PEFT state none: there it must
            be given. Defaults to `None`.

    Returns:
        `PublishedSetting`.

    Raises:
        ValueError: If the paper has no such model or task, or does not
            state the epochs.

    Example:

    ```python
    setting = kd.recipes.published("beft", "bert_base", "rte", len(train))
    classifier = keras_hub.models.TextClassifier.from_preset(
        "bert_base_en_uncased", num_classes=2
    )
    model = kd.DebiasedModel(setting.prepare(classifier))
    model.compile()
    model.fit(train, epochs=setting.budget.epochs,
              batch_size=setting.budget.batch_size)

    # In a comparison:
    kd.compare(
        {"paper": setting.recipe}, train, test, seeds=[0], model_fn=build,
        budget=setting.budget,
    )
    ```
    """
    if not isinstance(regime, str) or regime not in REGIMES:
        raise ValueError(
            f"Expected `regime` to be one of {REGIMES}. Received: "
            f"regime={regime!r}"
        )
    check_int("rows", rows, 1)
    known = tables(regime)
    row: Any = known
    for name, value in (("paper", paper), ("model", model), ("task", task)):
        if isinstance(value, str) and name == "task":
            value = {_plain(key): key for key in row}.get(_plain(value), value)
        if not isinstance(value, str) or value not in row:
            raise ValueError(
                f"Expected `{name}` to be one of {tuple(row)}"
                + ("" if name == "paper" else f" of {paper!r}")
                + f". Received: {name}={value!r}"
                + (f", regime={regime!r}" if paper == "beft" else "")
            )
        row = row[value]
        task = value
    if epochs is None:
        epochs = row.epochs
    if epochs is None:
        raise ValueError(
            f"Expected `epochs`, which {row.reference} does not state. "
            "Received: epochs=None"
        )
    budget = Budget(epochs=epochs, batch_size=row.batch_size)
    updates = budget.updates_for(rows)
    return PublishedSetting(
        paper=paper,
        model=model,
        task=task,
        recipe=_recipe(paper, task, updates),
        adapter=row.adapter,
        budget=budget,
        updates=updates,
        learning_rate=row.learning_rate,
        schedule=_schedule(row.learning_rate, row.warmup, row.decay, updates),
        weight_decay=row.weight_decay,
        sequence_length=row.sequence_length,
        metric=row.metric,
        reference=row.reference,
    )


def _plain(task: str) -> str:
    return re.sub(r"[^a-z0-9]", "", task.lower())


def _recipe(paper, task, updates) -> FineTuning:
    if paper == "edge":
        return FineTuning(EDGE(alpha=0.5))
    if paper == "ba_lora" and task == "metamath":
        return FineTuning(
            regularizers=tuple(ba_lora(generation=True, steps=updates))
        )
    if paper == "ba_lora" and task != "stsb":
        return FineTuning(regularizers=tuple(ba_lora()))
    if paper == "bias_aware_peft":
        return FineTuning(regularizers=LabelBalance())
    return FineTuning()


def _schedule(rate, warmup, decay, updates):
    """A learning rate schedule.

    Args:
        rate: float, the peak.
        warmup: int, updates, or a float below 1, a share of them.
        decay: string, `"linear"`, `"cosine"` or `"constant"`.
        updates: int, of the whole run.
    """
    if 0 < warmup < 1:
        warmup = round(warmup * updates)
    # A short run would end before its peak.
    warmup = min(int(warmup), updates - 1)
    if decay == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            updates - warmup,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    return WarmUp(rate, warmup, updates if decay == "linear" else None)
