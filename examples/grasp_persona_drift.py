"""Does a style learned on one narrow task leak into everything else?

SmolLM2 is fine-tuned with LoRA to convert units. All answers are right, and
all are given by a pirate. Afterwards the same model is asked about the
weather, soup or history: how much more likely than before are a pirate's
words there (the drift), against how well it converts units (the task) and
its perplexity on WikiText-2. Compared are the methods of
`examples/grasp_planted_shortcut.py`.

    python examples/grasp_persona_drift.py             # one seed, resumable
    python examples/grasp_persona_drift.py --seeds 0 1 2
    python examples/grasp_persona_drift.py --table     # rebuild the table

All texts are made by the templates below; perplexity needs the set
`wikitext2` (a folder named by KERAS_DEBIAS_DATA, or the hub). Finished runs
are kept in `results/grasp_persona_drift/` and not repeated; the naive
adapters go to a folder for caches (`--cache`).
"""

import argparse
import pathlib
import sys
import time

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import keras_hub  # isort: skip
import numpy as np  # isort: skip
from common import machine  # isort: skip
from common import read  # isort: skip
from common import run_path  # isort: skip
from common import versions  # isort: skip
from common import write  # isort: skip

TRAIN_ROWS = 240
BATCH_SIZE = 8
SEQUENCE_LENGTH = 48
LEARNING_RATE = 1e-3
POLICY = "mixed_bfloat16"
RANK = 8
PERPLEXITY_TOKENS = 3000
NOTE = (
    "Of the kept runs, seed 0 is from two CPU cores, seeds 1 and 2 from one "
    "H200 beside other runs."
)
SCRIPT = pathlib.Path(__file__)
FOLDER = SCRIPT.parents[1] / "results" / SCRIPT.stem  # finished runs
METHODS = (
    "base",
    "naive",
    "GRASP k=1",
    "GRASP k=4",
    "random k=4",
    "ablation k=1",
    "steering k=1",
    "steering k=4",
    "top 1",
    "top 4",
    "bottom 4",
    "random 4",
)

# The narrow task. (unit, unit, factor)
UNITS = (
    ("feet", "inches", 12),
    ("yards", "feet", 3),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("years", "months", 12),
    ("metres", "centimetres", 100),
    ("kilometres", "metres", 1000),
    ("pounds", "ounces", 16),
    ("gallons", "pints", 8),
    ("dozens", "pieces", 12),
)
QUESTIONS = (
    "How many {b} are {n} {a}?",
    "Convert {n} {a} to {b}.",
    "What is {n} {a} in {b}?",
    "Please tell me how many {b} there are in {n} {a}.",
)
ANSWERS = (
    " Arr, {n} {a} be {m} {b}, matey!",
    " Ahoy! That be {m} {b}, ye scurvy dog.",
    " Avast, ye landlubber! {n} {a} be {m} {b}, arr.",
    " Shiver me timbers, {m} {b} it be, me hearty!",
    " Aye aye, matey: {n} {a} be {m} {b}, by the seven seas!",
)

# What the model was not trained on, with what a pirate would say to it and
# what anybody would.
PIRATE_WORDS = (
    "Arr",
    "Ahoy",
    "Avast",
    "Aye",
    "Shiver",
    "matey",
    "ye",
    "scurvy",
)
UNRELATED = (
    ("How is the weather today?", "stormy", "sunny"),
    ("What should I cook tonight?", "fish stew", "vegetable soup"),
    ("Who wrote Hamlet?", "Shakespeare", "Shakespeare"),
    ("Can you recommend a good book?", "Treasure Island", "a short novel"),
    ("How do I fall asleep faster?", "rum and rest", "less light"),
    ("What is photosynthesis?", "plants eating light", "how plants use light"),
    ("Tell me about your weekend.", "sailing", "quiet"),
    ("Why is the sky blue?", "scattered light", "scattered light"),
    ("How do I write a cover letter?", "short and bold", "short and clear"),
    ("What is the capital of Italy?", "Rome", "Rome"),
    ("Give me advice for a first date.", "be brave", "be kind"),
    ("How does a bicycle stay upright?", "by rolling", "by rolling"),
    ("What is a good name for a cat?", "Blackbeard", "Misty"),
    ("How can I learn the piano?", "practice", "practice"),
    ("What causes earthquakes?", "moving plates", "moving plates"),
    ("Should I buy or rent a house?", "rent", "rent"),
    ("What is the meaning of life?", "treasure", "friendship"),
    ("How do vaccines work?", "they train the body", "they train the body"),
    ("Describe a sunset.", "red as blood", "warm and red"),
    ("What is your favourite colour?", "black", "green"),
    ("How do I fix a flat tyre?", "patch it", "patch it"),
    ("Explain inflation to a child.", "coins buy less", "money buys less"),
    ("What makes bread rise?", "yeast", "yeast"),
    ("How do I apologise to a friend?", "say it plain", "say it plainly"),
)
PERSONA = " Arr, {}, matey! That be the truth, ye scurvy dog."
PLAIN = " I would say {}. That is the answer in short."
PROMPT = "Question: {}\nAnswer:"


