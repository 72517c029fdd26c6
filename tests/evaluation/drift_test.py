"""Word mass and likelihoods against plain loops; drift by hand."""

import numpy as np
import pytest

import keras_debias as kd
from tests.architectures import ARCHITECTURES
from tests.architectures import WORDS
from tests.evaluation.language_test import WordTokenizer
from tests.evaluation.language_test import log_likelihoods

LLAMA = next(a for a in ARCHITECTURES if a.name == "llama")
PROMPTS = ["the doctor saw the", "lawyer", "actor who paid"]


def next_probabilities(model, tokens):
    x = {
        "token_ids": np.array([tokens], "int32"),
        "padding_mask": np.ones((1, len(tokens)), "int32"),
    }
    z = model.predict(x, verbose=0)[0, -1].astype("float64")
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


def test_word_mass_is_the_sum_of_next_token_probabilities():
    model = LLAMA.build()
    tokenizer = WordTokenizer()
    words = [WORDS[2], WORDS[5]]
    ids = [tokens[0] for tokens in tokenizer(words)]
    found = kd.evaluation.word_mass(
        kd.DebiasedModel(model),
        PROMPTS,
        # One that two of them begin with counts once.
        [*words, f"{words[0]} {words[1]}"],
        batch_size=2,
        tokenizer=tokenizer,
    )
    for prompt, mass in zip(PROMPTS, found, strict=True):
        tokens = [1, *tokenizer([prompt])[0]]
        expected = next_probabilities(model, tokens)[ids].sum()
        assert mass == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="at least one prompt"):
        kd.evaluation.word_mass(model, PROMPTS, [], tokenizer=tokenizer)


def test_likelihoods_of_continuations():
    model = LLAMA.build()
    tokenizer = WordTokenizer()
    continuations = ["judge", "was not near", "slept and stopped"]
    found = kd.evaluation.log_likelihoods(
        model,
        PROMPTS,
        continuations,
        sequence_length=10,
        tokenizer=tokenizer,
    )
    for row, (prompt, text) in enumerate(zip(PROMPTS, continuations)):
        head, tail = tokenizer([prompt, text])
        scores = log_likelihoods(model, [1, *head, *tail, 2])
        expected = scores[len(head) :].mean()
        assert found[row] == pytest.approx(expected, abs=1e-4)
    # The array behind the mean that `answer_nll` gives.
    nll = kd.evaluation.answer_nll(
        model, PROMPTS[:1], continuations[:1], tokenizer=tokenizer
    )
    assert nll == pytest.approx(-found[0], abs=1e-4)


def test_drift_by_hand():
    found = kd.evaluation.drift([0.0, 1.0, 2.0], [1.0, 1.0, 4.0])
    assert (found.n, found.before, found.after) == (3, 1.0, 2.0)
    assert found.change == pytest.approx(1.0)
    assert found.rising == pytest.approx(2 / 3)
    low, high = found.interval
    assert low <= found.change <= high and low >= 0.0 and high <= 2.0
    same = kd.evaluation.drift([0.3, 0.1], [0.3, 0.1])
    assert same.change == 0.0 and same.interval == (0.0, 0.0)
    for before, after in (([0.0], [0.0, 1.0]), ([], []), ([np.nan], [0.0])):
        with pytest.raises(ValueError, match="Expected .* Received: "):
            kd.evaluation.drift(before, after)
