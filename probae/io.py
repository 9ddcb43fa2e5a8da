"""Files: fits saved and loaded, tables read, and the one place where anything is written.

A saved fit is a folder with `manifest.json` (what was fitted, how, with which versions; shape and SHA-256 of
every tensor) and `weights-<sha256>.safetensors`. Loading runs no code from the files: classes come from a
fixed table, and everything is checked before it is used. Writing goes through a temporary file that replaces
the old one in a single step, so a crash at any moment leaves the old content or the new one.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from probae.checks import FileError
from probae.files import TEMPORARY, atomic_write, make_folder, read_bytes, shown, write_netcdf

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from probae.inference import Fit

__all__ = ["atomic_write", "load", "read_table", "save", "write_figure", "write_json", "write_text"]

MANIFEST = "manifest.json"


def save(fit: Fit | xarray.DataTree, path: str | os.PathLike[str]) -> Path:
    """Save a fit as a folder, in place of a fit that is there already; a tree of `to_datatree` as a netCDF file.

    Parameters
    ----------
    fit : Fit or xarray.DataTree
        What a tree holds lazily is computed. ``xarray.open_datatree(path, engine="h5netcdf")`` reads it again.
    path : folder, made if absent; for a tree a file

    Returns
    -------
    Path

    Raises
    ------
    FileError
        If the folder cannot be written, or the fit holds an object of a class that no file can hold (a law of
        your own, for instance). What was in the folder is then as before.

    Examples
    --------
    >>> import probae as pa, tempfile
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)
    >>> folder = save(run, tempfile.mkdtemp())
    >>> sorted(file.suffix for file in folder.iterdir())
    ['.json', '.safetensors']
    """
    import hashlib

    from probae.storage import fits, manifest

    if _is_tree(fit):
        return write_netcdf(cast("xarray.DataTree", fit), path)
    folder = Path(path)
    with _about(folder, "cannot hold this fit"):
        content, weights = fits.pack(cast("Fit", fit))
        digest = hashlib.sha256(weights).hexdigest()
        content["weights"] = {"sha256": digest, "bytes": len(weights)}
        described = manifest.dump(content)
    make_folder(folder)
    with _alone_in(folder):
        # The new weights have a name of their own, so the manifest that is there keeps its weights until it
        # is itself replaced, in one step.
        atomic_write(folder / _weights_name(digest), weights)
        atomic_write(folder / MANIFEST, described)
        _sweep(folder, _weights_name(digest))
    return folder


def load(path: str | os.PathLike[str]) -> Fit:
    """Load a fit that `save` wrote: model, posterior, method and history are as they were, bit for bit.

    Safe on files from strangers: nothing in them is run, and sizes are bounded before anything is built.

    Parameters
    ----------
    path : folder

    Returns
    -------
    Fit

    Raises
    ------
    FileError
        If the folder does not hold a complete, unchanged fit.

    Examples
    --------
    >>> import probae as pa, tempfile
    >>> data = pa.datasets.holzinger_swineford()
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), data.x)
    >>> again = load(save(run, tempfile.mkdtemp()))
    >>> bool((again.posterior(data.x).mean == run.posterior(data.x).mean).all())
    True
    """
    from probae.storage import fits

    folder = Path(path)
    content, weights = _read_pair(folder)
    with _about(folder, "is not a fit that can be loaded"):
        return fits.unpack(content, weights)


def read_table(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> xarray.DataArray:
    r"""Read a table of numbers, with its column names if it has any.

    Parameters
    ----------
    path : file
        ``.csv``, ``.tsv`` or ``.txt`` (a first line of names is recognised; empty cells and NA are missing
        values, a first column without a name holds row names), ``.npy``, ``.npz`` with one array or one named
        ``x``, or ``.parquet`` where pandas is installed.
    columns : sequence of str, optional
        The columns to keep, in this order.

    Returns
    -------
    xarray.DataArray
        Dimensions ``samples`` and ``features``; NaN where a value is missing. `fit` takes it as it is.

    Raises
    ------
    FileError
        If the file cannot be read as what its name says.
    DataError
        If it holds something that is not a number, with the column and the row.

    Examples
    --------
    >>> import tempfile
    >>> path = write_text("height,weight\n1.8,75\n1.7,\n", f"{tempfile.mkdtemp()}/people.csv")
    >>> read_table(path).features.values.tolist()
    ['height', 'weight']
    """
    from probae.storage import formats, tables

    path = Path(path)
    parse = formats.parser(path.suffix.lower(), shown(path))
    chosen = tuple(columns) if columns else None
    return tables.label(*parse(read_bytes(path, follow=True), shown(path), chosen))


def write_text(text: str, path: str | os.PathLike[str]) -> Path:
    """Write text as UTF-8, whole or not at all.

    Examples
    --------
    >>> import tempfile
    >>> write_text("one line", f"{tempfile.mkdtemp()}/note.md").read_text()
    'one line'
    """
    return atomic_write(path, text.encode("utf-8", errors="backslashreplace"))


def write_json(value: Any, path: str | os.PathLike[str]) -> Path:
    """Write numbers, text, lists and mappings as JSON; a number that is not finite becomes text.

    Examples
    --------
    >>> import tempfile
    >>> write_json({"p": float("nan")}, f"{tempfile.mkdtemp()}/numbers.json").read_text().split()
    ['{', '"p":', '"nan"', '}']
    """
    return write_text(json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n", path)


def write_figure(fig: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a matplotlib figure in the format of the path's ending, such as ``.png`` or ``.pdf``.

    Examples
    --------
    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> write_figure(Figure(figsize=(1, 1)), f"{tempfile.mkdtemp()}/empty.png").read_bytes()[1:4]
    b'PNG'
    """
    kind = Path(path).suffix.removeprefix(".").lower() or "png"
    if kind not in fig.canvas.get_supported_filetypes():
        raise FileError(f"{shown(path)} should end in .png, .pdf or .svg, for figures.")
    # without dates and versions, equal figures are equal files
    stamps = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    return atomic_write(path, lambda file: fig.savefig(file, format=kind, dpi=150, metadata=stamps.get(kind)))


