"""Files that are either complete or absent, and folders that one process locks."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "PathLike",
    "content_digest",
    "file_digest",
    "folder_lock",
    "open_regular",
    "read_checked",
    "replacing",
    "reserve",
    "walk",
    "write_checked",
]

PathLike = str | os.PathLike[str]

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.skhash-tmp")
_LOCK_NAME = ".skhash-lock"
# A checked file ends with this and a digest of everything before.
_MARK = b"\x89SKH\r\n\x1a\n"
_DIGEST_SIZE = 32
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: PathLike) -> io.BufferedReader:
    """Open a regular file to read its bytes.

    Opening a named pipe would wait forever, and a device may do anything.

    Raises
    ------
    OSError
        If there is no such file, or it is a folder, a pipe, a socket or a device; also for a link
        to one of these, and for links that form a cycle.
    """
    _check_regular(path, os.stat(path))
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(path, "rb", opener=lambda name, _: os.open(name, flags))  # noqa: SIM115
    try:
        _check_regular(path, os.fstat(file.fileno()))  # the path may have changed in the meantime
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(path: PathLike, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        error = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
        text = f"it is {_KINDS.get(kind, 'something else')}, not a file"
        raise OSError(error, text, os.fspath(path))


def content_digest(content: Any) -> bytes:
    """Digest of bytes, of 16 bytes: the same as :func:`file_digest` of a file with these bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()


def file_digest(path: PathLike) -> bytes:
    """Digest of the bytes of a file, of 16 bytes.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def walk(
    folder: PathLike, *, follow_links: bool = False
) -> Iterator[tuple[Any, list[str], list[str]]]:
    """The same as os.walk, which would leave out folders that cannot be read.

    Raises
    ------
    OSError
        If a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    return os.walk(folder, onerror=fail, followlinks=follow_links)


@contextmanager
def replacing(path: PathLike) -> Iterator[io.BufferedRandom]:
    """Open a new file that replaces ``path`` when it is complete and on the disk.

    Until then, or if writing fails, an existing file at ``path`` does not change. The new file is
    written beside it; files that killed writers left there are removed first.
    """
    target = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        _check_regular(path, os.stat(target))
    _remove_stale(target.parent)
    file, temporary = _new_temporary(target.parent)
    try:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # renamed while locked, so that nobody removes it as stale
                os.replace(temporary, target)
        finally:
            file.close()
        if fcntl is None:  # Windows cannot rename an open file
            os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def _new_temporary(folder: Path) -> tuple[io.BufferedRandom, Path]:
    """A new file, locked by its writer: the lock shows others that the writer is alive."""
    while True:
        path = folder / f".{secrets.token_hex(8)}.skhash-tmp"
        file = open(path, "x+b")  # noqa: SIM115
        try:
            _lock(file.fileno(), wait=True)
            if _is_at(file.fileno(), path):
                return file, path
        except BaseException:
            file.close()
            path.unlink(missing_ok=True)
            raise
        file.close()  # another process removed it as stale before it was locked


def _remove_stale(folder: Path) -> None:
    """Remove temporary files whose writers have ended: their locks ended too."""
    found = []
    with suppress(PermissionError), os.scandir(folder) as entries:
        found = [folder / entry.name for entry in entries if _TEMPORARY.fullmatch(entry.name)]
    for path in found:
        # A file that cannot be removed is in use, already gone, or of another user.
        with suppress(OSError):
            if fcntl is None:  # Windows keeps open files, and no live one is closed for long
                if time.time() - path.stat().st_mtime > 3600:
                    path.unlink()
                continue
            number = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(number)


