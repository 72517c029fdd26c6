"""HTML pages that need no other file: one style for all reports.

Every function takes plain text and escapes it. Charts are inline SVG with
positions in percent, so they fit a phone as well as a wide screen.
"""

import html
import re
from collections.abc import Iterable
from collections.abc import Sequence

STYLE = """
.kd { font: 16px/1.5 system-ui, sans-serif; max-width: 60em;
  overflow-wrap: anywhere; }
.kd h1 { font-size: 1.5em; line-height: 1.25; margin: 0 0 .5em; }
.kd h2 { font-size: 1.2em; margin: 2em 0 .5em; }
.kd h3 { font-size: 1em; margin: 1.5em 0 .5em; }
.kd .headline { font-size: 1.15em; padding: .6em 1em; margin: 1em 0;
  border-left: 4px solid #d9622b; background: #d9622b18; }
.kd .wide { overflow-x: auto; margin: 1em 0; }
.kd table { border-collapse: collapse; font-size: 14px; margin: 0; }
.kd th, .kd td { padding: .3em .7em; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #8884; background: none; }
.kd th { border-bottom: 2px solid #888; vertical-align: bottom;
  white-space: normal; overflow-wrap: normal; max-width: 9em; }
.kd .facts td { white-space: normal; vertical-align: top; }
.kd .facts td:first-child { max-width: 30em; text-align: left; }
.kd th:first-child, .kd td:first-child { text-align: left; padding-left: 0;
  white-space: normal; min-width: 8em; max-width: 26em; }
.kd .note { opacity: .75; font-size: 14px; }
.kd pre { background: #8882; padding: .8em 1em; overflow-x: auto;
  font-size: 13px; white-space: pre-wrap; }
.kd code { background: #8882; padding: .1em .3em; }
.kd .bar { display: grid; grid-template-columns: 16em 1fr 8.5em;
  gap: 0 1.2em; align-items: center; font-size: 14px; padding: .25em 0; }
.kd .bar .value { text-align: right; font-variant-numeric: tabular-nums; }
.kd .bar svg { display: block; width: 100%; height: 16px; overflow: visible;
  grid-column: 2; grid-row: 1; }
.kd .bar .value { grid-column: 3; grid-row: 1; }
.kd .scale { display: flex; justify-content: space-between; grid-column: 2;
  font-size: 12px; opacity: .75; }
.kd svg .track { stroke: #8884; stroke-width: 1; }
.kd svg .span { stroke: #8889; stroke-width: 5; }
.kd svg .one { fill: #3b82c4; stroke: #3b82c4; }
.kd svg .two { fill: #d9622b; stroke: #d9622b; }
.kd svg line.one, .kd svg line.two { stroke-width: 3; }
.kd svg .faint { opacity: .45; stroke: none; }
.kd .key { font-size: 14px; margin: .8em 0 .4em; }
.kd .key span { white-space: nowrap; margin-right: 1.5em; }
.kd .key svg { width: 12px; height: 12px; }
@media (max-width: 600px) {
  .kd .bar { grid-template-columns: 1fr auto; padding: .4em 0; }
  .kd .bar svg { grid-column: 1 / 3; grid-row: 2; }
  .kd .bar .value { grid-column: 2; grid-row: 1; }
  .kd .bar .scale { grid-column: 1 / 3; }
}
"""
SCALE = (
    '<div class="bar"><div class="scale"><span>0</span><span>50</span>'
    "<span>100 %</span></div></div>"
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #16181c; }} }}
body {{ margin: 2em auto; padding: 0 1em; max-width: 60em; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole page.

    Args:
        title: string, the heading and the name of the window.
        parts: strings of HTML, as the other functions return them.
    """
    heading = f"<h1>{html.escape(title)}</h1>"
    return PAGE.format(
        title=html.escape(title), body=fragment([heading, *parts])
    )


def fragment(parts: Iterable[str]) -> str:
    """What a notebook shows: style and content, without a document."""
    content = "\n".join(part for part in parts if part)
    return f'<style>{STYLE}</style>\n<div class="kd">\n{content}\n</div>'


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{html.escape(text)}</h{level}>"


def headline(text: str) -> str:
    """The result in a sentence."""
    return f'<p class="headline">{_prose(text)}</p>'


def paragraphs(texts: Iterable[str]) -> str:
    return "\n".join(f"<p>{_prose(text)}</p>" for text in texts)


def note(text: str | None) -> str:
    return f'<p class="note">{_prose(text)}</p>' if text else ""


def bullets(texts: Iterable[str]) -> str:
    items = "\n".join(f"<li>{_prose(text)}</li>" for text in texts)
    return f"<ul>\n{items}\n</ul>" if items else ""


def code(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"


def table(header: Sequence, rows: Sequence[Sequence]) -> str:
    """A table that scrolls by itself where it is wider than the screen."""

    def line(cells, tag):
        inside = "".join(
            f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells
        )
        return f"<tr>{inside}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return (
        f'<div class="wide"><table>\n<thead>{line(header, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def facts(values: Sequence[tuple]) -> str:
    """A table of two columns: names and values."""
    rows = "\n".join(
        f"<tr><td>{html.escape(str(name))}</td>"
        f"<td>{html.escape(str(value))}</td></tr>"
        for name, value in values
    )
    return (
        f'<div class="wide"><table class="facts"><tbody>\n{rows}\n</tbody>'
        "</table></div>"
    )


def chart(lines: Iterable[str], legend: Sequence[tuple[str, str]]) -> str:
    """Shares between 0 and 100 %, one below the other.

    Args:
        lines: strings that `chart_line` returns.
        legend: sequence of `(kind, text)`; see `chart_line`.
    """
    key = "".join(
        '<span><svg><circle cx="6" cy="6" r="5" '
        f'class="{kind}"/></svg> {html.escape(text)}</span>'
        for kind, text in legend
    )
    return "\n".join([f'<div class="key">{key}</div>', *lines, SCALE])


def chart_line(
    name: str,
    value: str,
    points: Sequence[tuple[str, float]],
    span: tuple[float, float] | None = None,
    strokes: Sequence[tuple[str, float]] = (),
) -> str:
    """One line of a chart.

    Args:
        name: string, at the left.
        value: string, at the right.
        points: sequence of `(kind, share)`: circles. A kind is "one" or
            "two", the colors, or "one faint", "two faint".
        span: tuple of two shares, a thick line between them, or `None`.
        strokes: like `points`: vertical strokes.
    """
    marks = ['<line class="track" x1="0%" x2="100%" y1="8" y2="8"/>']
    if span is not None:
        marks.append(
            f'<line class="span" x1="{_at(span[0])}" x2="{_at(span[1])}" '
            'y1="8" y2="8"/>'
        )
    marks += [
        f'<circle class="{kind}" cx="{_at(share)}" cy="8" r="5"/>'
        for kind, share in points
    ]
    marks += [
        f'<line class="{kind}" x1="{_at(share)}" x2="{_at(share)}" '
        'y1="0" y2="16"/>'
        for kind, share in strokes
    ]
    text = html.escape(f"{name}: {value}")
    return (
        f'<div class="bar"><span class="name">{html.escape(name)}</span>'
        f'<svg role="img" aria-label="{text}">{"".join(marks)}</svg>'
        f'<span class="value">{html.escape(value)}</span></div>'
    )


def _prose(text: str) -> str:
    """Escaped text; what is between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _at(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"
