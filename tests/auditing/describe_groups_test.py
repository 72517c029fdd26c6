import importlib

import numpy as np
import pytest

import keras_debias as kd
from keras_debias.auditing import contact_sheet
from keras_debias.auditing import describe_groups
from keras_debias.auditing import token_table
from keras_debias.auditing.describe_groups import _log_odds

FILLER = "the a one some this that here there today again".split()
TOPICS = {"films": "actor plot".split(), "phones": "battery screen".split()}


def topical(n=600, seed=0):
    rng = np.random.default_rng(seed)
    topics = rng.choice([*TOPICS, "other"], n)
    texts = [
        " ".join([*rng.choice(FILLER, 5), *TOPICS.get(topic, [])])
        for topic in topics
    ]
    return kd.data.Split(texts, name="topics"), topics


def test_groups_are_named_by_their_words():
    split, topics = topical()
    described = describe_groups(split, topics, top=3)
    assert {k: set(v) for k, v in described.items()} == {
        "films": {"actor", "plot"},
        "phones": {"battery", "screen"},
        "other": set(),
    }
    assert len(describe_groups(split, topics, top=1)["films"]) == 1


@pytest.mark.parametrize("seed", range(5))
def test_random_groups_have_no_words(seed):
    split, _ = topical(seed=seed)
    groups = np.random.default_rng(seed + 50).integers(0, 3, len(split))
    described = describe_groups(split, groups, level=0.001)
    assert described == {f"group={i}": () for i in range(3)}


def test_pairs_name_the_text():
    split, topics = topical()
    pairs = kd.data.Split((["so it is"] * len(split), list(split.x)))
    described = describe_groups(pairs, topics)
    assert set(described["phones"]) == {
        "hypothesis: battery",
        "hypothesis: screen",
    }


def test_scores_are_those_of_the_paper():
    """Equations 15, 16, 19 and 22, word by word, with rows for words."""
    rng = np.random.default_rng(0)
    sizes = np.array([60, 90])
    counts = rng.integers(1, 50, (2, 6)).astype("float64")
    prior = 30.0
    z = _log_odds(counts, sizes, prior)
    for w in range(6):
        alpha = prior * counts[:, w].sum() / 150
        delta, variance = 0.0, 0.0
        for i, sign in ((0, 1), (1, -1)):
            y, n = counts[i, w], sizes[i]
            delta += sign * np.log((y + alpha) / (n + prior - y - alpha))
            variance += 1 / (y + alpha) + 1 / (n + prior - y - alpha)
        assert z[0, w] == pytest.approx(delta / np.sqrt(variance))
        assert z[1, w] == pytest.approx(-z[0, w])


def test_contact_sheet(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 8, 10, 3)).astype("uint8")
    groups = ["red", "blue", "red"] * 10
    images[::3, ..., 1:] = 0
    images[2::3, ..., 1:] = 0
    split = kd.data.Split(images)
    figure = contact_sheet(split, groups, tmp_path / "a.png", columns=4)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["blue (10 rows)", "red (20 rows)"]
    # The strip of the red group has four images of it, and white gaps.
    strip = np.asarray(figure.axes[1].images[0].get_array())
    gap = (strip == 1.0).all(axis=-1)
    assert (strip[~gap][:, 1:] == 0).all()
    assert (~gap).sum() == 4 * 8 * 10
    one = images[..., :1].astype("float32") / 255
    figure = contact_sheet(kd.data.Split(one), groups, columns=4, rows=2)
    assert np.asarray(figure.axes[0].images[0].get_array()).shape[-1] == 3
    # Groups without rows are left out.
    empty = kd.data.Groups([0, 2] * 15, ["a", "b", "c"])
    assert len(contact_sheet(split, empty).axes) == 2


def test_bad_input():
    split, topics = topical(60)
    images = kd.data.Split(np.zeros((60, 4, 4, 3), "uint8"))
    for function, right, wrong in (
        (describe_groups, split, images),
        (contact_sheet, images, split),
    ):
        with pytest.raises(ValueError, match="each of the 60 rows"):
            function(right, topics[:50])
        with pytest.raises(ValueError, match="two groups"):
            function(right, ["same"] * 60)
        with pytest.raises(TypeError, match="describe_groups|contact_sheet"):
            function(wrong, topics)
    with pytest.raises(ValueError, match="top=0"):
        describe_groups(split, topics, top=0)
    with pytest.raises(ValueError, match="prior=-1"):
        describe_groups(split, topics, prior=-1)
    with pytest.raises(ValueError, match="columns=0"):
        contact_sheet(images, topics, columns=0)


def test_a_table_of_tokens_in_a_file_is_that_in_memory():
    rng = np.random.default_rng(0)
    chunks = [
        [rng.choice(FILLER, rng.integers(0, 6)).tolist() for _ in range(40)]
        for _ in range(5)
    ]
    tables = [token_table.TokenTable(size) for size in (64, 2**20)]
    for table in tables:
        for chunk in chunks:
            table.add(chunk)
    rows = [row for chunk in chunks for row in chunk]
    expected = np.array([[word in row for word in FILLER] for row in rows])
    for table in tables:
        assert len(table) == 200
        counts = [table.counts()[word] for word in FILLER]
        assert counts == expected.sum(axis=0).tolist()
        wanted = FILLER[::-2]
        # Two iterators at a time do not disturb each other.
        both = zip(table.blocks(wanted), table.blocks(FILLER), strict=True)
        few, every = zip(*((a.toarray(), b.toarray()) for a, b in both))
        assert (np.concatenate(every) == expected).all()
        assert (np.concatenate(few) == expected[:, ::-2]).all()


def test_chunks_change_nothing(monkeypatch):
    split, topics = topical(600)
    labelled = kd.data.Split(
        split.x, [int(topic == "films") for topic in topics]
    )
    whole = kd.audit(labelled)
    for module in ("feature", "extraction", "describe_groups"):
        module = importlib.import_module(f"keras_debias.auditing.{module}")
        monkeypatch.setattr(module, "CHUNK", 37)
    assert kd.audit(labelled) == whole
    present = whole.findings[0].feature.present(labelled)
    assert present.sum() == whole.findings[0].n


def test_a_bar_appears_only_where_it_takes_long(monkeypatch, capsys):
    from keras_debias.utils import progress

    quick = progress.Progress("Reading texts", 10, "row")
    for _ in range(10):
        quick.add(1)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    slow = progress.Progress("Reading texts", 10, "row")
    for _ in range(10):
        slow.add(1)
    out = capsys.readouterr().out
    assert "Reading texts" in out and "10/10" in out
