"""Files that are either whole or not there."""

import contextlib
import os
import pathlib
import uuid


@contextlib.contextmanager
def written_whole(path: str | os.PathLike):
    """Gives a temporary path beside `path`, moved to it if all went well.

    Args:
        path: Path of the file to be written; its folder is made.

    Yields:
        `pathlib.Path` with the same suffixes.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{''.join(path.suffixes)}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
