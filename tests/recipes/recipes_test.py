"""Each recipe does its specific thing."""

import numpy as np
import pytest
from keras import ops
from sklearn.linear_model import LogisticRegression

import keras_debias as kd
from tests.recipes import toy

R = kd.recipes


class Spy(R.Trainer):
    """Trains nothing: answers with given probabilities, and takes notes."""

    def __init__(self, *probabilities, updates=100, batch_size=10):
        super().__init__(
            toy.build, R.Budget(updates=updates, batch_size=batch_size)
        )
        self.probabilities = list(probabilities)
        self.calls = []

    def fit(self, train, share=None, **kwargs):
        self.calls.append({"train": train, "share": share, **kwargs})
        return len(self.calls) - 1

    def build(self, updates, **kwargs):
        self.calls.append({"updates": updates, **kwargs})
        return len(self.calls) - 1

    def advance(self, model, train, updates, **kwargs):
        call = self.calls[model]
        call.setdefault("labels", []).append(np.array(train.y))
        call.setdefault("rows", []).append(np.array(train.x))
        call.setdefault("steps", []).append(updates)
        return model

    def predict(self, model, split):
        return self.probabilities[model][: len(split)]


def split_of(y, groups=None):
    x = np.arange(len(y), dtype="float32")[:, None]
    return kd.data.Split(x, np.asarray(y, "int32"), groups=groups)


def said(classes, confidence=0.9, number=2):
    table = np.full((len(classes), number), (1 - confidence) / (number - 1))
    table[np.arange(len(classes)), classes] = confidence
    return table


def test_jtt_upweights_exactly_the_mistakes():
    y = np.array([0, 1, 1, 0, 1, 0])
    spy = Spy(said([0, 1, 0, 0, 0, 0]))
    R.JTT(upweight=5, first_share=0.25).fit(spy, split_of(y))
    first, second = spy.calls
    assert first["share"] == 0.25 and first["is_final"] is False
    weights = np.array([1, 1, 5, 1, 5, 1])
    np.testing.assert_allclose(
        second["sampler"].probabilities, weights / weights.sum()
    )
    assert spy.notes["mistakes"] == 2
    for answers in (y, 1 - y):
        with pytest.raises(ValueError, match="some rows wrong"):
            R.JTT().fit(Spy(said(answers)), split_of(y))


