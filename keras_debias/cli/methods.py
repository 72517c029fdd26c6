"""The methods of the command line, by name."""

import argparse
from typing import Any

METHODS = {
    "plain": "fine-tuning as usual",
    "recommended": "what kd.recommended chooses; no group labels needed",
    "edge": "EDGE: gradients without the direction of easy rows",
    "audit-cue": "balances label x the strongest cue of the audit",
    "jtt": "JTT: more weight for the mistakes of a first model",
    "reweighting": "less weight for rows that shallow features predict",
    "balanced": "balances the groups (--groups)",
    "group-dro": "GroupDRO: minimizes the loss of the worst group (--groups)",
}
NEED_GROUPS = ("balanced", "group-dro")
ANSWERS = {"yes": True, "no": False}
DESCRIPTION = "; ".join(f"{name}: {text}" for name, text in METHODS.items())


def check_groups(methods, groups) -> None:
    """Raises where a method needs groups and there are none."""
    for name in methods:
        if name in NEED_GROUPS and not groups:
            raise ValueError(
                f"Expected --groups with the method {name!r}, received none. "
                "Without group labels use recommended."
            )


def check_kind_is_task(methods, kind_is_task: str | None) -> None:
    """Raises where no method asks what the label is about."""
    if kind_is_task is not None and "recommended" not in methods:
        raise ValueError(
            "Expected the method recommended with --kind-is-task, received "
            f"{', '.join(methods)}."
        )


def add_kind_is_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind-is-task",
        choices=tuple(ANSWERS),
        help="for recommended: whether the label is about the kind of input, "
        "its topic or source (the data decide)",
    )


def answer_of(kind_is_task: str | None) -> bool | None:
    """What `kd.recommended` takes for an answer of the command line."""
    return None if kind_is_task is None else ANSWERS[kind_is_task]


def recipe_of(name: str, kind_is_task: str | None = None):
    """The recipe of a method, with its default settings.

    Args:
        name: a key of `METHODS`.
        kind_is_task: `"yes"`, `"no"` or `None`, see `kd.recommended`. Defaults
            to `None`.
    """
    from keras_debias import recipes

    made: dict[str, Any] = {
        "plain": recipes.FineTuning,
        "recommended": lambda: recipes.Recommended(answer_of(kind_is_task)),
        "edge": recipes.EDGE,
        "audit-cue": lambda: recipes.BalancedSampling(
            groups=recipes.AuditGroups()
        ),
        "jtt": recipes.JTT,
        "reweighting": recipes.Reweighting,
        "balanced": recipes.BalancedSampling,
        "group-dro": recipes.GroupDRO,
    }
    return made[name]()
