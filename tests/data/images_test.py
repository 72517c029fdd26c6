"""Sets of images in the catalog, from folders and from a hub."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from keras_debias.data import load
from keras_debias.data import sources


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, "uint8")).save(file, kind)
    return file.getvalue()


def stripes(height, width, value):
    """The outer thirds along the longer side are white."""
    image = np.full((height, width, 3), value)
    if width > height:
        image[:, : width // 3] = image[:, -(width // 3) :] = 255
    else:
        image[: height // 3] = image[-(height // 3) :] = 255
    return image


@pytest.fixture
def bar(tmp_path):
    folder = tmp_path / "bar"
    folder.mkdir()
    images = [np.full((12, 12, 3), 40 * i) for i in range(4)]
    frame = pd.DataFrame(
        {
            "image": [encoded(image) for image in images],
            "label": ["diving", "throwing", "diving", "pole vaulting"],
            "aligned": [True, True, False, True],
        }
    )
    frame.to_parquet(folder / "train.parquet")
    return tmp_path


def test_images_of_a_folder(bar):
    split = load("bar", "train", bar)
    assert split.x.shape == (4, 12, 12, 3) and split.x.dtype == "uint8"
    assert split.x[:, 0, 0, 0].tolist() == [0, 40, 80, 120]
    assert [split.label_names[i] for i in split.y] == [
        "diving",
        "throwing",
        "diving",
        "pole vaulting",
    ]
    assert len(split.label_names) == 6
    assert split.groups.counts() == {
        "label=diving, aligned=no": 1,
        "label=diving, aligned=yes": 1,
        "label=pole vaulting, aligned=yes": 1,
        "label=throwing, aligned=yes": 1,
    }


def test_the_middle_is_cut_out_and_resized(bar):
    """Gray images, one wide and one high, each with white ends."""
    frame = pd.read_parquet(bar / "bar" / "train.parquet").iloc[:3]
    images = [stripes(30, 90, 60), stripes(90, 30, 120), np.full((8, 8), 180)]
    frame["image"] = [encoded(image) for image in images]
    frame.to_parquet(bar / "bar" / "train.parquet")
    split = load("bar", "train", bar, image_size=(20, 20))
    assert split.x.shape == (3, 20, 20, 3)
    for image, value in zip(split.x, (60, 120, 180)):
        # A filter reaches a pixel beyond the cut.
        assert (image[1:-1, 1:-1] == value).all()
    wide = load("bar", "train", bar, image_size=(10, 30)).x
    assert wide.shape == (3, 10, 30, 3)
    assert (wide[0, :, 11:19] == 60).all() and (wide[0, :, [2, -3]] > 250).all()
    with pytest.raises(ValueError, match=r"row 1.*\(90, 30\).*image_size"):
        load("bar", "train", bar)


def test_parts_are_joined_in_order(tmp_path):
    folder = tmp_path / "cifar10"
    folder.mkdir()

    def write(number, values):
        images = [encoded(np.full((4, 4, 3), value)) for value in values]
        pd.DataFrame({"image": images, "label": ["cat", "dog"]}).to_parquet(
            folder / f"train_{number}.parquet"
        )

    assert not sources.available("cifar10", "train", tmp_path)
    for number in range(11):
        write(number, [number, 100 + number])
    (folder / "train_balanced.parquet").write_bytes(b"of another split")
    assert sources.available("cifar10", "train", tmp_path)
    split = load("cifar10", "train", tmp_path)
    expected = [value for n in range(11) for value in (n, 100 + n)]
    assert split.x[:, 0, 0, 0].tolist() == expected
    assert split.groups.counts() == {"label=cat": 11, "label=dog": 11}
    (folder / "train_3.parquet").unlink()
    with pytest.raises(ValueError, match="without gaps"):
        load("cifar10", "train", tmp_path)


def test_images_of_the_hub(monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.delenv(sources.FOLDER_VARIABLE, raising=False)
    names = list(reversed(sources.SOURCES["cifar10"].label_names))
    images = [Image.fromarray(np.full((4, 4, 3), v, "uint8")) for v in (9, 99)]
    data = datasets.Dataset.from_dict(
        {"img": images, "label": [0, 9]},
        features=datasets.Features(
            {
                "img": datasets.Image(),
                "label": datasets.ClassLabel(names=names),
            }
        ),
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: data)
    split = load("cifar10", "test")
    assert split.x[:, 0, 0, 0].tolist() == [9, 99]
    assert [split.label_names[i] for i in split.y] == ["truck", "airplane"]


def test_bad_input(bar, tmp_path):
    with pytest.raises(ValueError, match="set of texts.*image_size"):
        load("sst2", "train", image_size=(8, 8))
    with pytest.raises(ValueError, match="image_size=8"):
        load("bar", "train", bar, image_size=8)
    path = bar / "bar" / "train.parquet"
    frame = pd.read_parquet(path)
    frame.drop(columns="aligned").to_parquet(path)
    with pytest.raises(ValueError, match=r"without \['aligned'\]"):
        load("bar", "train", bar)
    frame["image"] = [*frame["image"][:3], b"no image"]
    frame.to_parquet(path)
    with pytest.raises(ValueError, match="in row 3"):
        load("bar", "train", bar)


COLUMNS = {
    "mdsd": {
        "text": ["Great.", "Bad.", "Fine."],
        "label": ["positive", "negative", "positive"],
        "shortcut": ["media", "goods", "goods"],
    },
    "davidson_aae": {
        "text": ["One.", "Two.", "Three."],
        "label": ["offensive", "not_offensive", "offensive"],
        "dialect": ["aae", "white", "other"],
    },
    "qqp_paws": {
        "sentence1": ["Is it?", "Was it?", "Who?"],
        "sentence2": ["It is?", "Had it?", "What?"],
        "label": ["duplicate", "not_duplicate", "duplicate"],
        "high_overlap": [True, False, False],
    },
}
GROUPS = {
    "mdsd": ("label=positive, shortcut=media", 2),
    "davidson_aae": ("label=not_offensive, dialect=white", 2),
    "qqp_paws": ("label=duplicate, high_overlap=yes", 2),
}


@pytest.mark.parametrize("name", list(COLUMNS))
def test_texts_with_a_natural_shortcut(tmp_path, name):
    source = sources.SOURCES[name]
    (tmp_path / name).mkdir()
    frame = pd.DataFrame(COLUMNS[name])
    for split in source.splits:
        frame.to_parquet(tmp_path / name / f"{split}.parquet")
        found = load(name, split, tmp_path)
        spelled = [found.label_names[i] for i in found.y]
        assert spelled == COLUMNS[name]["label"]
        group, classes = GROUPS[name]
        assert found.groups.counts()[group] == 1
        assert len(found.label_names) == classes
    columns = [source.x] if isinstance(source.x, str) else list(source.x)
    texts = [found.x] if isinstance(source.x, str) else found.x
    for column, values in zip(columns, texts, strict=True):
        assert values.tolist() == COLUMNS[name][column]


def test_sentences_are_a_set_by_name(tmp_path, monkeypatch):
    """From the cache that `kd.data.sentences` fills, by domain."""
    monkeypatch.delenv(sources.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("KERAS_DEBIAS_CACHE", str(tmp_path))
    folder = tmp_path / "sentences-1"
    folder.mkdir()
    for number, domain in enumerate(sources.SOURCES["sentences"].splits):
        (folder / f"{domain}.tsv").write_text(
            f"2.0\tText {number} is good.\n-1.5\tText {number} is bad.\n"
        )
    split = load("sentences", "tweets")
    assert split.x.tolist() == ["Text 3 is good.", "Text 3 is bad."]
    assert split.y.tolist() == [1, 0]
    assert split.groups.counts() == {
        "label=negative, domain=tweets": 1,
        "label=positive, domain=tweets": 1,
    }
    assert "sentences" in sources.describe()
    with pytest.raises(ValueError, match="Leave `folder` out"):
        load("sentences", "tweets", folder=tmp_path / "none")
