"""`keras-debias audit`: which words and attributes predict the label."""

import argparse
import sys

from keras_debias.cli.arguments import add_data
from keras_debias.cli.arguments import add_fail_on
from keras_debias.cli.arguments import add_groups
from keras_debias.cli.arguments import add_quiet
from keras_debias.cli.arguments import count
from keras_debias.cli.arguments import fraction
from keras_debias.cli.progress import bars_on_terminals
from keras_debias.cli.tables import read_split
from keras_debias.cli.tables import written

MEASURES = ("phi", "lift", "share", "n", "odds_ratio", "z", "p_value")
MEASURES += ("adjusted_p_value",)
# With --regression.
OF_NUMBERS = ("correlation", "n", "z", "p_value", "adjusted_p_value")


def add(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "audit",
        help="which words and attributes predict the label",
        description="Tests which words, simple measures and group attributes "
        "predict the label, before any training.",
        epilog="Example: keras-debias audit data.csv --text comment --label "
        'toxic --groups gender --html audit.html --fail-on "phi>0.3"',
    )
    add_data(parser)
    add_groups(parser, ("by_label",))
    parser.add_argument("--html", metavar="FILE", help="write a page")
    parser.add_argument("--json", metavar="FILE", help="write the report")
    parser.add_argument("--csv", metavar="FILE", help="write the findings")
    every = tuple(dict.fromkeys([*MEASURES, *OF_NUMBERS]))
    add_fail_on(parser, every, 'if a finding fulfills it, such as "phi>0.3"')
    parser.add_argument(
        "--min-count",
        type=count,
        default=20,
        help="features of fewer rows are not tested (20)",
    )
    parser.add_argument(
        "--false-discovery-rate",
        type=fraction,
        default=0.01,
        metavar="RATE",
        help="expected share of false findings (0.01)",
    )
    parser.add_argument(
        "--no-probes",
        action="store_true",
        help="without the linear models on parts of the input",
    )
    add_quiet(parser)
    return parser


def run(options) -> bool:
    """Writes the report; returns whether a condition holds."""
    from keras_debias.auditing.audit import audit
    from keras_debias.utils.spreadsheets import write_csv

    known = OF_NUMBERS if options.regression else MEASURES
    for condition in options.fail_on:
        if condition.measure not in known:
            raise ValueError(
                f"Expected --fail-on of one of {', '.join(known)}, received "
                f"{str(condition)!r}"
            )
    with bars_on_terminals(options.quiet):
        report = audit(
            read_split(options),
            min_count=options.min_count,
            false_discovery_rate=options.false_discovery_rate,
            folds=0 if options.no_probes else 5,
        )
    if not options.quiet:
        print(report)
    if options.html:
        report.to_html(options.html)
        written(options.html)
    if options.json:
        report.to_json(options.json)
        written(options.json)
    if options.csv:
        write_csv(report.to_pandas(), options.csv)
        written(options.csv)
    fired = False
    for condition in options.fail_on:
        found = [
            finding
            for finding in (*report.findings, *report.group_findings)
            if condition.holds(getattr(finding, condition.measure))
        ]
        if found:
            fired = True
            value = getattr(found[0], condition.measure)
            label = getattr(found[0], "label", options.label)
            print(
                f"keras-debias audit: {condition} holds for {len(found)} "
                f"findings, the first: {found[0].feature} -> "
                f"{label} ({condition.measure} {value:.3g})",
                file=sys.stderr,
            )
    return fired
