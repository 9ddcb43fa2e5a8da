"""The public lasso codes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from probae.checks import DataError, check_count, check_data, check_positive
from probae.codes.result import Codes
from probae.codes.solve import lasso


def sparse_codes(
    x: Any,
    dictionary: Any,
    penalty: float,
    *,
    tolerance: float = 1e-6,
    steps: int = 10_000,
    nonnegative: bool = False,
    start: Tensor | None = None,
) -> Codes:
    r"""Minimise 1/2 ||x - A z||^2 + penalty ||z||_1 for every row, by active sets.

    A row stops when its duality gap falls below ``tolerance`` times max(P(z), P(0)/1000).

    Parameters
    ----------
    x : array or Tensor (N, D)
    dictionary : array or Tensor (D, K)
    penalty : float
    tolerance : float
        Relative duality gap to reach.
    steps : int
        Most iterations; a row that needs more keeps its gap as it is.
    nonnegative : bool
        Whether codes may not be negative.
    start : Tensor (N, K), optional
        Codes to start from.

    Returns
    -------
    Codes

    Raises
    ------
    DataError, ParameterError
        For a wrong shape or value.

    Notes
    -----
    Rounds let in atoms whose correlation with the residual exceeds the penalty and jump to the exact minimum on the
    active ones, so a handful of them ends at rounding error. The certificate is computed in float64 whatever the dtype;
    float32 rows get float32 codes. As many threads work as torch may use. The first call on a machine compiles the
    solver, which takes about twenty seconds and is kept on disk. `benchmarks/codes.py` measures it beside SPAMS and
    scikit-learn.

    References
    ----------
    .. [1] Lee, H., Battle, A., Raina, R. & Ng, A. (2006). Efficient sparse coding algorithms. Advances in Neural
       Information Processing Systems 19, algorithm 1 (feature-sign search).
    .. [2] Osborne, M., Presnell, B. & Turlach, B. (2000). A new approach to variable selection in least squares
       problems. IMA Journal of Numerical Analysis 20, 389-403.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[3.0, 0.5, -2.0]])
    >>> sparse_codes(x, torch.eye(3), penalty=1.0).z
    tensor([[ 2.,  0., -1.]])
    >>> sparse_codes(x, torch.eye(3), penalty=1.0, nonnegative=True).z
    tensor([[2., 0., 0.]])
    """
    data = check_data(x)
    atoms = check_data(dictionary).values
    if atoms.shape[0] != data.values.shape[1]:
        raise DataError(
            f"dictionary should have shape ({data.values.shape[1]}, atoms) for these rows, got {tuple(atoms.shape)}."
        )
    wanted = (len(data.values), atoms.shape[1])
    if start is not None and (tuple(start.shape) != wanted or not bool(start.isfinite().all())):
        raise DataError(f"start should hold finite codes of shape {wanted}, got shape {tuple(start.shape)}.")
    check_positive("penalty", penalty)
    check_positive("tolerance", tolerance)
    x = data.values.to(data.dtype)
    return lasso(x, atoms, float(penalty), float(tolerance), check_count("steps", steps), start, nonnegative)
