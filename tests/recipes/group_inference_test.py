"""Groups without labels: planted attributes are found, noise is not."""

import zlib

import keras
import numpy as np
import pytest

import keras_debias as kd
from keras_debias.recipes import cross_fitting
from keras_debias.recipes import propensity
from keras_debias.recipes.co_trained_clusters import hinted_classes
from keras_debias.recipes.evidence import Evidence
from tests.recipes import toy

R = kd.recipes


def numbers_trainer(**arguments):
    """The inputs are their own features."""
    return toy.trainer(features=lambda split: split.x, **arguments)


def kinds(split):
    """Features whose clusters are kinds of input, as of real encoders."""
    return split.x[:, [0, 0, 0, 1]] * [2.0, 2.0, 2.0, 0.3]


def shared(groups, train):
    return R.agreement(groups, train.groups)["adjusted_rand"]


@pytest.mark.parametrize(
    ("inference", "least"),
    [
        (R.Clusters(2), 0.95),
        (R.Clusters(), 0.25),  # more cells than groups, each of one group
        (R.CoTrainedClusters((2, 4), bins=1), 0.95),
        (R.ProbeHint(confident=1.0), 0.4),
    ],
)
def test_a_planted_attribute_is_found(inference, least):
    train = toy.numbers(600, strength=0.9)
    found = inference.infer(numbers_trainer(), train.with_groups(None))
    assert shared(found, train) > least
    # Every cell is of one side of the cue, nearly.
    for group in np.unique(found.ids):
        cue = train.x[found.ids == group, 0] > 0
        if len(cue) >= 25:
            assert max(cue.mean(), 1 - cue.mean()) > 0.8


def test_a_word_is_found_by_the_shallow_model():
    train = toy.texts(300)
    found = R.ShallowHint(confident=0.3).infer(
        toy.trainer(), train.with_groups(None)
    )
    has_word = np.array(["slept" in text for text in train.x[1]])
    hinted = np.array(["hint=c" in name for name in found.names])[found.ids]
    assert has_word[hinted].mean() > 0.7 > 1.5 * has_word.mean()
    assert hinted[has_word].mean() > 0.7


def test_cells_of_other_rows_follow_the_same_rule():
    train, test = toy.numbers(400), toy.numbers(200, strength=0.5, seed=1)
    trainer = numbers_trainer()
    for inference in (
        R.Clusters(4),
        R.CoTrainedClusters((2, 4), bins=1),
        R.ProbeHint(1.0),
    ):
        cells = inference.cells(trainer, train, test)
        assert cells.shape == (200,)
        # The labels of the other rows are not used.
        flipped = test._replace(y=1 - test.y)
        np.testing.assert_array_equal(
            inference.cells(trainer, train, flipped), cells
        )
    # Equal rows get the cells they have in training.
    clusters = R.Clusters(4)
    np.testing.assert_array_equal(
        clusters.cells(trainer, train, train), clusters.cells(trainer, train)
    )
    with pytest.raises(ValueError, match="training rows"):
        R.XRM().cells(trainer, train, test)


def test_groups_never_look_at_the_true_ones():
    train = toy.numbers(200)
    shuffled = train.with_groups(
        np.random.default_rng(0).permutation(train.groups.ids)
    )
    for inference in (R.Clusters(4), R.CoTrainedClusters((2, 4))):
        one, other = (
            inference.cells(numbers_trainer(), split)
            for split in (train, shuffled)
        )
        np.testing.assert_array_equal(one, other)


def test_the_number_of_clusters_is_the_smallest_that_serves():
    trainer = numbers_trainer()
    # Four tight clouds: more clusters say no more about the label.
    R.Clusters().cells(trainer, toy.numbers(600, noise=0.05))
    assert trainer.notes["clusters"] == 4


def test_many_rows_are_clustered_on_batches(monkeypatch):
    from keras_debias.recipes import clusters

    monkeypatch.setattr(clusters, "MANY_ROWS", 100)
    train = toy.numbers(500)
    found = R.Clusters(2).infer(numbers_trainer(), train)
    assert shared(found, train) > 0.9


