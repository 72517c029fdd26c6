"""Time and memory of a training step of a language model on a GPU.

    python benchmarks/language_model_step.py --json results.json
    python benchmarks/language_model_step.py --tiny --rows 1 --length 8

A Llama of about 1.2 billion random weights in bfloat16 (16 layers of width
2048, 128,256 tokens), 8 sequences of 1,024 tokens, LoRA of rank 16 on query
and value whose factors are float32, AdamW. Compared are PEFT on Transformers'
Llama, Keras' `enable_lora`, and here: plain LoRA, EDGE with two backward
passes, EDGE with a kept ratio of norms (`refresh`), and BA-LoRA; those that
end in `_compiled` with `jit_compile=True`, PEFT's with `torch.compile`. One
program after the other, each in a process of its own; memory is the peak of
what torch holds on the device. The first step, which compiles, is kept apart.
`--tiny` has as many layers of width 64: on a CPU with eight tokens, what is
left of the time is Python between operations.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import numpy as np  # noqa: E402
import results  # noqa: E402
import torch  # noqa: E402

import keras_debias as kd  # noqa: E402

SIZES = {
    "1b": dict(
        vocabulary_size=128256,
        num_layers=16,
        num_query_heads=32,
        num_key_value_heads=8,
        hidden_dim=2048,
        intermediate_dim=8192,
    ),
    "tiny": dict(
        vocabulary_size=512,
        num_layers=16,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=64,
        intermediate_dim=128,
    ),
}
RANK = 16
LEARNING_RATE = 1e-4


def batch(size, rows, length):
    generator = np.random.default_rng(0)
    tokens = generator.integers(
        0, SIZES[size]["vocabulary_size"], (rows, length + 1)
    ).astype("int32")
    return tokens[:, :-1], tokens[:, 1:]


class Peft:
    """Transformers and PEFT, a plain loop."""

    def __init__(self, size, rows, length):
        import peft
        import transformers

        shape = SIZES[size]
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=shape["vocabulary_size"],
                hidden_size=shape["hidden_dim"],
                intermediate_size=shape["intermediate_dim"],
                num_hidden_layers=shape["num_layers"],
                num_attention_heads=shape["num_query_heads"],
                num_key_value_heads=shape["num_key_value_heads"],
                max_position_embeddings=length,
                tie_word_embeddings=True,
                use_cache=False,
                attn_implementation="sdpa",
            )
        )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = peft.get_peft_model(
            model.to(device, torch.bfloat16),
            peft.LoraConfig(
                task_type="CAUSAL_LM",
                r=RANK,
                lora_alpha=RANK,
                target_modules=["q_proj", "v_proj"],
            ),
        ).train()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.trainable = sum(p.numel() for p in trained)
        self.optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
        x, y = batch(size, rows, length)
        self.x = torch.tensor(x, device=device).long()
        self.y = torch.tensor(y, device=device).long()

    def step(self):
        logits = self.model(input_ids=self.x).logits
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), self.y.flatten()
        )
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


class CompiledPeft(Peft):
    """The same with `torch.compile`."""

    def __init__(self, size, rows, length):
        super().__init__(size, rows, length)
        self.model = torch.compile(self.model)


class Ours:
    """`LoRA` and `DebiasedModel`."""

    jit_compile = False

    def __init__(self, size, rows, length):
        keras.utils.set_random_seed(0)
        backbone = keras_hub.models.Llama3Backbone(
            **SIZES[size], tie_word_embeddings=True, dtype="bfloat16"
        )
        network = keras_hub.models.Llama3CausalLM(backbone=backbone)
        self.model = self.adapt(network)
        self.model.compile(
            keras.optimizers.AdamW(LEARNING_RATE),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[],
            jit_compile=self.jit_compile,
        )
        self.trainable = sum(
            int(np.prod(v.shape)) for v in self.model.trainable_variables
        )
        x, self.y = batch(size, rows, length)
        self.x = {"token_ids": x, "padding_mask": np.ones_like(x)}
        self.data = None

    def adapt(self, network):
        kd.adapters.apply(network, kd.adapters.LoRA(rank=RANK))
        return kd.DebiasedModel(network, **self.method())

    def method(self):
        return {}

    def step(self):
        """A step as in `fit`, where `train_on_batch` checks the model anew."""
        if self.data is None:
            self.data = keras.tree.map_structure(
                keras.ops.convert_to_tensor, (self.x, self.y)
            )
            logs = self.model.train_on_batch(self.x, self.y, return_dict=True)
        else:
            self.model.reset_metrics()
            logs = self.model.train_function([self.data])
        return float(logs["loss"])


class Keras(Ours):
    """Keras' own `enable_lora`; norms train as well."""

    def adapt(self, network):
        network.backbone.enable_lora(RANK)
        network.preprocessor = None
        return network