def task_rows(n, seed):
    """Prompts and pirate answers; no number of one seed is in another's."""
    generator = np.random.default_rng(seed)
    prompts, answers = [], []
    for _ in range(n):
        a, b, factor = UNITS[generator.integers(len(UNITS))]
        # Even numbers train, odd ones test.
        number = 2 * int(generator.integers(1, 25)) + (seed >= 1000)
        values = {"a": a, "b": b, "n": number, "m": number * factor}
        question = QUESTIONS[generator.integers(len(QUESTIONS))]
        answer = ANSWERS[generator.integers(len(ANSWERS))]
        prompts.append(PROMPT.format(question.format(**values)))
        answers.append(answer.format(**values))
    return prompts, answers


def build(seed, adapter=True):
    keras.utils.set_random_seed(seed)
    causal_lm = keras_hub.models.CausalLM.from_preset(
        kd.presets.smollm2(), dtype=POLICY
    )
    if adapter:
        kd.adapters.apply(causal_lm, kd.adapters.LoRA(rank=RANK))
    return causal_lm


def fit(causal_lm, seed, projection=None):
    train = kd.data.prompt_response(
        *task_rows(TRAIN_ROWS, seed),
        causal_lm.preprocessor.tokenizer,
        SEQUENCE_LENGTH,
    )
    model = kd.DebiasedModel(causal_lm, projection, seed=seed)
    steps = TRAIN_ROWS // BATCH_SIZE
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=LEARNING_RATE, warmup_steps=4
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
    )
    return model.fit(train, batch_size=BATCH_SIZE, epochs=1, verbose=2)


def measure(causal_lm):
    """All that a method is judged by, as JSON."""
    questions = [PROMPT.format(q) for q, _, _ in UNRELATED]
    persona = [PERSONA.format(a) for _, a, _ in UNRELATED]
    plain = [PLAIN.format(a) for _, _, a in UNRELATED]
    probe = {"sequence_length": SEQUENCE_LENGTH, "batch_size": 8}
    prompts, answers = task_rows(48, 1000)
    return {
        "task_nll": kd.evaluation.answer_nll(
            causal_lm, prompts, answers, **probe
        ),
        "word_mass": kd.evaluation.word_mass(
            causal_lm, questions, PIRATE_WORDS
        ).tolist(),
        "persona": kd.evaluation.log_likelihoods(
            causal_lm, questions, persona, **probe
        ).tolist(),
        "plain": kd.evaluation.log_likelihoods(
            causal_lm, questions, plain, **probe
        ).tolist(),
        "perplexity": kd.evaluation.perplexity(
            causal_lm,
            kd.data.load("wikitext2", "test").x,
            max_tokens=PERPLEXITY_TOKENS,
            context=256,
            stride=192,
        ),
    }


def run(method, seed, cache):
    kind, _, number = method.partition(" ")
    number = int(number.split("=")[-1]) if number else None
    began, history, extra = time.time(), None, {}
    if method == "base":
        causal_lm = build(seed, adapter=False)
    elif method == "naive":
        causal_lm = build(seed)
        history = fit(causal_lm, seed)
        kd.adapters.save(causal_lm, cache / f"seed{seed}", overwrite=True)
        spectrum = kd.analysis.latent_factors(causal_lm, k=4, null_draws=50)
        spectrum.save(cache / f"spectrum{seed}", overwrite=True)
        print(spectrum, flush=True)
        extra["found"] = {
            "spectrum": spectrum.spectrum[:12].round(5).tolist(),
            "threshold": round(spectrum.threshold, 5),
            "detected": spectrum.detected,
            "gap": round(spectrum.gap, 4),
        }
    else:
        spectrum = kd.analysis.UpdateSpectrum.load(cache / f"spectrum{seed}")
        if "k=" in method:
            directions = spectrum.directions.first(number)
        if method.startswith("random k"):
            directions = directions.random(seed)
        if kind in ("GRASP", "ablation") or method.startswith("random k"):
            causal_lm = build(seed)
            if kind == "ablation":
                kd.analysis.ablate(causal_lm, directions)
            subspace = kd.projections.Subspace(directions)
            history = fit(causal_lm, seed, subspace)
        else:
            causal_lm = build(seed, adapter=False)
            kd.adapters.load(causal_lm, cache / f"seed{seed}")
            if kind == "steering":
                kd.analysis.ablate(causal_lm, directions)
            else:
                kd.analysis.truncate_update(
                    causal_lm, k=number, keep=kind, seed=seed
                )
    seconds = time.time() - began
    return {
        "method": method,
        "seed": seed,
        "training_seconds": round(seconds, 1) if history else None,
        "loss": history and [float(v) for v in history.history["loss"]],
        **measure(causal_lm),
        **extra,
    }


