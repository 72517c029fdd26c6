"""A file of comments, and a tiny pretrained network that reads them."""

import keras
import numpy as np
import pandas as pd
import pytest

from tests import architectures

COLUMNS = ["--text", "text", "--label", "label", "--groups", "place"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The folder of both: `data.csv` and `preset`."""
    folder = tmp_path_factory.mktemp("inputs")
    generator = np.random.default_rng(0)
    labels = np.array(["no", "yes"])[np.arange(60) % 2]
    texts = [
        " ".join([*generator.choice(architectures.WORDS[:8], 3), word])
        for word in np.where(labels == "yes", "slept", "stopped")
    ]
    place = generator.choice(["=here", "there"], 60)
    frame = pd.DataFrame({"text": texts, "label": labels, "place": place})
    frame.to_csv(folder / "data.csv", index=False)
    keras.utils.set_random_seed(0)
    classifier = architectures._bert_text(0.0)
    classifier.save_to_preset(str(folder / "preset"))
    return folder


def training(inputs, *more):
    """The arguments that `train` and `compare` have in common."""
    tiny = ["--epochs", "1", "--batch-size", "16", "--sequence-length", "10"]
    data = [str(inputs / "data.csv"), *COLUMNS]
    return [*data, "--model", str(inputs / "preset"), *tiny, *more]
