import json

import keras
import numpy as np
import pytest

from keras_debias import DebiasedModel
from keras_debias.adapters import AllBiases
from keras_debias.adapters import KeyBias
from keras_debias.adapters import LoRA
from keras_debias.adapters import LoRABias
from keras_debias.adapters import QueryBias
from keras_debias.adapters import ValueBias
from keras_debias.adapters import apply
from keras_debias.adapters import disabled
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.selection import variable_paths
from keras_debias.analysis import BiasTermRanking
from keras_debias.analysis import MagnitudeChange
from keras_debias.analysis import ProjectionChange
from keras_debias.analysis import rank_bias_terms
from keras_debias.analysis.bias_terms import find_bias_terms
from keras_debias.analysis.heat_map import short_names
from tests.architectures import ARCHITECTURES

BUILD = {a.name: a.build for a in ARCHITECTURES}
BERT_LAYERS = tuple(
    f"transformer_layer_{i}/self_attention_layer" for i in range(2)
)


def move(model, term, amount, layer=None):
    """Adds numbers to a term of all layers; gives them by layer."""
    rng = np.random.default_rng(7)
    moved = {}
    for each in find_bias_terms(model):
        if each.name != term or layer not in (None, each.row):
            continue
        for variable in filter(lambda v: v.trainable, each.variables()):
            noise = amount * rng.standard_normal(variable.shape)
            variable.assign(as_array(variable) + noise)
        moved[each.row] = noise.reshape(-1)
    return moved


@pytest.fixture
def bert():
    return apply(BUILD["bert"](), AllBiases())


def test_measures_are_those_of_numpy():
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 5))
    lengths = [np.linalg.norm(before), np.linalg.norm(after)]
    cosine = before @ after / np.prod(lengths)
    change = ProjectionChange().change(before, after)
    # the paper's two cases: the shorter projected on the longer
    assert np.isclose(change, 1 - cosine * min(lengths) / max(lengths))
    assert np.isclose(change, ProjectionChange().change(after, before))
    assert ProjectionChange().change(before, before) == 0
    assert np.isclose(ProjectionChange().change(before, -before), 2)
    assert np.isclose(ProjectionChange().change(before, 3 * before), 2 / 3)
    assert ProjectionChange().total(np.array([0.5, 1]), [3, 4]) == 1.5
    mean = np.mean(np.abs(after - before))
    assert np.isclose(MagnitudeChange().change(before, after), mean)
    total = MagnitudeChange().total(np.array([1.0, 2.0]), np.array([3, 1]))
    assert total == 1.25


def test_zero_biases_are_finite():
    zero, one = np.zeros(3), np.ones(3)
    for pair, change in (
        ((zero, zero), 0),
        ((zero, one), 1),
        ((one, zero), 1),
        ((zero, 1e-30 * one), 1),
    ):
        assert ProjectionChange().change(*pair) == change
    assert MagnitudeChange().change(zero, one) == 1


@pytest.mark.parametrize("measure", [ProjectionChange, MagnitudeChange])
def test_measures_are_registered(measure):
    config = keras.saving.serialize_keras_object(measure())
    assert config["registered_name"] == f"keras_debias>{measure.__name__}"
    assert type(keras.saving.deserialize_keras_object(config)) is measure
    assert repr(measure()) == f"{measure.__name__}()"


@pytest.mark.once
@pytest.mark.parametrize("term", ["query", "key", "value"])
@pytest.mark.parametrize("measure", [ProjectionChange(), MagnitudeChange()])
def test_the_term_that_changed_most_is_first(bert, term, measure):
    for name in ("query", "key", "value"):
        move(bert, name, 0.5 if name == term else 0.01)
    ranking = rank_bias_terms(bert, measure)
    assert ranking.target == ranking.ranking[0] == term
    assert ranking.layers == BERT_LAYERS
    assert ranking.terms == ("query", "key", "value")
    # in every layer too, and the numbers are those of the weights
    at = ranking.terms.index(term)
    assert (ranking.values.argmax(axis=1) == at).all()
    before, after = variable_paths(BUILD["bert"]()), variable_paths(bert)
    for row, path in enumerate(BERT_LAYERS):
        pair = [
            as_array(weights[f"{path}/{term}/bias"]).reshape(-1)
            for weights in (before, after)
        ]
        expected = measure.change(*(p.astype("float64") for p in pair))
        assert np.isclose(ranking.values[row, at], expected)


