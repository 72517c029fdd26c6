import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import keras_debias as kd
from keras_debias.data import colored_digits
from keras_debias.data import waterbirds

# The module behind the function of the same name.
MODULE = sys.modules[colored_digits.__module__]
COLORS = MODULE.COLORS


class TestColoredDigits:
    def test_color_goes_with_the_class_as_asked(self):
        split = colored_digits(0.95)
        assert split.x.shape == (4000, 28, 28, 3)
        assert split.x.dtype == "float32"
        assert split.x.min() == 0.0 and split.x.max() <= 1.0
        assert np.bincount(split.y).tolist() == [400] * 10
        counts = split.groups.counts()
        own = sum(n for name, n in counts.items() if name.endswith("=yes"))
        # Four standard deviations of a binomial.
        assert abs(own - 3800) < 4 * np.sqrt(4000 * 0.95 * 0.05)
        assert set(colored_digits(1.0).groups.counts()) == {
            f"label={digit}, own color=yes" for digit in range(10)
        }

    def test_the_groups_say_what_the_pictures_show(self):
        """The color is read off the pixels, by its nearest hue of ten."""
        split = colored_digits(0.6, "test", by_color=True)
        own = colored_digits(0.6, "test")
        np.testing.assert_array_equal(split.x, own.x)
        brightest = split.x.reshape(len(split), -1, 3).max(axis=1)
        red, green, blue = brightest.T
        angle = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
        colors = np.round(10 * angle / (2 * np.pi)).astype(int) % 10
        names = np.array(split.groups.names)[split.groups.ids]
        spelled = [
            f"label={label}, color={COLORS[color]}"
            for label, color in zip(split.y, colors)
        ]
        assert names.tolist() == spelled
        names = np.array(own.groups.names)[own.groups.ids]
        yes = np.char.endswith(names.astype(str), "=yes")
        np.testing.assert_array_equal(yes, colors == split.y)

    def test_at_one_in_ten_the_color_says_nothing(self):
        split = colored_digits(0.1, "test", by_color=True)
        table = np.zeros((10, 10))
        for name, n in split.groups.counts().items():
            label, color = name.removeprefix("label=").split(", color=")
            column = COLORS.index(color)
            table[int(label), column] = n
        assert table.sum() == 1000
        # Chi-squared of 90 degrees of freedom: mean 90, deviation 13.4.
        assert abs(((table - 10) ** 2 / 10).sum() - 90) < 4 * 13.4

    def test_seeds_and_splits(self):
        one, again, other = (
            colored_digits(0.9, "test", seed=s) for s in (1, 1, 2)
        )
        np.testing.assert_array_equal(one.x, again.x)
        assert not np.array_equal(one.x, other.x)

        def digits(split):
            """The shapes, whatever their color and order."""
            shapes = (split.x.max(axis=-1) > 0).reshape(len(split), -1)
            return {shape.tobytes() for shape in shapes}

        assert digits(one) == digits(other)
        train = digits(colored_digits(0.9, seed=2))
        assert len(train) == 4000 and not train & digits(one)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="correlation=1.5"):
            colored_digits(1.5)
        with pytest.raises(ValueError, match="split='dev'"):
            colored_digits(0.9, "dev")
        with pytest.raises(ValueError, match="jitter=-1"):
            colored_digits(0.9, jitter=-1)

    def test_without_the_package(self, monkeypatch):
        def missing(name):
            raise ModuleNotFoundError(name)

        MODULE._digits.cache_clear()
        monkeypatch.setattr(MODULE.importlib.resources, "files", missing)
        with pytest.raises(ImportError, match=r"keras-debias\[digits\]"):
            colored_digits(0.9)


