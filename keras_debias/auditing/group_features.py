import numpy as np
from scipy import sparse

from keras_debias.auditing.excess_errors import one_hot
from keras_debias.auditing.feature import GROUP
from keras_debias.auditing.feature import Feature
from keras_debias.auditing.group_attributes import group_attributes


class GroupFeatures:
    """The values of a split's group attributes as features.

    They are counted in the way of an `Extraction`.

    Args:
        split: `Split`, with groups or without.
        min_count: int. Values of fewer rows are left out.
    """

    def __init__(self, split, min_count: int):
        n = len(split)
        self.features = []
        columns = [sparse.csr_matrix((n, 0))]
        for attribute, groups in group_attributes(split).items():
            counts = np.bincount(groups.ids, minlength=len(groups.names))
            frequent = np.flatnonzero((counts >= min_count) & (counts < n))
            self.features += [
                Feature(attribute, GROUP, attribute, token=groups.names[value])
                for value in frequent
            ]
            columns.append(one_hot(groups.ids, len(groups.names))[:, frequent])
        self._columns = sparse.hstack(columns, format="csr")

    def count(self, indicators, features=None) -> np.ndarray:
        """Counts the rows with each feature; see `Extraction.count`."""
        columns = self._columns
        if features is not None:
            columns = columns[:, features]
        return (columns.T @ indicators).toarray()
