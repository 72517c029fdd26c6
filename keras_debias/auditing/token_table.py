import array
import os
import tempfile
import weakref
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
from scipy import sparse

# Bytes that are held in memory; what is more goes to a temporary file.
IN_MEMORY = 2**28


class TokenTable:
    """The distinct tokens of each row, in chunks of rows.

    Only the vocabulary and one chunk have to fit into memory: the indices of
    the tokens are written to a temporary file once they exceed `in_memory`
    bytes. The file is deleted with the table.

    Args:
        in_memory: int, in bytes. Defaults to 256 MiB.

    Example:

    >>> table = TokenTable()
    >>> table.add([["no", "no", "way"], ["way"]])
    >>> table.counts()
    {'no': 1, 'way': 2}
    """

    def __init__(self, in_memory: int = IN_MEMORY):
        self._ids = {}
        self._counts = np.zeros(0, dtype="int64")
        self._chunks = []
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            max_size=in_memory
        )
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return sum(len(lengths) for lengths in self._chunks)

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Appends a chunk of tokenized rows."""
        ids = self._ids
        indices, lengths = array.array("i"), array.array("i")
        for row in rows:
            distinct = dict.fromkeys(row)
            indices.extend(
                [ids.setdefault(token, len(ids)) for token in distinct]
            )
            lengths.append(len(distinct))
        indices = np.asarray(indices, dtype="int32")
        counts = np.bincount(indices, minlength=len(ids))
        counts[: len(self._counts)] += self._counts
        self._counts = counts
        self._chunks.append(np.asarray(lengths, dtype="int32"))
        self._file.seek(0, os.SEEK_END)
        self._file.write(indices.tobytes())

    def counts(self) -> dict[str, int]:
        """The number of rows that have each token."""
        return dict(zip(self._ids, self._counts.tolist(), strict=True))

    def blocks(self, tokens: Sequence[str]) -> Iterator[sparse.csr_matrix]:
        """Yields for each chunk which of its rows have which tokens.

        Args:
            tokens: sequence of distinct strings, the columns.

        Yields:
            Sparse matrix of zeros and ones, `(rows of the chunk, tokens)`.
        """
        column = np.full(len(self._ids), -1, dtype="int32")
        for position, token in enumerate(tokens):
            column[self._ids[token]] = position
        start = 0
        for lengths in self._chunks:
            size = 4 * int(lengths.sum())
            # Another iterator may have moved the position in the file.
            self._file.seek(start)
            indices = array.array("i")
            indices.frombytes(self._file.read(size))
            indices = np.asarray(indices, dtype="int32")
            start += size
            columns = column[indices]
            known = columns >= 0
            rows = np.repeat(np.arange(len(lengths)), lengths)[known]
            yield sparse.csr_matrix(
                (np.ones(len(rows)), (rows, columns[known])),
                shape=(len(lengths), len(tokens)),
            )
