"""`example_csv`: a small file to try things on."""

import pathlib


def example_csv() -> str:
    """Returns the path of a CSV file of 200 short texts, for first trials.

    Columns are `text`, `label` (`positive` or `negative`) and `source`
    (`tweet` or `review`). The texts are made by a program; 70 of 100 positive
    ones are tweets, and 70 of 100 negative ones are reviews. The file comes
    with the package. It serves as an example; results on it mean nothing.

    Returns:
        A string, the path of the file.

    Example:

    >>> split = kd.data.Split.from_csv(
    ...     kd.data.example_csv(), "text", "label", "source", by_label=True
    ... )
    >>> len(split), min(split.groups.counts().values())
    (200, 30)
    """
    return str(pathlib.Path(__file__).with_name("example.csv"))
