"""All adapters on one task: weights, time, memory and accuracy.

MiniLM is fine-tuned on 2,000 sentences of SST-2 with every adapter, from the
learning rate that the documentation names for it. Of one seed, all adapters
have the same rows in the same order and the same head at the start. Every run
is a process of its own, so that its peak memory is its own.

    python examples/adapters_side_by_side.py               # resumable
    python examples/adapters_side_by_side.py --seeds 0 --adapters LoRA DoRA
    python examples/adapters_side_by_side.py --table       # from finished runs
    python examples/adapters_side_by_side.py --rows 64 --epochs 1 --test-rows 64

Needs the set `sst2`: a folder named by KERAS_DEBIAS_DATA, or the hub. Runs
are kept in `results/adapters_side_by_side/`.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import keras_hub  # isort: skip

BATCH_SIZE = 32
LENGTH = 40
RANK = 8
# Rows whose tokens or gradients decide where an adapter starts.
START_ROWS = 64
A = kd.adapters
# Each adapter and its learning rate; rank 8 on query and value where there is
# a rank, and as many random entries as value biases.
ADAPTERS = {
    "full": (lambda: None, 5e-5),
    "LoRA": (lambda: A.LoRA(RANK), 1e-3),
    "rsLoRA": (lambda: A.LoRA(RANK, rank_stabilized=True), 5e-4),
    "LoRA+": (lambda: A.LoRA(RANK), 5e-4),
    "LoRAFA": (lambda: A.LoRAFA(RANK), 2e-3),
    "PiSSA": (lambda: A.PiSSA(RANK), 5e-4),
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
}
# What other work reports, best first; models and tasks are theirs.
ORDERS = {
    "BA-LoRA, Table 2": ("PiSSA", "LoRA", "full"),
    "BEFT, Tables 5 and 6": ("LoRA", "ValueBias", "QueryBias", "KeyBias"),
}
SCRIPT = pathlib.Path(__file__).resolve()
FOLDER = SCRIPT.parents[1] / "results" / SCRIPT.stem


class StepTime(keras.callbacks.Callback):
    """The seconds of every training step."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self.began)


def build(name, train, seed):
    """The adapted classifier; the seed decides the head."""
    keras.utils.set_random_seed(seed)
    network = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=2
    )
    network.preprocessor.sequence_length = LENGTH
    make, _ = ADAPTERS[name]
    adapter = make()
    if adapter is not None:
        rows = min(START_ROWS, len(train))
        data = train.take(range(rows)) if adapter.needs_data else None
        A.apply(network, adapter, data=data)
    return network


def run(name, seed, options):
    """Trains and scores one adapter; a dict of numbers."""
    train = kd.data.load("sst2", "train").sample(
        options.rows, seed=seed, balance_labels=True
    )
    test = kd.data.load("sst2", "validation")
    test = test.sample(min(options.test_rows, len(test)), seed=0)
    network = build(name, train, seed)
    model = kd.DebiasedModel(network, seed=seed)
    steps = options.epochs * -(-len(train) // BATCH_SIZE)
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(
            0.0,
            steps,
            warmup_target=ADAPTERS[name][1],
            warmup_steps=max(steps // 10, 1),
        ),
        weight_decay=0.01,
    )
    if name == "LoRA+":
        optimizer = kd.optimizers.lora_plus(optimizer)
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    step_time = StepTime()
    callbacks = [step_time]
    if name == "AdaLoRA":
        callbacks.append(
            kd.callbacks.RankAllocator(RANK, steps // 10, steps // 5)
        )
    history = model.fit(
        train,
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        verbose=2,
        callbacks=callbacks,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    peak *= 1 if sys.platform == "darwin" else 1024
    scores = kd.evaluate(model, {"sst2": test}, batch_size=64, bootstrap=0)
    summary = A.summary(network)
    head = sum(
        v.shape[0] * (v.shape[1] if len(v.shape) > 1 else 1)
        for v in network.trainable_variables
        if "logits" in v.path
    )
    return {
        "adapter": name,
        "seed": seed,
        "rows": len(train),
        "epochs": options.epochs,
        "learning_rate": ADAPTERS[name][1],
        "trainable": summary.trainable - (0 if name == "full" else head),
        # The first steps warm up.
        "step_seconds": statistics.median(
            step_time.seconds[2:] or step_time.seconds
        ),
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
    return FOLDER / kind / f"{name}_seed{seed}.json"


def run_apart(name, seed, options):
    """One run in a process of its own; writes its file."""
    subprocess.run(
        [
            *(sys.executable, str(SCRIPT), "--one", name, str(seed)),
            *("--rows", str(options.rows), "--epochs", str(options.epochs)),
            *("--test-rows", str(options.test_rows)),
        ],
        check=True,
    )


def write(path, result):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    os.replace(temporary, path)


def table(runs):
    """A Markdown table of what the runs measured, means over seeds."""
    lines = [
        "| adapter | weights | ms a step | peak memory, GB | accuracy, % |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in ADAPTERS:
        found = [run for run in runs if run["adapter"] == name]
        if not found:
            continue
        seconds = statistics.median(run["step_seconds"] for run in found)
        peak = statistics.mean(run["peak_bytes"] for run in found)
        accuracies = [100 * run["accuracy"] for run in found]
        shown = f"{statistics.mean(accuracies):.1f}"
        if len(accuracies) > 1:
            shown += f" ± {statistics.stdev(accuracies):.1f}"
        lines.append(
            f"| {name} | {found[0]['trainable']:,} | {1000 * seconds:.0f} | "
            f"{peak / 1e9:.2f} | {shown} |"
        )
    every = {}
    for each in runs:
        every.setdefault(each["adapter"], []).append(each["accuracy"])
    means = {name: statistics.mean(values) for name, values in every.items()}
    lines.append("")
    for source, order in ORDERS.items():
        known = [name for name in order if name in means]
        if len(known) > 1:
            here = sorted(known, key=means.get, reverse=True)
            lines.append(
                f"- {source}: {' > '.join(known)}; here {' > '.join(here)}."
            )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--adapters", nargs="+", choices=ADAPTERS, default=list(ADAPTERS)
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--test-rows", type=int, default=872)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, seed = options.one[0], int(options.one[1])
        write(path_of(name, seed, options), run(name, seed, options))
        return
    wanted = [(n, s) for s in options.seeds for n in options.adapters]
    for name, seed in wanted:
        path = path_of(name, seed, options)
        if not (options.table or path.exists()):
            print(f"{name}, seed {seed}", flush=True)
            run_apart(name, seed, options)
    paths = [path_of(name, seed, options) for name, seed in wanted]
    runs = [json.loads(path.read_text()) for path in paths if path.exists()]
    if options.json:
        write(options.json, runs)
    print(table(runs))


if __name__ == "__main__":
    main()
