"""The tensors of a saved fit: one safetensors file, checked against the manifest before anything is built."""

from __future__ import annotations

import hashlib
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from probae.checks import FileError
from probae.strict import check_header, is_count, is_digest

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    + (torch.int64, torch.int32, torch.uint8, torch.bool)
}
MAY_BE_INFINITE = ("history", "draws.", "sample_stats.")  # parameters must be finite


def dump(tensors: dict[str, Tensor]) -> bytes:
    """Write tensors as safetensors.

    Raises
    ------
    FileError
        If a parameter is not finite, or `parse` would refuse the result.

    Examples
    --------
    >>> import torch
    >>> parse(dump({"a": torch.ones(2)}), describe({"a": torch.ones(2)}))
    {'a': tensor([1., 1.])}
    """
    for name, tensor in tensors.items():
        _check_finite(name, tensor)
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    raw = safetensors.torch.save(own)
    check_header(raw)
    return raw


def describe(tensors: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Return dtype, shape and SHA-256 of each tensor."""
    return {
        name: {"dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "sha256": digest(t)}
        for name, t in tensors.items()
    }


def digest(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's bytes."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().data).hexdigest()


def parse(raw: bytes, described: dict[str, Any]) -> dict[str, Tensor]:
    """Read the tensors and compare them with their description.

    Raises
    ------
    FileError
        For a malformed file, or one that does not hold exactly what is described.
    """
    names = set(check_header(raw)) - {"__metadata__"}
    if names != set(described):
        raise FileError("the weights hold other tensors than the manifest describes.")
    for name, entry in described.items():
        _check_entry(name, entry)
    try:
        tensors = safetensors.torch.load(raw)
    except Exception as error:  # the parser's own errors, and torch's for shapes it cannot make
        raise FileError(f"the weights are malformed: {str(error)[:200]}.") from error
    for name, tensor in tensors.items():
        entry = described[name]
        if str(tensor.dtype).removeprefix("torch.") != entry["dtype"] or list(tensor.shape) != entry["shape"]:
            raise FileError(f"the tensor {name[:60]!r} differs from the manifest in dtype or shape.")
        if digest(tensor) != entry["sha256"]:
            raise FileError(f"the tensor {name[:60]!r} was changed after it was written.")
        _check_finite(name, tensor)
    return tensors


def _check_entry(name: str, entry: Any) -> None:
    right = (
        isinstance(entry, dict)
        and set(entry) == {"dtype", "shape", "sha256"}
        and entry["dtype"] in tuple(DTYPES)
        and isinstance(entry["shape"], list)
        and all(is_count(side) for side in entry["shape"])
        and is_digest(entry["sha256"])
    )
    if not right:
        raise FileError(f"the manifest has a malformed description of the tensor {name[:60]!r}.")


def _check_finite(name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not name.startswith(MAY_BE_INFINITE) and not tensor.isfinite().all():
        raise FileError(f"the tensor {name[:60]!r} holds values that are not finite.")
