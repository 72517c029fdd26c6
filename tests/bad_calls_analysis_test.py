"""Wrong calls of what looks into models and data: each refused in words.

A new public symbol of these rooms without a row fails
`test_every_symbol_has_a_row`.
"""

import keras
import numpy as np
import pytest

import keras_debias as kd

N, U = kd.analysis, kd.auditing
NO_CALLS = {
    # Results that the library itself makes, and constants.
    *("BiasAccumulation", "BiasNeuron", "BiasTermRanking", "UpdateSpectrum"),
    *("TargetLayerSearch", "Advice", "AuditReport", "ErrorSlice", "Feature"),
    *("Finding", "Harm", "PartialInputProbe", "TargetFinding"),
    *("TargetReport", "LABELS", "TEMPLATES"),
    # Without an argument; a base class of tests.
    *(
        "BiasTermMeasure",
        "ChangeMeasure",
        "MagnitudeChange",
        "ProjectionChange",
        "minilm",
    ),
    "TestCase",
    # What it hands on is checked by `TestCase`.
    "check_adapter",
}


def network(adapted=True):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(hidden))
    if adapted:
        kd.adapters.apply(
            model, kd.adapters.LoRA(2, targets="hidden"), also_train="head"
        )
    return model


def numbers():
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    return kd.data.Split(x, np.arange(6) % 3, label_names=["a", "b", "c"])


def texts():
    return kd.data.Split(
        ["It rains.", "It snows.", "A dog.", "A cat."] * 5,
        ["no", "yes", "no", "yes"] * 5,
    )


def directions():
    return kd.Directions({"hidden": np.eye(4, 1)})