def test_hints_are_the_most_overrepresented_class():
    y = np.array([0, 0, 0, 0, 1, 1, 2, 2], "int32")
    train = kd.data.Split(np.zeros((8, 1)), y)
    cells = np.array([0, 0, 1, 1, 1, 0, 2, 2])
    # P(y | cell 0) = (2, 1, 0) / 3 and P(y) = (4, 2, 2) / 8: lifts 4/3, 4/3;
    # cell 1 the same; the first class wins ties.
    assert hinted_classes(cells, train).tolist() == [0, 0, 0, 0, 0, 0, 2, 2]


def test_weights_make_the_label_independent_of_the_cell():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 500)
    cells = np.where(generator.random(500) < 0.7, y, generator.integers(0, 3))
    weights = propensity.inverse_propensity(y, cells)
    for cell in np.unique(cells):
        member = cells == cell
        masses = [weights[member & (y == k)].sum() for k in np.unique(y)]
        masses = [mass for mass in masses if mass]
        np.testing.assert_allclose(masses, member.sum())


@pytest.mark.parametrize("share", [0.05, 0.15, 0.5, 0.9])
def test_tempering_keeps_the_effective_number_above_its_bound(share):
    generator = np.random.default_rng(0)
    weights = np.exp(2 * generator.standard_normal(1000))
    tempered, power = propensity.temper(weights, share)
    assert 0 < power <= 1
    assert tempered.mean() == pytest.approx(1)
    kish = tempered.sum() ** 2 / (tempered**2).sum() / 1000
    assert kish >= share - 1e-9
    assert kish == pytest.approx(propensity.effective_share(tempered))
    # As little tempering as possible.
    assert power == 1 or kish < share + 1e-3
    even, power = propensity.temper(np.ones(10), share)
    assert power == 1 and even.tolist() == [1] * 10


def skewed_cells():
    """Two hinted classes of four cells each, two of them almost pure."""
    hints = np.repeat([0, 1], 1000)
    parts = np.tile(np.repeat(np.arange(4), 250), 2)
    minority = np.array([25, 10, 2, 1])[parts]
    y = np.where(np.arange(2000) % 250 < minority, 1 - hints, hints)
    return y, 4 * hints + parts, hints


@pytest.mark.parametrize("share", [0.05, 0.1, 0.13])
def test_tempered_weights_balance_labels_within_hints(share):
    y, cells, hints = skewed_cells()
    weights, power = propensity.propensity_weights(y, [(cells, hints)], share)
    exact = propensity.inverse_propensity(y, cells)
    if propensity.effective_share(exact) < share:
        assert power < 1
    else:
        np.testing.assert_allclose(weights, exact / exact.mean())
    assert weights.sum() ** 2 / (weights**2).sum() / 2000 >= share - 1e-9
    for hint in (0, 1):
        masses = [weights[(hints == hint) & (y == k)].sum() for k in (0, 1)]
        np.testing.assert_allclose(masses, 500, rtol=1e-6)
    # Tempering alone gives back part of the shortcut.
    alone, _ = propensity.temper(exact, share)
    aligned = alone[y == hints].sum() / alone.sum()
    assert aligned > 0.5 + 0.02 * (power < 1)


def test_a_bound_that_balanced_labels_cannot_keep_tempers_them_too():
    y, cells, hints = skewed_cells()
    weights, power = propensity.propensity_weights(y, [(cells, hints)], 0.8)
    assert power == 0
    assert propensity.effective_share(weights) >= 0.8 - 1e-9
    assert 0.5 < weights[y == hints].sum() / weights.sum() < 0.96


def test_labels_are_balanced_within_each_hint():
    y = np.array([0, 0, 0, 1, 1, 2])
    hints = np.array(["a", "a", "a", "a", "b", "b"])
    weights = np.array([1.0, 2.0, 3.0, 1.0, 5.0, 1.0])
    found = propensity.balance_labels(weights, y, hints)
    # "a": four rows, labels 0 and 1; "b": two rows, labels 1 and 2.
    np.testing.assert_allclose(found, [1 / 3, 2 / 3, 1, 2, 1, 1])


