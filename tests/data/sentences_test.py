"""The real sentences: read once from a package, then from a cache."""

import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest

import keras_debias as kd
from keras_debias.data import sentences as sentences_function

module = __import__("keras_debias.data.sentences", fromlist=["sentences"])


def test_counts_are_the_published_ones():
    split = kd.data.sentences()
    assert split.label_names == ("negative", "positive")
    assert split.groups.counts() == {
        "label=negative, domain=film_reviews": 5076,
        "label=negative, domain=product_reviews": 1235,
        "label=negative, domain=editorials": 1783,
        "label=negative, domain=tweets": 1087,
        "label=positive, domain=film_reviews": 4996,
        "label=positive, domain=product_reviews": 1750,
        "label=positive, domain=editorials": 1187,
        "label=positive, domain=tweets": 2345,
    }
    assert all(isinstance(text, str) and text for text in split.x)


def test_valence_is_a_target_for_regression():
    split = kd.data.sentences("tweets", min_valence=0.0, target="valence")
    assert len(split) == 4200
    assert split.y.dtype == "float32" and abs(split.y).max() <= 4
    assert split.groups.names == ("domain=tweets",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domains": "books"}, "'film_reviews'.*Received"),
        ({"domains": ()}, "Received"),
        ({"domains": ("tweets", "tweets")}, "different names"),
        ({"target": "label"}, "target='label'"),
        ({"min_valence": 9.0}, "min_valence=9.0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"(?i){message}"):
        kd.data.sentences(**arguments)


def archive(path, texts):
    """An archive of the package's form, with sentences of our own."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for name in module.FILES.values():
            content = "".join(
                f"{i}\t{value}\t{text}\n"
                for i, (value, text) in enumerate(texts)
            ).encode()
            info = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(module.INNER_ARCHIVE)
        info.size = len(inner.getvalue())
        tar.addfile(info, io.BytesIO(inner.getvalue()))


def test_a_download_is_checked_and_unpacked_once(tmp_path, monkeypatch):
    texts = [(2.0, 'a "good" day'), (-1.5, "bad\ttab"), (0.1, "so so")]
    calls = []

    def run(command, **options):
        calls.append(command)
        folder = command[command.index("--dest") + 1]
        archive(f"{folder}/{module.ARCHIVE}", texts)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    with pytest.raises(ValueError, match="SHA-256.*Nothing was unpacked"):
        sentences_function("tweets", cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())

    monkeypatch.setattr(module, "_check_sha256", lambda path: None)
    split = sentences_function("tweets", cache_dir=tmp_path)
    assert split.x.tolist() == ['a "good" day', "bad tab"]
    assert split.y.tolist() == [1, 0]
    sentences_function("editorials", cache_dir=tmp_path)
    assert len(calls) == 2
    assert [p.name for p in tmp_path.iterdir()] == [module.LAYOUT]


def test_without_a_connection_the_error_names_the_way_out(
    tmp_path, monkeypatch
):
    def run(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "no route to host")

    monkeypatch.setattr(module.subprocess, "run", run)
    with pytest.raises(ConnectionError, match="no route.*KERAS_DEBIAS_CACHE"):
        sentences_function("tweets", cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_download_leaves_setuptools_alone(tmp_path):
    """`torch.compile` imports it later, in the same process."""
    code = (
        "import subprocess, keras_debias as kd\n"
        "from keras_debias.data import sentences\n"
        "run = lambda *a, **k: subprocess.CompletedProcess(a, 1, '', "
        "'No module named pip')\n"
        "import sys; module = sys.modules['keras_debias.data.sentences']\n"
        "module.subprocess.run = run\n"
        f"try: kd.data.sentences('tweets', cache_dir={str(tmp_path)!r})\n"
        "except ConnectionError as error: print(error)\n"
        "import setuptools\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert "Expected `pip` in this Python" in finished.stdout


def test_skewed_sentences_keep_their_texts():
    split = kd.data.sentences(("tweets", "film_reviews"))
    label = {"positive": "tweets", "negative": "film_reviews"}
    train = kd.data.skew(split, label=label, strength=0.95, n=2000)
    assert set(train.x) <= set(split.x)
    sizes = sorted(train.groups.counts().values())
    assert sizes == [50, 50, 950, 950]
    assert np.bincount(train.y).tolist() == [1000, 1000]
