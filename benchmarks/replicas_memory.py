"""Memory of a step of a language model in two processes of torch.

A small Llama with a vocabulary of 49,152 and batches of 8 x 128 tokens, in
float32, on the CPU: what the peak of each process adds to what it holds
before `fit`. Once as the library trains, logits in their process, and once
with the logits of the batch gathered in both, as other losses and metrics
need it. The weights after the step are compared.

    python benchmarks/replicas_memory.py --json benchmarks/replicas_memory.json
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import numpy as np  # noqa: E402
import psutil  # noqa: E402
import results  # noqa: E402

import keras_debias as kd  # noqa: E402

PROCESSES = 2
VOCABULARY = 49_152
ROWS, TOKENS = 8, 128
METHODS = {
    "plain": (None, []),
    "edge": (kd.projections.EDGE(), []),
    "ba_lora": (
        None,
        [
            kd.regularizers.Consistency(0.5),
            kd.regularizers.TopKEntropy(0.5),
            kd.regularizers.SpectralConcentration(
                0.5, norm=kd.regularizers.SpectralNorm.FROBENIUS
            ),
        ],
    ),
}


def measure(method, form, rank, meeting):
    from torch import distributed

    distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=PROCESSES,
    )
    if form == "gathered":
        kd.DebiasedModel.keeps_logits_apart = lambda *arguments: False
    keras.utils.set_random_seed(0)
    network = keras_hub.models.LlamaBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=1,
        num_query_heads=2,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=16,
    )
    network = keras_hub.models.LlamaCausalLM(network, preprocessor=None)
    kd.adapters.apply(network, kd.adapters.PiSSA(rank=2))
    projection, regularizers = METHODS[method]
    model = kd.DebiasedModel(network, projection, regularizers, seed=0)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, TOKENS))
    x = {
        "token_ids": tokens.astype("int32"),
        "padding_mask": np.ones((ROWS, TOKENS), "int32"),
    }
    before = psutil.Process().memory_info().rss
    logs = model.fit(x, np.roll(tokens, -1, 1), batch_size=ROWS, verbose=0)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    weights = [np.asarray(v) for v in model.trainable_variables]
    return {
        "mib": round((peak - before) / 2**20),
        "loss": logs.history["loss"][0],
        "weights": float(sum(np.abs(w).sum(dtype="float64") for w in weights)),
    }


def in_own_processes(method, form):
    with tempfile.TemporaryDirectory() as folder:
        meeting = pathlib.Path(folder) / "meeting"
        processes = [
            subprocess.Popen(
                [
                    *(sys.executable, __file__, "--only", method, form),
                    *(str(rank), str(meeting)),
                ],
                stdout=subprocess.PIPE,
            )
            for rank in range(PROCESSES)
        ]
        found = [
            json.loads(process.communicate()[0].decode().splitlines()[-1])
            for process in processes
        ]
    return max(found, key=lambda each: each["mib"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="where to write the results")
    parser.add_argument("--only", nargs=4, help="internal")
    options = parser.parse_args()
    if options.only:
        method, form, rank, meeting = options.only
        print(json.dumps(measure(method, form, int(rank), meeting)))
        return
    rows = []
    for method in METHODS:
        found = {f: in_own_processes(method, f) for f in ("gathered", "apart")}
        ratio = found["apart"]["mib"] / found["gathered"]["mib"]
        rows.append({"method": method, **found, "ratio": round(ratio, 2)})
        print(rows[-1], flush=True)
    result = {
        "command": "python benchmarks/replicas_memory.py --json "
        "benchmarks/replicas_memory.json",
        "processes": PROCESSES,
        "logits_mib": ROWS * TOKENS * VOCABULARY * 4 / 2**20,
        "rows": rows,
    }
    results.write(options.json, result)


if __name__ == "__main__":
    main()
