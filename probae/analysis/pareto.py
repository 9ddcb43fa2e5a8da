"""Whether a posterior can serve as a proposal for importance sampling, row by row."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.encoder_bound import posterior_law
from probae.analysis.importance_weighted import ImportanceWeighted
from probae.analysis.result import FEWEST
from probae.analysis.rows import check_rows
from probae.checks import ParameterError, check_count
from probae.inference import Fit
from probae.models.pyro_context import local_parameters

__all__ = ["pareto_k"]


@local_parameters
def pareto_k(run: Fit, x: Any, draws: int = 1000, *, seed: int = 0) -> Float[Tensor, "samples"]:
    r"""Return the Pareto shape k-hat of the importance weights p(x, z) / q(z | x) of each row.

    Below 0.5 the weights have a finite variance; above 0.7 q(z | x) misses so much of p(z | x) that averages under it
    cannot be repaired by weighting (Vehtari et al., 2024; Yao et al., 2018). It is 0 where q is the posterior.

    Parameters
    ----------
    run : Fit
        Its posterior has a density.
    x : array, DataFrame or Tensor (N, D)
    draws : int
        Draws for each row, at least 100.
    seed : int

    Raises
    ------
    ParameterError
        The posterior is a point mass, or draws without a density.
    DataError
        For rows the model cannot take.

    References
    ----------
    .. [1] Yao, Y., Vehtari, A., Simpson, D. & Gelman, A. (2018). Yes, but did it work?: Evaluating variational
       inference. ICML.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x[:5]
    >>> pa.pareto_k(pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x), x)
    tensor([0., 0., 0., 0., 0.], dtype=torch.float64)
    """
    if not isinstance(run, Fit):
        raise ParameterError(f"pareto_k needs the result of fit, got {type(run).__name__}.")
    check_count("draws", draws, minimum=FEWEST)
    check_count("seed", seed, minimum=0)
    data = check_rows(run.model, x)
    posterior_law(run, data.values[:1])
    with torch.no_grad():
        shape = ImportanceWeighted(draws, run.posterior).estimate(run.model, data.values, seed).k_hat
    assert shape is not None
    return shape.to(data.dtype)