def test_sampling_by_inverse_propensity_reports_what_it_did():
    train = toy.numbers(400, strength=0.9)
    trainer = numbers_trainer()
    recipe = R.InversePropensitySampling(
        views=(R.CoTrainedClusters((2, 4)), R.Clusters(2)), min_effective=0.3
    )
    weights = recipe.weights(trainer, train)
    assert trainer.notes["effective_share"] >= 0.3 - 1e-9
    assert set(trainer.notes["agreement"]) == {"CoTrainedClusters", "Clusters"}
    # The weighted association with the true cue is all but gone.
    cue = np.where(train.x[:, 0] > 0, 1.0, -1.0)
    label = 2.0 * train.y - 1
    assert np.average(cue * label) > 0.7
    assert abs(np.average(cue * label, weights=weights)) < 0.45
    one = R.InversePropensitySampling(views=R.Clusters(2), min_effective=0.01)
    weights = one.weights(numbers_trainer(), train)
    assert abs(np.average(cue * label, weights=weights)) < 0.1


def worst_group(recipe, train, test, updates=150):
    trainer = toy.trainer(updates=updates, features=kinds)
    model = recipe.fit(trainer, train)
    scores = kd.evaluate(model, {"test": test}, bootstrap=0)
    return scores["test"].worst_group_accuracy, trainer


def test_recommended_helps_where_there_is_a_shortcut():
    train = toy.numbers(1500, strength=0.95, noise=1.2)
    test = toy.numbers(800, strength=0.5, seed=1, noise=1.2)
    plain, _ = worst_group(R.FineTuning(), train, test)
    cured, trainer = worst_group(kd.recommended(train), train, test)
    assert trainer.notes["recommended"] == "InversePropensitySampling"
    assert "kind of input" in trainer.notes["reason"]
    assert cured > plain + 0.2


def test_recommended_says_what_is_not_certain():
    """The shortcut of the test above, in fewer rows."""
    train = toy.numbers(200, strength=0.95, noise=1.2)
    found = kd.recommended(train, lambda split: split.x)
    assert isinstance(found.recipe, R.FineTuning)
    assert "not certain that this misleads: on 200 rows" in found.reason
    before = found.evidence["accuracy_over_balanced_rows"]
    assert found.evidence["the_same_with_weights"] > before + 0.02
    assert f"from {100 * before:.1f} to" in found.reason
    area = found.evidence["auc_within_kinds"]
    assert f"area under the ROC curve of {area:.2f}" in found.reason


