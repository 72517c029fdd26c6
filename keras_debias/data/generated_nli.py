"""Sentence pairs made by a small grammar: no download, any size."""

import numpy as np

from keras_debias.data.arguments import check_seed
from keras_debias.data.split import Split

# hypernym: hyponyms
PEOPLE = {
    "musician": ("drummer", "violinist", "flutist", "guitarist"),
    "scientist": ("chemist", "botanist", "geologist", "astronomer"),
    "athlete": ("rower", "wrestler", "sprinter", "fencer"),
    "cook": ("baker", "chef", "grillmaster", "confectioner"),
    "builder": ("carpenter", "roofer", "plumber", "bricklayer"),
    "traveller": ("hiker", "sailor", "tourist", "pilgrim"),
}
THINGS = {
    "fruit basket": ("apple basket", "cherry basket", "melon basket"),
    "vehicle": ("van", "tractor", "scooter", "wagon"),
    "tool": ("hammer", "wrench", "chisel", "shovel"),
    "instrument": ("cello", "trumpet", "banjo", "harp"),
    "container": ("barrel", "bucket", "suitcase", "jar"),
    "garment": ("scarf", "jacket", "vest", "sweater"),
    "boat": ("canoe", "ferry", "raft", "kayak"),
    "toy": ("kite", "puppet", "marble", "spinning top"),
}
VERBS = (
    ("carrying", "carried"),
    ("cleaning", "cleaned"),
    ("painting", "painted"),
    ("inspecting", "inspected"),
    ("repairing", "repaired"),
    ("selling", "sold"),
    ("weighing", "weighed"),
    ("hiding", "hidden"),
    ("wrapping", "wrapped"),
)
# words of one row exclude each other
PERSON_TRAITS = (
    ("tall", "short"),
    ("young", "elderly"),
    ("cheerful", "gloomy"),
    ("sleepy", "alert"),
)
THING_TRAITS = (
    ("heavy", "light"),
    ("brand-new", "ancient"),
    ("spotless", "filthy"),
    ("huge", "tiny"),
    ("red", "green", "blue", "yellow", "purple"),
    ("wooden", "plastic", "copper"),
)
NUMBERS = ("two", "three", "four", "five", "six")
PLACES = (
    "in the barn",
    "on the pier",
    "behind the theatre",
    "at the station",
    "near the windmill",
    "under the bridge",
    "in the courtyard",
)
TIMES = ("before breakfast", "after sunset", "this afternoon", "at noon")

LABELS = ("entailment", "neutral", "contradiction")
DETAILS = ("person_trait", "thing_trait", "place")
NEGATED = 0.15  # share of hypotheses, and of contradictions, that say "not"


def _choice(rng, options):
    return options[int(rng.integers(len(options)))]


def _pick_noun(rng, nouns, general: bool):
    hypernym = _choice(rng, list(nouns))
    return hypernym, None if general else _choice(rng, nouns[hypernym])


def _hypothesis(rng) -> dict:
    """Draws a hypothesis; it knows nothing of the label it will get."""
    facts = {
        "person": _pick_noun(rng, PEOPLE, rng.random() < 0.6),
        "thing": _pick_noun(rng, THINGS, rng.random() < 0.6),
        "verb": _choice(rng, VERBS),
        "number": None if rng.random() < 0.5 else _choice(rng, NUMBERS),
        "person_trait": None,
        "thing_trait": None,
        "place": None,
        "time": None,
        "passive": rng.random() < 0.25,
        "negated": rng.random() < NEGATED,
    }
    # every label needs a detail to add, drop or contradict
    details = rng.permutation(len(DETAILS))[: 1 + int(rng.random() < 0.4)]
    for detail in details:
        _add_detail(rng, facts, DETAILS[detail])
    return facts


def _add_detail(rng, facts, detail):
    options = {"place": (PLACES,), "time": (TIMES,)}
    options |= {"person_trait": PERSON_TRAITS, "thing_trait": THING_TRAITS}
    facts[detail] = _choice(rng, _choice(rng, options[detail]))


def _refine(rng, facts) -> dict:
    """Says the same and more: each change keeps the hypothesis true."""
    premise = {**facts, "passive": rng.random() < 0.25}
    for slot, nouns in (("person", PEOPLE), ("thing", THINGS)):
        hypernym, hyponym = facts[slot]
        if hyponym is None and rng.random() < 0.6:
            premise[slot] = (hypernym, _choice(rng, nouns[hypernym]))
    for detail in (*DETAILS, "time"):
        if facts[detail] is None and rng.random() < 0.4:
            _add_detail(rng, premise, detail)
    return premise


