"""Rows that are looked at under a model."""

from __future__ import annotations

from typing import Any

from probae.checks import Data, check_data

__all__ = ["check_rows"]


def check_rows(model: Any, x: Any, minimum_rows: int = 1) -> Data:
    """Return complete rows of the columns that a model was fitted to, and that it has a density for.

    Raises
    ------
    DataError
        For any others.

    Examples
    --------
    >>> import probae as pa
    >>> check_rows(pa.FactorAnalysis(2, 1), [[1.0, 2.0]]).values.shape
    torch.Size([1, 2])
    """
    data = check_data(x, features=model.features, names=model.feature_names, minimum_rows=minimum_rows)
    model.check(data.values)
    return data
