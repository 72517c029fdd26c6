"""How well classes are separated in a model's outputs or features."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import silhouette_samples

from keras_debias.data.arguments import check_floats
from keras_debias.data.arguments import check_number
from keras_debias.data.arguments import check_seed
from keras_debias.evaluation.plot import COLORS
from keras_debias.evaluation.plot import new_figure
from keras_debias.evaluation.plot import save_figure
from keras_debias.utils.short_repr import ShortRepr


@dataclasses.dataclass(frozen=True, repr=False)
class Representation(ShortRepr):
    """Silhouettes and recall of one set of features.

    Attributes:
        silhouette: float. Mean over all rows, from -1 to 1.
        minority_silhouette: float. Mean over the rows of the minority class.
        minority_recall: float. Share of these rows that are predicted
            correctly, or `None` without predictions.
        n: int. Number of rows.
        minority_n: int. Number of rows of the minority class.

    Example:

    >>> features = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    >>> found = representation(
    ...     features, [0, 0, 1, 1], minority=1, predictions=[0, 0, 1, 0]
    ... )
    >>> found.minority_recall, found.minority_n
    (0.5, 2)
    """

    silhouette: float
    minority_silhouette: float
    minority_recall: float | None
    n: int
    minority_n: int


def representation(
    features, labels, minority, predictions=None
) -> Representation:
    """Measures how well classes are separated, the minority among them.

    Args:
        features: array of shape `(n, width)`: logits, as in the paper's
            table, or features of a layer.
        labels: array of shape `(n,)`, integers or strings.
        minority: the label of the minority class, rare in training; the
            rows here should be balanced.
        predictions: array of shape `(n,)` of predicted labels. Defaults to
            `None`.

    Returns:
        A `Representation`. Silhouettes use the cosine distance.

    Raises:
        ValueError: If shapes differ, features are not finite, there are
            fewer than two classes, or no row of the minority.

    Example:

    >>> features = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    >>> representation(features, [0, 0, 1, 1], minority=1).silhouette > 0.9
    True

    Reference:
        BA-LoRA, Table 12 and appendix B.3.
    """
    features, labels = check_floats("features", features), np.asarray(labels)
    _check(features, labels)
    rare = labels == minority
    if not rare.any() or rare.all():
        raise ValueError(
            "Expected rows of the minority class and of others. Received: "
            f"minority={minority!r}, labels {np.unique(labels).tolist()}"
        )
    samples = silhouette_samples(features, labels, metric="cosine")
    recall = None
    if predictions is not None:
        predictions = np.asarray(predictions)
        if predictions.shape != labels.shape:
            raise ValueError(
                "Expected one prediction for each label. Received: shapes "
                f"{predictions.shape} and {labels.shape}"
            )
        recall = float((predictions[rare] == minority).mean())
    return Representation(
        float(samples.mean()),
        float(samples[rare].mean()),
        recall,
        len(labels),
        int(rare.sum()),
    )


def plot_features(
    features,
    labels,
    path: str | os.PathLike | None = None,
    names: Sequence[str] | None = None,
    perplexity: float = 30.0,
    seed: int = 42,
):
    """Draws features in two dimensions by t-SNE, colored by class.

    Needs matplotlib.

    Args:
        features: array of shape `(n, width)`, `n` above `perplexity`.
        labels: array of shape `(n,)`.
        path: path of a picture to be written. Defaults to `None`: nothing is
            written.
        names: sequence of strings, the names of the classes, in the order of
            the sorted labels. Defaults to `None`: the labels.
        perplexity: float. Defaults to `30.0`.
        seed: int. Defaults to `42`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If shapes differ, or there are too few rows.

    Example:

    ```python
    generator = np.random.default_rng(0)
    figure = kd.evaluation.plot_features(
        generator.normal(size=(20, 4)),
        [0, 1] * 10,
        names=["no", "yes"],
        perplexity=5.0,
    )
    ```

    Reference:
        BA-LoRA, appendix B.3: perplexity 30, 1000 iterations, seed 42.
    """
    from sklearn.manifold import TSNE

    features, labels = check_floats("features", features), np.asarray(labels)
    features = features.astype("float32")
    _check(features, labels)
    check_number("perplexity", perplexity, 0, above=True)
    check_seed(seed)
    if len(features) <= perplexity:
        raise ValueError(
            "Expected more rows than `perplexity`. Received: "
            f"{len(features)} rows, perplexity={perplexity}"
        )
    points = TSNE(
        perplexity=perplexity, random_state=seed, init="pca"
    ).fit_transform(features)
    figure = new_figure(5.0, 4.2)
    axes = figure.add_subplot()
    for number, label in enumerate(np.unique(labels)):
        chosen = points[labels == label]
        axes.scatter(
            *chosen.T,
            s=6,
            color=COLORS[number % len(COLORS)],
            label=str(label) if names is None else names[number],
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)
    return figure


def _check(features, labels):
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            "Expected features of shape (n, width) and labels of shape (n,). "
            f"Received: shapes {features.shape} and {labels.shape}"
        )
    if not np.isfinite(features).all():
        raise ValueError(
            "Expected finite features. Received: NaN or infinity in "
            f"{int((~np.isfinite(features)).any(axis=1).sum())} rows"
        )