def two_kinds(count, strength):
    """Texts about pots or books; the labels go with that."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, count)
    kind = np.where(generator.random(count) < strength, y, 1 - y)
    start = ("the pot and lid", "the book and page")
    texts = [f"{start[k]} are here {number}" for number, k in enumerate(kind)]
    split = kd.data.Split(texts, y.astype("int32"), label_names=["bad", "good"])
    features = generator.standard_normal((count, 8)) * 0.3
    features[:, 0] += 6.0 * kind
    by_text = dict(zip(texts, features))
    return split, lambda rows: np.array([by_text[text] for text in rows.x])


def test_recommended_says_which_kinds_go_with_the_label():
    """Where the kind is all there is, it may be the task."""
    split, features = two_kinds(600, 0.95)
    found = kd.recommended(split, features)
    assert isinstance(found.recipe, R.FineTuning)
    assert "That is the task or a shortcut: these 600 rows" in found.reason
    assert "'book', 'page' (9" in found.reason
    assert "are 'good'" in found.reason and "'pot'" in found.reason
    # Half and half: there is nothing to say.
    split, features = two_kinds(600, 0.5)
    assert "kind of input" not in kd.recommended(split, features).reason


def test_a_reader_can_say_whether_the_kind_is_the_task():
    split, features = two_kinds(600, 0.95)
    found = kd.recommended(split, features, kind_is_task=False)
    assert found.recipe == R.InversePropensitySampling(min_effective=0.04)
    assert "'book', 'page' (9" in found.reason
    assert "The label is not about that" in found.reason
    found = kd.recommended(split, features, kind_is_task=True)
    assert isinstance(found.recipe, R.FineTuning)
    assert "'book', 'page' (9" in found.reason
    assert "That is the task, you say: plain" in found.reason
    # No row to balance with.
    split, features = two_kinds(600, 1.0)
    found = kd.recommended(split, features, kind_is_task=False)
    assert isinstance(found.recipe, R.FineTuning)
    assert "there is nothing to balance. Add rows" in found.reason
    # Where the clusters say nothing, neither does what is said of them.
    split, features = two_kinds(600, 0.5)
    silent = kd.recommended(split, features)
    for said in (True, False):
        assert kd.recommended(split, features, kind_is_task=said) == silent


def test_what_a_reader_says_helps_where_few_rows_tell():
    train = toy.numbers(400, strength=0.97, noise=1.2, seed=2)
    test = toy.numbers(800, strength=0.5, seed=1, noise=1.2)
    plain, trainer = worst_group(kd.recommended(train), train, test)
    assert trainer.notes["recommended"] == "FineTuning"
    said = kd.recommended(train, kind_is_task=False)
    assert said == R.Recommended(kind_is_task=False)
    cured, trainer = worst_group(said, train, test)
    assert trainer.notes["recommended"] == "InversePropensitySampling"
    assert cured > plain + 0.2


def test_recommended_names_the_strongest_cue_it_leaves_alone():
    """A token that frozen features do not see, but fine-tuning might."""
    generator = np.random.default_rng(1)
    y = generator.integers(0, 2, 600).astype("int32")
    marked = (generator.random(600) < 0.2) & (y == 1)
    texts = [
        f"{'zz ' if mark else ''}row {generator.integers(99)} {number}"
        for number, mark in enumerate(marked)
    ]
    split = kd.data.Split(texts, y, label_names=["no", "yes"])
    signal = generator.standard_normal((600, 4)) * [1, 5, 5, 5]
    signal[:, 0] += 2.0 * y
    by_text = dict(zip(texts, signal))

    def features(rows):
        return np.array([by_text[text] for text in rows.x])

    found = kd.recommended(split, features)
    assert isinstance(found.recipe, R.FineTuning)
    assert "cue of `kd.audit` is: text has 'zz' -> yes." in found.reason


def test_recommended_leaves_clean_and_shuffled_data_alone():
    clean = toy.numbers(600, strength=0.5)
    found = kd.recommended(clean, lambda split: split.x)
    assert isinstance(found.recipe, R.FineTuning)
    # The clusters are the classes.
    assert "That is the task or a shortcut" in found.reason
    y = np.random.default_rng(0).permutation(clean.y)
    found = kd.recommended(clean._replace(y=y), lambda split: split.x)
    assert isinstance(found.recipe, R.FineTuning)
    assert "better than its frequency" in found.reason
    few = clean.take(np.arange(6))
    found = kd.recommended(few, lambda split: split.x)
    assert isinstance(found.recipe, R.FineTuning)
    assert "too few" in found.reason


def test_copies_of_rows_say_nothing_new():
    """Labels are drawn; who has seen a copy knows them all the same."""
    drawn = toy.numbers(400, strength=0.5)
    y = np.random.default_rng(1).permutation(drawn.y)
    drawn = drawn._replace(y=y).take(np.tile(np.arange(400), 3))
    # Wide enough to learn each row by heart.
    table = np.random.default_rng(0).standard_normal((997, 64))

    def features(split):
        return table[[zlib.crc32(row.tobytes()) % 997 for row in split.x]]

    accuracies = []
    for split in (drawn.take(np.arange(400)), drawn):
        found = R.FrozenProbe(features).out_of_fold(split)
        accuracies.append((found.argmax(axis=1) == split.y).mean())
    assert max(accuracies) < 0.6
    found = kd.recommended(drawn, features)
    assert isinstance(found.recipe, R.FineTuning)
    assert "better than its frequency" in found.reason
    assert "800 rows are copies" in found.reason

    train = toy.numbers(1500, strength=0.95, noise=1.2)
    once = kd.recommended(train, lambda split: split.x)
    copied = train.take(np.tile(np.arange(1500), 2))
    twice = kd.recommended(copied, lambda split: split.x)
    assert twice.recipe == once.recipe
    assert twice.reason.startswith(once.reason)
    assert twice.evidence == once.evidence


def test_copies_are_in_one_fold_where_there_are_many():
    train = toy.numbers(300, strength=0.9)
    few = train.take([*range(300), *range(10)])
    many = train.take(np.repeat(np.arange(300), 2))
    for split, apart in ((few, True), (many, False)):
        folds = cross_fitting.folds_of(split, 5)
        held = np.concatenate([part for _, part in folds])
        assert sorted(held) == list(range(len(split)))
        for fit, part in folds:
            assert set(split.y[part]) == {0, 1}
            shared = {r.tobytes() for r in split.x[fit]}
            shared &= {r.tobytes() for r in split.x[part]}
            assert not shared or apart


def test_recommended_leaves_clusters_alone_that_are_the_task():
    """Four topics: a cluster is a class, and nothing else is to be known."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 4, 800).astype("int32")
    centers = 4.0 * np.eye(4)
    x = centers[y] + generator.standard_normal((800, 4))
    wrong = generator.random(800) < 0.05
    y[wrong] = generator.integers(0, 4, wrong.sum())
    train = kd.data.Split(x.astype("float32"), y)
    found = kd.recommended(train, lambda split: split.x)
    assert isinstance(found.recipe, R.FineTuning)
    assert found.evidence["cluster_gain"] > 0.8 * found.evidence["probe_gain"]


