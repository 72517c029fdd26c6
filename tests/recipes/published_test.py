"""Settings of the papers, against figures typed from their tables."""

import keras
import numpy as np
import pytest

import keras_debias as kd
from keras_debias.recipes.published_tables import tables
from tests.recipes import toy

ROWS = 320


@pytest.mark.parametrize(
    ("setting", "rate", "batch", "epochs"),
    [
        (("edge", "gpt2", "nli", 2), 3e-5, 32, 2),
        (("edge", "resnet18", "images", 2), 1e-3, 256, 2),
        (("ba_lora", "deberta_v3_base", "RTE"), 1e-4, 16, 50),
        (("ba_lora", "deberta_v3_base", "STS-B"), 3e-4, 8, 20),
        (("ba_lora", "roberta_base", "cola"), 4e-4, 32, 80),
        (("ba_lora", "t5_base", "mnli"), 1e-4, 32, 1),
        (("ba_lora", "llama2_7b", "metamath"), 2e-5, 32, 1),
        (("beft", "bert_base", "SST-2"), 4e-4, 16, 16),
        (("beft", "bert_large", "cb"), 1e-3, 16, 60),
        (("beft", "opt_6.7b", "wsc", 3), 1e-2, 16, 3),
        (("bias_aware_peft", "gemma2_2b", "tweet_emotion", 1), 5e-5, 16, 1),
    ],
)
def test_figures_of_the_tables(setting, rate, batch, epochs):
    paper, model, task, *given = setting
    found = kd.recipes.published(
        paper, model, task, ROWS, epochs=given[0] if given else None
    )
    assert found.learning_rate == rate
    assert (found.budget.batch_size, found.budget.epochs) == (batch, epochs)
    assert found.updates == epochs * -(-ROWS // batch)


def test_regimes_and_layers():
    def epochs(task, regime):
        setting = kd.recipes.published(
            "beft", "bert_base", task, ROWS, regime=regime
        )
        return setting.budget.epochs

    assert [epochs("mrpc", r) for r in ("low", "medium", "high")] == [
        16,
        16,
        60,
    ]
    assert [epochs("stsb", r) for r in ("low", "medium", "high")] == [
        16,
        30,
        60,
    ]
    known = tables("low")["bias_aware_peft"]
    assert known["gemma2_2b"]["rte"].adapter.layer == 19
    assert known["llama3.2_1b"]["super_tweet_hate"].adapter.layer == 5
    assert "rte" not in known["mistral_7b"]


def test_every_setting_is_whole():
    optimizers = set()
    for regime in ("low", "medium", "high"):
        for paper, models in tables(regime).items():
            if paper != "beft" and regime != "low":
                continue
            for model, tasks in models.items():
                for task, row in tasks.items():
                    found = kd.recipes.published(
                        paper, model, task, ROWS, regime=regime, epochs=2
                    )
                    assert found.reference == row.reference
                    kd.metrics.get(found.metric)
                    optimizers.add(type(found.optimizer()).__name__)
                    rates = [
                        float(found.schedule(step))
                        for step in range(found.updates + 1)
                    ]
                    assert max(rates) <= found.learning_rate * 1.0001
                    assert min(rates) >= 0
    assert optimizers == {"AdamW"}


def test_schedules_rise_and_fall():
    edge = kd.recipes.published("edge", "gpt2", "nli", 64_000, epochs=1)
    rates = [float(edge.schedule(step)) for step in (0, 500, 1000, 2000)]
    np.testing.assert_allclose(rates, [0, 1.5e-5, 3e-5, 3e-5], rtol=1e-5)
    lora = kd.recipes.published("ba_lora", "roberta_base", "sst2", 1600)
    total, rise = 6000, 360
    steps = np.array([0, 180, rise, 3180, total])
    expected = 5e-4 * np.minimum(steps / rise, (total - steps) / (total - rise))
    found = [float(lora.schedule(step)) for step in steps]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    t5 = kd.recipes.published("ba_lora", "t5_base", "rte", 3200)
    found = [float(t5.schedule(step)) for step in (0, 3, 51, 100)]
    middle = 0.5 * (1 + np.cos(np.pi * 48 / 97))
    np.testing.assert_allclose(
        found, [0, 1e-4, 1e-4 * middle, 0], rtol=1e-4, atol=1e-9
    )


def test_a_setting_trains_what_it_says():
    setting = kd.recipes.published("beft", "bert_base", "rte", 16, epochs=1)
    train = toy.texts(16)

    def build(updates):
        assert updates == setting.updates
        return setting.prepare(toy._bert_text(0.0))

    trainer = kd.recipes.Trainer(build, setting.budget)
    model = setting.recipe.fit(trainer, train)
    backbone = [v.path for v in model.model.backbone.trainable_variables]
    assert backbone and all("value/bias" in path for path in backbone)
    assert isinstance(model.optimizer, keras.optimizers.AdamW)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ours", "bert_base", "rte"), "'edge', 'ba_lora'"),
        (("beft", "gpt2", "rte"), "'bert_base'"),
        (("beft", "bert_base", "squad"), "regime='low'"),
        (("edge", "gpt2", "nli"), "does not state"),
        (("edge", "gpt2", None), "task=None"),
    ],
)
def test_what_is_not_stated_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        kd.recipes.published(*arguments, ROWS)
