"""Memory of BA-LoRA's terms over logits the size of language models'.

The value of each term and its gradient, for logits of 4 x 256 tokens over
vocabularies of 49,152 (SmolLM2) and 128,256 (Llama 3) and as many of a
teacher, in float32: as the library computes them, some rows at a time, and
as the equations read, left to automatic differentiation. Each measurement
has a process of its own; what is reported is what its peak adds to the
inputs, the gradient included.

    python benchmarks/logits_memory.py --json benchmarks/logits_memory.json
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import psutil  # noqa: E402
import results  # noqa: E402
import torch  # noqa: E402

import keras_debias as kd  # noqa: E402

TOKENS = (4, 256)
VOCABULARIES = (49_152, 128_256)
TEMPERATURE, CANDIDATES, LEADING = 2.0, 20, 5
GOAL = 0.4


def naive_consistency(logits, teacher):
    """Equation (9) of BA-LoRA."""
    p = torch.softmax(teacher / TEMPERATURE, -1)
    log_p = torch.log_softmax(teacher / TEMPERATURE, -1)
    log_q = torch.log_softmax(logits / TEMPERATURE, -1)
    return TEMPERATURE**2 * (p * (log_p - log_q)).sum(-1).mean()


def naive_entropy(logits, teacher):
    """Equations (10) and (11)."""
    p, _ = torch.topk(torch.softmax(logits, -1), CANDIDATES)
    p = p / p.sum(-1, keepdim=True)
    return (p * torch.log(p)).sum(-1).mean()


def naive_spectral(logits, teacher):
    """Equation (12)."""
    values = torch.linalg.svd(logits.flatten(0, 1), full_matrices=False)[1]
    return -values[:LEADING].sum() / torch.linalg.norm(values)


FROBENIUS = kd.regularizers.SpectralNorm.FROBENIUS
FORMS = {
    "naive": {
        "consistency": naive_consistency,
        "entropy": naive_entropy,
        "spectral": naive_spectral,
    },
    "ours": {
        "consistency": kd.regularizers.Consistency(1.0, TEMPERATURE),
        "entropy": kd.regularizers.TopKEntropy(1.0, CANDIDATES),
        "spectral": kd.regularizers.SpectralConcentration(
            1.0, LEADING, FROBENIUS
        ),
    },
}
TERMS = {name: (name,) for name in FORMS["naive"]}
TERMS["all"] = tuple(TERMS)


def value_of(form, name, logits, teacher):
    term = FORMS[form][name]
    if form == "naive":
        return term(logits, teacher)
    return term.call(None, logits, teacher)


def measure(form, term, vocabulary):
    generator = torch.Generator().manual_seed(0)
    shape = (*TOKENS, vocabulary)
    logits, teacher = (torch.empty(shape) for _ in range(2))
    for tensor in (logits, teacher):
        # In place: a temporary would be part of the peak.
        tensor.normal_(generator=generator)
        # A direction that all tokens share, as logits have them.
        for row in tensor:
            row.add_(torch.linspace(-3, 3, vocabulary))
    logits.requires_grad_(True)
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    value = sum(value_of(form, n, logits, teacher) for n in TERMS[term])
    value.backward()
    seconds = time.perf_counter() - began
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "mib": round((peak - before) / 2**20, 1),
        "seconds": round(seconds, 2),
        "value": float(value.detach()),
        "gradient": float(torch.linalg.norm(logits.grad)),
    }


def in_own_process(form, term, vocabulary):
    command = [sys.executable, __file__, "--only", form, term, str(vocabulary)]
    output = subprocess.run(command, check=True, capture_output=True).stdout
    return json.loads(output.decode().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="where to write the results")
    parser.add_argument("--only", nargs=3, help="internal")
    options = parser.parse_args()
    if options.only:
        form, term, vocabulary = options.only
        print(json.dumps(measure(form, term, int(vocabulary))))
        return
    rows = []
    for vocabulary in VOCABULARIES:
        size = TOKENS[0] * TOKENS[1] * vocabulary * 4 / 2**20
        print(f"{vocabulary} words: logits of {size:.0f} MiB")
        for term in TERMS:
            found = {f: in_own_process(f, term, vocabulary) for f in FORMS}
            ratio = found["ours"]["mib"] / found["naive"]["mib"]
            rows.append(
                {
                    "vocabulary": vocabulary,
                    "term": term,
                    **found,
                    "ratio": round(ratio, 3),
                }
            )
            print(
                f"  {term:12}"
                + ", ".join(f"{f} {x['mib']:.0f} MiB" for f, x in found.items())
                + f": {ratio:.2f}, goal <= {GOAL}; values "
                + " and ".join(f"{x['value']:.5f}" for x in found.values())
                + ", gradients of "
                + " and ".join(f"{x['gradient']:.3g}" for x in found.values()),
                flush=True,
            )
    result = {
        "command": "python benchmarks/logits_memory.py --json "
        "benchmarks/logits_memory.json",
        "tokens": TOKENS,
        "goal": GOAL,
        "rows": rows,
    }
    results.write(options.json, result)


if __name__ == "__main__":
    main()