@pytest.mark.parametrize("told_by", ["the rest", "the kind"])
def test_what_tells_the_labels_of_a_kind(told_by):
    """Two kinds, left and right; some labels are those of the other kind."""
    x = np.random.default_rng(0).standard_normal((1000, 2)).astype("float32")
    right = np.arange(1000) % 2
    x[:, 0] = np.abs(x[:, 0]) * np.where(right, 1, -1)
    other = x[:, 1] > 1 if told_by == "the rest" else np.abs(x[:, 0]) < 0.2
    train = kd.data.Split(x, np.where(other, 1 - right, right).astype("int32"))
    evidence = Evidence(train, lambda split: split.x)
    # A model that knows the second number alone.
    one = 1 / (1 + np.exp(np.where(right, 1, -1) * x[:, 1]))
    told = np.column_stack([1 - one, one])
    areas = evidence._within_kinds(right, told)
    expected = {"the rest": (1.0, 0.5), "the kind": (0.5, 1.0)}[told_by]
    np.testing.assert_allclose(areas, expected, atol=0.06)
    # All rows of one kind: nothing to tell apart.
    assert evidence._within_kinds(np.zeros(1000, int), told) is None
    # A few rows speak against their kind.
    y = right.copy()
    y[:3] = 1 - y[:3]
    evidence = Evidence(train._replace(y=y.astype("int32")), kinds)
    assert evidence._within_kinds(right, told) is None


def test_recommended_balances_classes_of_unequal_size():
    generator = np.random.default_rng(0)
    y = (generator.random(1000) < 0.12).astype("int32")
    x = (2.0 * y[:, None] + generator.standard_normal((1000, 2))).astype("f4")
    found = kd.recommended(kd.data.Split(x, y), lambda split: split.x)
    assert found.recipe == R.BalancedSampling(groups=R.ClassLabels())
    trainer = numbers_trainer()
    found.fit(trainer, kd.data.Split(x, y))
    assert set(trainer.notes["inferred_groups"]) == {"label=0", "label=1"}


def test_recommended_balances_a_single_cue():
    train = toy.texts(1200, strength=0.8)
    features = _counts(train)
    found = kd.recommended(train.with_groups(None), features)
    assert found.recipe == R.BalancedSampling(groups=R.AuditGroups())
    assert "slept" in found.reason and "slept" in str(found)


def _counts(train):
    """Features that hold the cue and nothing of the task."""

    def features(split):
        has = np.array(["slept" in text for text in split.x[1]])
        noise = np.random.default_rng(0).standard_normal((len(split), 3))
        return np.column_stack([has, noise])

    return features


def test_validation_data_can_veto():
    """Weights that help in training, and hurt where the cue is honest."""
    train = toy.numbers(1500, strength=0.95, noise=1.2)
    honest = toy.numbers(600, strength=1.0, seed=2, noise=1.2)
    found = kd.recommended(train, kinds, honest)
    assert isinstance(found.recipe, R.FineTuning)
    assert "does not help on the validation data" in found.reason
    balanced = toy.numbers(600, strength=0.5, seed=3, noise=1.2)
    found = kd.recommended(train, kinds, balanced)
    assert isinstance(found.recipe, R.InversePropensitySampling)
    evidence = found.evidence
    assert (
        evidence["the_same_with_the_method"]
        > evidence["validation_worst_cell"] + 0.1
    )


