"""How many functions Python calls in an eager step, beside Keras and PEFT.

    python benchmarks/python_calls.py --json benchmarks/python_calls.json

The thin Llama of `language_model_step.py`: 16 layers of width 64, one row of
eight tokens. Calls are counted by a profiler, so that other programs on the
machine change nothing. Ours and Keras' steps are those of `fit`.
"""

import argparse
import cProfile
import pstats
import warnings

import compiled_step  # chooses the backend
import language_model_step
import results

PROGRAMS = ("keras", "peft", "ours", "ours_edge")
FEW, MANY = 5, 15


def calls(program, steps):
    """Calls of a few steps, and of what surrounds them."""
    compiled_step.STEPS = steps
    is_peft = isinstance(program, language_model_step.Peft)
    run = compiled_step.in_a_loop if is_peft else compiled_step.in_fit
    profile = cProfile.Profile()
    profile.runcall(run, program)
    return pstats.Stats(profile).total_calls


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    options = parser.parse_args()
    found = {}
    for name in PROGRAMS:
        program = language_model_step.PROGRAMS[name]("tiny", 1, 8)
        calls(program, FEW)  # what is made once
        difference = calls(program, MANY) - calls(program, FEW)
        found[name] = round(difference / (MANY - FEW))
    for name, count in found.items():
        ratio = count / found["keras"]
        print(f"{name:12} {count:9,} calls a step  {ratio:.2f}")
    result = {
        "command": "python benchmarks/python_calls.py",
        "calls_a_step": found,
    }
    results.write(options.json, result)


if __name__ == "__main__":
    main()
