"""The settings of the papers' experiments, as their tables state them."""

import dataclasses
from typing import Any

from keras_debias import adapters

LINEAR, COSINE, CONSTANT = "linear", "cosine", "constant"


@dataclasses.dataclass(frozen=True)
class Row:
    """One setting; `None` is what the paper does not state.

    Attributes:
        learning_rate, weight_decay: floats.
        batch_size: int.
        epochs: int, or `None`.
        adapter: an adapter, or `None` for full fine-tuning.
        warmup: int, updates, or a float below 1, a share of them.
        decay: string.
        sequence_length: int, or `None`.
        metric: string, a name of `kd.metrics.get`.
        reference: string, where it is stated.
    """

    learning_rate: float
    batch_size: int
    epochs: int | None
    adapter: Any
    reference: str
    weight_decay: float = 0.0
    warmup: float = 0
    decay: str = LINEAR
    sequence_length: int | None = None
    metric: str = "accuracy"


def _edge() -> dict:
    text = Row(
        3e-5,
        32,
        None,
        adapters.LoRA(),
        "EDGE, section 5.2",
        weight_decay=0.05,
        warmup=1000,
        decay=CONSTANT,
    )
    images = Row(1e-3, 256, None, None, "EDGE, section 5.2", decay=CONSTANT)
    return {
        "roberta_base": {"nli": text},
        "gpt2": {"nli": text},
        "resnet18": {"images": images},
    }


GLUE = ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb")
# Table 8: epochs, batch size, learning rate, alpha.
DEBERTA = (
    (5, 16, 5e-4, 8),
    (20, 16, 3e-5, 8),
    (20, 32, 2e-4, 8),
    (20, 16, 1e-4, 8),
    (10, 32, 1e-4, 16),
    (10, 16, 1e-4, 8),
    (50, 16, 1e-4, 8),
    (20, 8, 3e-4, 8),
)
# Table 9: epochs, batch size, learning rate.
ROBERTA = (
    (30, 16, 5e-4),
    (60, 16, 5e-4),
    (30, 16, 4e-4),
    (80, 32, 4e-4),
    (25, 32, 4e-4),
    (25, 16, 5e-4),
    (80, 32, 4e-4),
    (40, 16, 4e-4),
)
BA_LORA_METRICS = {"cola": "matthews", "stsb": "pearson"}


def _ba_lora() -> dict:
    def metric(task):
        return BA_LORA_METRICS.get(task, "accuracy")

    deberta = {
        task: Row(
            rate,
            batch,
            epochs,
            adapters.PiSSA(rank=8, alpha=alpha),
            "BA-LoRA, Table 8",
            metric=metric(task),
        )
        for task, (epochs, batch, rate, alpha) in zip(GLUE, DEBERTA)
    }
    roberta = {
        task: Row(
            rate,
            batch,
            epochs,
            adapters.PiSSA(rank=8, alpha=8, targets=("query", "value")),
            "BA-LoRA, Table 9",
            warmup=0.06,
            sequence_length=512,
            metric=metric(task),
        )
        for task, (epochs, batch, rate) in zip(GLUE, ROBERTA)
    }
    t5 = {
        task: Row(
            1e-4,
            32,
            1,
            adapters.PiSSA(rank=8, alpha=16, targets="*"),
            "BA-LoRA, appendix B.4",
            warmup=0.03,
            decay=COSINE,
            sequence_length=128,
            metric=metric(task),
        )
        for task in GLUE
    }
    generation = Row(
        2e-5,
        32,
        1,
        adapters.PiSSA(rank=128, alpha=128, targets="*"),
        "BA-LoRA, appendix B.4",
        warmup=0.03,
        decay=COSINE,
        sequence_length=512,
        metric="exact_match",
    )
    return {
        "deberta_v3_base": deberta,
        "roberta_base": roberta,
        "t5_base": t5,
        "llama2_7b": {"metamath": generation},
    }


