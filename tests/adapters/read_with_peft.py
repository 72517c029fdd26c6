"""Reads folders of `adapters.export_peft` with Transformers and PEFT alone.

    python read_with_peft.py FOLDER NAME ...

`FOLDER` has folders `<name>-<adapter>` with the expected logits beside the
adapter; `NAME ...` are those of causal language models. Prints the largest
difference of each, as loaded and merged, in units of the largest logit.
"""

import json
import pathlib
import sys

import numpy as np
import peft
import torch


def main(folder, *decoders):
    tokens = torch.tensor(np.load(f"{folder}/tokens.npy")).long()
    found = {}
    for path in sorted(pathlib.Path(folder).iterdir()):
        if not path.is_dir():
            continue
        is_decoder = path.name.split("-")[0] in decoders
        task = "CausalLM" if is_decoder else "SequenceClassification"
        kind = getattr(peft, f"AutoPeftModelFor{task}")
        model = kind.from_pretrained(path).eval()
        expected = np.load(path / "logits.npy")

        def difference(network):
            with torch.no_grad():
                logits = network(input_ids=tokens).logits.numpy()
            # Those of a prompt come first.
            logits = logits[:, -tokens.shape[1] :] if is_decoder else logits
            error = np.abs(logits - expected).max()
            return float(error / max(1.0, np.abs(expected).max()))

        loaded = difference(model)
        form = path.name.split("-")[1]
        merges = form not in ("PrefixTuning", "PromptTuning")
        merges = merges and not (is_decoder and form == "ValueBias")
        if merges:
            model.base_model.merge_adapter()
        found[path.name] = loaded, difference(model)
    assert "keras" not in sys.modules
    print(json.dumps(found))


main(*sys.argv[1:])
