"""Commands that train, on a tiny preset: from a file to a served model."""

import json
import pathlib

import keras
import keras_hub
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from PIL import Image

import keras_debias as kd
from keras_debias.cli.main import main
from tests import architectures
from tests.cli.tiny import inputs  # noqa: F401
from tests.cli.tiny import training
from tests.training.pictures_test import vit

ROOT = pathlib.Path(__file__).parents[2]

# The groups of the test rows are small.
pytestmark = pytest.mark.filterwarnings("ignore:No group of the split")


def test_a_file_becomes_a_served_model(
    inputs,  # noqa: F811
    tmp_path,
    capsys,
    monkeypatch,
):
    output = tmp_path / "served"
    arguments = training(inputs, "--output", str(output))
    arguments += ["--adapter", "value-bias", "--method", "balanced"]
    assert main(["train", *arguments]) == 0
    said = capsys.readouterr()
    assert "worst group" in said.out and said.err.count("error") == 0
    names = {path.name for path in output.iterdir()}
    expected = {"model", "adapter", "report.html", "scores.json"}
    assert names == expected | {"predictions.csv", "labels.json"}
    labels = json.loads((output / "labels.json").read_text())
    assert labels == ["no", "yes"]
    page = (output / "report.html").read_text()
    assert "3 updates are few" in page and "BalancedSampling" in page

    # The preset answers as the file of predictions says, on the test rows.
    served = keras_hub.models.TextClassifier.from_preset(str(output / "model"))
    assert not any(hasattr(each, "adapters") for each in served.backbone.layers)
    data = kd.data.Split.from_csv(
        inputs / "data.csv", "text", "label", "place", by_label=True
    )
    test, _ = data.partition(0.2, seed=0)
    written = pd.read_csv(output / "predictions.csv")
    answers = served.predict(list(test.x), verbose=0).argmax(axis=1)
    assert [labels[i] for i in answers] == written["prediction"].tolist()
    assert len(written) == 12 and "label=no, place==here" in set(
        written["group"]
    )

    # So says the page on the command line.
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    code = page.partition("<!-- serve -->")[2].partition("```python\n")[2]
    monkeypatch.chdir(tmp_path)
    exec(compile(code.partition("```")[0], "command_line.md", "exec"), {})
    assert capsys.readouterr().out.count("'") == 4

    # What exists is not replaced unasked.
    assert main(["train", *arguments]) == 2
    assert "exists" in capsys.readouterr().err

    peft = tmp_path / "peft"
    status = main(
        [
            *("export-peft", str(output / "adapter"), "--num-classes", "3"),
            *("--model", str(inputs / "preset"), "--output", str(peft)),
        ]
    )
    assert status == 2, "the classifier has two classes"
    assert not peft.exists()
    status = main(
        [
            *("export-peft", str(output / "adapter"), "--num-classes", "2"),
            *("--model", str(inputs / "preset"), "--output", str(peft)),
        ]
    )
    assert status == 0
    theirs = safetensors.numpy.load_file(peft / "adapter_model.safetensors")
    ours = safetensors.numpy.load_file(
        output / "adapter" / "adapter.safetensors"
    )
    biases = [v for k, v in theirs.items() if k.endswith("beft_bias")]
    assert len(biases) == architectures.NUM_LAYERS
    flat = [value.reshape(-1) for value in ours.values()]
    for bias in biases:
        assert any(
            value.shape == bias.reshape(-1).shape
            and np.allclose(value, bias.reshape(-1), atol=1e-6)
            for value in flat
        )


def test_numbers_become_a_served_model(inputs, tmp_path):  # noqa: F811
    frame = pd.read_csv(inputs / "data.csv")
    frame["label"] = np.where(frame["label"] == "yes", 2.5, 1.0)
    frame.to_csv(tmp_path / "grades.csv", index=False)
    output = tmp_path / "served"
    arguments = training(inputs, "--output", str(output), "--quiet")
    arguments[0] = str(tmp_path / "grades.csv")
    assert main(["train", *arguments, "--regression"]) == 0
    assert not (output / "labels.json").exists()
    assert "rmse" in (output / "report.html").read_text()
    served = keras_hub.models.TextClassifier.from_preset(str(output / "model"))
    split = kd.data.Split.from_csv(
        tmp_path / "grades.csv", "text", "label", "place"
    )
    test, _ = split.partition(0.2, seed=0)
    written = pd.read_csv(output / "predictions.csv")
    found = served.predict(list(test.x), verbose=0)[:, 0]
    np.testing.assert_allclose(written["prediction"], found, atol=1e-4)


@pytest.mark.skipif(
    keras.config.backend() != "torch",
    reason="networks of images take minutes to compile elsewhere",
)
def test_images_become_a_served_model(tmp_path):
    generator = np.random.default_rng(0)
    rows = []
    for number in range(24):
        pixels = generator.integers(0, 60, (8, 8, 3)).astype("uint8")
        pixels[..., number % 2] += 150
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append((f"{number}.png", "ab"[number % 2]))
    frame = pd.DataFrame(rows, columns=["photo", "bird"])
    frame.to_csv(tmp_path / "p.csv", index=False)
    vit().save_to_preset(str(tmp_path / "preset"))
    output = tmp_path / "served"
    arguments = ["train", str(tmp_path / "p.csv"), "--image", "photo"]
    arguments += ["--image-size", "32", "--label", "bird", "--method", "plain"]
    arguments += ["--model", str(tmp_path / "preset"), "--batch-size", "8"]
    assert main([*arguments, "--output", str(output), "--quiet"]) == 0
    assert not (output / "adapter").exists()
    assert "ImageClassifier" in (output / "report.html").read_text()
    served = keras_hub.models.ImageClassifier.from_preset(str(output / "model"))
    split = kd.data.Split.from_image_folder(
        tmp_path, frame, label="bird", image_size=(32, 32)
    )
    test, _ = split.partition(0.2, seed=0)
    written = pd.read_csv(output / "predictions.csv")
    found = served.predict(test.x[:], verbose=0).argmax(axis=1)
    assert [split.label_names[i] for i in found] == written[
        "prediction"
    ].tolist()
