"""Reports as tables: as plain text, and the parts that HTML pages share."""

import textwrap

from keras_debias.auditing.error_slice import ErrorSlice
from keras_debias.evaluation.table import percent
from keras_debias.evaluation.table import text_table

TOP = 20
_SMALLEST_SHOWN = 8
WIDTH = 78


def report_table(report) -> str:
    """The text that `print(report)` shows."""
    parts = [
        heading(report),
        text_table(*shares("label", report.label_counts, report.n)),
        _findings(report),
    ]
    if report.group_findings:
        parts.append(
            "The split's own group attributes\n\n"
            + text_table(*finding_rows(report.group_findings))
        )
    if report.probes:
        parts.append(text_table(*probe_rows(report)))
    if report.groups:
        parts.append(_groups(report))
    parts += [_advice(each) for each in report.advice]
    return "\n\n".join(parts)


def heading(report) -> str:
    """One line: which split, how many rows, how many errors."""
    text = f"{report.name or 'split'}: {report.n:,} rows"
    if report.error_rate is not None:
        text += f", {percent(report.error_rate)} % predicted wrongly"
    return text


def shares(name, counts, n):
    """Header and rows of the sizes of labels or groups."""
    rows = [
        [each, f"{count:,}", percent(count / n)]
        for each, count in counts.items()
    ]
    return [name, "n", "share"], rows


def p_text(value: float) -> str:
    """A p-value; what is too small for a float reads as a bound."""
    return "< 1e-300" if value < 1e-300 else f"{value:.1e}"


def nothing_found(report) -> str:
    """The sentence where there are no findings."""
    if report.target == "errors":
        return "No feature goes with errors of a class beyond chance."
    return "Nothing goes with a label beyond chance."


def tested(report) -> str:
    """What was tested, and at which level."""
    pair = "feature and label"
    if report.target == "errors":
        pair = "feature and class"
    return (
        f"{report.tests:,} pairs of {pair} tested, false discovery rate "
        f"{100 * report.false_discovery_rate:g} %, difference at least "
        f"{100 * report.min_difference:g} points"
    )


def legend(findings) -> str | None:
    """What the columns about errors mean."""
    if isinstance(findings[0], ErrorSlice) or findings[0].harm is None:
        return None
    return (
        "harm: of the rows with the feature and another label, how many (%) "
        "the model predicts as this label; without: of rows of the same "
        "classes without the feature; excess: errors beyond that rate; "
        "harmful: beyond chance. A cue that is not harmful may be an honest "
        "one."
    )


def finding_rows(findings):
    """Header and rows of findings or slices of errors."""
    if isinstance(findings[0], ErrorSlice):
        return _slice_rows(findings)
    harmful = findings[0].harm is not None
    header = ["feature", "label", "n", "P(label)", "P(label | feature)"]
    header += ["phi"] if harmful else ["lift", "phi"]
    header += ["adjusted p"]
    header += ["harm", "without", "excess", "harmful"] if harmful else []
    rows = []
    for finding in findings:
        row = [
            str(finding.feature),
            finding.label,
            f"{finding.n:,}",
            percent(finding.prior),
            percent(finding.share),
        ]
        if not harmful:
            row.append(f"{finding.lift:.2f}")
        row += [f"{finding.phi:.3f}", p_text(finding.adjusted_p_value)]
        if harmful:
            harm = finding.harm
            row += [
                percent(harm.error_rate_with),
                percent(harm.error_rate_without),
                f"{harm.excess_errors:+.0f}",
                "yes" if harm.significant else "no",
            ]
        rows.append(row)
    return header, rows


def _slice_rows(slices):
    header = ["feature", "class", "n", "wrong", "wrong without", "excess"]
    header += ["phi", "adjusted p"]
    rows = [
        [
            str(each.feature),
            each.label,
            f"{each.n:,}",
            percent(each.error_rate_with),
            percent(each.error_rate_without),
            f"{each.excess_errors:+.0f}",
            f"{each.phi:.3f}",
            p_text(each.adjusted_p_value),
        ]
        for each in slices
    ]
    return header, rows


def count_text(report, shown: int) -> str:
    """How many findings there are, and how many are shown."""
    kind = (
        "slices with more errors" if report.target == "errors" else "findings"
    )
    text = f"{len(report.findings):,} {kind}"
    if len(report.findings) > shown:
        text += f", the first {shown}"
    return text


def _findings(report) -> str:
    if not report.findings:
        return f"{nothing_found(report)}\n{_filled(tested(report))}"
    parts = [
        count_text(report, TOP),
        text_table(*finding_rows(report.findings[:TOP])),
        _filled(tested(report)),
    ]
    note = legend(report.findings)
    if note:
        parts.append(_filled(note))
    return "\n\n".join(parts)


def probe_rows(report):
    """Header and rows of the partial-input probes."""
    rows = [
        [
            probe.name,
            percent(probe.accuracy),
            percent(probe.majority),
            p_text(probe.p_value),
            "yes" if probe.significant else "no",
        ]
        for probe in report.probes
    ]
    header = ["a linear model on", "accuracy", "majority", "p", "beyond chance"]
    return header, rows


def smallest_groups(report) -> dict[str, int]:
    """The smallest groups, in ascending order."""
    smallest = sorted(report.groups.items(), key=lambda item: item[1])
    return dict(smallest[:_SMALLEST_SHOWN])


def _groups(report) -> str:
    text = text_table(*shares("group", smallest_groups(report), report.n))
    if len(report.groups) > _SMALLEST_SHOWN:
        text += (
            f"\nThe smallest {_SMALLEST_SHOWN} of {len(report.groups)} groups."
        )
    return text


def _filled(text, indent="") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent)


def _advice(advice) -> str:
    methods = ", ".join(f"kd.{method}" for method in advice.methods)
    return "\n".join(
        [
            _filled(advice.finding),
            _filled(f"  try: {methods}", "  "),
            _filled(f"  {advice.reason}", "  "),
        ]
    )
