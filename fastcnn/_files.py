"""Files that are written whole or not at all, whoever else writes or reads them meanwhile."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["name_of", "naming", "remove_leftovers", "require_writable", "write_atomically"]

# The name of a temporary says nothing of its target's, which may be as long as names can be.
_PREFIX, _SUFFIX = ".fastcnn-", ".tmp"
_TRIES = 10  # at a temporary that others remove
_OLD = 24 * 3600  # seconds after which one whose lock tells nothing is nobody's


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that, whatever happens, `path` holds all of the old or all of the new.

    The bytes go to a temporary file beside the target, are flushed to the disk, and then take
    the target's name; of several writers at once each replaces the file whole. What dead
    writers left in the folder is removed. Raises OSError, which names `path`; the target is then
    as it was.
    """
    target = _target(path)
    remove_leftovers(target.parent)
    with naming(path):
        for left in reversed(range(_TRIES)):
            try:
                _replace(target, data)
                break
            except FileNotFoundError:  # see _locked; or the folder is gone
                if not left:
                    raise
    _sync_folder(target.parent)


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that write_atomically would raise, as far as can be known before."""
    target = _target(path)
    with naming(path):
        temporary = _temporary(target)
        try:
            with open(temporary, "wb"):
                pass
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove the temporaries of writers that died; those that cannot be removed stay."""
    found: list[str] = []
    with suppress(OSError), os.scandir(folder) as entries:
        found = [e.path for e in entries if e.name.startswith(_PREFIX) and e.name.endswith(_SUFFIX)]
    for name in found:
        with suppress(OSError):
            _remove_if_abandoned(name)


def name_of(path: str | os.PathLike[str]) -> str:
    """Return a path as text; TypeError for what is no path, ValueError for what none can be."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"path: expected a file's name, got {type(path).__name__}") from None
    if "\0" in name:
        raise ValueError(f"path: expected a name without null characters, got {name!r:.80}")
    return name


def _target(path: str | os.PathLike[str]) -> Path:
    """Return the file that `path` names, links followed, if one can be there."""
    name = name_of(path)
    target = Path(os.path.realpath(name))
    try:
        mode = os.stat(target).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if not target.parent.is_dir():
            said = "path: expected a file in an existing folder"
            raise FileNotFoundError(errno.ENOENT, said, name) from None
        return target
    except OSError as error:
        said = f"path: expected a name that this system takes, got one too long ({len(name)})"
        if error.errno != errno.ENAMETOOLONG:
            said = f"path: {error.strerror}"
        raise OSError(error.errno, said, name) from None
    if not stat.S_ISREG(mode):
        kind = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(kind, "path: expected a regular file or a new one", name)
    return target


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let an OSError name the file that was asked for, not the temporary, or none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error


def _temporary(target: Path) -> Path:
    return target.with_name(f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}")


def _replace(target: Path, data: bytes) -> None:
    """Write a temporary and give it the target's name; FileNotFoundError if it was removed."""
    temporary = _temporary(target)
    try:
        with _Lock() as lock:
            with open(temporary, "wb") as file:
                lock.take(file.fileno())
                os.stat(temporary)  # it may have been removed before it was locked
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


class _Lock:
    """What tells others that the writer of a temporary lives: a lock, where the system has it.

    It outlives the closing of the file, which comes before the file takes its name: an error
    of closing is an error of writing.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def take(self, descriptor: int) -> None:
        # Windows lets nobody remove a file that is open.
        if sys.platform != "win32":
            # On a file system without locks others go by age. In the hands of another process
            # the file is about to be removed; then it is written again.
            with suppress(OSError):
                self._descriptor = os.dup(descriptor)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __enter__(self) -> _Lock:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)


def _remove_if_abandoned(name: str) -> None:
    if sys.platform == "win32":
        os.unlink(name)
        return
    descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and _is_abandoned(descriptor, status.st_mtime):
            os.unlink(name)
    finally:
        os.close(descriptor)


def _is_abandoned(descriptor: int, changed: float) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:
            return time.time() - changed > _OLD
    return True


def _sync_folder(folder: Path) -> None:
    """Make the new name durable where folders can be opened; the file is whole in any case."""
    if os.name == "posix":
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
