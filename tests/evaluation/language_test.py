"""Perplexity, likelihood and accuracy of answers, against plain loops."""

import keras
import keras_hub
import numpy as np
import pytest

import keras_debias as kd
from tests.architectures import ARCHITECTURES
from tests.architectures import WORDS
from tests.architectures import randomize

TABLE = {a.name: a for a in ARCHITECTURES}


class WordTokenizer:
    """Words by their place in a list; enough of KerasHub's interface."""

    start_token_id, end_token_id, pad_token_id = 1, 2, 0

    def __call__(self, texts):
        return [[3 + WORDS.index(w) for w in t.split()] for t in texts]


def log_likelihoods(model, tokens):
    """Of each token but the first, given all before it, in float64."""
    x = {
        "token_ids": np.array([tokens[:-1]], "int32"),
        "padding_mask": np.ones((1, len(tokens) - 1), "int32"),
    }
    z = model.predict(x, verbose=0)[0].astype("float64")
    z = z - z.max(-1, keepdims=True)
    z = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return z[np.arange(len(tokens) - 1), tokens[1:]]


@pytest.mark.once
@pytest.mark.parametrize("wrapped", [False, True])
def test_perplexity_scores_each_token_once(wrapped):
    model = TABLE["llama"].build()
    tokenizer = WordTokenizer()
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, 9)) for _ in range(3)]
    tokens = tokenizer([" ".join(texts)])[0]
    found = kd.evaluation.perplexity(
        kd.DebiasedModel(model) if wrapped else model,
        " ".join(texts),
        stride=3,
        context=8,
        max_tokens=25,
        batch_size=2,
        tokenizer=tokenizer,
    )
    tokens, scores, done = tokens[:25], [], 1
    for start in range(0, 25, 3):
        window = tokens[start : start + 8]
        scores += list(log_likelihoods(model, window)[done - start - 1 :])
        done = start + len(window)
        if done == 25:
            break
    assert len(scores) == 24
    assert found == pytest.approx(np.exp(-np.mean(scores)), rel=1e-5)


def test_a_long_context_is_one_pass():
    model = TABLE["gpt2"].build()
    text = " ".join(WORDS[:6])
    found = kd.evaluation.perplexity(
        model, text, stride=1, context=7, tokenizer=WordTokenizer()
    )
    tokens = WordTokenizer()([text])[0]
    expected = np.exp(-log_likelihoods(model, tokens).mean())
    assert found == pytest.approx(expected, rel=1e-5)


def test_only_the_response_counts():
    prompts, responses = ["the doctor saw", "judge"], ["not", "actor who slept"]
    split = kd.data.prompt_response(prompts, responses, WordTokenizer(), 7)
    ids = {w: 3 + i for i, w in enumerate(WORDS)}
    np.testing.assert_array_equal(
        split.x["token_ids"][0],
        [1, ids["the"], ids["doctor"], ids["saw"], ids["not"], 2, 0],
    )
    np.testing.assert_array_equal(split.y[0, :5], split.x["token_ids"][0, 1:6])
    np.testing.assert_array_equal(
        split.sample_weight, [[0, 0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0, 0]]
    )
    np.testing.assert_array_equal(split.x["padding_mask"].sum(axis=1), [6, 6])
    model = TABLE["llama"].build()
    found = kd.evaluation.answer_nll(
        model,
        prompts,
        responses,
        sequence_length=7,
        tokenizer=WordTokenizer(),
    )
    scores = []
    for row in range(2):
        count = int(split.x["padding_mask"][row].sum())
        tokens = split.x["token_ids"][row, :count].tolist()
        each = log_likelihoods(model, tokens)
        answer = int(split.sample_weight[row].sum())
        scores += list(each[-answer:])
    assert len(scores) == 6
    assert found == pytest.approx(-np.mean(scores), rel=1e-5)


def test_the_loss_falls_on_the_response_alone():
    """`fit` takes the split, with a preprocessor or without one."""
    split = kd.data.prompt_response(
        ["the doctor saw"] * 8, ["the judge slept"] * 8, WordTokenizer(), 10
    )
    model = TABLE["llama"].build()
    kd.adapters.apply(model, kd.adapters.PiSSA(rank=2))
    model = kd.DebiasedModel(
        model,
        regularizers=[
            kd.regularizers.Consistency(0.01),
            kd.regularizers.TopKEntropy(0.001, k=5),
        ],
        seed=0,
    )
    model.compile(
        keras.optimizers.Adam(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    before = kd.evaluation.answer_nll(
        model,
        ["the doctor saw"],
        ["the judge slept"],
        sequence_length=10,
        tokenizer=WordTokenizer(),
    )
    model.fit(split, epochs=8, verbose=0)
    after = kd.evaluation.answer_nll(
        model,
        ["the doctor saw"],
        ["the judge slept"],
        sequence_length=10,
        tokenizer=WordTokenizer(),
    )
    assert after < before


def real_tokenizer_lm():
    """A tiny GPT-2 with a byte-level tokenizer of single characters."""
    characters = [*"0123456789abc", "Ġ", "12", "<|endoftext|>"]
    tokenizer = keras_hub.tokenizers.GPT2Tokenizer(
        vocabulary={c: i for i, c in enumerate(characters)}, merges=["1 2"]
    )
    model = keras_hub.models.GPT2CausalLM(
        backbone=keras_hub.models.GPT2Backbone(
            vocabulary_size=len(characters),
            num_layers=1,
            num_heads=2,
            hidden_dim=8,
            intermediate_dim=8,
            max_sequence_length=16,
        ),
        preprocessor=keras_hub.models.GPT2CausalLMPreprocessor(
            tokenizer, sequence_length=16
        ),
    )
    randomize(model, 0)
    return model


def test_greedy_answers():
    model = real_tokenizer_lm()
    prompts = ["1 2", "a b c"]

    def extract(text):
        return text.strip() or "nothing"

    model.compile(sampler="greedy")
    texts = model.generate(prompts, max_length=9, strip_prompt=True)
    model.compile(sampler="top_k")
    sampler = model.sampler
    answers = [extract(texts[0]), "no such text"]
    found = kd.evaluation.answer_accuracy(
        model, prompts, answers, max_length=9, extract=extract
    )
    assert found == 0.5
    assert model.sampler is sampler
    with pytest.raises(ValueError, match="no number.*row 0"):
        kd.evaluation.answer_accuracy(model, ["1"], ["no number"])


def test_the_last_number_is_the_answer():
    from keras_debias.evaluation.answers import final_number

    assert final_number("16 - 3 = 13\n#### 1,318") == "1318"
    assert final_number("It costs $7.50.") == "7.50"
    assert final_number("so -4.00") == "-4"
    assert final_number("none") is None


def test_bad_input():
    model = TABLE["llama"].build()
    tokenizer = WordTokenizer()
    for stride in (0, 8):
        with pytest.raises(ValueError, match="`stride`"):
            kd.evaluation.perplexity(
                model, "the", stride=stride, context=8, tokenizer=tokenizer
            )
    with pytest.raises(ValueError, match="1 tokens"):
        kd.evaluation.perplexity(model, "the", tokenizer=tokenizer)
    with pytest.raises(ValueError, match="without a preprocessor"):
        kd.evaluation.perplexity(model, "the doctor")
    with pytest.raises(ValueError, match="2 prompts, 1 responses"):
        kd.data.prompt_response(["the", "by"], ["who"], tokenizer)
    with pytest.raises(ValueError, match="1 prompts leave none, such as row 1"):
        kd.data.prompt_response(
            ["the", "the doctor saw"], ["who", "by"], tokenizer, 3
        )
