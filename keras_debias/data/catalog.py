"""The datasets that `load` knows: columns, groups, hub repositories."""

import dataclasses
from collections.abc import Callable

import pandas as pd

from keras_debias.data import nested
from keras_debias.data.sentences import DOMAINS
from keras_debias.data.sentences import sentences
from keras_debias.data.split import Split
from keras_debias.data.stress_tests import PUBLISHED_STRESS_TESTS
from keras_debias.data.stress_tests import STRESS_TESTS
from keras_debias.data.stress_tests import stress_test

NLI = ("entailment", "neutral", "contradiction")
GLUE = "nyu-mll/glue"
TWEET_EVAL = "cardiffnlp/tweet_eval"
PAIR = ("premise", "hypothesis")

SUPER_GLUE = "aps/super_glue"
YES_NO = ("False", "True")
BBQ_LETTERS = ("A", "B", "C")
BBQ = {
    "age": "Age",
    "disability_status": "Disability_status",
    "gender_identity": "Gender_identity",
    "nationality": "Nationality",
    "physical_appearance": "Physical_appearance",
    "race_ethnicity": "Race_ethnicity",
    "religion": "Religion",
    "ses": "SES",
    "sexual_orientation": "Sexual_orientation",
}
SUPER_TWEET_HATE = (
    "hate_gender",
    "hate_race",
    "hate_sexuality",
    "hate_religion",
    "hate_origin",
    "hate_disability",
    "hate_age",
    "not_hate",
)
TWEET_EMOTIONS = (
    "anger",
    "anticipation",
    "disgust",
    "fear",
    "joy",
    "love",
    "optimism",
    "pessimism",
    "sadness",
    "surprise",
    "trust",
)
# fmt: off
GO_EMOTIONS = (
    "admiration", "amusement", "anger", "annoyance", "approval", "caring",
    "confusion", "curiosity", "desire", "disappointment", "disapproval",
    "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief",
    "joy", "love", "nervousness", "optimism", "pride", "realization",
    "relief", "remorse", "sadness", "surprise", "neutral",
)
EMPATHETIC = (
    "afraid", "angry", "annoyed", "anticipating", "anxious", "apprehensive",
    "ashamed", "caring", "confident", "content", "devastated",
    "disappointed", "disgusted", "embarrassed", "excited", "faithful",
    "furious", "grateful", "guilty", "hopeful", "impressed", "jealous",
    "joyful", "lonely", "nostalgic", "prepared", "proud", "sad",
    "sentimental", "surprised", "terrified", "trusting",
)
# fmt: on
CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
ACTIONS = (
    "climbing",
    "diving",
    "fishing",
    "pole vaulting",
    "racing",
    "throwing",
)


@dataclasses.dataclass(frozen=True)
class Hub:
    """The repository of a dataset on the hub, and its column names.

    Attributes:
        repository: string, owner and name.
        config: string or None.
        splits: tuple of strings, the splits that carry labels there.
        x: Column name or tuple of column names.
        y: Column name or None.
        groups: tuple of column names.
        of_splits: dict from split to config and split there, where each
            split is of a config of its own.
    """

    repository: str
    config: str | None
    splits: tuple[str, ...]
    x: str | tuple[str, ...]
    y: str | None = "label"
    groups: tuple[str, ...] = ("label",)
    of_splits: dict[str, tuple[str, str]] | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """One named set, with the columns of its Parquet files.

    Attributes:
        description: string, one line.
        splits: tuple of strings, the splits there are anywhere.
        label_names: tuple of strings, or None for plain text.
        x: Column name or tuple of column names.
        y: Column name or None.
        groups: tuple of column names, crossed.
        multi_label: bool, whether a row holds a list of labels.
        images: bool, whether `x` is a column of encoded image files.
        hub: `Hub`, or None if the set has no public home there.
        prepare: function of a data frame to one with the columns above, for
            columns that hold lists, or None.
        prompt: Format string over the columns, or None. Where there is one,
            the split holds the texts `encoder_text` and `decoder_text`, of
            prompts and of the answers in the column `y`.
        loader: function that makes the set where no file of it is in the
            folder, or None. It takes the split's name, and `load` for the
            sets that it is made from.
    """

    description: str
    splits: tuple[str, ...]
    label_names: tuple[str, ...] | None = NLI
    x: str | tuple[str, ...] = PAIR
    y: str | None = "label"
    groups: tuple[str, ...] = ("label",)
    multi_label: bool = False
    images: bool = False
    hub: Hub | None = None
    prepare: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    prompt: str | None = None
    loader: Callable[[str, Callable[[str, str], Split]], Split] | None = None


