"""Models that `compare` keeps, and the run it would serve."""

import keras
import numpy as np
import pytest

import keras_debias as kd
from tests.comparison.compare_test import arguments
from tests.recipes import toy


def compared(**changes):
    methods = {
        "plain": kd.recipes.FineTuning(),
        "EDGE": kd.recipes.FineTuning(kd.projections.EDGE(alpha=0.5)),
    }
    return kd.compare(
        **arguments(
            methods=methods,
            bootstrap=0,
            validation=toy.numbers(80, 0.5, seed=2),
            model_fn=lambda updates: toy.build(updates, 0.2),
            **changes,
        )
    )


def expected_best(comparison):
    """Mean over seeds, then the best seed, from the runs themselves."""
    values = {}
    for run in comparison.runs:
        worst = run.validation["WorstGroup"]
        values.setdefault(run.method, {})[run.seed] = worst
    method = max(values, key=lambda m: np.mean([*values[m].values()]))
    return method, max(values[method], key=values[method].get)


def same_predictions(comparison, method, seed):
    split = arguments()["splits"]["test"]
    run = next(
        r for r in comparison.runs if (r.method, r.seed) == (method, seed)
    )
    model = comparison.model(method, seed)
    said = model.predict(split.x, verbose=0).argmax(axis=1)
    names = [split.label_names[i] for i in said]
    return names == run.scores.predictions["prediction"].tolist()


def test_all_models_are_kept_in_memory():
    comparison = compared(keep="all")
    best = comparison.best()
    assert (best.method, best.seed) == expected_best(comparison)
    assert f"To serve: {best.method}, seed {best.seed}" in str(comparison)
    for run in comparison.runs:
        assert same_predictions(comparison, run.method, run.seed)


def test_the_best_model_is_kept_in_the_folder(tmp_path, capsys):
    folder = tmp_path / "runs"
    # Runs of an earlier call have no models: the best is made again.
    earlier = compared(folder=folder)
    assert not list(folder.glob("*.keras"))
    with pytest.raises(ValueError, match='keep="best"'):
        earlier.model()
    comparison = compared(folder=folder, keep="best", verbose=1)
    assert "made again" in capsys.readouterr().out
    key = expected_best(comparison)
    assert len(list(folder.glob("*.keras"))) == 1
    assert same_predictions(comparison, *key)
    assert same_predictions(kd.comparison.Comparison.load(folder), *key)
    other = next(
        (r.method, r.seed) for r in comparison.runs if (r.method, r.seed) != key
    )
    with pytest.raises(ValueError, match="whose model was kept"):
        comparison.model(*other)
    fresh = compared(folder=tmp_path / "fresh", keep="best")
    assert len(list((tmp_path / "fresh").glob("*.keras"))) == 1
    assert same_predictions(fresh, *expected_best(fresh))
    fresh.report(tmp_path / "report.html")
    assert "To serve" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("recipe", ["LoRA", "DFA"])
def test_what_a_recipe_returns_can_be_read_back(recipe, tmp_path):
    """The network's own optimizer is built or not, before the file or not."""
    train, build = toy.texts(16), toy.build_text
    if recipe == "DFA":
        train, build = toy.numbers(16), toy.build
    recipe = {
        "LoRA": kd.recipes.FineTuning(adapters=kd.adapters.LoRA(rank=2)),
        "DFA": kd.recipes.DFA(),
    }[recipe]
    model = recipe.fit(toy.trainer(2, build), train)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(train.x, verbose=0),
        model.predict(train.x, verbose=0),
        atol=1e-5,
    )


def test_nothing_is_served_where_nothing_can_choose():
    with pytest.raises(ValueError, match="chosen on test data"):
        kd.compare(**arguments(keep="best"))
    with pytest.raises(ValueError, match="one of"):
        kd.compare(**arguments(keep="some"))
    comparison = kd.compare(**arguments(seeds=[0]))
    with pytest.raises(ValueError, match="validation"):
        comparison.best()
    assert "To serve" not in str(comparison)
