"""The figures of all benchmarks beside their goals, from the kept results.

Before is what the same benchmark gave before the work that it led to; a dash
is where there was nothing to measure. The first rows are of two versions that
took turns in one run (`side_by_side.py`).

    python benchmarks/table.py
"""

import json
import pathlib
import statistics

FOLDER = pathlib.Path(__file__).parent


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def side_by_side():
    for label, row in load("side_by_side")["ratios"].items():
        yield f"side by side: {label}", row["after"], row["goal"], row["before"]


def edge_tokens():
    ratio = load("edge_tokens")["ratios"]["together/apart"]
    yield "EDGE of tokens: one pass of twice the batch / two", ratio, 0.75, None


def steps():
    found = load("step_time")
    before = {"ours_edge/ours": 1.38, "ours/peft": 1.07, "ours/keras": 1.00}
    labels = {
        "ours_edge/ours": "step: EDGE / LoRA",
        "ours/peft": "step: LoRA / PEFT",
        "ours/keras": "step: LoRA / Keras' enable_lora",
        "ours_compiled/peft": "step: compiled LoRA / PEFT",
        "ours_compiled/peft_compiled": "step: compiled LoRA / compiled PEFT",
        "ours_edge_compiled/ours_compiled": "step: EDGE / LoRA, both compiled",
        "ours_edge/published_edge": "step: EDGE / EDGE as published",
    }
    for key, label in labels.items():
        ratio = found["ratios"][key]
        yield label, ratio["of_medians"], ratio["goal"], before.get(key)
    memory = {name: m["steps"] for name, m in found["memory_mib"].items()}
    for other, label in (("peft", "PEFT"), ("keras", "Keras")):
        ratio = memory["ours"] / memory[other]
        yield f"memory of steps: LoRA / {label}", ratio, 1.0, None


def python_calls():
    found = load("python_calls")["calls_a_step"]
    before = {"ours": 246_216, "ours_edge": 283_001}
    for name, label, goal in (
        ("ours", "LoRA", 1.1),
        ("ours_edge", "EDGE", None),
    ):
        yield (
            f"Python calls of an eager step: {label} / Keras' enable_lora",
            found[name] / found["keras"],
            goal,
            before[name] / found["keras"],
        )


def compiled_step():
    found = load("compiled_step")["cpu_seconds"]
    peft = min(found["peft_compiled"])
    before = {"ours_compiled": 1.57, "ours_edge_compiled": 1.63}
    for name, label, goal in (
        ("ours_compiled", "LoRA", 1.0),
        ("ours_edge_compiled", "EDGE", 1.1),
    ):
        yield (
            f"thin Llama, compiled: {label} / PEFT",
            min(found[name]) / peft,
            goal,
            before[name],
        )


def ba_lora():
    for task, base, goals in (
        ("classification", "PiSSA", (1.10, 1.05)),
        ("generation", "(PiSSA + forward)", (1.15, 1.25)),
    ):
        found = load(f"ba_lora_step_{task}")
        time = found["ratios"]["time_over_pissa"]["ba_lora"]
        yield f"{task}: BA-LoRA / {base}", time, goals[0], None
        memory = found["ratios"]["memory_over_pissa"]["ba_lora"]
        yield f"{task}: peak memory / PiSSA", memory, goals[1], None


def edge_refresh():
    effect = load("edge_refresh")["drift"]["updates"]
    least = min(c for row in effect.values() for c in row.values())
    yield "EDGE(refresh <= 32): 1 - cosine to exact", 1 - least, None, None


def pissa_start():
    found = load("pissa_start")
    before = {
        ("minilm", "ours/pissa"): 1.4,
        ("minilm", "ours/pissa_niter_16"): 5.0,
    }
    for model, result in found["results"].items():
        for key, ratio in result["ratios"].items():
            label = f"PiSSA start, {model}: {key}"
            goal = found["goals"]["time"]
            yield label, ratio, goal, before.get((model, key))
        energy = result["ours"]["energy"]
        label = f"PiSSA start, {model}: energy (at least)"
        yield label, energy, found["goals"]["energy"], None


def logits_memory():
    found = load("logits_memory")
    # Of half as many tokens.
    before = {("all", 49_152): 0.58, ("all", 128_256): 0.70}
    for row in found["rows"]:
        key = row["term"], row["vocabulary"]
        label = f"logits of {key[1]} words: {key[0]} / naive"
        yield label, row["ratio"], found["goal"], before.get(key)


def merged_inference():
    found = load("merged_inference")
    ratio = found["ratios"]["merged/base"]["median_of_rounds"]
    yield "inference: merged / base", ratio, found["goal"], None


def language_model():
    found = load("language_model_step")["programs"]
    peft = statistics.median(found["peft"]["seconds"])
    for name, label in (
        ("keras", "Keras' enable_lora"),
        ("peft_compiled", "PEFT, torch.compile"),
        ("ours", "LoRA"),
        ("ours_edge", "EDGE"),
        ("ours_edge_refresh", "EDGE, refresh=8"),
        ("ours_ba_lora", "BA-LoRA"),
    ):
        run = found[name].get("of_an_earlier_run_with")
        other = peft if run is None else statistics.median(run["peft"])
        share = other / statistics.median(found[name]["seconds"])
        yield f"Llama 1.2 B, GPU: speed of {label} / PEFT", share, None, None


def main():
    print("| figure | measured | goal | before |")
    print("| --- | --- | --- | --- |")
    for benchmark in (
        *(side_by_side, steps, python_calls, compiled_step, ba_lora),
        *(edge_refresh, edge_tokens),
        pissa_start,
        *(logits_memory, merged_inference, language_model),
    ):
        for label, *numbers in benchmark():
            cells = ["-" if n is None else f"{n:.3g}" for n in numbers]
            print(f"| {label} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