def test_only_the_layer_that_changed_has_a_value(bert):
    noise = move(bert, "key", 0.3, layer=BERT_LAYERS[1])
    ranking = rank_bias_terms(bert, MagnitudeChange())
    expected = np.zeros((2, 3))
    expected[1, 1] = np.abs(noise[BERT_LAYERS[1]]).mean()
    np.testing.assert_allclose(ranking.values, expected, rtol=1e-5)
    assert np.isclose(ranking.totals["key"], expected[1, 1] / 2)
    assert ranking.ranking == ("key", "query", "value")


def test_all_terms(bert):
    for term in find_bias_terms(bert):
        move(bert, term.name, 0.1, layer=term.row)
    ranking = rank_bias_terms(bert, MagnitudeChange(), terms=None)
    assert ranking.terms == (
        "query",
        "key",
        "value",
        "attention_output",
        "self_attention_layer_norm",
        "feedforward_layer_norm",
        "feedforward_intermediate_dense",
        "feedforward_output_dense",
    )
    assert (ranking.values > 0).all()
    with pytest.raises(ValueError, match="Expected `terms` among .*'output'"):
        rank_bias_terms(bert, terms=("query", "output"))


def test_nothing_changed(bert):
    with pytest.raises(ValueError, match="all 6 biases .*largest change is 0"):
        rank_bias_terms(bert)
    with pytest.raises(ValueError, match="largest change is 0"):
        rank_bias_terms(BUILD["bert"](), before=BUILD["bert"]())
    move(bert, "key", 0.1)
    with disabled(bert), pytest.raises(ValueError, match="change is 0"):
        rank_bias_terms(bert)


def test_before_is_another_model():
    before, after = BUILD["bert"](0), BUILD["bert"](0)
    # everything trains in a model without adapters
    move(after, "value", 0.4)
    ranking = rank_bias_terms(after, before=before)
    assert ranking.target == "value" and ranking.totals["query"] == 0
    adapted = apply(BUILD["bert"](0), AllBiases())
    move(adapted, "value", 0.4)
    same = rank_bias_terms(adapted)
    np.testing.assert_allclose(same.values, ranking.values, atol=1e-6)
    np.testing.assert_allclose(
        rank_bias_terms(DebiasedModel(adapted), before=before).values,
        ranking.values,
        atol=1e-6,
    )


def test_wrong_models(bert):
    with pytest.raises(ValueError, match="where none does. Apply `AllBiases"):
        rank_bias_terms(apply(BUILD["bert"](), LoRA(rank=2)))
    with pytest.raises(ValueError, match="attention layers. Received"):
        rank_bias_terms(BUILD["sequential"]())
    with pytest.raises(ValueError, match="the same model before training"):
        rank_bias_terms(bert, before=BUILD["llama"]())
    with pytest.raises(TypeError, match="`before` to be a `keras.Model`"):
        rank_bias_terms(bert, before="bert")
    with pytest.raises(TypeError, match="measure='magnitude'"):
        rank_bias_terms(bert, "magnitude")
    # the others are frozen: they cannot have lost
    only = apply(BUILD["bert"](), ValueBias())
    with pytest.raises(ValueError, match=r"adapter trains: \['value'\]"):
        rank_bias_terms(only)
    noise = move(only, "value", 0.1)
    ranking = rank_bias_terms(only, MagnitudeChange(), terms="value")
    expected = [np.abs(noise[path]).mean() for path in BERT_LAYERS]
    np.testing.assert_allclose(ranking.values[:, 0], expected, rtol=1e-5)
    move(only, "value", np.nan)
    with pytest.raises(ValueError, match="2 of 2 with NaN"):
        rank_bias_terms(only, terms="value")


def test_injected_biases_start_from_zero():
    model = apply(BUILD["llama"](), AllBiases())
    with pytest.raises(ValueError, match="largest change is 0"):
        rank_bias_terms(model)
    for term, amount in (("query", 0.1), ("key", 0.2), ("value", 0.4)):
        move(model, term, amount)
    with pytest.warns(UserWarning, match="6 of 6 biases started from zero"):
        ranking = rank_bias_terms(model)
    # the paper's measure cannot tell them apart, the magnitude can
    np.testing.assert_array_equal(ranking.values, np.ones((2, 3)))
    ranking = rank_bias_terms(model, MagnitudeChange())
    assert ranking.ranking == ("value", "key", "query")
    other = rank_bias_terms(
        model, MagnitudeChange(), before=BUILD["llama"](), terms=None
    )
    assert np.isclose(other.totals["value"], ranking.totals["value"])
    assert other.totals["feedforward_gate_dense"] == 0


