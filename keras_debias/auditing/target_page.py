"""The audit of numbers as an HTML page: the result in words first."""

from keras_debias.utils import html_page

# Findings in the page; `to_pandas` and `to_json` have them all.
TOP = 200
HEADER = ("feature", "n", "mean with", "mean without", "correlation")
HEADER += ("adjusted p",)


def rows(findings) -> list[list[str]]:
    """One line for each finding, under `HEADER`."""
    return [
        [
            str(f.feature),
            f"{f.n:,}",
            f"{f.mean_with:.3f}",
            f"{f.mean_without:.3f}",
            f"{f.correlation:+.3f}",
            f"{f.adjusted_p_value:.1e}",
        ]
        for f in findings
    ]


def target_name(report) -> str:
    """What the features were tested against."""
    return "target" if report.target == "labels" else "absolute error"


def headline(report) -> str:
    """The result in a sentence or two."""
    findings = [*report.findings, *report.group_findings]
    what = target_name(report)
    if not findings:
        return f"Nothing goes with the {what} beyond chance."
    first = max(findings, key=lambda finding: abs(finding.correlation))
    text = (
        f"Where {first.feature}, the {what} is {first.mean_with:.3g} on "
        f"average, and {first.mean_without:.3g} elsewhere ({first.n:,} of "
        f"{report.n:,} rows, rank correlation {first.correlation:+.2f})."
    )
    more = len(findings) - 1
    return text + (
        f" {more:,} more finding{'s' if more > 1 else ''}." if more else ""
    )


def report_page(report) -> str:
    """The whole page."""
    rate = 100 * report.false_discovery_rate
    parts = [
        html_page.headline(headline(report)),
        *_tables(report),
        html_page.heading("What was done"),
        html_page.paragraphs(
            [
                f"{report.n:,} rows were read; the {target_name(report)} is "
                f"{report.mean:.3g} ± {report.std:.3g}. {report.tests:,} "
                "features, all words and simple measures that at least "
                f"{report.min_count} rows have, were tested for their rank "
                "correlation with it."
            ]
        ),
        html_page.heading("How sure is it"),
        html_page.paragraphs(
            [
                f"Of these findings about {rate:g} % are expected to be due "
                "to chance. Correlations below "
                f"{report.min_difference:g} are left out. A finding is no "
                "proof of a shortcut: a word may belong to the task."
            ]
        ),
        html_page.heading("What to do next"),
        html_page.bullets(
            [
                "Read rows of the first findings: "
                "`report.findings[0].examples(split)`.",
                "Where a finding should not matter, measure by it: "
                "`kd.evaluate(model, finding.with_groups(test))`.",
            ]
        ),
    ]
    kind = "Errors" if report.target == "errors" else "Audit"
    return html_page.page(f"{kind} of {report.name or 'a split'}", parts)


def report_body(report) -> str:
    """What a notebook shows."""
    return html_page.fragment(
        [html_page.headline(headline(report)), *_tables(report)]
    )


def _tables(report) -> list[str]:
    found = []
    if report.findings:
        found.append(html_page.table(HEADER, rows(report.findings[:TOP])))
    if len(report.findings) > TOP:
        found.append(
            html_page.note(f"The first {TOP} of {len(report.findings):,}.")
        )
    if report.group_findings:
        found += [
            html_page.heading("The split's own group attributes", 3),
            html_page.table(HEADER, rows(report.group_findings)),
        ]
    return found