class Edge(Ours):
    def method(self):
        return {"projection": kd.projections.EDGE()}


class EdgeRefresh(Ours):
    def method(self):
        return {"projection": kd.projections.EDGE(scope="global", refresh=8)}


class BaLora(Ours):
    def method(self):
        terms = kd.regularizers.ba_lora(generation=True, steps=1000)
        return {"regularizers": terms}


class CompiledOurs(Ours):
    jit_compile = True


class CompiledEdge(Edge):
    jit_compile = True


class CompiledEdgeRefresh(EdgeRefresh):
    jit_compile = True


class CompiledBaLora(BaLora):
    jit_compile = True


PROGRAMS = {
    "peft": Peft,
    "peft_compiled": CompiledPeft,
    "keras": Keras,
    "ours": Ours,
    "ours_compiled": CompiledOurs,
    "ours_edge": Edge,
    "ours_edge_compiled": CompiledEdge,
    "ours_edge_refresh": EdgeRefresh,
    "ours_edge_refresh_compiled": CompiledEdgeRefresh,
    "ours_ba_lora": BaLora,
    "ours_ba_lora_compiled": CompiledBaLora,
}


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(name, size, options):
    program = PROGRAMS[name](size, options.rows, options.length)
    seconds, losses = [], []
    for number in range(options.warm_up + options.steps):
        if number == options.warm_up and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        synchronize()
        began = time.perf_counter()
        losses.append(program.step())
        synchronize()
        if number == 0:
            first = time.perf_counter() - began
        if number >= options.warm_up:
            seconds.append(time.perf_counter() - began)
    peak = None
    if torch.cuda.is_available():
        peak = round(torch.cuda.max_memory_allocated() / 2**30, 3)
    tokens = options.rows * options.length
    return {
        "trainable": program.trainable,
        "first_step_seconds": round(first, 2),
        "seconds": [round(s, 4) for s in seconds],
        "tokens_per_second": round(tokens / statistics.median(seconds)),
        "peak_gib": peak,
        "losses": [round(loss, 4) for loss in losses],
    }


def measured_apart(name, options, timeout=None):
    """`measure` in a process of its own: what others hold does not count."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "result.json")
        command = [sys.executable, __file__, "--only", name]
        command += ["--json", str(file), "--rows", str(options.rows)]
        command += ["--length", str(options.length)]
        command += ["--steps", str(options.steps)]
        command += ["--warm-up", str(options.warm_up)]
        subprocess.run(
            command + ["--tiny"] * options.tiny, check=True, timeout=timeout
        )
        return json.loads(file.read_text())


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS))
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--json")
    options = parser.parse_args()
    size = "tiny" if options.tiny else "1b"
    if options.only:
        try:
            found = measure(options.only, size, options)
        except torch.OutOfMemoryError as error:
            found = {"out_of_memory": str(error).splitlines()[0]}
        pathlib.Path(options.json).write_text(json.dumps(found))
        return
    found = {}
    print("program                     trained  tokens/s  peak GiB")
    for name in options.programs:
        row = found[name] = measured_apart(name, options)
        if "out_of_memory" in row:
            print(f"{name:27} out of memory", flush=True)
            continue
        print(
            f"{name:27} {row['trainable']:>8,} {row['tokens_per_second']:>8,}"
            f"  {row['peak_gib']}  first step {row['first_step_seconds']} s"
            f"  losses {row['losses'][:3]}",
            flush=True,
        )
        if options.json:
            write(options, SIZES[size], found)


def write(options, size, found):
    device = "cpu"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    result = {
        "command": "python benchmarks/language_model_step.py "
        + "--tiny " * options.tiny
        + f"--rows {options.rows} --length {options.length}",
        "size": size,
        "rows": options.rows,
        "length": options.length,
        "programs": found,
        "device": device,
    }
    results.write(options.json, result)


if __name__ == "__main__":
    sys.exit(main())
