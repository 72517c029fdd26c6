"""Reports as plain text."""

import textwrap

from keras_debias.evaluation.table import percent
from keras_debias.evaluation.table import text_table

TOP = 20
SMALLEST = 8
WIDTH = 78


def report_table(report) -> str:
    """What `print(report)` shows."""
    parts = [
        f"{report.name or 'split'}: {report.n:,} rows",
        _shares("label", report.label_counts, report.n),
        _findings(report),
    ]
    if report.probes:
        parts.append(_probes(report))
    if report.groups:
        parts.append(_groups(report))
    parts += [_advice(each) for each in report.advice]
    return "\n\n".join(parts)


def _shares(heading, counts, n) -> str:
    return text_table(
        [heading, "n", "share"],
        [
            [name, f"{count:,}", percent(count / n)]
            for name, count in counts.items()
        ],
    )


def p_text(value: float) -> str:
    """A p-value; what is too small to be held reads as a bound."""
    return "< 1e-300" if value < 1e-300 else f"{value:.1e}"


def _findings(report) -> str:
    tested = (
        f"{report.tests:,} pairs of feature and label tested, false discovery "
        f"rate {100 * report.false_discovery_rate:g} %, difference at least "
        f"{100 * report.min_difference:g} points"
    )
    if not report.findings:
        return "Nothing goes with a label beyond chance.\n" + _filled(tested)
    rows = [
        [
            str(finding.feature),
            finding.label,
            f"{finding.n:,}",
            percent(finding.prior),
            percent(finding.share),
            f"{finding.lift:.2f}",
            f"{finding.phi:.3f}",
            p_text(finding.adjusted_p_value),
        ]
        for finding in report.findings[:TOP]
    ]
    header = ["feature", "label", "n", "P(label)", "P(label | feature)"]
    header += ["lift", "phi", "adjusted p"]
    heading = f"{len(report.findings):,} findings"
    if len(report.findings) > TOP:
        heading += f", the strongest {TOP}"
    return f"{heading}\n\n{text_table(header, rows)}\n\n{_filled(tested)}"


def _probes(report) -> str:
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
    return text_table(header, rows)


def _groups(report) -> str:
    smallest = sorted(report.groups.items(), key=lambda item: item[1])
    text = _shares("group", dict(smallest[:SMALLEST]), report.n)
    if len(smallest) > SMALLEST:
        text += f"\nThe smallest {SMALLEST} of {len(smallest)} groups."
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
