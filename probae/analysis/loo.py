r"""Leave-one-out cross-validation by importance sampling, z integrated out.

With draws of the parameters from p(theta | x), those of p(theta | x without row n) have weights

.. math:: w_{ns} \propto 1 / p(x_n \mid \theta_s), \qquad
          p(x_n \mid x_{-n}) \approx \frac{\sum_s w_{ns} p(x_n \mid \theta_s)}{\sum_s w_{ns}},

whose tail is smoothed by a generalised Pareto distribution; its shape k-hat says whether that can work.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from probae.analysis.cross_validation import CrossValidation, few_rows, fingerprint
from probae.analysis.left_out import LeftOut, leave_out, relative_efficiency
from probae.analysis.predictive_density import check_fit, draws_blocks, rows_of
from probae.analysis.result import FEWEST, tail_shape
from probae.analysis.weighted_draws import draw_weights, draws_of
from probae.checks import NotExactError, ParameterError
from probae.inference import Fit
from probae.inference.fit import fit
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters

__all__ = ["loo"]

SCHEME = "leave one out"
FEW_DRAWS = 1000  # below which the tails of the weights have too few draws for a steady k-hat


@local_parameters
def loo(run: Fit, x: Any, *, refit: bool = False) -> CrossValidation:
    r"""Estimate the log predictive density of each row given the others, from draws of the parameters (PSIS-LOO).

    Parameters
    ----------
    run : Fit
        With draws of the parameters, from a sampler.
    x : array, DataFrame or Tensor (N, D)
        The rows of the fit. NaN entries are integrated out.
    refit : bool
        Fit again without each row whose k-hat is above the limit, which is exact up to the draws: one fit a row.

    Returns
    -------
    CrossValidation

    Raises
    ------
    ParameterError
        The fit has no draws of the parameters, or fewer than 100: use `k_fold`.
    NotExactError
        p(x) has no closed form. The density given z will not do in its place: every row has a z of its own, its
        weights have no finite variance, and what they estimate is not the prediction of a new row [2]_.
    DataError
        For rows the model cannot take.

    References
    ----------
    .. [1] Vehtari, A., Gelman, A. & Gabry, J. (2017). Practical Bayesian model evaluation using leave-one-out
       cross-validation and WAIC. Statistics and Computing 27, 1413-1432.
    .. [2] Merkle, E. C., Furr, D. & Rabe-Hesketh, S. (2019). Bayesian comparison of latent variable models:
       conditional versus marginal likelihoods. Psychometrika 84, 802-829.
    .. [3] Vehtari, A., Simpson, D., Gelman, A., Yao, Y. & Gabry, J. (2024). Pareto smoothed importance sampling.
       Journal of Machine Learning Research 25(72), 1-58.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), x, pa.Gibbs())
    >>> found = pa.loo(run, x)
    >>> round(found.total / 10) * 10, bool(found.doubtful.any())
    (-3750, False)
    """
    check_fit(run, "loo")
    count = _check_draws(run)
    data = rows_of(run.model, x)
    try:
        parts = _leave_out(run, data.values)
    except NotExactError:
        raise _no_marginal(run) from None
    found = CrossValidation(
        parts.elpd,
        SCHEME,
        fingerprint(data.values),
        in_sample=parts.in_sample,
        k_hat=parts.k_hat,
        monte_carlo_error=parts.error,
        limit=min(1 - 1 / math.log10(count), 0.7),
        notes=few_rows(len(data.values)) + _few_draws(count) + draw_weights(run).notes,
    )
    return _with_doubts(_refitted(found, run, data.values) if refit else found, refit)


def _leave_out(run: Fit, values: Tensor) -> LeftOut:
    """Leave out each of the rows, some at a time."""
    weight, efficiency = draw_weights(run).raw, relative_efficiency(run, values)
    parts = [leave_out(block, efficiency, weight) for _, block in draws_blocks(run, values)]
    return LeftOut(*(torch.cat(some) for some in zip(*parts, strict=True)))


def _refitted(found: CrossValidation, run: Fit, values: Tensor) -> CrossValidation:
    """Replace doubtful rows by what fits without them say; k-hat is then that of the densities that are averaged."""
    assert found.k_hat is not None
    assert found.monte_carlo_error is not None
    pointwise, k_hat, error = found.pointwise.clone(), found.k_hat.clone(), found.monte_carlo_error.clone()
    for row in torch.nonzero(found.doubtful).flatten().tolist():
        without = fit(run.program, torch.cat([values[:row], values[row + 1 :]]), run.method, seed=run.seed)
        if without.interrupted:
            raise KeyboardInterrupt
        one = _leave_out(without, values[row : row + 1])
        (_, block), *_ = draws_blocks(without, values[row : row + 1])
        pointwise[row], error[row] = one.in_sample[0], one.in_sample_error[0]
        k_hat[row] = tail_shape(block.reshape(1, -1) + draw_weights(without).raw)[0]
    return replace(found, pointwise=pointwise, k_hat=k_hat, monte_carlo_error=error)


def _with_doubts(found: CrossValidation, refit: bool) -> CrossValidation:
    """Say what to do about rows whose weights are too heavy."""
    bad = int(found.doubtful.sum())
    if not bad:
        return found
    advice = "use k_fold, or a model with room for such rows." if refit else "pass refit=True, or use k_fold."
    rows = f"{bad} row{'s have' if bad > 1 else ' has'}"
    note = f"{rows} a Pareto k above {found.limit:.2f}, so the total is unreliable: {advice}"
    return replace(found, notes=(*found.notes, note))


def _few_draws(count: int) -> tuple[str, ...]:
    if count >= FEW_DRAWS:
        return ()
    return (
        f"with {count} draws, fewer than {FEW_DRAWS}, k-hat and the Monte Carlo error are rough: draw more.",
    )


def _no_marginal(run: Fit) -> NotExactError:
    return NotExactError(
        f"loo needs log p(x) with z integrated out, and {run.model!r} has no closed form of it; the density given z "
        "cannot stand in for it, as each row has a z of its own: use k_fold."
    )


def _check_draws(run: Fit) -> int:
    """Return how many draws of the parameters there are, or say what is missing."""
    draws = draws_of(run)
    if not draws:
        raise ParameterError(
            f"loo needs draws of the parameters, and {type(run.method).__name__} gave none: use k_fold(model, x, "
            "method), which fits again without some rows."
        )
    if not isinstance(run.model, LinearFactorModel):
        raise _no_marginal(run)
    count = math.prod(next(iter(draws.values())).shape[:2])
    if count < FEWEST:
        raise ParameterError(f"loo needs at least {FEWEST} draws of the parameters, got {count}: draw more.")
    return count
