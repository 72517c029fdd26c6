"""The table behind `sources.load`: names, columns, groups and homes."""

import dataclasses
from collections.abc import Callable

from keras_debias.data.sentences import DOMAINS
from keras_debias.data.sentences import sentences
from keras_debias.data.split import Split
from keras_debias.data.stress_tests import STRESS_TESTS
from keras_debias.data.stress_tests import stress_test

NLI = ("entailment", "neutral", "contradiction")
GLUE = "nyu-mll/glue"
TWEET_EVAL = "cardiffnlp/tweet_eval"
PAIR = ("premise", "hypothesis")

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
    """Where a set lives on the hub, and how its columns are called there.

    Attributes:
        repository: String, owner and name.
        config: String or None.
        splits: Tuple of strings, the splits that carry labels there.
        x: Column name or tuple of column names.
        y: Column name or None.
        groups: Tuple of column names.
    """

    repository: str
    config: str | None
    splits: tuple[str, ...]
    x: str | tuple[str, ...]
    y: str | None = "label"
    groups: tuple[str, ...] = ("label",)


@dataclasses.dataclass(frozen=True)
class Source:
    """One named set, with the columns of its Parquet files.

    Attributes:
        description: String, one line.
        splits: Tuple of strings, the splits there are anywhere.
        label_names: Tuple of strings, or None for plain text.
        x: Column name or tuple of column names.
        y: Column name or None.
        groups: Tuple of column names, crossed.
        multi_label: Boolean, whether a row holds a list of labels.
        images: Boolean, whether `x` is a column of encoded image files.
        hub: `Hub`, or None if the set has no public home there.
        loader: Function that makes the set where no file of it is in the
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
        ("validation_matched",),
    ),
    "nli_stress": Source(
        "MNLI pairs with a distracting phrase added",
        tuple(STRESS_TESTS),
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
        "Text for language modelling",
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
}
