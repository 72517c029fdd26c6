"""Generated answers, by group: in `evaluate`, `OODEvaluation`, `compare`."""

import keras
import keras_hub
import numpy as np
import pytest
import sacrebleu
from rouge_score import rouge_scorer

import keras_debias as kd
from keras_debias.metrics.answers import token_f1
from keras_debias.metrics.metric_data import MetricData
from tests import toy_language
from tests.architectures import randomize

PROMPTS = ["the dog", "a storm was", "it", "mad and glad"]
LENGTH = 10


def bart():
    keras.utils.set_random_seed(0)
    tokens = toy_language.tokenizer()
    words = [*tokens.get_vocabulary(), "<s>", "</s>", "<pad>", "<mask>"]
    preprocessor = keras_hub.models.BartSeq2SeqLMPreprocessor(
        keras_hub.tokenizers.BartTokenizer(
            vocabulary={word: i for i, word in enumerate(words)},
            merges=tokens.merges,
        ),
        encoder_sequence_length=8,
        decoder_sequence_length=8,
    )
    model = keras_hub.models.BartSeq2SeqLM(
        keras_hub.models.BartBackbone(
            vocabulary_size=len(words),
            num_layers=1,
            num_heads=2,
            hidden_dim=8,
            intermediate_dim=8,
            max_sequence_length=8,
        ),
        preprocessor=preprocessor,
    )
    randomize(model, 0)
    return model


def split_of(model, references, **options):
    groups = np.array(["known", "new"])[np.arange(len(references)) % 2]
    if isinstance(model, keras_hub.models.BartSeq2SeqLM):
        x = {"encoder_text": PROMPTS, "decoder_text": references}
        return kd.data.Split(x, groups={"kind": groups})
    split = kd.data.prompt_response(
        PROMPTS, references, model.preprocessor.tokenizer, LENGTH
    )
    return split.with_groups({"kind": groups})


def own_answers(model):
    """One prompt at a time: KerasHub's own `generate`, or a plain loop.

    KerasHub stops at once where padding and end are one token, as here.
    """
    if isinstance(model, keras_hub.models.BartSeq2SeqLM):
        model.compile(sampler="greedy")
        return [answer.strip() for answer in model.generate(PROMPTS)]
    tokenizer, answers = model.preprocessor.tokenizer, []
    for prompt in PROMPTS:
        tokens = [tokenizer.start_token_id, *np.asarray(tokenizer(prompt))]
        start = len(tokens)
        while len(tokens) < LENGTH:
            x = np.zeros((1, LENGTH), "int32")
            x[0, : len(tokens)] = tokens
            mask = (np.arange(LENGTH) < len(tokens)).astype("int32")
            logits = model({"token_ids": x, "padding_mask": mask[None]})
            logits = keras.ops.convert_to_numpy(logits)
            tokens.append(int(logits[0, len(tokens) - 1].argmax()))
            if tokens[-1] == tokenizer.end_token_id:
                tokens.pop()
                break
        answers.append(tokenizer.detokenize(tokens[start:]).strip())
    return answers


def nll(model, split, row):
    """Of one reference, from the logits of one row, in float64."""
    x, y, weight = split.x, split.y, split.sample_weight
    if y is None:
        texts = {name: part.tolist() for name, part in x.items()}
        x, y, weight = model.preprocessor(texts)
        x = {name: np.asarray(part) for name, part in x.items()}
        y, weight = np.asarray(y), np.asarray(weight)
    logits = model({name: part[row : row + 1] for name, part in x.items()})
    z = keras.ops.convert_to_numpy(logits)[0].astype("float64")
    z -= z.max(-1, keepdims=True)
    z -= np.log(np.exp(z).sum(-1, keepdims=True))
    chosen = np.asarray(weight[row]) > 0
    return -z[np.arange(len(z)), y[row]][chosen]


def _texts(values):
    return np.array(values, object)