ROWS = [
    ("check_projection", lambda tmp: kd.testing.check_projection("EDGE")),
    ("check_regularizer", lambda tmp: kd.testing.check_regularizer(None)),
    (
        "check_recipe",
        lambda tmp: kd.testing.check_recipe("JTT", None, None, None),
    ),
    (
        "check_group_inference",
        lambda tmp: kd.testing.check_group_inference("XRM", None, None, None),
    ),
    ("Directions", lambda tmp: kd.Directions(None)),
    ("Directions", lambda tmp: kd.Directions({})),
    ("Directions", lambda tmp: kd.Directions({"hidden": "text"})),
    ("Directions", lambda tmp: kd.Directions({"hidden": [[np.nan]]})),
    ("audit", lambda tmp: kd.audit(None)),
    ("audit", lambda tmp: kd.audit(["a text"])),
    ("audit", lambda tmp: kd.audit(texts(), target="groups")),
    ("audit", lambda tmp: kd.audit(texts(), target="errors")),
    ("audit", lambda tmp: kd.audit(texts(), predictions=["no"])),
    ("audit", lambda tmp: kd.audit(texts(), predictions=["maybe"] * 20)),
    ("contact_sheet", lambda tmp: U.contact_sheet(texts(), None)),
    ("contact_sheet", lambda tmp: U.contact_sheet(None, None)),
    ("contact_sheet", lambda tmp: U.contact_sheet(numbers(), [0])),
    ("describe_groups", lambda tmp: U.describe_groups(None, None)),
    ("describe_groups", lambda tmp: U.describe_groups(texts(), ["a"])),
    ("describe_groups", lambda tmp: U.describe_groups(texts(), None)),
    (
        "describe_groups",
        lambda tmp: U.describe_groups(texts(), ["a", "b"] * 10, top=0),
    ),
    (
        "describe_groups",
        lambda tmp: U.describe_groups(texts(), ["a", "b"] * 10, level=2),
    ),
    ("FisherInformation", lambda tmp: N.FisherInformation(None)),
    ("FisherInformation", lambda tmp: N.FisherInformation(numbers(), 0)),
    ("FisherInformation", lambda tmp: N.FisherInformation(numbers(), "8")),
    (
        "FisherInformation",
        lambda tmp: N.FisherInformation(numbers(), seed=-1),
    ),
    ("ablate", lambda tmp: N.ablate(None, directions())),
    ("ablate", lambda tmp: N.ablate(network(), None)),
    (
        "ablate",
        lambda tmp: N.ablate(network(), kd.Directions({"x": np.eye(4, 1)})),
    ),
    (
        "ablate",
        lambda tmp: N.ablate(
            network(False), kd.Directions({"hidden": np.eye(7, 1)})
        ),
    ),
    ("ablated", lambda tmp: N.ablated(None, directions()).__enter__()),
    ("ablated", lambda tmp: N.ablated(network(), 3).__enter__()),
    ("bias_accumulation", lambda tmp: N.bias_accumulation(None, texts())),
    ("bias_accumulation", lambda tmp: N.bias_accumulation(network(), None)),
    (
        "bias_accumulation",
        lambda tmp: N.bias_accumulation(network(), numbers()),
    ),
    ("find_bias_neurons", lambda tmp: N.find_bias_neurons(None, texts())),
    ("find_bias_neurons", lambda tmp: N.find_bias_neurons(network(), None)),
    (
        "find_bias_neurons",
        lambda tmp: N.find_bias_neurons(network(), numbers(), count=0),
    ),
    ("find_target_layer", lambda tmp: N.find_target_layer(None, texts())),
    ("find_target_layer", lambda tmp: N.find_target_layer(network(), None)),
    (
        "find_target_layer",
        lambda tmp: N.find_target_layer(network(), numbers()),
    ),
    ("kernels", lambda tmp: N.kernels(None)),
    ("kernels", lambda tmp: N.kernels("model")),
    ("latent_factors", lambda tmp: N.latent_factors(None)),
    ("latent_factors", lambda tmp: N.latent_factors(network(), 0)),
    ("latent_factors", lambda tmp: N.latent_factors(network(), "1")),
    ("latent_factors", lambda tmp: N.latent_factors(network(), 1.5)),
    ("latent_factors", lambda tmp: N.latent_factors(network(), side="up")),
    ("latent_factors", lambda tmp: N.latent_factors(network(), scope="x")),
    ("latent_factors", lambda tmp: N.latent_factors(network(False))),
    ("prune_neurons", lambda tmp: N.prune_neurons(None, [])),
    ("prune_neurons", lambda tmp: N.prune_neurons(network(), None)),
    ("prune_neurons", lambda tmp: N.prune_neurons(network(), [3])),
    (
        "prune_neurons",
        lambda tmp: N.prune_neurons(
            network(False), [N.BiasNeuron("hidden", 99, 1.0)]
        ),
    ),
    ("rank_bias_terms", lambda tmp: N.rank_bias_terms(None)),
    ("rank_bias_terms", lambda tmp: N.rank_bias_terms(network(), "x")),
    ("rank_bias_terms", lambda tmp: N.rank_bias_terms(network())),
    ("truncate_update", lambda tmp: N.truncate_update(None, k=1)),
    ("truncate_update", lambda tmp: N.truncate_update(network())),
    ("truncate_update", lambda tmp: N.truncate_update(network(), k=0)),
    ("truncate_update", lambda tmp: N.truncate_update(network(), k="1")),
    ("truncate_update", lambda tmp: N.truncate_update(network(), energy=2)),
    (
        "truncate_update",
        lambda tmp: N.truncate_update(network(), k=1, energy=0.5),
    ),
    ("truncate_update", lambda tmp: N.truncate_update(network(), k=1, keep=3)),
    ("OrthogonalUpdate", lambda tmp: kd.constraints.OrthogonalUpdate(None)),
    ("OrthogonalUpdate", lambda tmp: kd.constraints.OrthogonalUpdate("x")),
    (
        "OrthogonalUpdate",
        lambda tmp: kd.constraints.OrthogonalUpdate([[np.nan], [0]]),
    ),
    (
        "OrthogonalUpdate",
        lambda tmp: kd.constraints.OrthogonalUpdate(np.eye(4, 1), side="up"),
    ),
    ("FrozenFeatures", lambda tmp: kd.features.FrozenFeatures(None)),
    ("FrozenFeatures", lambda tmp: kd.features.FrozenFeatures(network(), 0)),
    ("FrozenFeatures", lambda tmp: kd.features.FrozenFeatures(network(), "8")),
    (
        "FrozenFeatures",
        lambda tmp: kd.features.FrozenFeatures(network(), cache_dir=3),
    ),
    ("FrozenFeatures", lambda tmp: kd.features.FrozenFeatures(network())(None)),
    (
        "FrozenFeatures",
        lambda tmp: kd.features.FrozenFeatures(lambda split: np.ones(3))(
            numbers()
        ),
    ),
    (
        "LabelWordClassifier",
        lambda tmp: kd.models.LabelWordClassifier(None, ["a", "b"], None),
    ),
    (
        "LabelWordClassifier",
        lambda tmp: kd.models.LabelWordClassifier(network(), ["a", "b"], None),
    ),
    ("PromptTemplate", lambda tmp: kd.models.PromptTemplate(None)),
    ("PromptTemplate", lambda tmp: kd.models.PromptTemplate("")),
    ("PromptTemplate", lambda tmp: kd.models.PromptTemplate("no place")),
    ("PromptTemplate", lambda tmp: kd.models.PromptTemplate("no", "{text}")),
    ("PromptTemplate", lambda tmp: kd.models.PromptTemplate("{0}", None)),
    ("smollm2", lambda tmp: kd.presets.smollm2(3)),
    ("efficientnet_lite0", lambda tmp: kd.presets.efficientnet_lite0(3)),
    ("save", lambda tmp: kd.presets.save(None, tmp / "a")),
    ("save", lambda tmp: kd.presets.save(network(), tmp / "a")),
    ("recommended", lambda tmp: kd.recommended(None, None)),
    ("recommended", lambda tmp: kd.recommended(network(), None)),
    (
        "grasp",
        lambda tmp: kd.grasp(
            None, kd.adapters.LoRA(2), optimizer="sgd", loss="mse"
        ),
    ),
]


def test_every_symbol_has_a_row():
    rooms = ("analysis", "auditing", "constraints", "features", "models")
    public = {
        name
        for room in (*rooms, "presets", "testing")
        for name in getattr(kd, room).__all__
    }
    public |= {"Directions", "recommended", "grasp"}
    assert public - NO_CALLS - {symbol for symbol, _ in ROWS} == set()


@pytest.mark.parametrize(
    "number",
    range(len(ROWS)),
    ids=[f"{symbol}-{i}" for i, (symbol, _) in enumerate(ROWS)],
)
def test_a_wrong_call_is_refused_in_words(number, tmp_path):
    _, call = ROWS[number]
    with pytest.raises((TypeError, ValueError)) as raised:
        call(tmp_path)
    # Our words, not those of something deep inside.
    assert "eceived" in str(raised.value)
    assert not list(tmp_path.iterdir())
