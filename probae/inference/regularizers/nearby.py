"""Corruption by neighbours: the encoder is shown a row near the one the model is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import check_count, check_data


@dataclass(frozen=True, eq=False)
class NearbyRow:
    r"""Corruption that shows in place of each row one of its k nearest among given rows, drawn evenly.

    With squared error the best reconstruction of the shown row is the mean of the rows it stands for: near rows get
    near codes, which plain reconstruction does not ask for. A row that is among the given ones is its own nearest.

    Parameters
    ----------
    rows : table (N, D)
        Most often the data themselves; a float64 tensor is kept, anything else copied.
    neighbours : int
        k, at most N.

    Raises
    ------
    DataError, ParameterError
        If rows are no complete table, or fewer than the neighbours.

    Examples
    --------
    >>> import torch
    >>> NearbyRow([[0.0], [1.0], [9.0]], neighbours=1)(torch.tensor([[0.9], [7.0]]))
    tensor([[1.],
            [9.]])
    """

    rows: Any  # a tensor after the check
    neighbours: int = 10

    def __post_init__(self) -> None:
        check_count("neighbours", self.neighbours)
        values = check_data(self.rows, minimum_rows=self.neighbours).values
        if not (isinstance(self.rows, Tensor) and self.rows.dtype == torch.float64):
            object.__setattr__(self, "rows", values)  # a file knows its own tensor again, so that one is kept

    def __call__(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        """Return the rows shown."""
        rows = self.rows.to(x)
        # the other mode of cdist subtracts products, and is wrong where means are large beside spreads
        far = torch.cdist(x, rows, compute_mode="donot_use_mm_for_euclid_dist")
        near = far.topk(self.neighbours, dim=1, largest=False).indices
        chosen = torch.randint(self.neighbours, (len(x), 1), device=x.device)
        return rows[near.gather(1, chosen).squeeze(1)]
