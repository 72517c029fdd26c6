"""An audit as an HTML page: the result in words first."""

from keras_debias.auditing import table
from keras_debias.auditing.error_slice import ErrorSlice
from keras_debias.evaluation.table import percent
from keras_debias.utils import html_page

# Findings in the page; `to_pandas` and `to_json` have them all.
TOP = 200
# Findings in the chart.
DRAWN = 15
# Groups in the page.
MOST_GROUPS = 30


def report_page(report) -> str:
    """The whole page."""
    parts = [
        html_page.headline(headline(report)),
        _chart(report.findings),
        *_group_attributes(report),
        *_probes(report),
        html_page.heading("What was done"),
        html_page.paragraphs([_done(report)]),
        html_page.table(*table.shares("label", report.label_counts, report.n)),
        html_page.heading("How sure is it"),
        html_page.paragraphs([_certainty(report)]),
        html_page.heading("What to do next"),
        *map(_advice, report.advice),
        *_findings(report, TOP),
        *_groups(report),
    ]
    kind = "Errors" if report.target == "errors" else "Audit"
    return html_page.page(f"{kind} of {report.name or 'a split'}", parts)


def report_body(report) -> str:
    """What a notebook shows."""
    parts = [
        html_page.heading(table.heading(report), 3),
        html_page.headline(headline(report)),
        html_page.table(*table.shares("label", report.label_counts, report.n)),
        *_findings(report, table.TOP),
        *_group_attributes(report),
        *_probes(report),
        *map(_advice, report.advice),
    ]
    return html_page.fragment(parts)


def headline(report) -> str:
    """The result in a sentence or two."""
    findings = [*report.findings, *report.group_findings]
    if not findings:
        return table.nothing_found(report)
    first = max(findings, key=lambda finding: finding.phi)
    if isinstance(first, ErrorSlice):
        first = max(findings, key=lambda each: each.excess_errors)
        text = (
            f"Rows of the class {first.label} where {first.feature}: "
            f"{percent(first.error_rate_with)} % of {first.n:,} are predicted "
            f"wrongly, {percent(first.error_rate_without)} % of the others."
        )
        return text + _others(findings, "slice with more errors")
    if first.harm is not None:
        harmful = [f for f in findings if f.harm.significant]
        if not harmful:
            return (
                f"{len(findings):,} findings go with a label, and the model "
                "makes no more errors where they mislead."
            )
        first = max(harmful, key=lambda f: f.harm.excess_errors)
        text = (
            f"The model follows a cue: where {first.feature} and the label "
            f"is another, it says {first.label!r} for "
            f"{percent(first.harm.error_rate_with)} % of the rows, against "
            f"{percent(first.harm.error_rate_without)} % without the cue."
        )
        return text + _others(harmful, "harmful finding")
    text = (
        f"Where {first.feature}, {percent(first.share)} % of {first.n:,} rows "
        f"are labeled {first.label!r}; of all rows, {percent(first.prior)} % "
        "are."
    )
    return text + _others(findings, "finding")


def _others(findings, kind) -> str:
    more = len(findings) - 1
    if not more:
        return ""
    return f" {more:,} more {kind}{'s' if more > 1 else ''}."


def _done(report) -> str:
    text = (
        f"{report.n:,} rows were read. All words, and simple measures such as "
        "negation and length, were tested for going with a label more often "
        "than by chance."
    )
    if report.target == "errors":
        text = (
            f"{report.n:,} rows were read. Within each class, all words and "
            "simple measures were tested for going with wrong predictions."
        )
    return f"{text} {table.tested(report)}."


def _certainty(report) -> str:
    return (
        "Each test is exact (Fisher), and at most about "
        f"{100 * report.false_discovery_rate:g} of 100 findings are expected "
        "to be chance, rows taken as independent. That a feature goes with a "
        "label does not prove a shortcut: it may belong to the task. Read "
        "rows for and against it, by `finding.examples(split)`: does the task "
        "explain it, or the way in which the data was collected?"
    )


def _chart(findings) -> str:
    """The strongest findings as shares between 0 and 100 %."""
    shown = findings[:DRAWN]
    if not shown:
        return ""
    if isinstance(shown[0], ErrorSlice):
        legend = [
            ("one", "errors without the feature"),
            ("two", "errors with it"),
        ]
        lines = [
            _line(
                f"{f.label}: {f.feature}",
                f.error_rate_without,
                f.error_rate_with,
            )
            for f in shown
        ]
    else:
        legend = [
            ("one", "share of the label in all rows"),
            ("two", "in rows with the feature"),
        ]
        lines = [
            _line(f"{f.feature} → {f.label}", f.prior, f.share) for f in shown
        ]
    return html_page.chart(lines, legend)


def _line(name, before, after) -> str:
    return html_page.chart_line(
        name,
        f"{percent(before)} → {percent(after)} %",
        [("one", before), ("two", after)],
        (min(before, after), max(before, after)),
    )


def _findings(report, most) -> list[str]:
    shown = report.findings[:most]
    if not shown:
        return [html_page.paragraphs([table.nothing_found(report)])]
    return [
        html_page.heading(table.count_text(report, most)),
        html_page.table(*table.finding_rows(shown)),
        html_page.note(table.legend(shown)),
    ]


def _group_attributes(report) -> list[str]:
    if not report.group_findings:
        return []
    return [
        html_page.heading("Group attributes that go with a label"),
        _chart(report.group_findings),
        html_page.table(*table.finding_rows(report.group_findings)),
    ]


def _probes(report) -> list[str]:
    if not report.probes:
        return []
    lines = [
        html_page.chart_line(
            probe.name,
            f"{percent(probe.accuracy)} %"
            + ("" if probe.significant else ", chance"),
            [("two" if probe.significant else "one faint", probe.accuracy)],
            None,
            [("one", probe.majority)],
        )
        for probe in report.probes
    ]
    return [
        html_page.heading("How far a part of the input leads"),
        html_page.chart(
            lines,
            [
                ("two", "accuracy of a linear model"),
                ("one", "largest class (stroke), or chance"),
            ],
        ),
    ]


def _groups(report) -> list[str]:
    if not report.groups:
        return []
    smallest = sorted(report.groups.items(), key=lambda item: item[1])
    return [
        html_page.heading("Groups, the smallest first"),
        html_page.table(
            *table.shares("group", dict(smallest[:MOST_GROUPS]), report.n)
        ),
    ]


def _advice(advice) -> str:
    methods = ", ".join(f"`kd.{method}`" for method in advice.methods)
    return "\n".join(
        [
            html_page.heading(advice.finding, 3),
            html_page.paragraphs([advice.reason]),
            html_page.note(f"Try: {methods}"),
        ]
    )