TRAIN_VALIDATION = ("train", "validation")
THREE = ("train", "validation", "test")

SOURCES = {
    "snli": Source(
        "Inference over image captions",
        THREE,
        hub=Hub("stanfordnlp/snli", None, THREE, PAIR),
    ),
    "mnli": Source(
        "Inference over several genres",
        ("train", "validation_matched", "validation_mismatched"),
        groups=("label", "genre"),
        hub=Hub(
            "nyu-mll/multi_nli",
            None,
            ("train", "validation_matched", "validation_mismatched"),
            PAIR,
            groups=("label", "genre"),
        ),
    ),
    "hans": Source(
        "Inference pairs on which overlap heuristics fail or hold",
        TRAIN_VALIDATION,
        ("entailment", "non-entailment"),
        groups=("label", "heuristic"),
        hub=Hub(
            "jhu-cogsci/hans",
            None,
            TRAIN_VALIDATION,
            PAIR,
            groups=("label", "heuristic"),
        ),
    ),
    "mnli_hard": Source(
        "MNLI pairs that a hypothesis-only model gets wrong",
        ("validation_matched", "validation_mismatched"),
    ),
    "nli_stress": Source(
        "MNLI pairs with a distracting phrase, or another disturbance",
        (*STRESS_TESTS, *PUBLISHED_STRESS_TESTS),
        loader=lambda split, load: stress_test(
            load("mnli", "validation_matched"), split
        ),
    ),
    "is_cs": Source(
        "SNLI captions with an adjective moved to another noun",
        ("addamod",),
        ("entailment", "non-entailment"),
    ),
    "snli_cad": Source(
        "SNLI pairs and human edits that change the label",
        THREE,
        groups=("revision",),
    ),
    "sick": Source("Inference over compositional knowledge", THREE),
    "qnli": Source(
        "Does the sentence answer the question",
        TRAIN_VALIDATION,
        ("entailment", "not_entailment"),
        hub=Hub(GLUE, "qnli", TRAIN_VALIDATION, ("question", "sentence")),
    ),
    "rte": Source(
        "Recognizing textual entailment",
        TRAIN_VALIDATION,
        ("entailment", "not_entailment"),
        hub=Hub(GLUE, "rte", TRAIN_VALIDATION, ("sentence1", "sentence2")),
    ),
    "sst2": Source(
        "Sentiment of movie-review sentences, two classes",
        THREE,
        ("negative", "positive"),
        "text",
        hub=Hub(GLUE, "sst2", TRAIN_VALIDATION, "sentence"),
    ),
    "sst5": Source(
        "Sentiment of movie-review sentences, five classes",
        THREE,
        ("very negative", "negative", "neutral", "positive", "very positive"),
        "text",
        hub=Hub(
            "SetFit/sst5",
            None,
            THREE,
            "text",
            y="label_text",
            groups=("label_text",),
        ),
    ),
    "cola": Source(
        "Linguistic acceptability",
        TRAIN_VALIDATION,
        ("unacceptable", "acceptable"),
        "text",
        hub=Hub(GLUE, "cola", TRAIN_VALIDATION, "sentence"),
    ),
    "mrpc": Source(
        "Sentence pairs, paraphrase or not",
        THREE,
        ("not_equivalent", "equivalent"),
        ("sentence1", "sentence2"),
        hub=Hub(GLUE, "mrpc", TRAIN_VALIDATION, ("sentence1", "sentence2")),
    ),
    "ag_news": Source(
        "News snippets, four topics",
        THREE,
        ("World", "Sports", "Business", "Sci/Tech"),
        "text",
        hub=Hub("fancyzhx/ag_news", None, ("train", "test"), "text"),
    ),
    "tweet_hate": Source(
        "Tweets, hate speech or not",
        THREE,
        ("not-hate", "hate"),
        "text",
        hub=Hub(TWEET_EVAL, "hate", THREE, "text"),
    ),
    "tweet_offensive": Source(
        "Tweets, offensive or not",
        THREE,
        ("not-offensive", "offensive"),
        "text",
        hub=Hub(TWEET_EVAL, "offensive", THREE, "text"),
    ),
    "tweet_emotion": Source(
        "Tweets with any of 11 emotions, multi-label",
        ("train",),
        TWEET_EMOTIONS,
        "text",
        "labels",
        (),
        multi_label=True,
    ),
    "go_emotions": Source(
        "Comments with 27 emotions and neutral, multi-label",
        THREE,
        GO_EMOTIONS,
        "text",
        "labels",
        (),
        multi_label=True,
        hub=Hub(
            "google-research-datasets/go_emotions",
            "simplified",
            THREE,
            "text",
            "labels",
            (),
        ),
    ),
    "empathetic_dialogues": Source(
        "Descriptions of situations with one of 32 emotions",
        ("validation", "test"),
        EMPATHETIC,
        "text",
    ),
    "hatecheck": Source(
        "Functional tests for hate-speech models, by target",
        ("test",),
        ("non-hateful", "hateful"),
        "text",
        groups=("target",),
        hub=Hub(
            "Paul/hatecheck",
            None,
            ("test",),
            "test_case",
            y="label_gold",
            groups=("target_ident",),
        ),
    ),
    "imdb_cad": Source(
        "Movie reviews and human edits that flip the sentiment",
        THREE,
        ("negative", "positive"),
        "text",
        groups=("revision",),
    ),
    "wikitext2": Source(
        "Text for language modeling",
        THREE,
        None,
        "text",
        None,
        (),
        hub=Hub(
            "Salesforce/wikitext", "wikitext-2-v1", THREE, "text", None, ()
        ),
    ),
    "sentences": Source(
        "Sentiment of sentences of four domains",
        DOMAINS,
        ("negative", "positive"),
        "text",
        groups=("label", "domain"),
        loader=lambda split, load: sentences(split),
    ),
    "mdsd": Source(
        "Product reviews whose kind of product goes with the sentiment",
        ("train", "train_balanced", "validation", "test"),
        ("negative", "positive"),
        "text",
        groups=("label", "shortcut"),
    ),
    "davidson_aae": Source(
        "Tweets, offensive or not, by the dialect of their words",
        THREE,
        ("not_offensive", "offensive"),
        "text",
        groups=("label", "dialect"),
    ),
    "qqp_paws": Source(
        "Question pairs, duplicate or not, by the overlap of their words",
        (*THREE, "paws_train"),
        ("not_duplicate", "duplicate"),
        ("sentence1", "sentence2"),
        groups=("label", "high_overlap"),
    ),
    "bar": Source(
        "Images of six actions at their usual place; another in the test",
        THREE,
        ACTIONS,
        "image",
        groups=("label", "aligned"),
        images=True,
    ),
    "cifar10": Source(
        "Images of 32 x 32 pixels, ten classes",
        ("train", "test"),
        CIFAR10,
        "image",
        images=True,
        hub=Hub("uoft-cs/cifar10", None, ("train", "test"), "img"),
    ),
    "super_tweet_hate": Source(
        "Tweets with hate of seven kinds, or none",
        THREE,
        SUPER_TWEET_HATE,
        "text",
        hub=Hub(
            "cardiffnlp/super_tweeteval",
            "tweet_hate",
            THREE,
            "text",
            y="gold_label",
            groups=("gold_label",),
        ),
    ),
    "qqp": Source(
        "Question pairs, duplicate or not",
        TRAIN_VALIDATION,
        ("not_duplicate", "duplicate"),
        ("question1", "question2"),
        hub=Hub(GLUE, "qqp", TRAIN_VALIDATION, ("question1", "question2")),
    ),
    "stsb": Source(
        "Sentence pairs with their similarity, 0 to 5",
        TRAIN_VALIDATION,
        None,
        ("sentence1", "sentence2"),
        groups=(),
        hub=Hub(
            GLUE,
            "stsb",
            TRAIN_VALIDATION,
            ("sentence1", "sentence2"),
            groups=(),
        ),
    ),
    "pawsx": Source(
        "Sentence pairs of many words in common, paraphrase or not",
        THREE,
        ("different", "paraphrase"),
        ("sentence1", "sentence2"),
        hub=Hub(
            "google-research-datasets/paws-x",
            "en",
            THREE,
            ("sentence1", "sentence2"),
        ),
    ),
    "cb": Source(
        "Inference of how far an author believes a clause",
        TRAIN_VALIDATION,
        ("entailment", "contradiction", "neutral"),
        hub=Hub(SUPER_GLUE, "cb", TRAIN_VALIDATION, PAIR),
    ),
    "wic": Source(
        "Has a word the same meaning in two sentences",
        TRAIN_VALIDATION,
        YES_NO,
        ("word", "sentence1", "sentence2"),
        hub=Hub(
            SUPER_GLUE,
            "wic",
            TRAIN_VALIDATION,
            ("word", "sentence1", "sentence2"),
        ),
    ),
    "boolq": Source(
        "Yes-or-no questions on a passage",
        TRAIN_VALIDATION,
        YES_NO,
        ("question", "passage"),
        hub=Hub(SUPER_GLUE, "boolq", TRAIN_VALIDATION, ("question", "passage")),
    ),
    "wsc": Source(
        "Does a pronoun mean a noun",
        TRAIN_VALIDATION,
        YES_NO,
        ("text", "span1_text", "span2_text"),
        hub=Hub(
            SUPER_GLUE,
            "wsc",
            TRAIN_VALIDATION,
            ("text", "span1_text", "span2_text"),
        ),
    ),
    "multirc": Source(
        "Is an answer to a question on a paragraph true",
        TRAIN_VALIDATION,
        YES_NO,
        ("paragraph", "question", "answer"),
        hub=Hub(
            SUPER_GLUE,
            "multirc",
            TRAIN_VALIDATION,
            ("paragraph", "question", "answer"),
        ),
    ),
    "copa": Source(
        "Which of two sentences is the cause or effect of a third",
        TRAIN_VALIDATION,
        ("choice1", "choice2"),
        ("premise", "question", "choice1", "choice2"),
        hub=Hub(
            SUPER_GLUE,
            "copa",
            TRAIN_VALIDATION,
            ("premise", "question", "choice1", "choice2"),
        ),
    ),
    "record": Source(
        "Queries on news, answered by one of its entities",
        TRAIN_VALIDATION,
        None,
        ("passage", "query"),
        "answers",
        (),
        hub=Hub(
            SUPER_GLUE,
            "record",
            TRAIN_VALIDATION,
            ("passage", "query"),
            "answers",
            (),
        ),
        prepare=nested.first_answer,
        prompt="{passage}\nQuery: {query}\nAnswer:",
    ),
    "squad": Source(
        "Questions on a paragraph, answered by a part of it",
        TRAIN_VALIDATION,
        None,
        ("context", "question"),
        "answers",
        (),
        hub=Hub(
            "rajpurkar/squad",
            None,
            TRAIN_VALIDATION,
            ("context", "question"),
            "answers",
            (),
        ),
        prepare=nested.first_answer,
        prompt="{context}\nQuestion: {question}\nAnswer:",
    ),
    "drop": Source(
        "Questions that need counting or arithmetic on a paragraph",
        TRAIN_VALIDATION,
        None,
        ("passage", "question"),
        "answers_spans",
        (),
        hub=Hub(
            "ucinlp/drop",
            None,
            TRAIN_VALIDATION,
            ("passage", "question"),
            "answers_spans",
            (),
        ),
        prepare=nested.first_answer,
        prompt="{passage}\nQuestion: {question}\nAnswer:",
    ),
    "gsm8k": Source(
        "Arithmetic in words, with worked answers",
        ("train", "test"),
        None,
        ("question",),
        "answer",
        (),
        hub=Hub(
            "openai/gsm8k",
            "main",
            ("train", "test"),
            ("question",),
            "answer",
            (),
        ),
        prompt="Question: {question}\nAnswer:",
    ),
    "commonsense_qa": Source(
        "Questions of common sense with five choices",
        TRAIN_VALIDATION,
        ("A", "B", "C", "D", "E"),
        ("question", "A", "B", "C", "D", "E"),
        hub=Hub(
            "tau/commonsense_qa",
            None,
            TRAIN_VALIDATION,
            ("question", "choices"),
            y="answerKey",
            groups=("answerKey",),
        ),
        prepare=nested.choices,
    ),
    "bbq": Source(
        "Questions whose answer a stereotype suggests",
        tuple(BBQ),
        BBQ_LETTERS,
        ("context", "question", "ans0", "ans1", "ans2"),
        groups=("context_condition", "question_polarity"),
        hub=Hub(
            "heegyu/bbq",
            None,
            tuple(BBQ),
            ("context", "question", "ans0", "ans1", "ans2"),
            groups=("context_condition", "question_polarity"),
            of_splits={name: (config, "test") for name, config in BBQ.items()},
        ),
    ),
}