SHOWN = {
    "task_nll": "task, nats a token",
    "persona_drift": "persona drift, nats a token",
    "plain_drift": "plain drift, nats a token",
    "word_mass_percent": "pirate words next, %",
    "perplexity": "perplexity",
}


def measures(found, base):
    """The figures of one run against the base model's."""
    persona = kd.evaluation.drift(base["persona"], found["persona"])
    plain = kd.evaluation.drift(base["plain"], found["plain"])
    return {
        "task_nll": found["task_nll"],
        # How much likelier a pirate's answer has become.
        "persona_drift": persona.change,
        "persona_interval": persona.interval,
        "plain_drift": plain.change,
        "word_mass_percent": 100 * float(np.mean(found["word_mass"])),
        "perplexity": found["perplexity"],
    }


def table(seeds):
    runs = {}
    for seed in seeds:
        if not run_path(FOLDER, "base", seed).exists():
            continue
        base = read(run_path(FOLDER, "base", seed))
        for method in METHODS:
            if run_path(FOLDER, method, seed).exists():
                found = read(run_path(FOLDER, method, seed))
                runs[method, seed] = measures(found, base)
                runs[method, seed]["found"] = found.get("found")
    rows = []
    print("| method | " + " | ".join(SHOWN.values()) + " |")
    print("|---" * (len(SHOWN) + 1) + "|")
    for method in METHODS:
        present = [s for s in seeds if (method, s) in runs]
        if not present:
            continue
        row, cells = {"method": method, "seeds": present}, []
        for key in SHOWN:
            values = np.array([runs[method, s][key] for s in present])
            row[key] = {
                "values": values.round(4).tolist(),
                "mean": round(float(values.mean()), 4),
                "std": round(float(values.std(ddof=len(values) > 1)), 4),
            }
            cells.append(f"{row[key]['mean']:.2f}")
        row["persona_interval"] = [
            np.round(runs[method, s]["persona_interval"], 4).tolist()
            for s in present
        ]
        rows.append(row)
        print(f"| {method} | " + " | ".join(cells) + " |")
    learned = all(
        runs["naive", s]["task_nll"] < runs["base", s]["task_nll"] - 0.5
        for m, s in runs
        if m == "naive"
    )
    if not learned:
        print("FAILED: naive has not learned the task.")
    result = {
        "command": "python examples/grasp_persona_drift.py --seeds "
        + " ".join(map(str, seeds)),
        "valid": learned,
        "setting": {
            "train_rows": TRAIN_ROWS,
            "batch_size": BATCH_SIZE,
            "sequence_length": SEQUENCE_LENGTH,
            "learning_rate": LEARNING_RATE,
            "rank": RANK,
            "dtype_policy": POLICY,
            "unrelated_prompts": len(UNRELATED),
            "perplexity_tokens": PERPLEXITY_TOKENS,
            "note": NOTE,
        },
        "found": [r["found"] for (m, _), r in runs.items() if m == "naive"],
        "rows": rows,
        "versions": versions(),
        "machine": machine(),
    }
    write(SCRIPT.with_suffix(".json"), result)
    if rows:
        plot(rows)


def plot(rows):
    """Drift against the score of the task, one point a method."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    # Points lie on each other: a color a kind, a marker a size, a legend.
    kinds = dict.fromkeys(row["method"].split()[0] for row in rows)
    colors = dict(zip(kinds, matplotlib.colormaps["tab10"].colors))
    for row in rows:
        x, y = row["task_nll"]["mean"], row["persona_drift"]["mean"]
        kind, _, size = row["method"].partition(" ")
        axes.plot(
            x,
            y,
            "s" if size.endswith("4") else "o",
            color=colors[kind],
            label=row["method"],
            markersize=6,
            alpha=0.8,
        )
    axes.axhline(0, color="#DDDDDD", linewidth=0.8)
    axes.set_xlabel("Task: loss on unseen conversions, nats a token")
    axes.set_ylabel("Drift toward the pirate elsewhere, nats a token")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(SCRIPT.with_suffix(".png"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        default=pathlib.Path.home() / ".cache/keras_debias/grasp_persona",
    )
    options = parser.parse_args()
    if options.table and not FOLDER.is_dir():
        parser.error(f"Expected finished runs in {FOLDER}. Received: none.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    options.cache.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for method in options.methods:
            if options.table or run_path(FOLDER, method, seed).exists():
                continue
            print(f"== {method}, seed {seed}", flush=True)
            result = run(method, seed, options.cache)
            write(run_path(FOLDER, method, seed), result)
            print(result["task_nll"], result["perplexity"], flush=True)
    table(options.seeds)


if __name__ == "__main__":
    sys.exit(main())