def _other(rng, word, families):
    family = next(f for f in families if word in f)
    return _choice(rng, [w for w in family if w != word])


def _contradict(rng, facts, premise) -> dict:
    if rng.random() < NEGATED:
        return {**premise, "nothing": True}
    families = {
        "person_trait": PERSON_TRAITS,
        "thing_trait": THING_TRAITS,
        "place": (PLACES,),
        "number": (NUMBERS,),
    }
    slot = _choice(rng, [s for s in families if facts[s] is not None])
    return {**premise, slot: _other(rng, facts[slot], families[slot])}


def _withhold(rng, facts, premise) -> dict:
    """Leaves out of the premise something that the hypothesis says."""
    options = [d for d in DETAILS if facts[d] is not None]
    options += [s for s in ("person", "thing") if facts[s][1] is not None]
    slot = _choice(rng, options)
    if slot in DETAILS:
        return {**premise, slot: None}
    return {**premise, slot: (facts[slot][0], None)}


def _negated_premise(rng, facts, label) -> dict:
    premise = {**_refine(rng, facts), "negated": False}
    if label == "contradiction":
        return premise
    if label == "entailment":
        return {**premise, "nothing": True}
    hypernym = _choice(rng, [h for h in THINGS if h != facts["thing"][0]])
    return {**premise, "thing": (hypernym, None), "negated": True}


def _premise(rng, facts, label) -> dict:
    if facts["negated"]:
        return _negated_premise(rng, facts, label)
    premise = _refine(rng, facts)
    if label == "contradiction":
        return _contradict(rng, facts, premise)
    if label == "neutral":
        return _withhold(rng, facts, premise)
    return premise


def _sentence(facts) -> str:
    person = facts["person"][1] or facts["person"][0]
    person = " ".join(filter(None, ["the", facts["person_trait"], person]))
    ending, participle = facts["verb"]
    adverbial = [facts["place"], facts["time"]]
    if facts.get("nothing"):
        words = [person, "is not", ending, "anything", *adverbial]
    else:
        noun = facts["thing"][1] or facts["thing"][0]
        described = " ".join(filter(None, [facts["thing_trait"], noun]))
        if facts["number"] is None:
            article = "an" if described[0] in "aeiou" else "a"
            thing, be = f"{article} {described}", "is"
        else:
            thing, be = f"{facts['number']} {described}s", "are"
        no = "not" if facts["negated"] else None
        if facts["passive"] and not facts["negated"]:
            words = [thing, be, "being", participle, "by", person]
        else:
            words = [person, "is", no, ending, thing]
        words += adverbial
    text = " ".join(filter(None, words))
    return text[0].upper() + text[1:] + "."


def _check_n(n: int, least: int) -> None:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"Expected `n` to be an integer. Received: n={n!r}")
    if n < least:
        raise ValueError(
            f"Expected `n` to be at least {least}, one row of each kind. "
            f"Received: n={n}"
        )


def _distinct(rng, kinds, make) -> list:
    """Makes one pair a kind; a pair that was there is drawn again."""
    seen, pairs = set(), []
    for kind in kinds:
        for _ in range(1000):
            pair = make(rng, kind)
            if pair not in seen and pair[0] != pair[1]:
                break
        else:
            raise ValueError(
                f"The grammar has no {len(kinds)} distinct pairs. Ask for "
                f"fewer: {len(pairs)} could be made."
            )
        seen.add(pair)
        pairs.append(pair)
    return pairs


def generated_nli(n: int, seed: int = 0) -> Split:
    """Makes distinct premise-hypothesis pairs with three balanced labels.

    A hypothesis is drawn first, whatever the label; the premise is then
    made to fit: it says more (a hyponym, an added detail, the passive) for
    entailment, leaves out something the hypothesis says for neutral, and
    denies or replaces something (an antonym, another number or place) for
    contradiction. The hypothesis alone therefore tells nothing about the
    label. Word overlap does, as in data written by people.

    Args:
        n: Integer, the number of pairs, at least 3.
        seed: Integer; the same seed makes the same pairs.

    Returns:
        A `Split` with `x = (premises, hypotheses)`, the labels entailment,
        neutral and contradiction, and groups by label.

    Raises:
        ValueError: If `n` is below 3.

    Example:

    >>> split = generated_nli(6)
    >>> split.label_names
    ('entailment', 'neutral', 'contradiction')
    """
    _check_n(n, 3)
    check_seed(seed)
    rng = np.random.default_rng(seed)

    def make(rng, label):
        facts = _hypothesis(rng)
        premise = _premise(rng, facts, LABELS[label])
        return _sentence(premise), _sentence(facts)

    labels = rng.permutation(np.arange(n) % 3)
    premises, hypotheses = zip(*_distinct(rng, labels, make), strict=True)
    return Split(
        (list(premises), list(hypotheses)),
        labels,
        label_names=LABELS,
        name="generated_nli",
    ).with_label_groups()


