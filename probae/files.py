"""The one place where anything is written, and how a file is read that a stranger may have made.

Writing goes through a temporary file that replaces the old one in a single step, so a crash at any moment leaves the
old content or the new one.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from probae.checks import FileError

if TYPE_CHECKING:
    import xarray

TEMPORARY = ".probae-"


def atomic_write(path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], object]) -> Path:
    """Write a file whole or not at all: into a temporary file beside it, which then takes its place.

    Parameters
    ----------
    path : file
        Its folder must exist.
    content : bytes, or a function that writes to the binary file it is given

    Returns
    -------
    Path

    Raises
    ------
    FileError
        If the disk is full, the folder may not be written, and the like; the old file is then as it was.

    Examples
    --------
    >>> import tempfile
    >>> atomic_write(f"{tempfile.mkdtemp()}/three", b"abc").stat().st_size
    3
    """
    path = Path(path)
    temporary = path.parent / f"{_beginning(path)}{secrets.token_hex(8)}"
    write = content if callable(content) else lambda file: file.write(content)
    try:
        try:
            with open(temporary, "xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError, ValueError):
                temporary.unlink()  # nothing is left of it unless something failed
        _sync_folder(path.parent)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(
            f"{shown(path)} could not be written: {reason}; what was there is unchanged."
        ) from error
    return path


def write_netcdf(tree: xarray.DataTree, path: str | os.PathLike[str]) -> Path:
    """Write a tree of datasets as netCDF4, whole or not at all; what it holds lazily is computed.

    Raises
    ------
    FileError
        If the disk is full, the folder may not be written, and the like; the old file is then as it was.

    Examples
    --------
    >>> import tempfile, xarray
    >>> tree = xarray.DataTree.from_dict({"posterior": xarray.Dataset({"a": ("draw", [1.0, 2.0])})})
    >>> path = write_netcdf(tree, f"{tempfile.mkdtemp()}/posterior.nc")
    >>> xarray.open_datatree(path, engine="h5netcdf").identical(tree)
    True
    """
    # by name, not by handle: versions of xarray differ in whether they write a tree to an open file
    return atomic_write(path, lambda file: tree.to_netcdf(os.fspath(file.name), engine="h5netcdf"))


def read_bytes(path: str | os.PathLike[str], limit: int | None = None, follow: bool = False) -> bytes:
    """Read a regular file; never a pipe, a device, a folder or, unless ``follow``, a symbolic link.

    Raises
    ------
    FileError
        If there is no such file, it has more than ``limit`` bytes, or it changes while it is read.

    Examples
    --------
    >>> read_bytes("no such file")
    Traceback (most recent call last):
    ...
    probae.errors.FileError: no such file could not be read: No such file or directory.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for a writer
    flags |= 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    try:
        if not follow and os.path.islink(path):
            raise FileError(f"{shown(path)} is a symbolic link, which is not followed here.")
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{shown(path)} is not a regular file.")
            if limit is not None and status.st_size > limit:
                raise FileError(f"{shown(path)} has {status.st_size} bytes, more than the {limit} it may.")
            raw = file.read(status.st_size + 1)
    except FileError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{shown(path)} could not be read: {reason}.") from None
    if len(raw) != status.st_size:
        raise FileError(f"{shown(path)} changed while it was read.")
    return raw


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder and those above it.

    Raises
    ------
    FileError
        If it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{shown(path)} could not be made a folder: {reason}.") from None
    return Path(path)


def shown(path: str | os.PathLike[str]) -> str:
    r"""Return a path as a message shows it: on one line, and not too long.

    Examples
    --------
    >>> shown("a\nb")
    "'a\\nb'"
    """
    text = os.fspath(path)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 300 else f"{text[:140]}...{text[-140:]}"


def remove_stale(path: str | os.PathLike[str]) -> None:
    """Remove what a process that was killed while it wrote the file left beside it."""
    own = re.compile(re.escape(_beginning(Path(path))) + "[0-9a-f]{16}")
    with suppress(OSError, ValueError):
        for entry in os.scandir(Path(path).parent):
            if own.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)


def _beginning(path: Path) -> str:
    """Return how the names of a file's temporary files begin: no other file's do, and it is short for any name."""
    return f"{TEMPORARY}{hashlib.sha256(path.name.encode(errors='surrogatepass')).hexdigest()[:16]}-"


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; Windows does so by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
