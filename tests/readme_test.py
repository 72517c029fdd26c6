"""Runs the code in README.md as it stands, on a tiny model and few pairs."""

import json
import pathlib
import re
import textwrap

import keras
import keras_hub
import numpy as np
import pytest

import keras_debias as kd

README = pathlib.Path(__file__).parents[1] / "README.md"
WORDS = re.compile(r"[a-z]+|[^a-z\s]")


def code():
    blocks = re.findall(
        r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) == 1
    (block,) = blocks
    return textwrap.dedent(block)


@pytest.fixture
def preset(tmp_path):
    """A BERT of two layers as a preset folder."""
    texts = [t for x in kd.data.generated_nli(900).x for t in x]
    texts += [t for x in kd.data.generated_overlap(900).x for t in x]
    words = {w for text in texts for w in WORDS.findall(text.lower())}
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)]
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=16,
        max_sequence_length=16,
    )
    classifier = keras_hub.models.BertTextClassifier(
        backbone,
        num_classes=3,
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(
            keras_hub.models.BertTokenizer(vocabulary, lowercase=True),
            sequence_length=16,
        ),
    )
    folder = tmp_path / "preset"
    classifier.save_to_preset(folder)
    return folder


def test_code_runs_as_it_stands(preset, tmp_path, monkeypatch, capsys):
    asked = []

    def load(name, split):
        asked.append((name, split))
        if name == "hans":
            return kd.data.generated_overlap(900)
        # As many rows as are sampled, and no more than a test needs.
        return kd.data.generated_nli(8000 if split == "train" else 600)

    sample = kd.data.Split.sample

    def small_sample(self, n, *args, **kwargs):
        return sample(self, min(n, 96), *args, **kwargs)

    monkeypatch.setattr(kd.presets, "minilm", lambda: str(preset))
    monkeypatch.setattr(kd.data, "load", load)
    monkeypatch.setattr(kd.data.Split, "sample", small_sample)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code(), str(README), "exec"), names)

    assert ("snli", "train") in asked and ("hans", "validation") in asked
    history = names["model"].history.history
    for name in ("val_accuracy", "hans_worst_group_accuracy", "hans_gap"):
        assert len(history[name]) == 2
    assert len(history["gradient_cosine"]) == 2
    printed = capsys.readouterr().out
    assert "weights train" in printed
    assert "label=neutral, token=yes" in printed
    assert (tmp_path / "scores.png").stat().st_size > 10_000
    config = json.loads((tmp_path / "adapter" / "adapter.json").read_text())
    assert config["adapters"]

    # What was saved is what was trained, in both forms.
    pairs = tuple(part[:8] for part in names["test"].x)
    expected = names["plain"].predict(pairs, verbose=0)
    reloaded = keras_hub.models.TextClassifier.from_preset(
        str(tmp_path / "classifier")
    )
    restored = keras_hub.models.TextClassifier.from_preset(
        str(preset), num_classes=3
    )
    kd.adapters.load(restored, tmp_path / "adapter")
    for model in (reloaded, restored):
        found = model.predict(pairs, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_names_and_files_in_the_text_exist():
    text = README.read_text()
    for path in re.findall(r"`((?:examples|guides|keras_debias)/[^`]*)`", text):
        assert (README.parent / path).exists(), path
    for name in re.findall(r"`((?:kd\.)[a-z_.A-Z]+)", text):
        found = kd
        for part in name.split(".")[1:]:
            found = getattr(found, part)
    for room, names in re.findall(
        r"^\| (?:`)(adapters|projections|losses|callbacks|data)\.([^|]*)\|",
        text,
        re.MULTILINE,
    ):
        for name in re.findall(r"[A-Za-z_]+(?=[`(])", names):
            assert hasattr(getattr(kd, room), name), f"{room}.{name}"
    assert text.count("<!-- results:start -->") == 1
    assert text.count("<!-- results:end -->") == 1
    assert keras.config.backend() in text.lower()
