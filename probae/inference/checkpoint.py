"""The state of training on disk, from which a killed run goes on bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from probae.checks import FileError, ParameterError, check_count
from probae.files import atomic_write, read_bytes, remove_stale, shown
from probae.strict import check_header, strict_json

SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """Write the state of training to a file, and go on from it when the same fit is run again.

    A fit killed at any moment and run again, on the same machine with as many threads, gives bit for bit what it would
    have given without the kill. The file holds parameters, moments of Adam, random states and history; it is replaced
    in a single step, so a kill while it is written leaves the one before. Reading it runs no code.

    Parameters
    ----------
    path : file
        Made by the first epoch that is written; its folder must exist.
    every : int
        Epochs between two writes; the last whole epoch is always written, also after Ctrl-C.

    Notes
    -----
    The file is that of one run: with other data, another seed or other settings it is refused. Settings are compared
    by value, their tensors by SHA-256. Classes and functions are compared by name, not by code: after a change of what
    your own objective, regulariser, model or encoder computes, remove the file. What has no name of its own, such as a
    lambda or a function made within another, cannot be compared, and the fit says so before it begins.

    Examples
    --------
    >>> import probae as pa, tempfile
    >>> x = pa.datasets.holzinger_swineford().x
    >>> kept = pa.Checkpoint(f"{tempfile.mkdtemp()}/training.safetensors", every=50)
    >>> method = pa.SVI(pa.LinearGaussianEncoder(9, 2), epochs=300, checkpoint=kept)
    >>> first, again = (pa.fit(pa.FactorAnalysis(9, 2), x, method) for _ in range(2))    # the second has nothing to do
    >>> bool((first.model.loadings == again.model.loadings).all())
    True
    """

    path: str
    every: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not os.fspath(self.path):
            raise ParameterError(f"path should be the name of a file, got {self.path!r}.")
        object.__setattr__(self, "path", os.fspath(self.path))
        check_count("every", self.every)

    def due(self, epoch: int) -> bool:
        """Whether the state after this many epochs is written."""
        return epoch % self.every == 0

    def write(self, run: dict[str, str], tensors: dict[str, Tensor]) -> None:
        """Write the state of a run.

        Parameters
        ----------
        run : dict
            What the state belongs to: its data, seed and settings.
        tensors : dict
            The state, on its own memory.

        Raises
        ------
        FileError
            If the disk is full and the like; the state written before is then as it was.
        """
        own = {name: one.cpu().contiguous() for name, one in tensors.items()}
        state = {"format": "probae.training", "schema": SCHEMA, "run": run}
        text = json.dumps(state | {"sha256": digest(own)}, allow_nan=False)
        atomic_write(self.path, safetensors.torch.save(own, metadata={"state": text}))

    def read(self, run: dict[str, str], like: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the state of the run, or None where there is no file yet.

        Parameters
        ----------
        run : dict
            What is being run: a state of anything else is refused.
        like : dict of Tensor
            Names and dtypes that the state should have; shapes as well, but for vectors that grow (of length 0).

        Raises
        ------
        FileError
            If the file is damaged, is none of ours, or belongs to another run.
        """
        remove_stale(self.path)
        if not os.path.lexists(self.path):
            return None
        name = shown(self.path)
        raw = read_bytes(self.path)
        try:
            state = _state(raw)
            tensors = safetensors.torch.load(raw)
        except FileError as error:
            raise FileError(f"{name} is no checkpoint that can be read: {error}") from None
        except Exception as error:  # the parser's own errors, and torch's for shapes it cannot make
            raise FileError(f"{name} is no checkpoint that can be read: {str(error)[:200]}.") from error
        other = [part for part, value in run.items() if state["run"].get(part) != value]
        if other or set(state["run"]) != set(run):
            raise FileError(
                f"{name} is the checkpoint of another run, with other {_listed(other or ['settings'])}: remove it, or "
                "name another file."
            )
        if state["sha256"] != digest(tensors) or not _alike(tensors, like):
            raise FileError(f"{name} was changed after it was written: remove it to begin again.")
        return tensors


def digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes.

    Examples
    --------
    >>> digest({"a": torch.zeros(2)}) == digest({"a": torch.zeros(1, 2)})
    False
    """
    found = hashlib.sha256()
    for name, one in sorted(tensors.items()):
        one = one.detach().cpu().contiguous()
        found.update(f"{name} {one.dtype} {tuple(one.shape)}\n".encode())
        found.update(one.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _state(raw: bytes) -> dict[str, Any]:
    """Return the JSON in the header of the file, having checked it."""
    entry = check_header(raw).get("__metadata__")
    text = entry.get("state") if isinstance(entry, dict) else None
    state = strict_json(text.encode(), "its state") if isinstance(text, str) else None
    right = (
        isinstance(state, dict)
        and set(state) == {"format", "schema", "run", "sha256"}
        and state["format"] == "probae.training"
        and isinstance(state["run"], dict)
    )
    if not right or state is None:
        raise FileError("it does not say that it holds the state of a training.")
    if state["schema"] != SCHEMA:
        raise FileError(
            f"it has schema {str(state['schema'])[:20]}, and this version of probae reads {SCHEMA}."
        )
    return state


def _alike(tensors: dict[str, Tensor], like: dict[str, Tensor]) -> bool:
    return set(tensors) == set(like) and all(
        one.dtype == like[name].dtype
        and (one.shape == like[name].shape or (like[name].numel() == 0 and one.ndim == 1))
        for name, one in tensors.items()
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
