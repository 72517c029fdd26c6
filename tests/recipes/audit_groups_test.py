import types

import numpy as np
import pytest

import keras_debias as kd


def infer(split, **arguments):
    trainer = types.SimpleNamespace(notes={})
    cue = kd.recipes.AuditGroups(**arguments)
    return cue.infer(trainer, split.with_groups(None)), trainer.notes


def same_partition(one, other):
    pairs = set(zip(one.ids.tolist(), other.ids.tolist()))
    return len(pairs) == len(set(one.ids)) == len(set(other.ids))


def test_an_injected_token_gives_the_true_groups():
    # The sentences alone: overlap would be a stronger cue of the pairs.
    pairs = kd.data.generated_nli(4000)
    texts = kd.data.Split(pairs.x[1], pairs.y, label_names=pairs.label_names)
    biased = kd.data.inject_token(texts, "entailment", 0.25, 0.90)
    groups, notes = infer(biased)
    assert same_partition(groups, biased.groups)
    assert notes["cue"] == ["text has '!!' -> entailment"]


def test_hues_give_nearly_the_true_groups():
    split = kd.data.colored_digits(0.95)
    groups, notes = infer(split)
    assert kd.recipes.agreement(groups, split.groups)["adjusted_rand"] > 0.9
    assert len(notes["cue"]) >= 10
    assert all("hue -> " in cue for cue in notes["cue"])
    # Each conflicting row is in a group of its label that says so.
    names = np.array(groups.names)[groups.ids]
    true = np.array(split.groups.names)[split.groups.ids]
    conflicting = np.char.endswith(true.astype(str), "=no")
    assert not np.char.endswith(names[conflicting].astype(str), "cue=own").any()


def test_nothing_to_find():
    pairs = kd.data.generated_nli(600)
    labels = np.random.default_rng(0).permutation(pairs.y)
    with pytest.raises(ValueError, match="beyond chance"):
        infer(kd.data.Split(pairs.x, labels))


def test_config():
    cue = kd.recipes.AuditGroups(min_count=5)
    assert kd.recipes.AuditGroups.from_config(cue.get_config()) == cue
