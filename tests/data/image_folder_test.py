"""Images in folders: read when needed, in all that takes a split."""

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import keras_debias as kd


@pytest.fixture
def photos(tmp_path):
    """Forty photos of 10 x 8, red or blue, with a table of them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for number in range(40):
        pixels = generator.integers(0, 60, (8, 10, 3)).astype("uint8")
        bird = number % 2
        place = bird if number % 8 else 1 - bird
        pixels[..., 2 if place else 0] += 150
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(
            (f"{number}.png", ("owl", "tit")[bird], "land sea".split()[place])
        )
    table = pd.DataFrame(rows, columns=["photo", "bird", "place"])
    table.to_csv(tmp_path / "photos.csv", index=False)
    return tmp_path


def read(photos, **options):
    return kd.data.Split.from_image_folder(
        photos / "photos",
        photos / "photos.csv",
        label="bird",
        groups="place",
        **{"image_size": (8, 10), **options},
    )


def test_a_table_names_labels_and_groups(photos):
    split = read(photos, by_label=True, name="photos")
    assert len(split) == 40 and split.x.shape == (40, 8, 10, 3)
    assert split.label_names == ("owl", "tit")
    assert split.groups.counts() == {
        "label=owl, place=land": 15,
        "label=owl, place=sea": 5,
        "label=tit, place=sea": 20,
    }
    expected = np.asarray(Image.open(photos / "photos" / "3.png"))
    np.testing.assert_array_equal(split.x[3], expected)
    taken = split.take([5, 3])
    assert isinstance(taken.x, kd.data.ImageFiles)
    np.testing.assert_array_equal(taken.x[1:][0], expected)
    first, second = split.partition(0.25)
    assert len(first) == 10 and len(second) == 30


def test_folders_are_labels(photos, tmp_path):
    for number in range(4):
        target = tmp_path / "birds" / ("owl", "tit")[number % 2]
        target.mkdir(parents=True, exist_ok=True)
        source = photos / "photos" / f"{number}.png"
        source.rename(target / f"{number}.png")
    (tmp_path / "birds" / "owl" / "notes.txt").write_text("none")
    split = kd.data.Split.from_image_folder(tmp_path / "birds")
    assert split.label_names == ("owl", "tit")
    assert split.y.tolist() == [0, 0, 1, 1]
    assert split.x.shape == (4, 224, 224, 3)
    flat = kd.data.Split.from_image_folder(tmp_path / "birds" / "tit")
    assert flat.y is None and len(flat) == 2
    (tmp_path / "birds" / "5.png").write_bytes(b"")
    with pytest.raises(ValueError, match="1 images in .* and 4 in its"):
        kd.data.Split.from_image_folder(tmp_path / "birds")


def test_images_are_turned_cut_and_resized(tmp_path):
    pixels = np.zeros((20, 40), "uint8")
    pixels[:, 20:] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the right when shown
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, exif=exif)
    image = kd.data.ImageFiles([path], (10, 10))[0]
    # Shown, it is 40 high: dark above, bright below; the middle is kept.
    assert image.shape == (10, 10, 3)
    assert image[:4].max() == 0 and image[6:].min() == 200


def test_equal_files_stay_together(photos):
    data = (photos / "photos" / "0.png").read_bytes()
    for number in range(2, 40, 2):
        (photos / "photos" / f"{number}.png").write_bytes(data)
    split = read(photos)
    found = kd.data.duplicates(split)
    assert found["rows"].tolist() == [19]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "bird"}, "Without `csv`"),
        ({"csv": "photos.csv", "file": "bird"}, "20|40 .* not there"),
        ({"csv": "bad.csv"}, "one column of names"),
        ({"csv": "absent.csv"}, "does not exist"),
        ({"csv": "photos.csv", "label": "none"}, "no column"),
        ({"csv": "more.csv"}, r"1 of 1 that are not there: \['99.png'\]"),
        ({"image_size": (0, 3)}, "positive integers"),
    ],
)
def test_wrong_tables_say_so(photos, options, message):
    (photos / "bad.csv").write_text("a,b\n1,2\n")
    (photos / "more.csv").write_text("file\n99.png\n")
    if "csv" in options:
        options = {**options, "csv": photos / options["csv"]}
    with pytest.raises(ValueError, match=message):
        kd.data.Split.from_image_folder(photos / "photos", **options)


def test_a_broken_file_is_named(photos):
    split = read(photos)
    (photos / "photos" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="1.png.*can be read"):
        split.x[:3]


def network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 10, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def test_all_that_takes_a_split_takes_files(photos, monkeypatch):
    """Files and the same images in memory give the same results."""
    lazy = read(photos, by_label=True)
    images = np.asarray(lazy.x)
    loaded = kd.data.Split(
        images, lazy.y, lazy.groups, label_names=lazy.label_names
    )
    monkeypatch.setattr("keras_debias.evaluation.outputs.IMAGES_AT_ONCE", 16)
    figures = []
    for split in (lazy, loaded):
        model = kd.DebiasedModel(network())
        model.compile()
        history = model.fit(split, epochs=2, batch_size=8, verbose=0)
        scores = kd.evaluate(model.model, split, min_group_size=5)["test"]
        assert model.predict(split.x, verbose=0).shape == (40, 2)
        report = kd.audit(split, min_count=5, folds=0)
        # The red or blue of the place goes with the bird.
        assert report.findings and report.group_findings
        features = kd.features.FrozenFeatures(model.model)(split)
        recommended = kd.recommended(split, model.model)
        figures.append(
            (
                history.history["loss"],
                scores.accuracy,
                [(g.name, g.accuracy) for g in scores.groups],
                [(str(f.feature), f.phi) for f in report.findings],
                features.tolist(),
                repr(recommended.recipe),
            )
        )
        rows = report.findings[0].examples(split, 2)
        assert ("file" in rows) == (split is lazy)
    assert figures[0] == figures[1]


def test_compare_takes_files(photos, tmp_path):
    split = read(photos, by_label=True)
    arguments = (
        {"plain": kd.recipes.FineTuning()},
        split,
        {"test": split.take(np.arange(20))},
        [0],
        lambda updates: network(),
        kd.recipes.Budget(epochs=1, batch_size=8),
    )
    options = {
        "folder": tmp_path / "runs", "verbose": 0, "min_group_size": 1,
        "bootstrap": 0,
    }  # fmt: skip
    comparison = kd.compare(*arguments, **options)
    assert len(comparison.runs) == 1 and not comparison.errors
    # The content of the files is what counts.
    again = kd.compare(*arguments, **options)
    assert again.runs[0].updates == comparison.runs[0].updates
    data = (photos / "photos" / "1.png").read_bytes()
    (photos / "photos" / "0.png").write_bytes(data)
    changed = (arguments[0], read(photos, by_label=True), *arguments[2:])
    with pytest.raises(ValueError, match="other"):
        kd.compare(*changed, **options)
