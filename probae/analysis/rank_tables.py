"""The ranks of a calibration for other tools: ArviZ's plots and R."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probae.analysis.calibration import Calibration
from probae.files import atomic_write

if TYPE_CHECKING:
    import xarray

__all__ = ["ranks_to_csv", "ranks_to_datatree"]

COLUMNS = ("sim_id", "variable", "rank", "max_rank", "z_score")


def ranks_to_datatree(calibration: Calibration) -> xarray.DataTree:
    """Return the ranks as a DataTree whose group ``prior_sbc`` is what ArviZ's ``plot_ecdf_pit`` draws.

    Ranks r of 0, ..., L stand as (r + u) / (L + 1) with u uniform on (0, 1): uniform too where the ranks are.

    Parameters
    ----------
    calibration : Calibration

    Returns
    -------
    xarray.DataTree
        Group ``prior_sbc`` with a variable for each quantity, dimensions chain (1) and draw (N). Attributes say how
        many draws were ranked and how many fits failed.

    Examples
    --------
    >>> import probae as pa, torch
    >>> theta = torch.randn(100, 300, 2, generator=torch.Generator().manual_seed(0))
    >>> tree = ranks_to_datatree(pa.Calibration.from_draws(["a", "b"], theta[0], theta[1:]))
    >>> dict(tree["prior_sbc"].sizes)
    {'chain': 1, 'draw': 300}
    """
    import xarray

    spread = np.random.default_rng(0).random(calibration.ranks.shape)
    values = (calibration.ranks.numpy() + spread) / (calibration.draws + 1)
    variables = {
        name: (("chain", "draw"), column[None])
        for name, column in zip(calibration.names, values.T, strict=True)
    }
    group = xarray.Dataset(
        variables,
        coords={"chain": [0], "draw": np.arange(len(values))},
        attrs={"draws_ranked": calibration.draws, "failed_fits": len(calibration.failures)},
    )
    return xarray.DataTree.from_dict({"prior_sbc": group})


def ranks_to_csv(calibration: Calibration, path: str | os.PathLike[str]) -> Path:
    """Write the ranks as a table with a line for each simulation and quantity.

    Columns are named as in the ``stats`` of R's package SBC: ``sim_id`` from 1, ``variable``, ``rank``, ``max_rank``
    (the draws ranked) and ``z_score``, (truth - mean) / sd, empty for quantities without one.

    Parameters
    ----------
    calibration : Calibration
    path : file

    Returns
    -------
    Path

    Raises
    ------
    FileError
        If the file cannot be written.

    Examples
    --------
    >>> import probae as pa, tempfile, torch
    >>> theta = torch.randn(100, 300, 2, generator=torch.Generator().manual_seed(0))
    >>> found = pa.Calibration.from_draws(["a", "b"], theta[0], theta[1:])
    >>> ranks_to_csv(found, f"{tempfile.mkdtemp()}/ranks.csv").read_text().splitlines()[0]
    'sim_id,variable,rank,max_rank,z_score'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    known = calibration.deviations.shape[1]
    for number, (ranks, scores) in enumerate(
        zip(calibration.ranks.tolist(), calibration.deviations.tolist(), strict=True), start=1
    ):
        for k, (name, rank) in enumerate(zip(calibration.names, ranks, strict=True)):
            writer.writerow([number, name, rank, calibration.draws, repr(scores[k]) if k < known else ""])
    return atomic_write(path, text.getvalue().encode())