def _read_pair(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Read a manifest and the weights it names, again if another process saved in between."""
    from probae.storage import manifest

    with _about(folder, "is not a fit that can be loaded"):
        newer = read_bytes(folder / MANIFEST, manifest.MAX_BYTES)
    for _ in range(5):
        raw = newer
        with _about(folder, "is not a fit that can be loaded"):
            content = manifest.parse(raw)
            digest, size = content["weights"]["sha256"], content["weights"]["bytes"]
        try:
            weights = read_bytes(folder / _weights_name(digest), size)
            break
        except FileError:
            newer = read_bytes(folder / MANIFEST, manifest.MAX_BYTES)
            if newer == raw:
                raise
    else:
        raise FileError(f"{shown(folder)} changed again and again while it was read.")
    import hashlib

    if hashlib.sha256(weights).hexdigest() != digest:
        raise FileError(f"{shown(folder / _weights_name(digest))} was changed after it was written.")
    return content, weights


def _is_tree(value: Any) -> bool:
    """Whether a value is a tree; without xarray loaded nothing can have made one."""
    loaded = sys.modules.get("xarray")
    return loaded is not None and isinstance(value, loaded.DataTree)


def _weights_name(digest: str) -> str:
    return f"weights-{digest[:16]}.safetensors"


def _sweep(folder: Path, kept: str) -> None:
    """Remove the weights of earlier fits, and what a killed process left behind."""
    for file in [*folder.glob("weights-*.safetensors"), *folder.glob(f"{TEMPORARY}*")]:
        if file.name != kept:
            with suppress(OSError):
                file.unlink()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process saves into the folder (where the system can lock folders)."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock nothing
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _about(folder: Path, what: str) -> Iterator[None]:
    """Put the folder's name in front of what is wrong with it."""
    try:
        yield
    except FileError as error:
        raise FileError(f"{shown(folder)} {what}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