@pytest.mark.once
@pytest.mark.parametrize("create", [toy_language.gpt2, bart])
def test_answers_are_generated_and_references_scored(create):
    model = create()
    # Every other reference is what the model says.
    references = own_answers(model)
    references[1] = references[3] = "sad storm"
    split = split_of(model, references)
    wrapped = kd.DebiasedModel(model)
    scores = kd.evaluate(
        wrapped,
        {"test": split},
        batch_size=3,
        bootstrap=20,
        min_group_size=1,
        metrics=["exact_match", "reference_nll", "rouge_l", "bleu"],
    )
    score = scores["test"]
    assert score.kind == "generation" and score.accuracy is None
    exact = score.metrics["exact_match"]
    assert (exact.value, exact.worst_group, exact.worst) == (
        0.5,
        "kind=new",
        0.0,
    )
    assert exact.interval[0] <= 0.5 <= exact.interval[1]
    said = scores.predictions["prediction"].tolist()
    data = MetricData("generation", _texts(references), _texts(said))
    for name in ("rouge_l", "bleu"):
        metric = kd.metrics.get(name)
        assert score.metrics[name].value == metric.value(data)
        of_new = metric.value(data.take(np.array([1, 3])))
        assert score.metrics[name].groups["kind=new"] == of_new
    losses = [nll(model, split, row) for row in range(4)]
    expected = np.concatenate(losses).mean()
    found = score.metrics["reference_nll"]
    assert found.value == pytest.approx(expected, rel=1e-4)
    of_new = np.concatenate(losses[1::2]).mean()
    assert found.groups["kind=new"] == pytest.approx(of_new, rel=1e-4)
    assert said[::2] == references[::2] and any(said[::2])
    assert "exact_match" in str(scores)


def test_adapters_change_what_is_generated():
    """What was compiled for the model before is not used for that after."""
    model = toy_language.gpt2(layers=1)
    split = split_of(model, ["sad"] * 4)
    options = {"bootstrap": 0, "min_group_size": 1, "batch_size": 4}

    def answers():
        return kd.evaluate(model, split, **options).predictions["prediction"]

    before = answers().tolist()
    kd.adapters.apply(model, kd.adapters.LoRA(rank=2, targets="*"))
    for variable in model.trainable_variables:
        variable.assign_add(np.ones(variable.shape, "float32"))
    assert answers().tolist() != before
    with kd.adapters.disabled(model):
        assert answers().tolist() == before
    assert answers().tolist() != before


def test_f1_of_words_is_that_of_squad():
    assert token_f1("The cat sat.", "a cat sat down") == pytest.approx(0.8)
    assert token_f1("the", "a") == 1.0 and token_f1("dog", "the") == 0.0
    assert token_f1("day day", "day") == pytest.approx(2 / 3)


