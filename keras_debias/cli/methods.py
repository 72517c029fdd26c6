"""The methods of the command line, by name."""

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
DESCRIPTION = "; ".join(f"{name}: {text}" for name, text in METHODS.items())


def check_groups(methods, groups) -> None:
    """Raises where a method needs groups and there are none."""
    for name in methods:
        if name in NEED_GROUPS and not groups:
            raise ValueError(
                f"Expected --groups with the method {name!r}, received none. "
                "Without group labels use recommended."
            )


def recipe_of(name: str):
    """The recipe of a method, with its default settings."""
    from keras_debias import recipes

    made: dict[str, Any] = {
        "plain": recipes.FineTuning,
        "recommended": recipes.Recommended,
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