# Tables 18 and 19: learning rate, epochs at low, medium and high data.
BERT_BASE = {
    "sst2": (4e-4, (16, 16, 16), "accuracy"),
    "rte": (1e-3, (30, 30, 30), "accuracy"),
    "cola": (7e-4, (16, 16, 16), "matthews"),
    "mrpc": (7e-4, (16, 16, 60), "f1"),
    "stsb": (1e-4, (16, 30, 60), "spearman"),
    "qqp": (4e-4, (16, 16, 30), "f1"),
    "qnli": (1e-4, (16, 16, 30), "accuracy"),
    "mnli": (1e-4, (16, 16, 30), "accuracy"),
}
# Tables 20 and 21: learning rate, epochs.
BERT_BASE_SUPER_GLUE = {"wic": (1e-3, 16), "cb": (1e-3, 60)}
LARGER = {
    "sst2": (4e-4, 30),
    "rte": (1e-3, 30),
    "wic": (1e-3, 30),
    "cb": (1e-3, 60),
}
# Table 22: learning rate.
OPT = {
    "sst2": 1e-3,
    "rte": 1e-3,
    "boolq": 1e-3,
    "multirc": 1e-3,
    "wsc": 1e-2,
    "cb": 1e-2,
    "wic": 1e-3,
    "copa": 1e-4,
    "record": 1e-4,
    "squad": 1e-3,
    "drop": 1e-3,
}
BEFT_METRICS = {"cb": "macro_f1", "squad": "token_f1", "drop": "token_f1"}


def _beft(regime: str) -> dict:
    position = ("low", "medium", "high").index(regime)
    adapter = adapters.ValueBias()

    def row(rate, epochs, table, metric):
        return Row(rate, 16, epochs, adapter, f"BEFT, {table}", metric=metric)

    base = {
        task: row(
            rate,
            epochs[position],
            "Table 19" if task in ("qqp", "qnli", "mnli") else "Table 18",
            metric,
        )
        for task, (rate, epochs, metric) in BERT_BASE.items()
    }
    found = {"bert_base": base}
    if regime != "low":
        return found

    def metric(task):
        return BEFT_METRICS.get(task, "accuracy")

    for task, (rate, epochs) in BERT_BASE_SUPER_GLUE.items():
        base[task] = row(rate, epochs, "Table 20", metric(task))
    for model in ("roberta_base", "bert_large"):
        found[model] = {
            task: row(rate, epochs, "Table 21", metric(task))
            for task, (rate, epochs) in LARGER.items()
        }
    for model in ("opt_1.3b", "opt_6.7b"):
        found[model] = {
            task: row(rate, None, "Table 22", metric(task))
            for task, rate in OPT.items()
        }
    return found


BIAS_AWARE_TASKS = (
    *(
        "tweet_emotion",
        "go_emotions",
        "empathetic_dialogues",
        "super_tweet_hate",
    ),
    *("sst5", "sst2", "bbq_age", "bbq_ses", "bbq_disability", "bbq_gender"),
    *("ag_news", "rte"),
)
# Table 1: the target layer for each of these tasks.
TARGET_LAYERS = {
    "gemma2_2b": (15, 15, 12, 6, 22, 15, 22, 21, 22, 21, 12, 19),
    "gemma2_9b": (22, 22, 22, 28, 28, 25, 25, 25, 25, 25, 22, 25),
    "mistral_7b": (12, 12, 12, 12, 12),
    "llama3.2_1b": (9, 10, 8, 5, 10),
    "llama3.2_3b": (14, 14, 8, 14, 14),
}


def _bias_aware() -> dict:
    return {
        model: {
            task: Row(
                5e-5,
                16,
                None,
                adapters.TargetLayer(layer),
                "Bias-aware PEFT, section 5.1 and Table 1",
                metric="weighted_f1",
            )
            # The larger models come with fewer tasks.
            for task, layer in zip(BIAS_AWARE_TASKS, layers, strict=False)
        }
        for model, layers in TARGET_LAYERS.items()
    }


def tables(regime: str) -> dict[str, dict]:
    """Paper -> model -> task -> `Row`."""
    return {
        "edge": _edge(),
        "ba_lora": _ba_lora(),
        "beft": _beft(regime),
        "bias_aware_peft": _bias_aware(),
    }
