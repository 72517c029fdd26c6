"""`Condition`: the argument of `--fail-on`, such as `phi>0.3`."""

import argparse
import dataclasses
import math
import operator
import re
from collections.abc import Callable
from collections.abc import Sequence

COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
SYNTAX = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*(\S+)\s*")


@dataclasses.dataclass(frozen=True)
class Condition:
    """A measure, a comparison and a number.

    Args:
        measure: string, the name of the measure.
        comparison: string, one of `>`, `>=`, `<` and `<=`.
        threshold: float.
    """

    measure: str
    comparison: str
    threshold: float

    def holds(self, value: float | None) -> bool:
        """Whether a value fulfills it; one that is missing does not."""
        compare = COMPARISONS[self.comparison]
        return value is not None and compare(value, self.threshold)

    def __str__(self) -> str:
        return f"{self.measure}{self.comparison}{self.threshold:g}"


def condition_of(
    measures: Sequence[str],
) -> Callable[[str], Condition]:
    """The type of an argument: a condition on one of the measures."""

    def condition(text: str) -> Condition:
        match = SYNTAX.fullmatch(text)
        if match is None:
            raise argparse.ArgumentTypeError(
                "expected a condition such as "
                f"{measures[0]}>0.3, received {text!r}"
            )
        measure, comparison, number = match.groups()
        if measure not in measures:
            raise argparse.ArgumentTypeError(
                f"expected one of {', '.join(measures)}, received {measure!r}"
            )
        try:
            threshold = float(number)
        except ValueError:
            threshold = math.nan
        # A condition on one that is not finite never holds, or always.
        if not math.isfinite(threshold):
            raise argparse.ArgumentTypeError(
                f"expected a finite number, received {number!r}"
            )
        return Condition(measure, comparison, threshold)

    return condition