def test_weights_on_trial_penalize_as_much_as_none():
    train = toy.numbers(600, strength=0.9, noise=1.2)
    evidence = Evidence(train, kinds)
    for recipe in (
        R.BalancedSampling(groups=R.Clusters(2)),
        R.InversePropensitySampling(),
    ):
        assert evidence._weights(recipe).mean() == pytest.approx(1.0)


def test_several_distinct_cues_are_crossed():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, 1500).astype("int32")
    words = ["apple", "river", "stone", "cloud", "table"]
    texts = []
    for label in y:
        tokens = list(generator.choice(words, 3))
        if generator.random() < (0.6 if label else 0.1):
            tokens.append("zig")
        if generator.random() < (0.1 if label else 0.5):
            tokens.append("zag")
        texts.append(" ".join(tokens))
    train = kd.data.Split(texts, y, label_names=("no", "yes"))
    trainer = toy.trainer()
    groups = R.AuditGroups(cues=2, min_difference=0.2).infer(trainer, train)
    assert len(trainer.notes["cue"]) == 2
    assert any("zig" in cue for cue in trainer.notes["cue"])
    assert any("zag" in cue for cue in trainer.notes["cue"])
    assert all("cue 1=" in n and "cue 2=" in n for n in groups.names)
    cells = R.AuditGroups(cues=2, min_difference=0.2).cells(trainer, train)
    zig = np.array(["zig" in text for text in texts])
    assert all(("yes" in cell) == has for cell, has in zip(cells, zig))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: R.Clusters(1), ValueError, "n_clusters=1"),
        (lambda: R.Clusters("8"), TypeError, "n_clusters='8'"),
        (lambda: R.Clusters(4, seed=-1), ValueError, "seed=-1"),
        (lambda: R.CoTrainedClusters(()), ValueError, "at least one"),
        (lambda: R.CoTrainedClusters((4, 1)), ValueError, "n_clusters=1"),
        (lambda: R.CoTrainedClusters(bins=0), ValueError, "bins=0"),
        (lambda: R.CoTrainedClusters(bins=True), TypeError, "bins"),
        (lambda: R.ShallowHint(0.0), ValueError, "confident=0.0"),
        (lambda: R.ProbeHint("half"), TypeError, "confident='half'"),
        (lambda: R.ShallowModel(folds=1), ValueError, "folds=1"),
        (lambda: R.ShallowModel(min_df=1.5), TypeError, "min_df=1.5"),
        (lambda: R.FrozenProbe("minilm"), TypeError, "features='minilm'"),
        (lambda: R.FrozenProbe(len, folds=1), ValueError, "folds=1"),
        (lambda: R.InversePropensitySampling(views=()), TypeError, "views"),
        (
            lambda: R.InversePropensitySampling(min_effective=0),
            ValueError,
            "min_effective=0",
        ),
        (lambda: R.AuditGroups(cues=0), ValueError, "cues=0"),
        (lambda: R.AuditGroups(max_phi=2), ValueError, "max_phi=2"),
        (lambda: kd.recommended("rows"), TypeError, "Received: str"),
        (
            lambda: kd.recommended(toy.numbers(40), kinds, kind_is_task="no"),
            TypeError,
            "Received: kind_is_task='no'",
        ),
        (
            lambda: kd.recommended(toy.numbers(40), "minilm"),
            TypeError,
            "model='minilm'",
        ),
        (
            lambda: R.Clusters(8).cells(numbers_trainer(), toy.numbers(6)),
            ValueError,
            "6 rows and n_clusters=8",
        ),
        (
            lambda: kd.recommended(
                toy.numbers(40)._replace(y=np.zeros(40, "int32"))
            ),
            ValueError,
            "two classes",
        ),
    ],
)
def test_wrong_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_configs_make_equal_objects():
    for value in (
        R.Clusters(4),
        R.CoTrainedClusters((2, 4), bins=2),
        R.ShallowHint(0.3),
        R.ProbeHint(),
        R.ClassLabels(),
        R.AuditGroups(cues=2),
    ):
        config = keras.saving.serialize_keras_object(value)
        assert keras.saving.deserialize_keras_object(config) == value
