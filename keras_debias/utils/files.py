"""Files and folders that are whole or absent, old or new."""

import contextlib
import ctypes
import errno
import hashlib
import os
import pathlib
import platform
import re
import shutil
import stat
import uuid

# `renameat2(2)` of Linux: relative to the working directory; swap the two.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike):
    """Gives a temporary path beside `path`, moved to it if all went well.

    A process that is killed in between leaves the old file; the temporary
    one is removed by the next that writes to the same path.

    Args:
        path: path of the file to be written; its folder is made.

    Yields:
        `pathlib.Path` with the same suffixes.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    # Two at most, `.weights.h5`: what comes before is part of the name.
    suffix = "".join(path.suffixes[-2:])[-40:]
    temporary = path.with_name(_temporary_name(path) + suffix)
    # Made first, for the rights that the umask leaves: some writers make
    # private files.
    temporary.touch(exist_ok=False)
    mode = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        temporary.chmod(mode)
        _to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file that is whole or absent, as UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def written_folder(folder: str | os.PathLike):
    """Gives a temporary folder, which takes the place of `folder` at the end.

    The two are exchanged in one step where the system can (Linux), so that a
    process that is killed leaves the old folder or the new one. What is left
    of a killed process is removed by the next that writes to the same path.

    Args:
        folder: path of the folder to be written; its parents are made.

    Yields:
        `pathlib.Path` of an empty folder.
    """
    folder = pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    temporary = folder.with_name(_temporary_name(folder))
    temporary.mkdir()
    # The rights of new files here, whatever the writer asks for.
    mode = stat.S_IMODE(temporary.stat().st_mode) & 0o666
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(mode)
                _to_disk(path)
        if not folder.exists():
            os.replace(temporary, folder)
        elif not _exchange(temporary, folder):
            old = folder.with_name(_temporary_name(folder))
            os.replace(folder, old)
            try:
                os.replace(temporary, folder)
            except BaseException:
                os.replace(old, folder)
                raise
            shutil.rmtree(old)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(path: pathlib.Path) -> None:
    """Removes what killed processes of this machine left beside a path."""
    pattern = re.compile(
        rf"\.{re.escape(_stem(path))}-{_machine()}-(\d+)-[0-9a-f]{{8}}(\..*)?"
    )
    for other in path.parent.iterdir():
        match = pattern.fullmatch(other.name)
        if match is None or _is_running(int(match.group(1)[:9])):
            continue
        if other.is_dir() and not other.is_symlink():
            shutil.rmtree(other, ignore_errors=True)
        else:
            other.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether a process of this machine is alive; in doubt, it is."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def read_regular(path: pathlib.Path, limit: int) -> bytes:
    """The bytes of a file that is one: no pipe or device, of bounded size.

    Args:
        path: path of the file.
        limit: int. The most bytes it may have.

    Raises:
        OSError: If it is not a regular file, or too long.
    """
    # Opening a pipe would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if found.st_size > limit:
            raise OSError(
                errno.EFBIG,
                f"{found.st_size} bytes, more than the {limit} expected",
                str(path),
            )
        return file.read(limit + 1)


def _stem(path) -> str:
    # File systems allow 255 bytes a name.
    return path.name[:60]


def _temporary_name(path) -> str:
    unique = uuid.uuid4().hex[:8]
    return f".{_stem(path)}-{_machine()}-{os.getpid()}-{unique}"


def _machine() -> str:
    # On a shared disk, process numbers of other machines mean nothing here.
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _to_disk(path) -> None:
    if path.is_file():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())


def _exchange(first, second) -> bool:
    """Swaps two paths in one step; `False` where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    names = os.fsencode(first), os.fsencode(second)
    return not rename(
        _AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE
    )