def test_texts_are_compared_as_their_packages_do():
    """ROUGE-L and BLEU of all rows, of groups and of resamples."""
    rng = np.random.default_rng(0)
    words = "The cat, dog and 3 birds sat on a mat .".split()
    lines = [
        [" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(2)]
        for _ in range(30)
    ]
    lines += [["the cat sat on a mat"] * 2, ["cat", ""], ["dog", "bird"]]
    references, answers = np.array(lines, object).T
    data = MetricData("generation", references, answers)
    rouge, bleu = kd.metrics.get("rouge_l"), kd.metrics.get("bleu")
    scorer = rouge_scorer.RougeScorer(["rougeL"])

    def expected_rouge(rows):
        return np.mean(
            [
                scorer.score(references[i], answers[i])["rougeL"].fmeasure
                for i in rows
            ]
        )

    def expected_bleu(rows):
        return sacrebleu.corpus_bleu(
            answers[rows].tolist(), [references[rows].tolist()]
        ).score

    for rows in (np.arange(33), np.arange(0, 33, 2), [31], [30], [32]):
        part = data.take(np.asarray(rows))
        assert rouge.value(part) == pytest.approx(expected_rouge(rows))
        assert bleu.value(part) == pytest.approx(expected_bleu(rows))
    counts = rng.multinomial(33, np.full(33, 1 / 33), size=3)
    drawn = [np.repeat(np.arange(33), count) for count in counts]
    np.testing.assert_allclose(
        rouge.resampled(data, counts), [expected_rouge(d) for d in drawn]
    )
    np.testing.assert_allclose(
        bleu.resampled(data, counts), [expected_bleu(d) for d in drawn]
    )


def equal_score(references, answers):
    return float((references == answers).mean())


@pytest.mark.once
def test_a_model_learns_to_answer(tmp_path):
    """From `fit` with `OODEvaluation` to the scores."""
    model = toy_language.gpt2(width=16)
    split = split_of(model, ["sad", "joy", "sad", "joy"])
    wrapped = kd.DebiasedModel(model, seed=0)
    wrapped.compile(
        keras.optimizers.Adam(0.03),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    watch = kd.callbacks.OODEvaluation(
        {"dev": split},
        every=20,
        min_group_size=1,
        metrics=["exact_match", "token_f1", "reference_nll", "rouge_l"],
    )
    history = wrapped.fit(
        split, epochs=41, batch_size=4, verbose=0, callbacks=[watch]
    ).history
    assert history["dev_exact_match"][-1] == 1.0
    assert history["dev_worst_group_token_f1"][-1] == 1.0
    assert history["dev_worst_group_rouge_l"][-1] == 1.0
    assert history["dev_reference_nll"][-1] < history["dev_reference_nll"][0]
    found = kd.evaluate(
        wrapped,
        split,
        metrics=[equal_score],
        bootstrap=0,
        min_group_size=1,
    )
    (score,) = found
    assert score.metrics["equal_score"].value == 1.0
    found.to_html(tmp_path / "page.html")
    assert "equal_score" in (tmp_path / "page.html").read_text()


def test_questions_from_fit_to_report(tmp_path):
    """A sequence-to-sequence model; each reference is one word."""
    model = bart()
    split = split_of(model, ["sad", "joy", "sad", "joy"])
    wrapped = kd.DebiasedModel(model, seed=0)
    wrapped.compile(
        keras.optimizers.Adam(0.03),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    watch = kd.callbacks.OODEvaluation(
        {"dev": split}, every=30, min_group_size=1
    )
    history = wrapped.fit(
        split, epochs=31, batch_size=4, verbose=0, callbacks=[watch]
    ).history
    losses = history["dev_reference_nll"]
    assert losses[-1] < losses[0] - 0.5
    scores = kd.evaluate(wrapped, split, bootstrap=20, min_group_size=1)
    (score,) = scores
    nll = score.metrics["reference_nll"]
    assert nll.value == pytest.approx(losses[-1], rel=1e-3)
    assert set(nll.groups) == {"kind=known", "kind=new"}
    scores.to_html(tmp_path / "page.html")
    assert "reference_nll" in (tmp_path / "page.html").read_text()


def test_wrong_splits_fail_before_the_first_step():
    model = toy_language.gpt2()
    wrapped = kd.DebiasedModel(model)
    split = split_of(model, ["sad"] * 4)
    texts = kd.data.Split({"encoder_text": PROMPTS, "decoder_text": PROMPTS})
    foreign = kd.data.Split(
        {**split.x, "token_ids": split.x["token_ids"] + 9000},
        split.y,
        sample_weight=split.sample_weight,
    )
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    for network, data, message in (
        (wrapped, texts, "prompt_response"),
        (bart(), split, "encoder_text"),
        (wrapped, foreign, "vocabulary"),
        (dense, split, "language model"),
    ):
        with pytest.raises(ValueError, match=message):
            kd.evaluate(network, data, min_group_size=1)
    wrapped.compile()
    before = np.array(model.trainable_variables[0])
    watch = kd.callbacks.OODEvaluation({"dev": texts}, min_group_size=1)
    with pytest.raises(ValueError, match="prompt_response"):
        wrapped.fit(split, callbacks=[watch], verbose=0)
    np.testing.assert_array_equal(before, model.trainable_variables[0])


@pytest.mark.skipif(
    keras.config.backend() != "torch", reason="the same on all backends"
)
def test_compare_keeps_answers(tmp_path):
    split = split_of(toy_language.gpt2(), ["sad", "joy", "sad", "joy"])

    def build(updates):
        model = toy_language.gpt2()
        model.compile(keras.optimizers.Adam(0.01))
        return model

    def compared(**changes):
        return kd.compare(
            {"plain": kd.recipes.FineTuning()},
            split,
            seeds=[0],
            model_fn=build,
            budget=kd.recipes.Budget(epochs=1, batch_size=4),
            **{
                "splits": {"test": split},
                "metrics": ["bleu"],
                "selection": kd.comparison.MetricCriterion("rouge_l"),
                "validation": split,
                "folder": tmp_path / "runs",
                "min_group_size": 1,
                "bootstrap": 0,
                "verbose": 0,
                **changes,
            },
        )

    first = compared()
    assert not first.errors and "token_f1" in str(first)
    assert "test bleu worst group" in str(first)
    assert set(first.runs[0].validation) >= {"exact_match", "rouge_l"}
    assert compared().runs[0].seconds == first.runs[0].seconds
    first.report(tmp_path / "report.html")
    texts = kd.data.Split({"encoder_text": PROMPTS, "decoder_text": PROMPTS})
    with pytest.raises(ValueError, match="prompt_response"):
        compared(splits={"test": texts}, folder=None)
    assert np.isfinite(first.runs[0].validation["reference_nll"])
