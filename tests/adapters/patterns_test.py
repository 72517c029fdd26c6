"""Patterns of PEFT folders: as Python reads them, in bounded time."""

import random
import re
import time

import pytest

from keras_debias.adapters.patterns import BoundedPattern

PATTERNS = [
    *("q_proj", ".*q_proj", r"layers.\d+.self_attn.(q|k)_proj"),
    *("^model.layers.0.q", "a(b|c)*d", "[a-c]+x?", "(a|b|)", "", "a|b"),
    *("model.layers.(?:0|1|2).self_attn$", r"h\.\w+\.c_attn"),
]
NAMES = [
    *("q_proj", "x.q_proj", "model.layers.0.self_attn.q_proj", "xq_proj"),
    *("model.layers.0.q", "x.model.layers.0.q", "abcbcd", "x.abd", "aabbx"),
    *("b", "a", "", "ab.c", "model.layers.2.self_attn", "t.h.12.c_attn"),
]


def of_python(pattern, name):
    return re.match(rf"(.*\.)?({pattern})$", name) is not None


@pytest.mark.parametrize("pattern", PATTERNS)
def test_fits_what_peft_finds(pattern):
    bounded = BoundedPattern(pattern)
    for name in NAMES:
        assert bounded.fits(name) == of_python(pattern, name), name


def test_fits_what_peft_finds_in_random_patterns():
    rng, compared = random.Random(0), 0
    for _ in range(2000):
        pattern = "".join(rng.choices("ab.|()*?+", k=rng.randint(1, 7)))
        try:
            re.compile(pattern)
            bounded = BoundedPattern(pattern)
        except (re.error, ValueError):
            continue
        for _ in range(5):
            name = "".join(rng.choices("ab.", k=rng.randint(0, 6)))
            assert bounded.fits(name) == of_python(pattern, name), pattern
            compared += 1
    assert compared > 1000


def test_takes_time_in_proportion():
    began = time.monotonic()
    assert not BoundedPattern("(a*)*" * 30 + "b").fits("a" * 400)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)",
        "a{2}",
        r"(a)\1",
        "(",
        "a)",
        "[z",
        "[^a]",
        "a**",
        "^a|b",
        "x" * 3000,
    ],
)
def test_refuses_what_it_does_not_read(pattern):
    with pytest.raises(ValueError, match="no pattern|not read"):
        BoundedPattern(pattern)
