"""All adapters on one task: weights, time, memory and accuracy.

MiniLM is fine-tuned on 2,000 sentences of SST-2 with every adapter, at the
learning rate that the documentation recommends for it. For one seed, all
adapters see the same rows in the same order and start from the same head.
Every run is a process of its own, so that its peak memory is its own. After
training, steps of the adapter and of LoRA take turns in the same process:
their ratio does not depend on what else the machine does.

    python examples/adapters_side_by_side.py               # resumable
    python examples/adapters_side_by_side.py --seeds 0 --adapters LoRA DoRA
    python examples/adapters_side_by_side.py --table       # from kept runs
    python examples/adapters_side_by_side.py --rows 64 --epochs 1 --test-rows 64

Needs the set `sst2`: a folder named by KERAS_DEBIAS_DATA, or the hub. Runs are
kept in `--folder` and not repeated. `--table` adds them to those of the JSON
file and writes
`examples/adapters_side_by_side.json` and `.md`, and the table in
`docs/results/adapters_side_by_side.md`.
"""

import argparse
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import keras_hub  # isort: skip
import common  # isort: skip

BATCH_SIZE = 32
# Nine in ten rows are shorter; every row of the test set is.
LENGTH = 24
TEST_LENGTH = 56
RANK = 8
# Rows whose tokens or gradients decide where an adapter starts.
START_ROWS = 64
# Steps that take turns with LoRA's: rounds, and steps of each in a round.
ROUNDS = 5
STEPS_A_ROUND = 3
A = kd.adapters
# Each adapter and its learning rate; rank 8 on query and value where there is
# a rank, and as many random entries as value biases.
ADAPTERS = {
    "full": (lambda: None, 5e-5),
    "LoRA": (lambda: A.LoRA(RANK), 1e-3),
    "rsLoRA": (lambda: A.LoRA(RANK, rank_stabilized=True), 5e-4),
    "LoRA+": (lambda: A.LoRA(RANK), 5e-4),
    "LoRAFA": (lambda: A.LoRAFA(RANK), 2e-3),
    "PiSSA": (lambda: A.PiSSA(RANK), 1e-3),
    "MiLoRA": (lambda: A.MiLoRA(RANK), 1e-3),
    "OLoRA": (lambda: A.OLoRA(RANK), 5e-4),
    "CorDA": (lambda: A.CorDA(RANK, preserve_knowledge=False), 5e-4),
    "LoRAGA": (lambda: A.LoRAGA(RANK), 5e-4),
    "DoRA": (lambda: A.DoRA(RANK), 1e-3),
    "VeRA": (lambda: A.VeRA(256), 1e-2),
    "AdaLoRA": (lambda: A.AdaLoRA(12), 1e-3),
    "AllBiases": (lambda: A.AllBiases(), 4e-3),
    "ValueBias": (lambda: A.ValueBias(), 4e-3),
    "QueryBias": (lambda: A.QueryBias(), 4e-3),
    "KeyBias": (lambda: A.KeyBias(), 4e-3),
    "RandomEntries": (lambda: A.RandomEntries(384, "value"), 4e-3),
    "TargetLayer": (lambda: A.TargetLayer(3), 1e-3),
    "IA3": (lambda: A.IA3(), 3e-3),
    "Houlsby": (lambda: A.Houlsby(), 1e-3),
    "Pfeiffer": (lambda: A.Pfeiffer(), 1e-3),
    "PrefixTuning": (lambda: A.PrefixTuning(), 1e-2),
    "PromptTuning": (lambda: A.PromptTuning(), 3e-2),
    "LoRA-int4": (lambda: A.LoRA(RANK), 1e-3),
    "LoftQ-int4": (lambda: A.LoftQ(RANK), 1e-3),
}
# What other work reports, best first; models and tasks are theirs.
ORDERS = {
    "BA-LoRA, Table 2": ("PiSSA", "LoRA", "full"),
    "BEFT, Tables 5 and 6": ("LoRA", "ValueBias", "QueryBias", "KeyBias"),
}
HERE = pathlib.Path(__file__).resolve()
PAGE = HERE.parents[1] / "docs" / "results" / f"{HERE.stem}.md"
# The table of the page stands between these lines; the text around it stays.
MARKS = ("<!-- table -->", "<!-- end of table -->")
PAGE_TEXT = f"""# All adapters on one task

MiniLM fine-tuned on SST-2 with every adapter of the library, at the learning
rate that [the tips](../tips.md) recommend for it. Rank {RANK} on query and
value where there is a rank. *Weights* are those that train beside the head,
*time a step* is relative to LoRA's (steps of both took turns in one process,
one seed), *memory* is the peak of the whole process, accuracy is that of the
validation set, mean and standard deviation over seeds.

{MARKS[0]}
{MARKS[1]}

## What it says

- All weights lead after two epochs. Of the adapters, `Houlsby` and one whole
  layer (`TargetLayer`) come within about two points, `LoRA+`, `LoRAGA` and
  `PiSSA` within three, `CorDA` and `Pfeiffer` within four; LoRA is four behind.
- BEFT's order of the biases appears: value before query before key, with the
  same number of weights, and all behind LoRA. As many random entries of a
  kernel are as good as the query's bias.
- BA-LoRA's order is PiSSA before LoRA before all weights. PiSSA is before LoRA
  here, at the same rate; all weights stay ahead. The rate decides: PiSSA at
  half of it reached 74.2 ± 1.1 %, behind LoRA, and 79.5 % at twice the rate
  (seed 0). Higher rates of LoRA were not tried.
- `AdaLoRA` has hardly learned: its singular values start at zero, and ranks are
  taken away while they grow. It is meant for thousands of updates.
- Times of a step have the noise of a busy machine: LoRA against itself gave
  1.31. PiSSA was not timed at this rate; at half of it, a step took 0.97.
  `TargetLayer` saves the backward pass below its layer; `PromptTuning` makes
  every sequence longer.

`python examples/{HERE.name}` makes the runs, `--table` the tables;
all figures: [JSON](../../examples/{HERE.stem}.json).
"""


