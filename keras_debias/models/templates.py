"""Prompts and label words for the datasets of the paper's Table 9."""

from keras_debias.data.catalog import BBQ_LETTERS
from keras_debias.data.catalog import EMPATHETIC
from keras_debias.data.catalog import GO_EMOTIONS
from keras_debias.data.catalog import SUPER_TWEET_HATE
from keras_debias.data.catalog import TWEET_EMOTIONS
from keras_debias.models.prompt_template import PromptTemplate

_EMOTION_WORDS = PromptTemplate(
    "Review: {text}\nEmotion:",
    "Instruction: Pick the emotion words among the choices that fit the "
    "review.\nChoices: {labels}",
)
_QUESTION = PromptTemplate(
    "Context: {context}\nQuestion: {question}\nOptions: (A) {ans0} (B) "
    "{ans1} (C) {ans2}\nAnswer:",
    "Instruction: Read the context and the question, then choose the best "
    "answer among the options.",
)

_LABEL = PromptTemplate(
    "Review: {text}\nAnswer:",
    "Instruction: Pick the label among the choices that fits the "
    "review.\nChoices: {labels}",
)

TEMPLATES = {
    "tweet_emotion": _EMOTION_WORDS,
    "go_emotions": _EMOTION_WORDS,
    "empathetic_dialogues": PromptTemplate(
        "Utterance: {text}\nEmotion:",
        "Instruction: Pick the emotion word among the choices that fits the "
        "utterance.\nChoices: {labels}",
    ),
    "tweet_hate": _LABEL,
    "super_tweet_hate": _LABEL,
    "sst5": PromptTemplate(
        "Review: {text}\nSentiment:",
        "Instruction: Pick the sentiment among the choices that fits the "
        "review.\nChoices: {labels}",
    ),
    "sst2": PromptTemplate(
        "Review: {text}\nEmotion:",
        "Instruction: Pick the sentiment word among the choices that fits "
        "the review.\nChoices: {labels}",
    ),
    "bbq": _QUESTION,
    "ag_news": PromptTemplate(
        "Text: {text}\nCategory:",
        "Instruction: Choose the category of this news article among the "
        "choices.\nChoices: {labels}",
    ),
    "rte": PromptTemplate(
        "Context: {premise}\nQuestion: {hypothesis} True or False?\nAnswer:",
    ),
}
"""Prompt templates by dataset.

They have the fields of the templates in Table 9 of Bias-aware PEFT, in words
of our own.
"""

LABELS = {
    "tweet_emotion": TWEET_EMOTIONS,
    "go_emotions": GO_EMOTIONS,
    "empathetic_dialogues": EMPATHETIC,
    "tweet_hate": {"not-hate": "not_hate", "hate": "hate"},
    "super_tweet_hate": SUPER_TWEET_HATE,
    "sst5": (
        "very negative",
        "negative",
        "neutral",
        "positive",
        "very positive",
    ),
    "sst2": ("negative", "positive"),
    "bbq": BBQ_LETTERS,
    "ag_news": {
        "World": "world",
        "Sports": "sports",
        "Business": "business",
        "Sci/Tech": "technology",
    },
    "rte": {"entailment": "True", "not_entailment": "False"},
}
"""Label words by dataset, in the order of the classes; a dict where the names
of the labels are other words."""
