"""Scores of label words, against plain passes over the language model."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.models.label_tokens import LabelLayout
from tests import toy_language

TEMPLATE = kd.models.PromptTemplate(
    "Review: {text}\nEmotion:", "Choices: {labels}"
)
SEVERAL = ("joy", "very sad", "very mad", "anger")


def classifier(labels=toy_language.LABELS, lm=toy_language.gpt2, **kwargs):
    kwargs = {"instruction": False, "sequence_length": 40, **kwargs}
    return kd.models.LabelWordClassifier(lm(), labels, TEMPLATE, **kwargs)


def next_token_logits(causal_lm, ids):
    # Of one length: nothing is compiled twice.
    tokens = np.zeros((1, 40), "int32")
    tokens[0, : len(ids)] = ids
    mask = (np.arange(40) < len(ids)).astype("int32")[None]
    x = {"token_ids": tokens, "padding_mask": mask}
    logits = causal_lm(x, training=False)
    return np.asarray(ops.convert_to_numpy(logits), "float64")[0, len(ids) - 1]


def log_softmax(z):
    z = z - z.max()
    return z - np.log(np.exp(z).sum())


def prompt_ids(model, text, before=()):
    tokens = model.causal_lm.preprocessor.tokenizer(
        model.template.format({"text": text}, model.label_names, False)
    )
    return [*before, *np.array(tokens).tolist()]


# What takes long to compile runs once where the backend cannot matter.
ON_TORCH = keras.config.backend() == "torch"
MODELS = [toy_language.gpt2, toy_language.llama]


@pytest.mark.parametrize("lm", MODELS if ON_TORCH else MODELS[:1])
def test_labels_of_one_token_are_scored_by_their_logits(lm):
    model = classifier(lm=lm)
    x, _ = toy_language.texts(5)
    scores = model.predict(x, verbose=0)
    assert scores.shape == (5, 3)
    assert model.layout.rows == ((),)
    start = model.causal_lm.preprocessor.tokenizer.start_token_id
    before = [start] if lm is toy_language.gpt2 else []
    for text, row in zip(x, scores):
        logits = next_token_logits(
            model.causal_lm, prompt_ids(model, text, before)
        )
        ids = [ids[0] for ids in model.label_tokens]
        np.testing.assert_allclose(row, logits[ids], atol=1e-5)


def test_labels_of_several_tokens_are_scored_by_mean_log_probability():
    model = classifier(SEVERAL)
    # The two that begin alike share a row, and the prompt needs none.
    very = model.label_tokens[1][0]
    assert model.layout.rows == ((very,),)
    x, _ = toy_language.texts(4)
    scores = model.predict(x, verbose=0)
    start = model.causal_lm.preprocessor.tokenizer.start_token_id
    for text, row in zip(x, scores):
        for label, score in zip(model.label_tokens, row):
            ids, total = prompt_ids(model, text, [start]), 0.0
            for token in label:
                logits = next_token_logits(model.causal_lm, ids)
                total += log_softmax(logits)[token]
                ids.append(token)
            assert score == pytest.approx(total / len(label), abs=1e-5)
    by_first = classifier(("very sad", "joy"), first_token=True)
    logits = next_token_logits(
        by_first.causal_lm, prompt_ids(by_first, x[0], [start])
    )
    found = by_first.predict(x[:1], verbose=0)[0]
    assert found[0] == pytest.approx(logits[very], abs=1e-5)


def test_rows_share_what_they_can():
    layout = LabelLayout(((1,), (2, 3), (2, 3, 4), (5, 6, 7), (5, 8)))
    assert layout.rows == ((2, 3), (5, 6))
    place, token, weight = layout.places()
    assert token[2].tolist() == [2, 3, 4]
    assert place[2].tolist() == [0, 1, 2]
    assert place[4].tolist() == [3, 4, 0]
    np.testing.assert_allclose(weight.sum(axis=1), 1.0, rtol=1e-6)


SETS = [SEVERAL, toy_language.LABELS]


@pytest.mark.once
@pytest.mark.parametrize("labels", SETS if ON_TORCH else SETS[:1])
def test_the_loss_is_the_language_models(labels):
    model = classifier(labels, multi_label=True)
    x, _ = toy_language.texts(6)
    generator = np.random.default_rng(0)
    y = (generator.random((6, len(labels))) > 0.5).astype("float32")
    y[:, 0] = 1
    start = model.causal_lm.preprocessor.tokenizer.start_token_id
    expected = []
    for text, gold in zip(x, y):
        each = []
        for label in np.flatnonzero(gold):
            ids, total = prompt_ids(model, text, [start]), 0.0
            for token in model.label_tokens[label]:
                logits = next_token_logits(model.causal_lm, ids)
                total -= log_softmax(logits)[token]
                ids.append(token)
            each.append(total / len(model.label_tokens[label]))
        expected.append(np.mean(each))
    found = model.evaluate(x, y, batch_size=6, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(np.mean(expected), abs=1e-4)
    # The same inside a `DebiasedModel`, which trains it.
    debiased = kd.DebiasedModel(model)
    debiased.compile()
    again = debiased.evaluate(x, y, batch_size=6, verbose=0, return_dict=True)
    assert again["loss"] == pytest.approx(np.mean(expected), abs=1e-4)
    alone = classifier(labels, multi_label=True, lm_loss=False)
    found = alone.evaluate(x, y, batch_size=6, verbose=0, return_dict=True)
    assert found["loss"] < np.mean(expected) - 0.1


def test_fits_saves_and_generates(tmp_path):
    x, y = toy_language.texts(64)
    names = ("anger", "fear", "joy")
    # In another order than the classifier's.
    split = kd.data.Split(x, 2 - y, label_names=names)
    model = classifier(pad_to_multiple=8)
    kd.adapters.apply(model, kd.adapters.TargetLayer(1))
    wrapped = kd.DebiasedModel(
        model, regularizers=kd.regularizers.LabelBalance(0.1, 0.1), seed=0
    )
    wrapped.compile(keras.optimizers.Adam(0.02))
    history = wrapped.fit(
        split, validation_data=split, epochs=4, batch_size=16, verbose=0
    ).history
    assert history["loss"][-1] < history["loss"][0]
    assert {"label_propensity", "label_discrimination"} <= set(history)
    assert "val_loss" in history
    assert wrapped.label_names == toy_language.LABELS
    scores = wrapped.predict(x, verbose=0)
    report = kd.evaluate(wrapped, {"test": split})
    accuracy = (scores.argmax(axis=1) == y).mean()
    assert report["test"].accuracy == pytest.approx(accuracy)
    wrapped.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), scores, atol=1e-5)
    kd.adapters.save(model, tmp_path / "adapter")
    fresh = kd.adapters.load(classifier(), tmp_path / "adapter")
    np.testing.assert_allclose(fresh.predict(x, verbose=0), scores, atol=1e-5)
    assert isinstance(wrapped.generate("the day", max_length=8), str)


@pytest.mark.once
def test_fits_by_itself(tmp_path):
    x, y = toy_language.texts(32)
    model = classifier()
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(
        kd.data.Split(x, y, label_names=toy_language.LABELS),
        validation_data=(x, y),
        epochs=3,
        batch_size=8,
        verbose=0,
    ).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["val_loss"][-1] < history["val_loss"][0]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5
    )
    assert int(again.optimizer.iterations) == 12


def test_long_prompts_are_cut_in_the_text_and_counted():
    model = classifier(sequence_length=10)
    long = "the day " * 10
    with pytest.warns(UserWarning, match="1 of 2 prompts.*end of the text"):
        tokens = model.preprocessor([long, "the day"])
    assert model.preprocessor.num_truncated == 1
    assert tokens["answer"].tolist()[0] == 9
    start = [model.causal_lm.preprocessor.tokenizer.start_token_id]
    ids = prompt_ids(model, long, start)
    tail = prompt_ids(model, "the day", start)[-3:]
    kept = tokens["token_ids"][0, 0].tolist()
    assert kept == ids[:7] + tail == ids[:7] + ids[-3:]


def test_template_fields():
    template = kd.models.TEMPLATES["bbq"]
    assert template.fields[:2] == ("context", "question")
    pair = kd.models.PromptTemplate("Is {a} so, as {b} says:")
    model = kd.models.LabelWordClassifier(
        toy_language.gpt2(), ["joy", "sad"], pair
    )
    found = model.preprocessor.prompts((["x"], ["y"]))
    assert found == ["Is x so, as y says:"]
    assert model.preprocessor.prompts({"b": ["y"], "a": ["x"]}) == found
    full = TEMPLATE.format({"text": "{odd}"}, ["joy", "sad"])
    assert full == "Choices: joy, sad\nReview: {odd}\nEmotion:"
    assert len(kd.models.TEMPLATES) == 10
    assert set(kd.models.LABELS) == set(kd.models.TEMPLATES)
    assert len(kd.models.LABELS["tweet_emotion"]) == 11
    assert len(kd.models.LABELS["go_emotions"]) == 28
    assert len(kd.models.LABELS["empathetic_dialogues"]) == 32


@pytest.mark.once
def test_texts_in_a_column_of_pandas():
    model = classifier()
    texts = ["the day was glad", "a mad dog"]
    expected = model.predict(texts, verbose=0)
    column = pd.Series(texts, index=[7, 3])
    found = model.predict(column, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    history = model.fit(column, np.array([0, 1]), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize(
    "lengths",
    [
        {"sequence_length": 0},
        {"sequence_length": "40"},
        {"sequence_length": 49},
        {"pad_to_multiple": -3},
        {"pad_to_multiple": 0},
    ],
)
def test_lengths_out_of_range(lengths):
    (name,) = lengths
    with pytest.raises(ValueError, match=f"`{name}`"):
        classifier(**lengths)


def test_labels_beside_a_split_are_refused():
    model = classifier()
    split = kd.data.Split(["the day", "a dog"], [0, 1])
    for more in ({"y": [1, 0]}, {"sample_weight": [1.0, 0.0]}):
        with pytest.raises(ValueError, match="inside the Split"):
            model.fit(split, verbose=0, **more)


def test_texts_that_are_not_one_a_row():
    model = classifier()
    for x in (np.array([["the day"], ["a dog"]]), pd.DataFrame({"a": ["b"]})):
        with pytest.raises(ValueError, match="one text a row"):
            model.predict(x, verbose=0)
    pair = kd.models.PromptTemplate("Is {a} so, as {b} says:")
    model = kd.models.LabelWordClassifier(
        toy_language.gpt2(), ["joy", "sad"], pair
    )
    with pytest.raises(ValueError, match="as many texts"):
        model.preprocess_samples((["x", "z"], ["y"]))


def test_bad_input():
    lm = toy_language.gpt2()
    with pytest.raises(ValueError, match="named field"):
        kd.models.PromptTemplate("Emotion:", instruction="Review: {text}")
    with pytest.raises(ValueError, match="named field"):
        kd.models.LabelWordClassifier(lm, ["joy", "sad"], "Emotion:")
    with pytest.raises(ValueError, match="only once"):
        kd.models.LabelWordClassifier(lm, ["joy", "joy"], TEMPLATE)
    with pytest.raises(ValueError, match="at least one token"):
        kd.models.LabelWordClassifier(
            lm, ["joy", "sad"], TEMPLATE, label_tokens=[[], [3]]
        )
    with pytest.raises(ValueError, match="differ in the tokens"):
        kd.models.LabelWordClassifier(
            lm, ["very sad", "very mad"], TEMPLATE, first_token=True
        )
    with pytest.raises(TypeError, match="causal LM"):
        kd.models.LabelWordClassifier(
            keras.Sequential([keras.layers.Dense(2)]), ["joy"], TEMPLATE
        )
    model = classifier()
    with pytest.raises(ValueError, match="`label_names`"):
        model.fit(kd.data.Split(["the day"], ["grief"]))
    with pytest.raises(ValueError, match="fields"):
        model.predict({"other": ["the day"]})


class BiasAlone(kd.projections.EDGE):
    """Descends the objective that EDGE calls the bias."""

    def project(self, gradients, variables):
        return gradients["bias"]


@pytest.mark.parametrize("lm_loss", [True, False])
def test_the_bias_of_edge_is_that_among_the_labels(lm_loss):
    """By finite differences; the rest of the language model's loss is out."""
    classifier = kd.models.LabelWordClassifier(
        toy_language.gpt2(layers=1),
        toy_language.LABELS,
        "Review: {text}\nEmotion:",
        sequence_length=24,
        lm_loss=lm_loss,
    )
    x, y = toy_language.texts(6)
    model = kd.DebiasedModel(classifier, BiasAlone(q=0.7), seed=0)
    model.compile(
        keras.optimizers.SGD(1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    variable = classifier.backbone.get_layer("layer_norm").trainable_variables
    variable = variable[0]
    start = [np.array(v) for v in classifier.trainable_variables]
    direction = np.random.default_rng(1).normal(size=variable.shape)

    def bias(step):
        for v, value in zip(classifier.trainable_variables, start):
            v.assign(value)
        variable.assign_add((step * direction).astype("float32"))
        z = model.predict(x, verbose=0).astype("float64")
        p = np.exp(z - z.max(1, keepdims=True))
        p = (p / p.sum(1, keepdims=True))[np.arange(len(y)), y]
        return ((1 - p**0.7) / 0.7).mean()

    expected = (bias(0.02) - bias(-0.02)) / 0.04
    bias(0.0)
    before = np.array(variable)
    model.train_on_batch(kd.data.Split(x, y).x, y)
    found = ((before - np.array(variable)) * direction).sum()
    assert found == pytest.approx(expected, rel=2e-2, abs=1e-5)


def test_group_dro_refuses_losses_of_tokens():
    lm = toy_language.gpt2(layers=1)
    split = kd.data.prompt_response(
        ["the dog", "a day"], ["sad", "joy"], lm.preprocessor.tokenizer, 8
    ).with_groups(["a", "b"])
    model = kd.DebiasedModel(lm, objective=kd.losses.GroupDRO(2))
    model.compile()
    with pytest.raises(ValueError, match="one loss for each row"):
        model.fit(split, verbose=0)
