"""What holds for every recipe, one table."""

import keras
import numpy as np
import pytest

import keras_debias as kd
from tests.recipes import toy

R = kd.recipes
FREE = {
    "ERM": R.FineTuning(),
    "EDGE": R.FineTuning(kd.projections.EDGE(alpha=1.0)),
    "focal": R.FineTuning(objective=kd.losses.PerRow(kd.losses.Focal())),
    "EDGE, recipe": R.EDGE(alpha=1.0, bias_only=None),
    "AFR": R.AFR(held_out=0.4),
    "JTT": R.JTT(),
    "LfF": R.LearningFromFailure(),
    "DFA": R.DFA(),
    "CNC": R.CNC(),
    "balanced, XRM": R.BalancedSampling(groups=R.XRM(rounds=2)),
    "GroupDRO, XRM": R.GroupDRO(groups=R.XRM(rounds=1)),
    "balanced, clusters": R.BalancedSampling(groups=R.Clusters(4)),
    "balanced, probe hint": R.BalancedSampling(groups=R.ProbeHint()),
    "balanced, classes": R.BalancedSampling(groups=R.ClassLabels()),
    "inverse propensity": R.InversePropensitySampling(),
    "recommended": R.Recommended(),
    "ablation": R.Ablation(scope="layer", readers=("dense*",)),
    "truncation": R.Truncation(),
}
WITH_GROUPS = {
    "balanced": R.BalancedSampling(),
    "balanced, EDGE": R.BalancedSampling(projection=kd.projections.EDGE(2.0)),
    "GroupDRO": R.GroupDRO(step_size=0.1),
    "GA": R.GradientAlignment(),
    "DFR": R.DFR(held_out=0.4, draws=2),
    "GRASP": R.GRASP(
        **{"factor": "groups", "repeats": 2, "tolerance": 0.01},
        **{"scope": "layer", "readers": ("dense*",)},
    ),
}
FINDINGS = kd.audit(toy.texts(), min_count=5, folds=0).findings
OF_TEXTS = {
    "REW": R.Reweighting(),
    "LM": R.LearnedMixin(),
    "PoE": R.ProductOfExperts(),
    "EDGE, bag of words": R.EDGE(alpha=8.0, scope="global"),
    "curriculum": R.Curriculum(),
    "CORSAIR": R.CounterfactualInference(),
    "balanced, shallow hint": R.BalancedSampling(groups=R.ShallowHint()),
    "balanced, audit": R.BalancedSampling(groups=R.AuditGroups(min_count=5)),
    "balanced, findings": R.BalancedSampling(groups=R.FindingGroups(FINDINGS)),
    "raked, findings": R.RakedSampling(views=R.FindingGroups(FINDINGS)),
}
ALL = {**FREE, **WITH_GROUPS, **OF_TEXTS}


class Counted(R.Trainer):
    """Keeps every model, to count its optimizer's updates."""

    def wrap(self, *args, **kwargs):
        model = super().wrap(*args, **kwargs)
        self.models = [*getattr(self, "models", []), model]
        return model


def run(name, train=None, seed=0):
    is_text = name in OF_TEXTS
    if train is None:
        train = toy.texts() if is_text else toy.numbers(240)
    counted = Counted(
        toy.build_text if is_text else toy.build,
        R.Budget(updates=4 if is_text else 11, batch_size=24),
        seed,
    )
    model = ALL[name].fit(counted, train)
    x = tuple(p[:8] for p in train.x) if is_text else train.x[:8]
    return counted, np.asarray(model.predict(x, verbose=0))


@pytest.mark.parametrize("name", ALL)
def test_recipe(name):
    """One fit: the whole budget, no more; outputs; the way there and back."""
    counted, outputs = run(name)
    made = sum(int(m.optimizer.iterations.numpy()) for m in counted.models)
    total = counted.budget.updates
    assert made == counted.updates == total
    assert outputs.shape == (8, 3 if name in OF_TEXTS else 2)
    assert np.isfinite(outputs).all()
    recipe = ALL[name]
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(recipe)
    )
    assert type(again) is type(recipe)
    assert str(again.get_config()) == str(recipe.get_config())
    assert recipe.needs_groups == (name in WITH_GROUPS)
    with pytest.raises(ValueError, match="one budget"):
        counted.fit(toy.numbers(40), share=0.1)


LABEL_FREE = ["AFR", "JTT", "DFA", "CNC", "balanced, XRM", "inverse propensity"]


@pytest.mark.parametrize(
    "name",
    # Each trains three models; what is looked at depends on no backend.
    LABEL_FREE if keras.config.backend() == "torch" else LABEL_FREE[-1:],
)
def test_label_free_recipes_do_not_look_at_groups(name):
    """Same seed, same outputs, whatever the groups; other seed, others."""
    train = toy.numbers(240)
    shuffled = kd.data.Groups(
        np.random.default_rng(0).permutation(train.groups.ids),
        train.groups.names,
    )
    _, outputs = run(name, train)
    np.testing.assert_array_equal(
        run(name, train.with_groups(shuffled))[1], outputs
    )
    assert abs(run(name, train, seed=1)[1] - outputs).max() > 1e-3


@pytest.mark.once
@pytest.mark.parametrize("name", WITH_GROUPS)
def test_groups_are_asked_for(name):
    train = toy.numbers(60).with_groups(None)
    with pytest.raises(ValueError, match="Expected groups.*XRM"):
        run(name, train)
    one = train.with_groups(["all"] * 60)
    with pytest.raises(ValueError, match="at least two groups"):
        run(name, one)


def test_no_two_classes_share_a_registered_name():
    from keras_debias import callbacks
    from keras_debias import comparison
    from keras_debias import data
    from keras_debias import losses
    from keras_debias import projections
    from keras_debias import regularizers

    found = {}
    rooms = (
        *(R, callbacks, comparison, data, losses, projections, regularizers),
    )
    for room in rooms:
        for value in vars(room).values():
            if isinstance(value, type):
                name = keras.saving.get_registered_name(value)
                assert found.setdefault(name, value) is value, name