class StepTime(keras.callbacks.Callback):
    """The seconds of every training step, other callbacks included."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self.began)


def pretrained(seed):
    """MiniLM as a classifier; the seed decides the head."""
    keras.utils.set_random_seed(seed)
    network = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=2
    )
    network.preprocessor.sequence_length = LENGTH
    return network


def build(name, train, seed, steps):
    """The adapted classifier, ready to train, and its callbacks."""
    network = pretrained(seed)
    make, rate = ADAPTERS[name]
    adapter, data, callbacks = make(), None, []
    if name.endswith("int4"):
        network.backbone.quantize("int4")
    if isinstance(adapter, A.LoftQ):
        data = pretrained(seed)
    elif adapter is not None and adapter.needs_data:
        data = train.take(range(min(START_ROWS, len(train))))
    if adapter is not None:
        A.apply(network, adapter, data=data)
    model = kd.DebiasedModel(network, seed=seed)
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(
            0.0, steps, warmup_target=rate, warmup_steps=max(steps // 10, 1)
        ),
        weight_decay=0.01,
    )
    if name == "LoRA+":
        optimizer = kd.optimizers.lora_plus(optimizer)
    if name == "AdaLoRA":
        callbacks.append(
            kd.callbacks.RankAllocator(
                RANK, steps // 10, steps // 5, total_steps=steps
            )
        )
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model, callbacks


def trained_beside_head(network):
    """The number of weights that train, without those of the head."""
    inside = {id(v) for v in network.backbone.weights}
    head = [v for v in network.trainable_variables if id(v) not in inside]
    count = A.summary(network).trainable
    return count - sum(math.prod(v.shape) for v in head)


def step_ratio(name, train, seed):
    """Time of a step relative to LoRA's, steps of both taking turns."""
    rows = train.take(range(min(STEPS_A_ROUND * BATCH_SIZE, len(train))))
    # Far from the end of the schedules: these steps are only timed.
    steps = 100 * ROUNDS * STEPS_A_ROUND
    models = [build(each, train, seed, steps) for each in (name, "LoRA")]

    def seconds(model, callbacks):
        step_time = StepTime()
        model.fit(
            rows,
            batch_size=BATCH_SIZE,
            verbose=0,
            callbacks=[*callbacks, step_time],
        )
        return statistics.median(step_time.seconds)

    for each in models:
        seconds(*each)  # warms up
    ratios = []
    for turn in range(ROUNDS):
        order = (0, 1) if turn % 2 else (1, 0)
        found = {i: seconds(*models[i]) for i in order}
        ratios.append(found[0] / found[1])
    return statistics.median(ratios)


