"""Reads tables; the file extension decides the format."""

import os
import pathlib
from collections.abc import Sequence

import pandas as pd

from keras_debias.data import csv_file

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
COMPRESSED = (".gz", ".bz2", ".xz")
EXTENSIONS = (*SEPARATORS, *JSON_LINES, *PARQUET)


def read_table(
    path: str | os.PathLike, texts: Sequence[str], others: Sequence[str]
) -> pd.DataFrame:
    """Reads a CSV, TSV, JSON Lines or Parquet file.

    Args:
        path: path; its extension decides. CSV, TSV and JSON Lines may be
            compressed: `.csv.gz`.
        texts: sequence of strings, columns that stay text.
        others: sequence of strings, columns that become numbers or booleans
            if all their values are written like those.

    Returns:
        A `pandas.DataFrame`.

    Raises:
        ValueError: If the extension is unknown, or the file cannot be read.
        ImportError: If a Parquet file comes without pyarrow.
    """
    path = pathlib.Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind not in EXTENSIONS:
        raise ValueError(
            f"Expected a file that ends in one of {', '.join(EXTENSIONS)}. "
            f"Received: {str(path)!r}"
        )
    if not path.is_file():
        raise ValueError(
            f"Expected a file. Received: {str(path)!r}, which does not exist"
        )
    if kind in SEPARATORS:
        options = {**csv_file.TEXT_OPTIONS, "sep": SEPARATORS[kind]}
        return csv_file.read_csv(path, texts, others, options)
    if kind in PARQUET:
        return _parquet(path)
    try:
        return pd.read_json(path, lines=True, dtype=False, convert_dates=False)
    except ValueError as error:
        raise ValueError(
            f"Expected one JSON object a line in {str(path)!r}. Received: "
            f"something else: {error}"
        ) from error


def _parquet(path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise ImportError(
            "Expected pyarrow to be installed, which reads Parquet files. "
            'Install it with `pip install "keras-debias[parquet]"`.'
        ) from error
    # pyarrow's own errors are subclasses of these two.
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected a Parquet file. Received: {str(path)!r}: {error}"
        ) from error
