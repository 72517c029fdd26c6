"""Time and memory of a training step with BA-LoRA, side by side in one run.

Four programs fine-tune the same pretrained model on the same batch with
rank-8 (MiniLM, classification, 32 x 64 tokens) or rank-32 PiSSA (SmolLM2,
generation, 4 x 256 tokens, all seven projections):

    pissa        PiSSA alone
    ba_lora      BA-LoRA; classification takes teacher features from a cache
    no_cache     BA-LoRA with a teacher forward pass (classification only)
    second_copy  BA-LoRA with a second, frozen copy of the model as teacher

`forward` is one inference forward pass of the adapted model. Rounds are
interleaved; memory is the peak of a process that does nothing else.

    python benchmarks/ba_lora_step.py --task classification
    python benchmarks/ba_lora_step.py --task generation --json results.json
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from results import write  # noqa: E402

import keras_debias as kd  # noqa: E402
from keras_debias.data.batches import FEATURES  # noqa: E402
from keras_debias.data.batches import INDEX  # noqa: E402
from keras_debias.data.batches import INPUTS  # noqa: E402

NUM_CLASSES = 3
PROJECTIONS = (
    *("query", "key", "value", "attention_output"),
    *("feedforward_gate_dense", "feedforward_intermediate_dense"),
    "feedforward_output_dense",
)
VARIANTS = {
    "classification": ("pissa", "ba_lora", "no_cache", "second_copy"),
    "generation": ("pissa", "ba_lora", "second_copy"),
}
# Goals of peak memory and time, against PiSSA alone; the time of generation
# is against a step of PiSSA and one inference forward pass.
GOALS = {"classification": (1.05, 1.10), "generation": (1.25, 1.15)}


class Program:
    """One variant, ready to step."""

    def __init__(self, task, name):
        keras.utils.set_random_seed(0)
        self.task, self.name = task, name
        self.network = self.load()
        teacher = self.load() if name == "second_copy" else None
        targets = ("query", "value") if self.classifies else PROJECTIONS
        rank = 8 if self.classifies else 32
        kd.adapters.apply(
            self.network,
            kd.adapters.PiSSA(rank=rank, targets=targets),
            verbose=0,
        )
        cache = None
        if name == "ba_lora" and self.classifies:
            cache = kd.regularizers.TeacherCache()
        regularizers = None
        if name != "pissa":
            regularizers = kd.regularizers.ba_lora(
                generation=not self.classifies,
                steps=None if self.classifies else 1000,
                k=1 if self.classifies else None,
                teacher=teacher,
                cache=cache,
            )
        self.model = kd.DebiasedModel(
            self.network, regularizers=regularizers, seed=0
        )
        self.model.compile(
            keras.optimizers.Adam(1e-4),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[],
        )
        self.x, self.y = self.batch()
        self.inputs = self.x
        if cache is not None:
            # As `fit` does it, with the rows of one batch.
            self.model.fit(self.x, self.y, batch_size=len(self.y), verbose=0)
            rows = np.arange(len(self.y), dtype="int32")
            self.inputs = {
                INPUTS: self.x,
                INDEX: rows,
                FEATURES: cache.features,
            }

    @property
    def classifies(self):
        return self.task == "classification"

    def load(self):
        if self.classifies:
            backbone = keras_hub.models.Backbone.from_preset(
                kd.presets.minilm()
            )
            return keras_hub.models.BertTextClassifier(
                backbone, num_classes=NUM_CLASSES, preprocessor=None
            )
        network = keras_hub.models.CausalLM.from_preset(kd.presets.smollm2())
        network.preprocessor = None
        return network

    def batch(self):
        generator = np.random.default_rng(0)
        rows, length = (32, 64) if self.classifies else (4, 256)
        tokens = generator.integers(1000, 30000, (rows, length))
        sizes = generator.integers(length // 2, length + 1, (rows, 1))
        mask = np.arange(length) < sizes
        x = {
            "token_ids": np.where(mask, tokens, 0).astype("int32"),
            "padding_mask": mask.astype("int32"),
        }
        if self.classifies:
            x["segment_ids"] = np.zeros_like(x["token_ids"])
            return x, generator.integers(0, NUM_CLASSES, rows).astype("int32")
        return x, np.roll(x["token_ids"], -1, axis=1)

    def step(self):
        logs = self.model.train_on_batch(self.inputs, self.y, return_dict=True)
        return float(logs["loss"])

    def forward(self):
        with torch.no_grad():
            self.network(self.x, training=False)


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure_time(task, rounds, warm_up):
    programs = {name: Program(task, name) for name in VARIANTS[task]}
    jobs = {name: program.step for name, program in programs.items()}
    jobs["forward"] = programs["pissa"].forward
    seconds = {name: [] for name in jobs}
    for number in range(warm_up + rounds):
        for name, job in jobs.items():
            found = timed(job)
            if number >= warm_up:
                seconds[name].append(found)
    return seconds


def measure_memory(task, name):
    """Peak resident memory in MiB of building and four steps."""
    program = Program(task, name)
    for _ in range(4):
        program.step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_in_own_process(task, name):
    command = [sys.executable, __file__, "--task", task, "--memory-of", name]
    output = subprocess.run(command, check=True, capture_output=True).stdout
    return json.loads(output.decode().splitlines()[-1])


def summarize(task, seconds, memory):
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    base = medians["pissa"]
    if task == "generation":
        base += medians["forward"]
    times = {
        name: value / base
        for name, value in medians.items()
        if name not in ("pissa", "forward")
    }
    copies = {"time": medians["ba_lora"] / medians["second_copy"]}
    memories = {}
    if memory:
        memories = {n: m / memory["pissa"] for n, m in memory.items()}
        copies["memory"] = memory["ba_lora"] / memory["second_copy"]
    return {
        "time_over_pissa": times,
        "memory_over_pissa": memories,
        "ba_lora_over_second_copy": copies,
    }


def report(results):
    task = results["task"]
    memory_goal, time_goal = GOALS[task]
    print(f"{task}, {results['rounds']} rounds, {results['threads']} threads")
    for name, seconds in results["seconds"].items():
        peak = results["memory_mib"].get(name, float("nan"))
        print(
            f"{name:14}{1000 * statistics.median(seconds):10.1f} ms"
            f"{1000 * min(seconds):10.1f} min{peak:10.0f} MiB"
        )
    base = "pissa" if task == "classification" else "(pissa + forward)"
    ratios = results["ratios"]
    for name, ratio in ratios["time_over_pissa"].items():
        goal = f", goal <= {time_goal}" if name == "ba_lora" else ""
        print(f"time {name} / {base}: {ratio:.3f}{goal}")
    for name, ratio in ratios["memory_over_pissa"].items():
        goal = f", goal <= {memory_goal}" if name == "ba_lora" else ""
        print(f"memory {name} / pissa: {ratio:.3f}{goal}")
    for kind, ratio in ratios["ba_lora_over_second_copy"].items():
        print(f"{kind} ba_lora / second_copy: {ratio:.3f}")


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=VARIANTS, required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", help="where to write the results")
    parser.add_argument("--memory-of", help="internal")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    task = arguments.task
    if arguments.memory_of:
        print(json.dumps(measure_memory(task, arguments.memory_of)))
        return
    memory = {}
    if not arguments.no_memory:
        memory = {n: memory_in_own_process(task, n) for n in VARIANTS[task]}
    seconds = measure_time(task, arguments.rounds, arguments.warm_up)
    results = {
        "command": f"python benchmarks/ba_lora_step.py --task {task} "
        f"--rounds {arguments.rounds} --threads {torch.get_num_threads()}",
        "task": task,
        "threads": torch.get_num_threads(),
        "rounds": arguments.rounds,
        "seconds": seconds,
        "memory_mib": memory,
        "ratios": summarize(task, seconds, memory),
    }
    report(results)
    write(arguments.json, results)


if __name__ == "__main__":
    main()