def run(name, seed, options):
    """Trains and scores one adapter; a dict of numbers."""
    train = kd.data.load("sst2", "train").sample(
        options.rows, seed=seed, balance_labels=True
    )
    test = kd.data.load("sst2", "validation")
    test = test.sample(min(options.test_rows, len(test)), seed=0)
    steps = options.epochs * -(-len(train) // BATCH_SIZE)
    model, callbacks = build(name, train, seed, steps)
    trainable = trained_beside_head(model.model)
    step_time = StepTime()
    history = model.fit(
        train,
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        verbose=2,
        callbacks=[*callbacks, step_time],
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    peak *= 1 if sys.platform == "darwin" else 1024
    model.model.preprocessor.sequence_length = TEST_LENGTH
    scores = kd.evaluate(model, {"sst2": test}, batch_size=64, bootstrap=0)
    ratio = None if options.no_timing else step_ratio(name, train, seed)
    return {
        "adapter": name,
        "seed": seed,
        "rows": len(train),
        "epochs": options.epochs,
        "learning_rate": ADAPTERS[name][1],
        "trainable": trainable,
        # The first steps warm up.
        "step_seconds": statistics.median(
            step_time.seconds[2:] or step_time.seconds
        ),
        "step_ratio": ratio,
        "peak_bytes": peak,
        "accuracy": float(scores["sst2"].accuracy),
        "train_accuracy": float(history.history["accuracy"][-1]),
        "versions": {
            "keras": keras.__version__,
            "keras_hub": keras_hub.__version__,
            "keras_debias": kd.__version__,
            "backend": keras.config.backend(),
        },
    }


def path_of(name, seed, options):
    kind = f"{options.rows}rows_{options.epochs}epochs"
    return options.folder / kind / f"{name}_seed{seed}.json"


def run_apart(name, seed, options):
    """One run in a process of its own, which writes its file."""
    done = subprocess.run(
        [
            *(sys.executable, str(HERE), "--one", name, str(seed)),
            *("--rows", str(options.rows), "--epochs", str(options.epochs)),
            *("--test-rows", str(options.test_rows)),
            *("--folder", str(options.folder)),
            *(["--no-timing"] if options.no_timing else []),
        ]
    )
    return done.returncode == 0


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    common.replace(path, f"{text}\n".encode())


def spread(values, digits):
    """Mean and standard deviation, of more than one value."""
    shown = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        shown += f" ± {statistics.stdev(values):.{digits}f}"
    return shown


def table(runs):
    """A Markdown table of what the runs measured, over seeds."""
    every = {}
    for each in runs:
        every.setdefault(each["adapter"], []).append(each)
    lines = [
        "| adapter | seeds | weights | learning rate | time a step | "
        "memory, GB | accuracy, % |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in filter(every.get, ADAPTERS):
        found = every[name]
        ratios = [run["step_ratio"] for run in found if run["step_ratio"]]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        peak = statistics.mean(run["peak_bytes"] for run in found)
        accuracy = spread([100 * run["accuracy"] for run in found], 1)
        lines.append(
            f"| {name} | {len(found)} | {found[0]['trainable']:,} | "
            f"{found[0]['learning_rate']:g} | {ratio} | "
            f"{peak / 1e9:.2f} | {accuracy} |"
        )
    means = {
        name: statistics.mean(run["accuracy"] for run in found)
        for name, found in every.items()
    }
    lines.append("")
    for source, order in ORDERS.items():
        known = [name for name in order if name in means]
        if len(known) > 1:
            here = sorted(known, key=means.get, reverse=True)
            lines.append(
                f"- {source}: {' > '.join(known)}; here {' > '.join(here)}."
            )
    return "\n".join(lines).rstrip()


def with_known(runs, options):
    """The runs and, for the same settings, those that the JSON has beside."""
    path = HERE.with_suffix(".json")
    known = json.loads(path.read_text())["runs"] if path.exists() else []
    every = {
        (run["adapter"], run["seed"]): run
        for run in (*known, *runs)
        if (run["rows"], run["epochs"]) == (options.rows, options.epochs)
    }
    names = list(ADAPTERS)
    return sorted(
        every.values(),
        key=lambda run: (names.index(run["adapter"]), run["seed"]),
    )


def write_tables(runs, options):
    """Writes the JSON, the table, and the table of the results page."""
    content = {
        "command": "python examples/adapters_side_by_side.py",
        "model": "all-MiniLM-L6-v2",
        "data": "sst2",
        "rows": options.rows,
        "epochs": options.epochs,
        "batch_size": BATCH_SIZE,
        "sequence_length": LENGTH,
        "test_sequence_length": TEST_LENGTH,
        "rank": RANK,
        "runs": runs,
    }
    text = table(runs)
    caption = (
        f"{options.rows:,} rows, {options.epochs} epochs of batches of "
        f"{BATCH_SIZE}.\n\n{text}"
    )
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else PAGE_TEXT
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    write(HERE.with_suffix(".json"), json.dumps(content, indent=1))
    write(HERE.with_suffix(".md"), caption)
    page = f"{before}{MARKS[0]}\n{caption}\n{MARKS[1]}{after}"
    write(PAGE, page.rstrip())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--adapters", nargs="+", choices=ADAPTERS, default=list(ADAPTERS))
    add("--rows", type=int, default=2000)
    add("--epochs", type=int, default=2)
    add("--test-rows", type=int, default=872)
    folder = pathlib.Path("results") / HERE.stem
    add("--folder", type=pathlib.Path, default=folder)
    add("--no-timing", action="store_true", help="do not time steps")
    add("--table", action="store_true")
    add("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, seed = options.one[0], int(options.one[1])
        result = run(name, seed, options)
        write(path_of(name, seed, options), json.dumps(result, indent=1))
        return 0
    wanted = [(n, s) for s in options.seeds for n in options.adapters]
    failed = []
    for name, seed in wanted:
        if not (options.table or path_of(name, seed, options).exists()):
            print(f"{name}, seed {seed}", flush=True)
            if not run_apart(name, seed, options):
                failed.append(f"{name}, seed {seed}")
    paths = [path_of(name, seed, options) for name, seed in wanted]
    runs = [json.loads(path.read_text()) for path in paths if path.exists()]
    if not runs and not options.table:
        print("There are no kept runs yet.")
        return 1
    if options.table:
        runs = with_known(runs, options)
        write_tables(runs, options)
    print(table(runs))
    if failed:
        print(f"Failed: {'; '.join(failed)}. Run again to repeat them.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
