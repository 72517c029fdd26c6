"""How often does `kd.recommended` act, where it should and where it should not?

Sentiment of sentences whose domain goes with the label, in pairs of domains
and directions that `natural_shortcuts.py` does not have: there it should act,
the more the stronger; and attributes of single texts, such as their length,
that go with the label of other datasets. Where the domain is balanced, *is* the
label, the label is a topic, or nothing was planted, it should keep plain
fine-tuning. Only the decision is made: nothing is trained but models on frozen
features, seconds a run.

    python examples/when_recommended_acts.py                # resumable
    python examples/when_recommended_acts.py --draws 200 --sets "0.95, 800 rows"
    python examples/when_recommended_acts.py --table        # from kept runs

The rule was chosen on draws below 300; the table is of later ones. Sets other
than those of sentences need the folder named by KERAS_DEBIAS_DATA. `--table`
writes `examples/when_recommended_acts.json` and `.md`.
"""

import argparse
import itertools
import json
import pathlib
import re
import sys

import common  # chooses the backend
import frozen_shortcuts

import keras_debias as kd

import numpy as np  # isort: skip
import pandas as pd  # isort: skip

HERE = pathlib.Path(__file__)
DRAWS = (300, 301, 302)
DOMAINS = ("tweets", "product_reviews", "editorials", "film_reviews")
# Positive and negative; the tables of other programs have the rest.
PAIRS = [
    pair
    for pair in itertools.permutations(DOMAINS, 2)
    if pair[1] != "film_reviews"
]
SKEWS = [(0.5, 1600), (0.7, 1600), (0.8, 1600), (0.9, 1600), (0.95, 1600)]
SKEWS += [(0.95, 800)]
# What a text has -> dataset, its two labels, and how it is seen.
ATTRIBUTES = {
    "over ten words": ("sst2", r"(\S+\s+){10}\S"),
    "the word film or movie": ("sst2", r"\b(film|movie)s?\b"),
    "a comma": ("sst2", ","),
    "a woman or girl": ("tweet_hate", r"\b(wom[ae]n|she|her|girls?)\b"),
    "a hashtag": ("tweet_hate", r"#\w"),
}
TOPICS = ("Business", "Sci/Tech", "Sports", "World")
UNPLANTED = ("sst2", "ag_news", "snli", "tweet_offensive")
ACTS_ON = ("kinds of input", "cues beyond features", "a cue, words or classes")


def skewed(pair, strength, rows):
    """Sentiment; the domain goes with it."""
    partner = {"positive": pair[0], "negative": pair[1]}

    def load(draw):
        pool, _ = kd.data.sentences(pair).partition(0.65, seed=draw)
        return kd.data.skew(
            pool, label=partner, strength=strength, n=rows, seed=draw
        )

    return load


def domain_as_label(pair):
    """The kind of input is the task."""

    def load(draw):
        split = kd.data.sentences(pair).sample(1600, seed=draw)
        names = [split.groups.names[i] for i in split.groups.ids]
        y = [int(pair[1] in name) for name in names]
        return kd.data.Split(
            split.x, np.array(y, "int32"), label_names=list(pair)
        )

    return load


def with_attribute(name, pattern, first, strength):
    """The first or the second label goes with what a text has."""

    def load(draw):
        split = kd.data.load(name, "train")
        has = [bool(re.search(pattern, text.lower())) for text in split.x]
        partner = {
            label: (i == 0) == first
            for i, label in enumerate(split.label_names)
        }
        return kd.data.skew(
            split, {"has": has}, partner, strength=strength, n=1600, seed=draw
        )

    return load


def topics(pair):
    def load(draw):
        split = kd.data.load("ag_news", "validation")
        codes = [split.label_names.index(name) for name in pair]
        split = split.take(np.flatnonzero(np.isin(split.y, codes)))
        y = (split.y == codes[1]).astype("int32")
        split = kd.data.Split(split.x, y, label_names=list(pair))
        return split.sample(1600, seed=draw)

    return load


def unplanted(name):
    def load(draw):
        split = "validation" if name == "ag_news" else "train"
        return kd.data.load(name, split).sample(2000, seed=draw)

    return load


# Kind of set -> its sets -> how to load a draw.
SETS = {
    f"{strength}, {rows} rows": {
        " / ".join(pair): skewed(pair, strength, rows) for pair in PAIRS
    }
    for strength, rows in SKEWS
}
for strength in (0.9, 0.95):
    SETS[f"what a text has, {strength}, 1600 rows"] = {
        f"{attribute}, {'first' if first else 'second'} label": with_attribute(
            *ATTRIBUTES[attribute], first, strength
        )
        for attribute in ATTRIBUTES
        for first in (True, False)
    }
SETS["the domain is the label, 1600 rows"] = {
    " / ".join(pair): domain_as_label(pair)
    for pair in itertools.combinations(DOMAINS, 2)
}
SETS["two topics, 1600 rows"] = {
    " + ".join(pair).replace("/", " "): topics(pair)
    for pair in itertools.combinations(TOPICS, 2)
}
SETS["nothing planted, 2000 rows"] = {
    name: unplanted(name) for name in UNPLANTED
}


def acts_on(recipe):
    """What a recommendation balances; "plain" for none."""
    if isinstance(recipe, kd.recipes.FineTuning):
        return "plain"
    if isinstance(recipe, kd.recipes.BalancedSampling):
        return ACTS_ON[2]
    (view,) = recipe.views
    return ACTS_ON[isinstance(view, kd.recipes.FindingGroups)]


def run(kind, name, draw, encoded, folder):
    path = folder / kind / name.replace(" / ", "+") / f"{draw}.json"
    if path.exists():
        return
    try:
        train = SETS[kind][name](draw)
    except ValueError as error:
        # A cell of the skew has too few sentences.
        print(f"{kind}: {name}, draw {draw} is left out: {error}", flush=True)
        return
    encoded.add(train.x)
    found = kd.recommended(train, encoded.of)
    record = {
        "acts_on": acts_on(found.recipe),
        "reason": found.reason,
        "evidence": found.evidence,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    common.replace(path, json.dumps(record, default=float).encode())
    print(f"{kind}: {name}, draw {draw}: {record['acts_on']}", flush=True)


def summary(folder):
    found = {}
    for kind in SETS:
        records = [
            json.loads(path.read_text())
            for path in sorted((folder / kind).glob("*/*.json"))
        ]
        if records:
            acted = [record["acts_on"] for record in records]
            found[kind] = {
                "runs": len(records),
                **{what: acted.count(what) for what in (*ACTS_ON, "plain")},
                "of these, not certain": sum(
                    "not certain" in record["reason"] for record in records
                ),
            }
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    add("--draws", nargs="+", type=int, default=list(DRAWS))
    add("--folder", type=pathlib.Path, default=pathlib.Path("results/acts"))
    add("--table", action="store_true")
    chosen = parser.parse_args()
    if not chosen.table:
        encoded = frozen_shortcuts.Encoded("text", chosen.folder / "features")
        for draw in chosen.draws:
            for kind in chosen.sets:
                for name in SETS[kind]:
                    run(kind, name, draw, encoded, chosen.folder)
        return 0
    found = summary(chosen.folder)
    table = pd.DataFrame(found).T.rename_axis("shortcut").to_markdown()
    record = {
        "draws": sorted(
            {int(path.stem) for path in chosen.folder.glob("*/*/*.json")}
        ),
        "versions": common.versions(),
        "machine": common.machine(),
        "model": "all-MiniLM-L6-v2, frozen",
        "sets": found,
    }
    common.write_tables(HERE, table, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
