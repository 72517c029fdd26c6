"""What the kinds of input that go with a label are about."""

import re

import numpy as np

from keras_debias.auditing import describe_groups
from keras_debias.recipes.shallow_model import class_names
from keras_debias.recipes.shallow_model import num_classes

# Shown at most: kinds, and words of each.
MOST_KINDS = 4
MOST_WORDS = 3
# Signs of punctuation say little to a reader.
_SAYS = re.compile(r"[\w@#]")


def words_of_kinds(train, clusters) -> list[str]:
    """The clusters that go most with a label, of each label as many.

    Args:
        train: the split.
        clusters: array of shape `(n,)`, the cluster of each row.

    Returns:
        Strings such as "'film', 'movie' (97 % of 200 rows are 'negative')".
        None for images, and for clusters without telling words.
    """
    try:
        words = describe_groups(train, clusters.astype(str), top=8)
    except (TypeError, ValueError):
        # Not texts, or one cluster.
        return []
    names = class_names(train)
    shares = np.bincount(train.y, minlength=num_classes(train)) / len(train)
    found = {}
    for cluster in np.unique(clusters):
        counts = np.bincount(
            train.y[clusters == cluster], minlength=len(shares)
        )
        size = int(counts.sum())
        excess = counts - shares * size
        label = int(excess.argmax())
        said = [
            repr(word) for word in words[str(cluster)] if _SAYS.search(word)
        ]
        if said:
            about = (
                f"{', '.join(said[:MOST_WORDS])} "
                f"({100 * counts[label] / size:.0f} % of {size} rows are "
                f"{names[label]!r})"
            )
            found.setdefault(label, []).append((excess[label], about))
    labels = sorted(found, key=lambda label: max(found[label]), reverse=True)
    each = max(1, MOST_KINDS // max(1, len(labels)))
    return [
        about
        for label in labels[:MOST_KINDS]
        for _, about in sorted(found[label], reverse=True)[:each]
    ]