def _sync_folder(folder: Path) -> None:
    """Write the new name to the disk too, if folders can be synchronised."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def folder_lock(folder: PathLike) -> Iterator[Path]:
    """Lock a folder against all other callers of this function.

    The folder is created if missing, and removed at the end if nothing was put there. The lock ends
    at the latest when the process ends, for any reason. On file systems without locks nothing is
    locked.

    Yields
    ------
    Path
        The folder.

    Raises
    ------
    RuntimeError
        At once, if another process or thread has the lock.
    ValueError
        If it is not a folder, or has no name.
    """
    if not os.fspath(folder):
        raise ValueError("a folder has an empty name; this folder is '.'.")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is not a folder; give a folder, or a new name.")
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    path = folder / _LOCK_NAME
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # whoever made the folder has just removed it
            continue
        try:
            _lock(number)
            # The process that had the lock before may have removed this file.
            if _is_at(number, path):
                break
        except BlockingIOError:
            os.close(number)
            raise RuntimeError(
                f"folder {str(folder)!r} is in use by another process or thread that writes "
                "there: wait until it is done, or choose another folder."
            ) from None
        except BaseException:
            os.close(number)
            raise
        os.close(number)
    try:
        yield folder
    finally:
        # Removed while it is still locked, so that a forked child with the same open file blocks
        # nobody. Windows cannot remove an open file, so the file stays there.
        with suppress(OSError):
            path.unlink()
        os.close(number)
        with suppress(OSError):  # something is in it
            for place in missing:
                place.rmdir()


def _lock(number: int, *, wait: bool = False) -> None:
    """Lock an open file, or raise BlockingIOError; do nothing if there are no locks."""
    try:
        if fcntl is not None:
            fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        elif not wait:
            import msvcrt

            windows: Any = msvcrt  # for type checkers on other systems it is empty
            windows.locking(number, windows.LK_NBLCK, 1)
    except BlockingIOError:
        raise
    except PermissionError as error:  # raised by Windows instead
        raise BlockingIOError(*error.args) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise


def _is_at(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), os.stat(path))
    except FileNotFoundError:
        return False


def write_checked(path: PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Write a file that :func:`read_checked` can check for damage.

    Parameters
    ----------
    path : path
        Where to write; see :func:`replacing`.
    write : callable
        Called with the open file, writes the contents: ``lambda file: torch.save(state, file)``.
        Readers of zip files (NumPy, PyTorch) can read the file as it is.
    """
    with replacing(path) as file:
        write(file)
        file.seek(0)
        digest = hashlib.file_digest(file, _new_digest).digest()
        file.seek(0, os.SEEK_END)
        file.write(_MARK + digest)


def read_checked(path: PathLike) -> io.BytesIO:
    """Read the contents of a file of :func:`write_checked`.

    Raises
    ------
    ValueError
        If the file is not as it was written; the message begins with the path.
    OSError
        If it cannot be read.
    """
    n_tail = len(_MARK) + _DIGEST_SIZE
    content = io.BytesIO()
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size - n_tail
        if size > 0:
            content.seek(size - 1)
            content.write(b"\0")
            size = file.readinto(content.getbuffer())  # the only copy, which may be written to
        content.truncate(max(size, 0))
        tail = file.read()
    if tail[: len(_MARK)] != _MARK:
        raise ValueError(f"{path} is truncated, damaged, or not a file of skhash.")
    digest = _new_digest()
    digest.update(content.getbuffer())
    if tail[len(_MARK) :] != digest.digest():
        raise ValueError(f"{path} is damaged: its contents do not match its checksum.")
    content.seek(0)
    return content


def _new_digest() -> Any:
    return hashlib.sha256()  # processors have instructions for it, and files may be large


def reserve(file: BinaryIO, size: int) -> None:
    """Give an empty file its final size, and reserve the space on the disk.

    A memory map of a file without this space kills the process (SIGBUS) when
    the disk is full.

    Parameters
    ----------
    file : binary file, open for writing
        Has a ``fileno()``.
    size : int
        In bytes.

    Raises
    ------
    OSError
        If there is not enough room.
    """
    try:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:  # Windows, macOS, and some file systems
            if getattr(error, "errno", None) in _NO_ROOM:
                raise
            _write_zeros(file.fileno(), size)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise OSError(
            error.errno,
            f"no room for a file of {size / 2**20:,.0f} MiB ({error.strerror}); free some space "
            "or use another disk",
            getattr(file, "name", None),
        ) from None


def _write_zeros(number: int, size: int) -> None:
    zeros = bytes(1 << 20)
    os.lseek(number, 0, os.SEEK_SET)
    while size > 0:
        size -= os.write(number, zeros[:size])
    os.lseek(number, 0, os.SEEK_SET)
