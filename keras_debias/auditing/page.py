"""A report as one HTML page that needs no other file."""

import base64
import html
import io

from keras_debias.auditing import plot
from keras_debias.auditing import table

# Findings in the page; `to_pandas` and `to_json` have them all.
TOP = 200
STYLE = """
.kd { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; }
.kd table { border-collapse: collapse; margin: 1em 0; font-size: 14px; }
.kd th, .kd td { padding: .3em .8em; text-align: right;
  border-bottom: 1px solid #8884; }
.kd th { border-bottom: 2px solid #888; }
.kd th:first-child, .kd td:first-child { text-align: left; }
.kd .wide { overflow-x: auto; }
.kd img { max-width: 100%; background: white; }
.kd .note { opacity: .75; }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>body {{ margin: 2em auto; padding: 0 1em; max-width: 75em; }}</style>
</head>
<body>
{body}
</body>
</html>
"""


def report_page(report) -> str:
    """The whole page, with a plot."""
    return PAGE.format(
        title=html.escape(table.heading(report)),
        body=report_body(report, plotted=True),
    )


def report_body(report, plotted: bool = False) -> str:
    """The part of the page that a notebook shows."""
    parts = [
        f"<style>{STYLE}</style>",
        '<div class="kd">',
        f"<h2>{html.escape(table.heading(report))}</h2>",
        _table(*table.shares("label", report.label_counts, report.n)),
    ]
    most = TOP if plotted else table.TOP
    shown = report.findings[:most]
    if shown:
        parts += [
            f"<h3>{html.escape(table.count_text(report, most))}</h3>",
            _table(*table.finding_rows(shown)),
            _note(table.legend(shown)),
        ]
    else:
        parts.append(f"<p>{html.escape(table.nothing_found(report))}</p>")
    parts.append(_note(table.tested(report)))
    if plotted:
        parts.append(_plot_image(report))
    if report.group_findings:
        parts += [
            "<h3>The split's own group attributes</h3>",
            _table(*table.finding_rows(report.group_findings)),
        ]
    if report.probes:
        parts += [
            "<h3>Linear models on a part of the input</h3>",
            _table(*table.probe_rows(report)),
        ]
    if report.groups:
        smallest = table.smallest_groups(report)
        parts += [
            "<h3>Smallest groups</h3>",
            _table(*table.shares("group", smallest, report.n)),
        ]
    if report.advice:
        parts.append("<h3>What to do</h3>")
        parts += map(_advice, report.advice)
    return "\n".join([part for part in parts if part] + ["</div>"])


def _table(header, rows) -> str:
    def line(cells, tag):
        inside = "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells)
        return f"<tr>{inside}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return (
        f'<div class="wide"><table>\n<thead>{line(header, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _note(text) -> str:
    return f'<p class="note">{html.escape(text)}</p>' if text else ""


def _advice(advice) -> str:
    methods = ", ".join(
        f"<code>kd.{html.escape(m)}</code>" for m in advice.methods
    )
    return (
        f"<p><b>{html.escape(advice.finding)}</b><br>Try: {methods}<br>"
        f"{html.escape(advice.reason)}</p>"
    )


def _plot_image(report) -> str:
    buffer = io.BytesIO()
    plot.plot_report(report, None, 15).savefig(
        buffer, format="png", facecolor="white"
    )
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="Strongest findings" src="data:image/png;base64,{data}">'
