"""What does fine-tuning on GSM8K cost a language model? BA-LoRA's terms.

SmolLM2-135M is fine-tuned on grade-school mathematics by PiSSA of rank 32 on
all seven projections: alone, with each of BA-LoRA's three terms, and with
all of them. Measured are the likelihood of the answers of unseen problems,
and the perplexity on WikiText-2, which fine-tuning is not about.

    python examples/ba_lora_gsm8k.py                    # a CPU's size
    python examples/ba_lora_gsm8k.py --methods base PiSSA BA-LoRA
    python examples/ba_lora_gsm8k.py --accuracy 50      # exact answers, too
    python examples/ba_lora_gsm8k.py --gpu --seeds 0 1 2
    python examples/ba_lora_gsm8k.py --table

Needs the sets `gsm8k` and `wikitext2`: a folder named by KERAS_DEBIAS_DATA,
or the hub. Finished runs are kept in `results/ba_lora_gsm8k/` and not
repeated.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import time

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import keras_hub  # isort: skip

from common import machine  # isort: skip
from common import mean_and_spread  # isort: skip
from common import versions  # isort: skip
from common import write  # isort: skip

TARGETS = (
    *("query", "key", "value", "attention_output"),
    *("feedforward_gate_dense", "feedforward_intermediate_dense"),
    "feedforward_output_dense",
)


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of everything."""

    rows: int
    length: int
    batch_size: int
    rank: int
    learning_rate: float
    epochs: int = 1
    test_rows: int = 200
    wikitext_tokens: int = 20_000


# 24 updates; the paper's rate is 2e-5, for thousands of them.
CPU = Size(96, 160, 4, 32, 2e-4)
# 125 updates: a minute or two a method on one GPU.
GPU = Size(2000, 256, 16, 32, 1e-4)

# Which of the terms of `ba_lora()`; `None` is the pretrained model.
METHODS = {
    "base": None,
    "PiSSA": (),
    "BA-LoRA": (0, 1, 2),
    "PiSSA + CR": (0,),
    "PiSSA + DR": (1,),
    "PiSSA + SVDR": (2,),
}
# WikiText-2 perplexity of Table 13, GSM8K accuracy of Table 4: LLaMA-2-7B.
PAPER = {
    "base": {"perplexity": 5.42},
    "PiSSA": {"perplexity": 7.12, "accuracy": 51.48},
    "BA-LoRA": {"perplexity": 5.68, "accuracy": 55.86},
    "PiSSA + CR": {"accuracy": 54.25},
    "PiSSA + DR": {"accuracy": 53.60},
    "PiSSA + SVDR": {"accuracy": 52.95},
}
# Half the time of float32 on a CPU that knows bfloat16; weights, factors and
# optimizer stay float32.
POLICY = "mixed_bfloat16"
SCRIPT = pathlib.Path(__file__)
FOLDER = SCRIPT.parents[1] / "results" / SCRIPT.stem  # finished runs


def problems(split, rows, seed):
    """Prompts, and worked answers that end in `#### 42`."""
    import pandas as pd

    folder = os.environ.get("KERAS_DEBIAS_DATA")
    if folder is None:
        import datasets

        table = datasets.load_dataset("openai/gsm8k", "main", split=split)
        table = table.to_pandas()
    else:
        table = pd.read_parquet(f"{folder}/gsm8k/{split}.parquet")
    table = table.sample(min(rows, len(table)), random_state=seed)
    prompts = [f"Question: {q}\nAnswer:" for q in table["question"]]
    return prompts, [f" {answer}" for answer in table["answer"]]


def fitting(rows, tokenizer, length):
    """Without the few rows whose question leaves no room for an answer."""
    sizes = [len(ids) for ids in tokenizer(rows[0])]
    kept = [i for i, size in enumerate(sizes) if size < length - 8]
    return tuple([texts[i] for i in kept] for texts in rows)


def build(method, size, seed, steps):
    keras.utils.set_random_seed(seed)
    causal_lm = keras_hub.models.CausalLM.from_preset(
        kd.presets.smollm2(), dtype=POLICY
    )
    if METHODS[method] is None:
        return causal_lm
    kd.adapters.apply(
        causal_lm, kd.adapters.PiSSA(rank=size.rank, targets=TARGETS)
    )
    terms = kd.regularizers.ba_lora(generation=True, steps=steps)
    return kd.DebiasedModel(
        causal_lm,
        regularizers=[terms[i] for i in METHODS[method]],
        seed=seed,
    )


def train(model, size, seed, split):
    steps = size.epochs * -(-len(split) // size.batch_size)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                0.0,
                steps,
                warmup_target=size.learning_rate,
                warmup_steps=max(1, round(0.03 * steps)),
            )
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        metrics=[],
    )
    began = time.time()
    history = model.fit(
        split, batch_size=size.batch_size, epochs=size.epochs, verbose=2
    )
    return {
        "steps": steps,
        "step_seconds": round((time.time() - began) / steps, 3),
        "history": {
            k: [round(float(x), 5) for x in v]
            for k, v in history.history.items()
        },
    }


