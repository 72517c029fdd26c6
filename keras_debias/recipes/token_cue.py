import dataclasses

import keras
import numpy as np
from scipy.stats import chi2 as chi2_distribution
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import chi2

from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.group_inference import GroupInference

# Words and runs of punctuation: a cue such as " !!" is no word.
TOKENS = r"\w+|[^\w\s]+"


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class TokenCue(GroupInference):
    """Groups by label x whether the text holds the most telling token.

    Of all tokens in at least `least` rows, the one whose presence says most
    about the label (the largest chi-squared statistic) is taken for the
    shortcut. It needs no training and no budget. It sees a single token
    only, and it cannot tell a shortcut from a word that honestly belongs to
    a class ("good" in a review): look at `notes["cue"]` before you believe
    the result.

    Attributes:
        least: int. Rows that a token must occur in. Defaults to `20`.
        level: float. The chance of a finding where there is nothing, over
            all tokens together (Bonferroni). Defaults to `0.01`.

    Raises:
        ValueError: If an argument is out of range; in `infer`, if no token
            says more about the label than chance, or labels are not one
            class a row.
        TypeError: In `infer`, if the inputs are not texts.

    Example:

    ```python
    method = kd.recipes.BalancedSampling(groups=kd.recipes.TokenCue())
    ```
    """

    least: int = 20
    level: float = 0.01

    def __post_init__(self):
        if int(self.least) != self.least or self.least < 1:
            raise ValueError(
                "Expected `least` to be an integer of at least 1. "
                f"Received: least={self.least}"
            )
        if not 0 < self.level < 1:
            raise ValueError(
                "Expected `level` between 0 and 1. "
                f"Received: level={self.level}"
            )

    def infer(self, trainer, train):
        check_class_labels(train, self)
        texts = last_texts(train, self)
        vectorizer = CountVectorizer(
            token_pattern=TOKENS, binary=True, min_df=self.least
        )
        try:
            present = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise ValueError(
                f"Expected some token in at least {self.least} rows. "
                f"Received: none in {len(texts)} rows"
            ) from error
        names = vectorizer.get_feature_names_out()
        # Absence counts as well: the full table, not presence alone.
        share = np.asarray(present.mean(axis=0)).ravel()
        statistic = chi2(present, train.y)[0] / np.maximum(1 - share, 1e-9)
        statistic = np.where(share < 1, statistic, 0.0)
        best = int(statistic.argmax())
        freedom = len(np.unique(train.y)) - 1
        p = chi2_distribution.sf(statistic[best], freedom) * len(names)
        p = min(p, 1.0)
        if p > self.level:
            raise ValueError(
                "Expected a token that says more about the label than "
                f"chance. Received: none of {len(names)}; the best, "
                f"{names[best]!r}, has p = {p:.2g} after correction"
            )
        trainer.notes["cue"] = str(names[best])
        trainer.notes["cue_chi_squared"] = float(statistic[best])
        has = np.asarray(present[:, best].todense()).ravel() > 0
        return train.with_label_groups({"cue": has}).groups


def last_texts(train, owner) -> np.ndarray:
    """The texts, of pairs the last (the hypothesis), or raises."""
    x = train.x[-1] if isinstance(train.x, tuple) else train.x
    if not isinstance(x, np.ndarray) or x.dtype != object:
        raise TypeError(
            f"`{type(owner).__name__}` needs texts, or pairs of texts. "
            f"Received: {train!r}"
        )
    return x