def test_jtt_takes_a_row_with_a_wrong_label_for_a_mistake():
    """Rows of several labels; two of three columns are read right."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 3)).astype("float32")
    y = (x > 0).astype("float32")
    noisy = y.copy()
    noisy[:10, 2] = 1 - noisy[:10, 2]

    class Known:
        from_logits = True

        def predict(self, x, batch_size=None, verbose=0):
            return x

    class Stages:
        budget = R.Budget(updates=1)
        notes = {}

        def fit(self, train, share=None, is_final=True, sampler=None):
            assert is_final == (share is None)
            self.sampler = sampler
            return Known()

    stages = Stages()
    train = kd.data.Split(x, noisy, label_names=("a", "b", "c"))
    R.JTT(upweight=3).fit(stages, train)
    weights = np.where(np.arange(60) < 10, 3.0, 1.0)
    np.testing.assert_allclose(
        stages.sampler.probabilities, weights / weights.sum()
    )
    assert stages.notes["mistakes"] == 10
    with pytest.raises(ValueError, match="one class label a row"):
        R.JTT().fit(stages, kd.data.Split(x, x[:, :1]))


def test_lff_weighs_by_the_losses_of_an_amplified_model():
    y = np.array([0, 1, 1])
    spy = Spy(said([0, 1, 0], 0.8))
    R.LearningFromFailure(q=0.5, biased_share=0.2).fit(spy, split_of(y))
    first, second = spy.calls
    assert first["objective"].function == kd.losses.GeneralizedCrossEntropy(0.5)
    np.testing.assert_allclose(
        second["objective"].get_config()["biased_losses"],
        -np.log([0.8, 0.8, 0.2]),
        rtol=1e-6,
    )


def test_reweighting_is_one_minus_the_bias():
    class Known:
        def out_of_fold(self, train):
            return np.array([[0.9, 0.1], [0.4, 0.6]])

    spy = Spy()
    R.Reweighting(Known()).fit(spy, split_of([0, 0]))
    weights = np.array([0.1, 0.6])
    np.testing.assert_allclose(
        spy.calls[0]["train"].sample_weight,
        weights / weights.mean(),
        rtol=1e-6,
    )


def test_group_dro_draws_groups_equally_and_keeps_a_weight_for_each():
    groups = kd.data.Groups([0, 0, 0, 3], list("abcd"))
    spy = Spy()
    R.GroupDRO(step_size=0.2).fit(spy, split_of([0, 1, 0, 1], groups))
    objective = spy.calls[0]["objective"]
    # The empty groups have none.
    assert objective.num_groups == 2 and objective.step_size == 0.2
    assert [c.tolist() for c in spy.calls[0]["sampler"].cells] == [
        [0, 1, 2],
        [3],
    ]
    spy = Spy()
    R.GroupDRO(balanced=False).fit(spy, split_of([0, 1, 0, 1], groups))
    assert spy.calls[0]["sampler"] is None


def test_gradient_alignment_knows_who_conflicts():
    groups = kd.data.Groups([0] * 9 + [1] * 9 + [2] * 2, list("abc"))
    spy = Spy()
    train = split_of([0, 1] * 10, groups)
    R.GradientAlignment().fit(spy, train)
    assert spy.notes["conflicting"] == ["c"]
    R.GradientAlignment(conflicting=("b", "c"), gamma=2.0).fit(
        Spy(batch_size=20), train
    )
    with pytest.raises(ValueError, match=r"Received: \['d'\]"):
        R.GradientAlignment(conflicting=("d",)).fit(spy, train)
    even = split_of([0, 1] * 10, kd.data.Groups([0, 1] * 10, list("ab")))
    with pytest.raises(ValueError, match="some conflicting groups"):
        R.GradientAlignment().fit(spy, even)


def test_curriculum_spends_its_growth_on_the_budget():
    class Known:
        def out_of_fold(self, train):
            return np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]] * 10)

    spy = Spy(updates=12, batch_size=10)  # four passes over 30 rows
    R.Curriculum(start=0.1, growth=0.5, bias_only=Known()).fit(
        spy, split_of([0] * 30)
    )
    sampler = spy.calls[0]["sampler"]
    assert sampler.growth == 2.0
    assert set(sampler.ranked[:10] % 3) == {0}  # believed most: first


def test_cross_mistakes_follow_the_paper():
    """Halves, labels of one round by the other twin, mistakes of either."""
    y = np.array([0] * 10 + [1] * 10)
    sure = said([0] * 20, confidence=1.0)  # always 0, always flips
    spy = Spy(sure, sure)
    groups = R.XRM(share=0.4, rounds=3).infer(spy, split_of(y))
    twins = spy.calls
    assert [twin["updates"] for twin in twins] == [20, 20]
    assert [sum(twin["steps"]) for twin in twins] == [20, 20]
    halves = [twin["rows"][0].ravel() for twin in twins]
    np.testing.assert_array_equal(
        np.sort(np.concatenate(halves)), np.arange(20)
    )
    for twin, half in zip(twins, halves, strict=True):
        np.testing.assert_array_equal(twin["labels"][0], half >= 10)
        assert not twin["labels"][1].any() and not twin["labels"][2].any()
    # Against the labels of the data, not those of the last round.
    assert groups.counts() == {
        "label=0, mistake=no": 10,
        "label=1, mistake=yes": 10,
    }
    spy = Spy(said(y), said([0] * 9 + [1] * 11))
    groups = R.XRM(rounds=1).infer(spy, split_of(y))
    assert groups.counts()["label=0, mistake=yes"] == 1
    with pytest.raises(ValueError, match="some rows wrong"):
        R.XRM(rounds=1).infer(Spy(said(y), said(y)), split_of(y))


def test_the_rounds_of_the_twins_go_on_in_the_order_of_the_rows(monkeypatch):
    train = toy.numbers(128, 0.9, noise=0.8)
    trainer = toy.trainer(27)
    began = []
    fit = kd.DebiasedModel.fit

    def noted(model, rows, **kwargs):
        steps = kwargs["steps_per_epoch"]
        began.append((id(model), model.first_batch, steps))
        return fit(model, rows, **kwargs)

    monkeypatch.setattr(kd.DebiasedModel, "fit", noted)
    R.XRM(share=0.8, rounds=4).infer(trainer, train)
    assert len(began) == 8
    assert len({steps for _, _, steps in began}) > 1
    for twin in {name for name, _, _ in began}:
        parts = [part[1:] for part in began if part[0] == twin]
        seen = [first + number for first, n in parts for number in range(n)]
        assert seen == list(range(len(seen)))


def test_confident_mistakes_are_made_with_more_than_average_confidence():
    y = np.array([0, 0, 0, 1, 1, 1])
    table = said([0, 0, 0, 0, 0, 1], confidence=0.8)
    table[3] = [0.95, 0.05]
    table[4] = [0.6, 0.4]
    # Right: 0.8 on average. Wrong: row 3 with more, row 4 with less.
    for confident, mistakes in ((False, 2), (True, 1)):
        recipe = R.XRM(rounds=1, confident=confident)
        groups = recipe.infer(Spy(table, table), split_of(y))
        assert groups.counts()["label=1, mistake=yes"] == mistakes


def test_labels_flip_with_the_confidence_of_the_other_twin():
    table = said([0] * 9000, confidence=0.7, number=3)
    flip, other = R.XRM._flips(table, np.random.default_rng(0))
    expected = (0.7 - 1 / 3) * 3 / 2
    assert abs(flip.mean() - expected) < 4 * np.sqrt(0.25 / 9000)
    assert not other.any()


def test_cross_mistakes_find_a_planted_shortcut_and_nothing_without_one():
    def recall(strength):
        train = toy.numbers(600, strength, noise=0.8)
        trainer = toy.trainer(80)
        R.BalancedSampling(groups=R.XRM(share=0.7)).fit(trainer, train)
        return trainer.notes["agreement"]

    found = recall(0.92)
    assert found["adjusted_rand"] > 0.6
    conflict = found["matches"]["label=no, cue=1"]
    assert conflict["recall"] > 0.6 and conflict["precision"] > 0.6
    # Where the cue says nothing, mistakes do not follow it.
    null = R.agreement(
        R.XRM(share=0.7).infer(
            toy.trainer(80), toy.numbers(600, 0.5, noise=0.8)
        ),
        toy.numbers(600, 0.5, noise=0.8).groups,
    )
    assert null["matches"]["label=no, cue=1"]["precision"] < 0.6


@pytest.mark.parametrize("seed", [0, 1])
def test_the_audit_gives_the_groups_of_biased_snli(seed, data_folder):
    """So that balanced sampling over them is that over the true groups."""
    if data_folder is None:
        rows = kd.data.generated_nli(4000, seed=seed)
        # Its word overlap is a stronger cue than the token: cut that.
        y = np.random.default_rng(seed).permutation(rows.y)
        rows = rows._replace(y=y)
    else:
        snli = kd.data.load("snli", "train", data_folder)
        rows = snli.sample(4000, seed=seed, balance_labels=True)
    train = kd.data.inject_token(rows, "entailment", 0.25, 0.90, seed=seed)
    spy = Spy()
    found = R.AuditGroups().infer(spy, train.with_groups(None))
    assert spy.notes["cue"] == ["hypothesis has '!!' -> entailment"]
    assert R.agreement(found, train.groups)["adjusted_rand"] == 1.0
    # The same groups in the same order: the same rows are drawn.
    np.testing.assert_array_equal(found.ids, train.groups.ids)


def test_bag_of_words_predicts_rows_it_has_not_seen():
    train = toy.texts(300)
    table = R.BagOfWords().out_of_fold(train)
    np.testing.assert_allclose(table.sum(-1), 1)
    has = np.array(["slept" in text for text in train.x[1]])
    assert table[has, 2].mean() > 0.7 > 0.3 > table[~has, 2].mean()
    # Labels that have nothing to do with the words: chance, not memory.
    y = np.random.default_rng(0).permutation(train.y)
    null = R.BagOfWords().out_of_fold(train._replace(y=y))
    share = np.bincount(y).max() / len(y)
    assert (null.argmax(-1) == y).mean() < share + 0.1
    predicted = R.BagOfWords().predict(train, toy.texts(60, seed=1))
    assert set(predicted) <= {"a", "b", "c"}
    with pytest.raises(ValueError, match="Lower `folds`"):
        R.BagOfWords(folds=200).out_of_fold(train)


def test_bag_of_words_of_a_class_whose_texts_are_equal():
    """They are held out together, so the others tell nothing of the class."""
    texts = ["the same words"] * 6 + [f"another text {i}" for i in range(30)]
    train = kd.data.Split(texts, ["a"] * 6 + ["b"] * 30)
    found = R.BagOfWords().out_of_fold(train)
    assert found[:6].tolist() == [[0.0, 1.0]] * 6
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert (found[6:, 1] > 0.5).all()


def test_dfr_refits_the_last_layer_on_balanced_rows():
    train = toy.numbers(300, strength=0.9)
    trainer = toy.trainer(30)
    recipe = R.DFR(held_out=0.5, draws=1)
    model = recipe.fit(trainer, train)
    from keras_debias.data import sampling

    generator = np.random.default_rng([0, 2])
    held = sampling.stratified_mask(train.groups.ids, 0.5, generator)
    part = train.take(held)
    _, features = trainer.features(model, part)
    sizes = np.bincount(part.groups.ids)
    rows = sampling.draw(part.groups.ids, sizes.min() * 4, generator)
    mean, std = features.mean(0), features.std(0)
    found = LogisticRegression(C=1.0, max_iter=1000).fit(
        (features[rows] - mean) / std, part.y[rows]
    )
    outputs = np.asarray(model.predict(part.x, verbose=0))
    np.testing.assert_allclose(
        outputs[:, 1] - outputs[:, 0],
        found.decision_function((features - mean) / std),
        atol=1e-3,
    )


class Given(R.GroupInference):
    """Cells that a test makes up."""

    def __init__(self, cells):
        self.values = cells

    def cells(self, trainer, train, split=None):
        return self.values


def test_dfr_weighs_the_rows_of_small_inferred_groups():
    train = toy.numbers(300, strength=0.5)
    cells = np.where(np.arange(300) < 150, "a", "b").astype(object)
    # One row cannot be divided, and six leave three.
    cells[np.flatnonzero(train.y == 0)[0]] = "one"
    cells[np.flatnonzero(train.y == 1)[:6]] = "few"
    trainer = toy.trainer(10)
    recipe = R.DFR(held_out=0.5, draws=2, groups=Given(cells))
    model = recipe.fit(trainer, train)
    assert trainer.notes["rows_a_group"] in (1, 3)
    from keras_debias.data import sampling

    groups = recipe.groups.infer(trainer, train.with_groups(None))
    _, ids = np.unique(groups.ids, return_inverse=True)
    generator = np.random.default_rng([0, 2])
    held = sampling.stratified_mask(ids, 0.5, generator)
    part, ids = train.take(held), ids[held]
    _, features = trainer.features(model, part)
    scaled = (features - features.mean(0)) / features.std(0)
    sizes = np.bincount(ids)
    weights = 1 / sizes[ids]
    weights /= weights.mean()
    found = LogisticRegression(C=1.0, max_iter=1000).fit(
        scaled, part.y, weights
    )
    outputs = np.asarray(model.predict(part.x, verbose=0))
    np.testing.assert_allclose(
        outputs[:, 1] - outputs[:, 0],
        found.decision_function(scaled),
        atol=1e-3,
    )
    absent = trainer.notes["groups_without_held_out_rows"]
    kept = np.unique(groups.ids[held])
    assert absent == [n for i, n in enumerate(groups.names) if i not in kept]


def test_dfr_draws_from_large_inferred_groups():
    train = toy.numbers(300, strength=0.5)
    cells = np.where(np.arange(300) < 150, "a", "b")
    known = train.with_label_groups({"cell": cells})
    first, second = toy.trainer(10), toy.trainer(10)
    inferred = R.DFR(held_out=0.5, draws=1, groups=Given(cells))
    one = inferred.fit(first, train)
    other = R.DFR(held_out=0.5, draws=1).fit(second, known)
    np.testing.assert_allclose(
        one.predict(train.x, verbose=0), other.predict(train.x, verbose=0)
    )


def test_corsair_takes_off_the_blind_answer():
    class Linear:
        label_names = ("a", "b", "c")
        preprocessor = None

        def predict(self, x, batch_size=None, verbose=0):
            first = np.array([len(text) for text in x[0]])
            last = np.array([len(text) for text in x[1]])
            return np.stack([first, last, 0 * last], axis=-1)

    x = (np.array(["aaaa"], object), np.array(["bb"], object))
    blind = R.counterfactual_inference.without_first_text
    assert blind(x)[0].tolist() == [""] and blind(x)[1] is x[1]
    assert blind(x[0]).tolist() == [""]
    model = R.counterfactual_inference.CounterfactualModel(Linear(), blind, 0.5)
    # (4, 2, 0) - 0.5 * (0, 2, 0), then shifted.
    np.testing.assert_allclose(model.predict(x), [[0, -3, -4]])
    assert model.label_names == ("a", "b", "c")


def test_the_state_of_an_objective_is_not_carried_to_the_next_run():
    recipe = R.FineTuning(objective=kd.losses.GroupDRO(4, step_size=1.0))
    train = toy.numbers(120)
    first, second = (recipe.fit(toy.trainer(6), train) for _ in range(2))
    weights = [
        ops.convert_to_numpy(m.objective.group_weights) for m in (first, second)
    ]
    np.testing.assert_array_equal(*weights)
    assert abs(weights[0] - 0.25).max() > 0.01
    kept = ops.convert_to_numpy(recipe.objective.group_weights)
    np.testing.assert_allclose(kept, 0.25)


def test_agreement():
    true = kd.data.Groups([0, 0, 1, 1], ["a", "b"])
    swapped = kd.data.Groups([1, 1, 0, 0], ["x", "y"])
    found = R.agreement(swapped, true)
    assert found["adjusted_rand"] == 1.0
    assert found["matches"]["a"] == {
        "group": "y",
        "recall": 1.0,
        "precision": 1.0,
    }
    coarse = R.agreement(kd.data.Groups([0, 0, 0, 0], ["x"]), true)
    assert coarse["adjusted_rand"] == 0.0
    assert coarse["matches"]["a"]["precision"] == 0.5
    with pytest.raises(ValueError, match="same rows"):
        R.agreement(true, true.take([0]))


def test_robust_recipes_help_where_the_shortcut_is_planted():
    """The worst group of a test set in which the cue says nothing."""
    train, test = toy.numbers(600), toy.numbers(600, 0.5, seed=1)

    def worst(recipe):
        model = recipe.fit(toy.trainer(120), train)
        scores = kd.evaluate(model, test, train=train, bootstrap=0)
        return scores["test"].worst_group_accuracy

    plain = worst(R.FineTuning())
    for recipe in (
        R.BalancedSampling(),
        R.GroupDRO(),
        R.GradientAlignment(),
        R.DFR(),
        R.BalancedSampling(groups=R.XRM()),
    ):
        assert worst(recipe) > plain + 0.03, recipe


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: R.Budget(), "one of `epochs` and `updates`"),
        (lambda: R.Budget(epochs=1, updates=2), "one of"),
        (lambda: R.Budget(epochs=0), "epochs=0"),
        (lambda: R.Budget(updates=1.5), "updates=1.5"),
        (lambda: R.Budget(epochs=1, batch_size=0), "batch_size=0"),
        (lambda: R.JTT(upweight=1), "upweight=1"),
        (lambda: R.JTT(first_share=1), "first_share=1"),
        (lambda: R.XRM(share=0), "share=0"),
        (lambda: R.XRM(rounds=0), "rounds=0"),
        (lambda: R.LearningFromFailure(q=2), "q=2"),
        (lambda: R.DFR(draws=0), "draws=0"),
        (lambda: R.BagOfWords(folds=1), "folds=1"),
        (lambda: R.Curriculum(start=0), "start=0"),
        (lambda: R.CounterfactualInference(scale=np.nan), "scale=nan"),
        (
            lambda: R.Trainer(
                toy.build, R.Budget(epochs=1), selection=kd.comparison.Average()
            ),
            "validation=None",
        ),
        (
            lambda: R.XRM().infer(Spy(), split_of([1, 1])),
            "at least two classes",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_types():
    with pytest.raises(TypeError, match="groups='XRM'"):
        R.BalancedSampling(groups="XRM")
    with pytest.raises(TypeError, match="budget=3"):
        R.Trainer(toy.build, 3)
    with pytest.raises(TypeError, match="compiled"):
        toy.trainer(model_fn=lambda updates: None).fit(toy.numbers(40))
