"""A recommendation as an HTML page."""

from keras_debias.utils import html_page
from keras_debias.utils.short_repr import short

FIGURES = {
    "probe_gain": "what a linear probe on frozen features knows about the "
    "label: the log loss of the label's frequency minus the probe's",
    "shallow_gain": "the same of words and simple measures",
    "cue": "the strongest cue of the audit",
    "cue_gain": "what the cue alone knows about the label",
    "cluster_gain": "what clusters of frozen features know about the label",
    "accuracy_over_balanced_rows": "held-out accuracy, label and inferred kind "
    "balanced",
    "the_same_with_weights": "the same after weighting",
    "auc_within_kinds": "within a kind of input, how well the weighted model "
    "tells the label (area under the ROC curve)",
    "the_same_of_how_typical_a_row_is": "the same of how typical a row is of "
    "its kind",
    "mean_accuracy_of_classes": "mean held-out accuracy of the classes",
    "the_same_with_balanced_classes": "the same with balanced classes",
    "validation_worst_cell": "lowest accuracy of a validation cell",
    "the_same_with_the_method": "the same with the method",
}


def page(found, title: str = "Recommended method") -> str:
    """The whole page."""
    return html_page.page(title, parts(found))


def body(found) -> str:
    """What a notebook shows."""
    return html_page.fragment(parts(found))


def parts(found, headed: bool = True) -> list[str]:
    """The sections of the page.

    Args:
        found: `Recommendation`.
        headed: bool, whether the sections have headings of their own.
    """
    name = type(found.recipe).__name__
    result = [html_page.headline(f"{name}: {found.reason}")]
    if found.evidence:
        rows = [
            (FIGURES.get(key, key.replace("_", " ")), _spelled(value))
            for key, value in found.evidence.items()
        ]
        result.append(html_page.facts(rows))
    if not headed:
        return result
    return [
        *result,
        html_page.heading("What was done"),
        html_page.paragraphs(
            [
                "Three models that learn in seconds were fitted to the "
                "training data and asked about rows that they had not seen: "
                "clusters of frozen features, words with simple measures, and "
                "a linear probe on frozen features. A rule compares them; "
                "`help(kd.recommended)` states it. Group labels were not used."
            ]
        ),
        html_page.heading("How sure is it"),
        html_page.paragraphs(
            [
                "The differences that decide are beyond chance at the 1 % "
                "level. Whether a cue is a shortcut or part of the task, data "
                "alone cannot say: read the cue, and measure on data where it "
                "says nothing."
            ]
        ),
        html_page.heading("What to do next"),
        html_page.paragraphs(["Train by it, next to plain fine-tuning:"]),
        html_page.code(
            "kd.compare(\n"
            '    {"plain": kd.recipes.FineTuning(), "recommended": found},\n'
            "    train, test, seeds=range(3), model_fn=build,\n"
            "    budget=kd.recipes.Budget(epochs=2),\n"
            ")"
        ),
        html_page.paragraphs(["The method with its settings:"]),
        html_page.code(repr(found.recipe)),
    ]


def _spelled(value) -> str:
    return value if isinstance(value, str) else short(value)