def run(method, size, seed, accuracy):
    """Trains and measures; the test rows are those of every seed."""
    model = build(
        method, size, seed, size.epochs * -(-size.rows // size.batch_size)
    )
    network = model if METHODS[method] is None else model.model
    tokenizer = network.preprocessor.tokenizer
    result = {"method": method, "seed": seed, "size": dataclasses.asdict(size)}
    if METHODS[method] is not None:
        rows = fitting(
            problems("train", size.rows, seed), tokenizer, size.length
        )
        split = kd.data.prompt_response(*rows, tokenizer, size.length)
        result["train"] = train(model, size, seed, split)
    result.update(measure(network, size, accuracy))
    return {**result, "versions": versions(), "machine": machine()}


def measure(network, size, accuracy):
    tokenizer = network.preprocessor.tokenizer
    test = fitting(problems("test", size.test_rows, 0), tokenizer, size.length)
    result = {
        "test_rows": len(test[0]),
        "answer_nll": kd.evaluation.answer_nll(
            network, *test, sequence_length=size.length
        ),
        "perplexity": kd.evaluation.perplexity(
            network,
            kd.data.load("wikitext2", "test").x,
            stride=384,
            max_tokens=size.wikitext_tokens,
        ),
    }
    if accuracy:
        result["accuracy_rows"] = accuracy
        result["accuracy"] = kd.evaluation.answer_accuracy(
            network,
            *(texts[:accuracy] for texts in test),
            max_length=2 * size.length,
            batch_size=10,
        )
    return result


def path_of(method, seed, scale):
    return FOLDER / f"{scale}_{method.replace(' + ', '_')}_seed{seed}.json"


def cell(measured):
    if measured is None:
        return "-"
    spread = "" if measured["std"] is None else f" ± {measured['std']:.3f}"
    return f"{measured['mean']:.3f}{spread}"


def table(options):
    scale = "gpu" if options.gpu else "cpu"
    rows, finished = {}, []
    for method in METHODS:
        there = [
            json.loads(path_of(method, s, scale).read_text())
            for s in options.seeds
            if path_of(method, s, scale).exists()
        ]
        if not there:
            continue
        finished += there
        row = {"seeds": [r["seed"] for r in there]}
        for name in ("answer_nll", "perplexity", "accuracy"):
            values = [r[name] for r in there if name in r]
            row[name] = mean_and_spread(values) if values else None
        losses = [
            r["train"]["history"]["loss"][-1] for r in there if "train" in r
        ]
        row["loss"] = mean_and_spread(losses) if losses else None
        rows[method] = {**row, "paper": PAPER[method]}
    if not rows:
        print("No finished runs.")
        return
    print(
        "Nats a token, mean over the last epoch for the loss; WikiText-2 "
        "perplexity; share\nof exact answers. One seed has no spread."
    )
    heads = ["method", "seeds", "loss", "answer NLL", "WikiText-2"]
    heads += ["exact", "paper: WikiText-2, GSM8K %"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for method, row in rows.items():
        paper = row["paper"]
        cells = [method, str(len(row["seeds"]))]
        cells += [cell(row[k]) for k in ("loss", "answer_nll", "perplexity")]
        cells.append(cell(row["accuracy"]))
        cells.append(
            f"{paper.get('perplexity', '-')}, {paper.get('accuracy', '-')}"
        )
        print("| " + " | ".join(cells) + " |")
    result = {
        "command": "python examples/ba_lora_gsm8k.py --seeds "
        + " ".join(map(str, options.seeds))
        + (" --gpu" if options.gpu else ""),
        "size": dataclasses.asdict(GPU if options.gpu else CPU),
        "setting": {
            "dtype_policy": POLICY,
            "targets": TARGETS,
            "optimizer": "Adam, 3 % warm-up, cosine decay",
            "weights": "consistency 0.025 along a cosine, top-k entropy and "
            "spectral term 0.005 in two phases",
        },
        "rows": rows,
        "versions": finished[0]["versions"],
        "machine": finished[0]["machine"],
    }
    name = f"{SCRIPT.stem}_gpu.json" if options.gpu else f"{SCRIPT.stem}.json"
    write(SCRIPT.with_name(name), result)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=list(METHODS)
    )
    parser.add_argument("--accuracy", type=int, default=0, help="problems")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table and not FOLDER.is_dir():
        parser.error(f"Expected finished runs in {FOLDER}. Received: none.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    size, scale = (GPU, "gpu") if options.gpu else (CPU, "cpu")
    for seed in options.seeds:
        for method in options.methods:
            path = path_of(method, seed, scale)
            if options.table or path.exists():
                continue
            print("==", method, seed, flush=True)
            began = time.time()
            result = run(method, size, seed, options.accuracy)
            result["seconds"] = round(time.time() - began, 1)
            write(path, result)
            print(json.dumps(result), flush=True)
    table(options)


if __name__ == "__main__":
    sys.exit(main())