NOUNS = (
    "beekeeper",
    "cellist",
    "ferryman",
    "gardener",
    "potter",
    "referee",
    "juggler",
    "librarian",
    "surveyor",
    "tailor",
    "weaver",
    "miller",
)
# past tense and participle are one word, so that the passive adds none
DEEDS = (
    "praised",
    "followed",
    "teased",
    "greeted",
    "hired",
    "sketched",
    "interrupted",
    "applauded",
    "scolded",
    "photographed",
)
BESIDE = ("beside", "behind", "opposite", "near")

# (entailment, heuristic): premise and hypothesis; a, b, c are people, v and
# w deeds, p a preposition. A hypothesis of the subsequence kind stands in
# its premise word for word.
OVERLAP = {
    (True, "lexical_overlap"): (
        ("the {a} and the {b} {v} the {c}", "the {a} {v} the {c}"),
        ("the {a} {v} the {b} and the {c}", "the {a} {v} the {c}"),
        ("the {a} was {v} by the {b}", "the {b} {v} the {a}"),
        ("the {a} {p} the {b} {v} the {c}", "the {a} {v} the {c}"),
    ),
    (False, "lexical_overlap"): (
        ("the {a} {v} the {b}", "the {b} {v} the {a}"),
        ("the {a} was {v} by the {b}", "the {a} {v} the {b}"),
        ("the {a} {p} the {b} {v} the {c}", "the {c} {v} the {a}"),
        ("the {a} and the {b} {v} the {c}", "the {c} {v} the {b}"),
    ),
    (True, "subsequence"): (
        ("the {a} {v} the {b} {p} the {c}", "the {a} {v} the {b}"),
        ("the {a} {v} the {b} and the {c}", "the {a} {v} the {b}"),
        ("the {a} and the {b} {v} the {c}", "the {b} {v} the {c}"),
        ("last week the {a} {v} the {b}", "the {a} {v} the {b}"),
    ),
    (False, "subsequence"): (
        ("the {a} {p} the {b} {v} the {c}", "the {b} {v} the {c}"),
        ("the {a} who {w} the {b} {v} the {c}", "the {b} {v} the {c}"),
        ("nobody thinks that the {a} {v} the {b}", "the {a} {v} the {b}"),
        ("the {a} with the {b} {v} the {c}", "the {b} {v} the {c}"),
    ),
}


def generated_overlap(n: int, seed: int = 0) -> Split:
    """Makes pairs in which every word of the hypothesis is in the premise.

    A model that says entailment wherever the words overlap gets all of the
    entailed pairs and none of the others.

    Args:
        n: Integer, the number of pairs, at least 4.
        seed: Integer; the same seed makes the same pairs.

    Returns:
        A `Split` with `x = (premises, hypotheses)`, the labels entailment
        and non-entailment, and groups label × heuristic (lexical_overlap,
        subsequence), all balanced.

    Raises:
        ValueError: If `n` is below 4, or above what the grammar can make.

    Example:

    >>> sorted(set(generated_overlap(40).groups.counts().values()))
    [10]

    Reference:

    - The idea is that of HANS: [McCoy et al., 2019](
      https://arxiv.org/abs/1902.01007). Sentences, words and templates are
      our own; of its three heuristics we keep two.
    """
    _check_n(n, 4)
    check_seed(seed)
    rng = np.random.default_rng(seed)
    cells = list(OVERLAP)

    def make(rng, cell):
        a, b, c = rng.permutation(NOUNS)[:3]
        v, w = rng.permutation(DEEDS)[:2]
        words = {"a": a, "b": b, "c": c, "v": v, "w": w}
        words["p"] = _choice(rng, BESIDE)
        texts = _choice(rng, OVERLAP[cells[cell]])
        filled = [text.format(**words) for text in texts]
        return tuple(t[0].upper() + t[1:] + "." for t in filled)

    drawn = rng.permutation(np.arange(n) % len(cells))
    premises, hypotheses = zip(*_distinct(rng, drawn, make), strict=True)
    heuristics = [cells[cell][1] for cell in drawn]
    return Split(
        (list(premises), list(hypotheses)),
        [0 if cells[cell][0] else 1 for cell in drawn],
        label_names=("entailment", "non-entailment"),
        name="generated_overlap",
    ).with_label_groups({"heuristic": heuristics})
