import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from keras_debias.evaluation import plot_features
from keras_debias.evaluation import representation


def features(n=60):
    generator = np.random.default_rng(0)
    labels = np.arange(n) % 3
    centers = np.array([[3, 0, 0], [0, 3, 0], [0, 2, 1]])
    return centers[labels] + generator.standard_normal((n, 3)), labels


def test_silhouettes_and_recall():
    z, labels = features()
    predictions = z.argmax(-1)
    found = representation(z, labels, minority=2, predictions=predictions)
    expected = silhouette_score(z, labels, metric="cosine")
    assert found.silhouette == pytest.approx(expected)
    # By hand, for one row of the minority.
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    rows = np.flatnonzero(labels == 2)
    values = []
    for row in rows:
        own = distance[row, rows].sum() / (len(rows) - 1)
        other = min(distance[row, labels == c].mean() for c in (0, 1))
        values.append((other - own) / max(own, other))
    assert found.minority_silhouette == pytest.approx(np.mean(values))
    recall = (predictions[labels == 2] == 2).mean()
    assert found.minority_recall == pytest.approx(recall)
    assert (found.n, found.minority_n) == (60, 20)
    assert representation(z, labels, 1).minority_recall is None


def test_a_picture(tmp_path):
    z, labels = features()
    names = ("entailment", "neutral", "contradiction")
    figure = plot_features(z, labels, tmp_path / "tsne.png", names)
    assert (tmp_path / "tsne.png").stat().st_size > 1000
    legend = figure.axes[0].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == list(names)


def test_bad_input():
    z, labels = features()
    with pytest.raises(ValueError, match="minority=7"):
        representation(z, labels, minority=7)
    with pytest.raises(ValueError, match=r"\(60, 3\) and \(59,\)"):
        representation(z, labels[1:], minority=2)
    with pytest.raises(ValueError, match="1 rows"):
        representation(np.where(np.arange(60)[:, None], z, np.nan), labels, 2)
    with pytest.raises(ValueError, match="Expected one prediction"):
        representation(z, labels, 2, predictions=labels[:3])
    with pytest.raises(ValueError, match="20 rows, perplexity=30"):
        plot_features(z[:20], labels[:20])