def published(folder, rows=12):
    """A folder in the published layout; bird and place are its colors."""
    metadata = []
    for row in range(rows):
        bird, place = row % 2, (row // 2) % 2
        name = f"{row:03}.Some_Bird/Some_Bird_{row:04}.jpg"
        path = folder / name
        path.parent.mkdir(parents=True)
        picture = np.zeros((60, 90, 3), "uint8")
        picture[..., 2 if place else 1] = 200
        picture[20:40, 30:60] = 255 if bird else 0
        Image.fromarray(picture).save(path, quality=95)
        metadata.append(
            {
                "img_id": row + 1,
                "img_filename": name,
                "y": bird,
                "split": row // 4,
                "place": place,
                "place_filename": f"/o/ocean/{row:08}.jpg",
            }
        )
    pd.DataFrame(metadata).to_csv(folder / "metadata.csv", index=False)
    return folder


class TestWaterbirds:
    def test_reads_the_published_layout(self, tmp_path):
        published(tmp_path)
        for number, name in enumerate(("train", "validation", "test")):
            split = waterbirds(tmp_path, name, image_size=(28, 42))
            assert split.x.shape == (4, 28, 42, 3)
            assert split.x.dtype == "uint8"
            assert split.label_names == ("landbird", "waterbird")
            assert split.y.tolist() == [0, 1, 0, 1]
            assert split.groups.counts() == {
                "label=landbird, place=land": 1,
                "label=landbird, place=water": 1,
                "label=waterbird, place=land": 1,
                "label=waterbird, place=water": 1,
            }
            names = np.array(split.groups.names)[split.groups.ids]
            for image, group in zip(split.x.astype(int), names):
                corner, middle = image[0, 0], image[14, 21]
                channel = 2 if group.endswith("place=water") else 1
                assert corner.argmax() == channel and corner.max() > 180
                assert (middle.min() > 200) == ("waterbird" in group)
        assert waterbirds(tmp_path).x.shape == (4, 224, 224, 3)

    def test_cuts_the_middle_out(self, tmp_path):
        published(tmp_path)
        stripes = np.zeros((256, 256, 3), "uint8")
        stripes[:16] = stripes[-16:] = stripes[:, :16] = stripes[:, -16:] = 255
        first = pd.read_csv(tmp_path / "metadata.csv")["img_filename"][0]
        Image.fromarray(stripes).save(tmp_path / first, quality=100)
        image = waterbirds(tmp_path, "train").x[0]
        assert image[4:-4, 4:-4].max() < 10

    def test_audit_finds_the_place(self, tmp_path):
        """Nineteen of twenty birds before the background of their kind."""
        rng = np.random.default_rng(0)
        published(tmp_path, rows=80)
        table = pd.read_csv(tmp_path / "metadata.csv")
        keep = (table["y"] == table["place"]) | (rng.random(80) < 0.1)
        table[keep].assign(split=0).to_csv(
            tmp_path / "metadata.csv", index=False
        )
        split = waterbirds(tmp_path, image_size=(32, 32))
        report = kd.audit(split, min_count=10, folds=0)
        hues = {
            f.label: str(f.feature)
            for f in report.findings
            if "hue of the border" in f.feature.measure
        }
        assert hues == {
            "landbird": "image: green hue of the border",
            "waterbird": "image: blue hue of the border",
        }

    def test_bad_input(self, tmp_path):
        with pytest.raises(ValueError, match="metadata.csv"):
            waterbirds(tmp_path)
        published(tmp_path, rows=8)
        with pytest.raises(ValueError, match="split='val'"):
            waterbirds(tmp_path, "val")
        with pytest.raises(ValueError, match="image_size=224"):
            waterbirds(tmp_path, image_size=224)
        with pytest.raises(ValueError, match="split=2.*none"):
            waterbirds(tmp_path, "test")
        table = pd.read_csv(tmp_path / "metadata.csv")
        path = tmp_path / table["img_filename"][1]
        path.unlink()
        with pytest.raises(ValueError, match="1 of 4 are not there"):
            waterbirds(tmp_path)
        table.assign(y=7).to_csv(tmp_path / "metadata.csv", index=False)
        with pytest.raises(ValueError, match=r"`y`.*\[7\]"):
            waterbirds(tmp_path)
        table.drop(columns="place").to_csv(
            tmp_path / "metadata.csv", index=False
        )
        with pytest.raises(ValueError, match=r"without \['place'\]"):
            waterbirds(tmp_path)