def test_forms_and_fused_projections():
    model = BUILD["bert"]()
    apply(model, [QueryBias(LoRABias(rank=2)), KeyBias()])
    move(model, "query", 0.3)
    move(model, "key", 0.1)
    ranking = rank_bias_terms(model, terms=("query", "key"))
    assert (ranking.values > 0).all()

    def fused():
        inputs = keras.Input((4, 6))
        qkv = keras.layers.Dense(18, name="qkv")(inputs)
        query, key, value = keras.ops.split(qkv, 3, axis=-1)
        x = keras.layers.Attention()([query, value, key])
        return keras.Model(inputs, keras.layers.Dense(2, name="head")(x))

    model = apply(fused(), [KeyBias(), ValueBias()], also_train=())
    noise = move(model, "value", 0.1)
    ranking = rank_bias_terms(model, MagnitudeChange(), terms=("key", "value"))
    assert ranking.totals["key"] == 0
    assert np.isclose(ranking.totals["value"], np.abs(noise[""]).mean())
    model = apply(fused(), AllBiases(), also_train=())
    dense = model.get_layer("qkv")
    dense.bias.assign(np.repeat([3.0, 1.0, 2.0], 6))
    ranking = rank_bias_terms(model, MagnitudeChange())
    assert ranking.totals == {"query": 3, "key": 1, "value": 2}


@pytest.mark.once
def test_rows_are_in_the_order_of_the_network():
    model = apply(BUILD["t5"](), AllBiases(), also_train=("logits",))
    move(model, "value", 0.1)
    move(model, "gate_projector", 0.1)
    ranking = rank_bias_terms(model, MagnitudeChange(), terms=None)
    assert ranking.layers == tuple(
        f"transformer_{part}"
        for part in (
            "encoder_layer_0/self_attention",
            "encoder_layer_1/self_attention",
            "decoder_layer_0/self_attention",
            "decoder_layer_0/cross_attention",
            "decoder_layer_1/self_attention",
            "decoder_layer_1/cross_attention",
        )
    )
    # a block's other biases stand once, with its last attention layer
    column = ranking.values[:, ranking.terms.index("gate_projector")]
    assert np.isnan(column).tolist() == [False, False, True, False, True, False]
    assert "-" in str(ranking) and ranking.to_dict()["values"][2][-1] is None
    assert ranking.plot().axes


def test_table_json_and_picture(bert, tmp_path):
    move(bert, "value", 0.5)
    move(bert, "query", 0.1)
    ranking = rank_bias_terms(bert)
    text = str(ranking)
    assert "by projection change: value > query > key" in text
    for path, row in zip(BERT_LAYERS, ranking.values):
        line = next(x for x in text.splitlines() if path in x)
        assert line.split()[1:] == [f"{v:.4g}" for v in row]
    assert repr(ranking).startswith("BiasTermRanking(projection change; value:")

    path = tmp_path / "sub" / "ranking.json"
    ranking.to_json(path)
    assert json.loads(path.read_text())["ranking"] == ["value", "query", "key"]
    again = BiasTermRanking.from_json(path)
    assert again.to_dict() == ranking.to_dict()

    picture = tmp_path / "ranking.png"
    figure = ranking.plot(picture)
    assert picture.stat().st_size > 1000
    axes = figure.axes[0]
    labels = [t.get_text() for t in axes.get_xticklabels()]
    assert labels[2] == f"value\n{ranking.totals['value']:.3g}"
    assert [t.get_text() for t in axes.get_yticklabels()] == [
        "transformer_layer_0",
        "transformer_layer_1",
    ]
    np.testing.assert_array_equal(axes.images[0].get_array(), ranking.values)


def test_ranking_checks_its_shape():
    with pytest.raises(ValueError, match=r"Received: \(1, 2\) and 1 totals"):
        BiasTermRanking("change", ["a"], ["key"], [[0, 1]], [0])


def test_short_names():
    assert short_names(["a/b0/c", "a/b1/c"]) == ["b0", "b1"]
    assert short_names(["a/b", "a/c/b"]) == ["b", "c/b"]
    assert short_names(["a"]) == ["a"]
