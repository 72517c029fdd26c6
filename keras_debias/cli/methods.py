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
ANSWERS = {"yes": True, "no": False, None: None}
DESCRIPTION = "; ".join(f"{name}: {text}" for name, text in METHODS.items())


def check(methods, options) -> None:
    """Raises where methods and the other arguments do not fit each other."""
    for name in methods:
        if name in NEED_GROUPS and not options.groups:
            raise ValueError(
                f"Expected --groups with the method {name!r}, received none. "
                "Without group labels use recommended."
            )
    if options.kind_is_task is not None and "recommended" not in methods:
        raise ValueError(
            "Expected the method recommended with --kind-is-task, received "
            f"{', '.join(methods)}."
        )


def add_kind_is_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind-is-task",
        choices=("yes", "no"),
        help="for recommended: whether the label is about the kind of input, "
        "its topic or source (the data decide)",
    )


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
        "recommended": lambda: recipes.Recommended(ANSWERS[kind_is_task]),
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
