"""Codes with a given number of active atoms."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, ParameterError, check_count, check_data
from probae.codes.blocks import in_blocks

SWAPS = 1000  # most exchanges of a row; each lowers the error, so few rows need more than a handful


def orthogonal_matching_pursuit(x: Any, dictionary: Any, active: int) -> Float[Tensor, "samples latents"]:
    r"""Greedy least-squares codes of every row with at most ``active`` atoms.

    The atom with the largest \|a'r\| / \|a\| enters, all codes are refitted, and so on; a row that is fitted exactly
    stops earlier.

    Parameters
    ----------
    x : array or Tensor (N, D)
    dictionary : array or Tensor (D, K)
    active : int
        Most atoms of a row, at most min(D, K).

    Returns
    -------
    Tensor (N, K)

    Raises
    ------
    DataError, ParameterError
        For a wrong shape or value.

    References
    ----------
    .. [1] Pati, Y., Rezaiifar, R. & Krishnaprasad, P. (1993). Orthogonal matching pursuit: recursive function
       approximation with applications to wavelet decomposition. Asilomar Conference on Signals, Systems and
       Computers 27, 40-44.

    Examples
    --------
    >>> import torch
    >>> orthogonal_matching_pursuit(torch.tensor([[3.0, 0.5, -2.0]]), torch.eye(3), active=2)
    tensor([[ 3.,  0., -2.]])
    """
    return _pursue(x, dictionary, active, 0)


def k_sparse_codes(x: Any, dictionary: Any, active: int) -> Float[Tensor, "samples latents"]:
    r"""Least-squares codes of every row with at most ``active`` atoms that no exchange of one atom improves.

    Orthogonal matching pursuit is the start; then the best exchange of an active atom for another is made, with a
    refit, until none lowers \|x - A z\|^2. Finding the best set of all is NP-hard; this is a local optimum.

    Parameters
    ----------
    x : array or Tensor (N, D)
    dictionary : array or Tensor (D, K)
    active : int
        Most atoms of a row, at most min(D, K).

    Returns
    -------
    Tensor (N, K)

    Raises
    ------
    DataError, ParameterError
        For a wrong shape or value.

    Examples
    --------
    The pursuit takes the third atom first, which lies between the two that make up x:

    >>> import torch
    >>> atoms = torch.tensor([[1.0, 0.0, 0.7], [0.0, 1.0, 0.7], [0.0, 0.0, 0.1]])
    >>> x = torch.tensor([[1.0, 1.0, 0.0]])
    >>> (x - orthogonal_matching_pursuit(x, atoms, active=2) @ atoms.T).norm() > 0.05
    tensor(True)
    >>> k_sparse_codes(x, atoms, active=2)
    tensor([[1., 1., 0.]])
    """
    return _pursue(x, dictionary, active, SWAPS)


def _pursue(x: Any, dictionary: Any, active: int, swaps: int) -> Tensor:
    from probae.codes.pursuit import pursue_rows  # compiled on first use

    data, atoms = check_data(x), check_data(dictionary).values
    if atoms.shape[0] != data.values.shape[1]:
        raise DataError(
            f"dictionary should have shape ({data.values.shape[1]}, atoms) for these rows, got {tuple(atoms.shape)}."
        )
    if check_count("active", active) > min(atoms.shape):
        raise ParameterError(
            f"active should be at most {min(atoms.shape)}, the largest number of independent atoms, got {active}."
        )
    scale = float(atoms.abs().max().clamp_min(1e-300))  # squares of very small or large atoms stay in range
    scaled = atoms / scale
    gram = (scaled.T @ scaled).contiguous()
    codes = torch.zeros(len(data.values), len(gram), dtype=torch.float64)

    def solve(part: slice) -> None:
        rows = data.values[part]
        units = rows.abs().amax(1, keepdim=True).clamp_min(1e-300)
        rows = rows / units
        found = codes[part]
        pursue_rows(
            *(a.numpy() for a in (gram, rows @ scaled, rows.square().sum(1))), active, swaps, found.numpy()
        )
        found *= units / scale

    in_blocks(solve, *codes.shape)
    return codes.to(data.dtype)
