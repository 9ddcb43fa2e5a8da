r"""Does a sampler of parameters draw from the posterior? Simulate them and x from the model, and rank them."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from probae.analysis.calibration import Calibration
from probae.analysis.simulator import Replicates, Simulator
from probae.analysis.uniform_ranks import BINS
from probae.checks import ParameterError, ProbaeWarning, check_count
from probae.inference import Checkpoint, Method
from probae.inference.identity import settings_of
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.parameter_priors import LoadingsPrior, NoisePrior

__all__ = ["parameter_calibration"]


@local_parameters
def parameter_calibration(
    model: LinearFactorModel,
    method: Method,
    rows: int,
    *,
    simulations: int = 1000,
    draws: int = 99,
    missing: float = 0.0,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
) -> Calibration:
    r"""Simulate parameters from their priors and x given them, fit, and rank the parameters among the draws of the fit.

    If the method draws from p(W, psi, mean | x), then the parameters that made x and the draws are exchangeable, so the
    ranks are uniform (Talts et al., 2018). What is ranked does not change when the factors are rotated: noise
    variances, entries and the largest eigenvalue of W W', the log-likelihood of x, the log joint density and the
    expectation of an entry of x.

    Of the draws of a fit, evenly spaced ones are ranked. The effective sample size of every quantity has to be at least
    their number: fits below are run again with twice the draws, up to 64 times as many. A fit that still falls short,
    diverges or raises an error is a failure: of the first two the ranks are used all the same, and more than 1 % of
    failures mean that the calibration has not passed.

    Parameters
    ----------
    model : LinearFactorModel
        With laws of :mod:`probae.parameter_priors` on loadings and noise variance, from ``with_priors``. The mean is
        that of the model, unless it has a proper law.
    method : Method
        A sampler, or an approximation that gives draws of the parameters.
    rows : int
        Rows of x.
    simulations : int
        At least 100; 1,000 find a posterior 20 % too narrow for sure, 10 % every second time.
    draws : int
        Draws ranked in each simulation.
    missing : float
        Chance of an entry of x to be hidden.
    seed : int
        Simulation i is a function of (seed, i) alone.
    checkpoint : Checkpoint, optional
        A file from which a killed calibration goes on; ``every`` counts simulations.

    Returns
    -------
    Calibration
        Deviations take their mean and sd from all draws of a fit, corrected for the error of both to first order.

    Raises
    ------
    ParameterError
        A parameter without a proper law, or a method without draws of parameters.

    References
    ----------
    .. [1] Talts, S., Betancourt, M., Simpson, D., Vehtari, A. & Gelman, A. (2018). Validating Bayesian inference
       algorithms with simulation-based calibration. arXiv:1804.06788.

    Examples
    --------
    >>> import probae as pa
    >>> laws = pa.parameter_priors
    >>> model = pa.FactorAnalysis(3, 1).with_priors(loadings=laws.Normal(1.0), noise_variance=laws.InverseGamma())
    >>> method = pa.Gibbs(draws=40, warmup=20, chains=1)
    >>> found = pa.parameter_calibration(model, method, rows=10, simulations=100, draws=19)
    >>> found.ranks.shape, len(found.failures)
    (torch.Size([100, 16]), 0)
    """
    _check(model, method, missing)
    for name, value, least in (
        ("rows", rows, 2),
        ("simulations", simulations, 100),
        ("draws", draws, BINS - 1),
    ):
        check_count(name, value, minimum=least)
    simulator = Simulator(model, method, rows, draws, missing, check_count("seed", seed, minimum=0))
    run = {} if checkpoint is None else _identity(simulator)
    like = {name: one[:0] for name, one in Replicates().tensors().items()}
    kept = None if checkpoint is None else checkpoint.read(run, like)
    found = Replicates() if kept is None else Replicates.of(kept)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbaeWarning)  # what the draws are worth is looked at here
        for number in range(found.done, simulations):
            found.add(simulator(number))
            if checkpoint and (checkpoint.due(found.done) or found.done == simulations):
                checkpoint.write(run, found.tensors())
    if not found.ranks:
        raise ParameterError(f"Every fit failed, the first with {found.failures[0][1]}")
    ranks, deviations = torch.stack(found.ranks[:simulations]), torch.stack(found.deviations[:simulations])
    return Calibration(found.names, ranks, draws, deviations, tuple(found.failures))


def _check(model: Any, method: Any, missing: float) -> None:
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(
            f"parameter_calibration needs a linear model such as FactorAnalysis(9, 3), got {type(model).__name__}."
        )
    for name, kind in (("loadings", LoadingsPrior), ("noise_variance", NoisePrior)):
        if not isinstance(model.parameter_priors.get(name), kind):
            raise ParameterError(
                f"parameter_calibration draws the {name} from their prior, but the model has none: give it one of "
                "probae.parameter_priors by model.with_priors()."
            )
    if not isinstance(method, Method) or not method.random:
        raise ParameterError(f"method should draw parameters, such as Gibbs(), got {method!r}.")
    if not 0 <= missing < 1:
        raise ParameterError(f"missing is the chance of an entry to be hidden, in [0, 1), got {missing!r}.")


def _identity(simulator: Simulator) -> dict[str, str]:
    """What a checkpoint belongs to: all but the number of simulations."""
    own = {name: repr(getattr(simulator, name)) for name in ("rows", "draws", "missing", "seed")}
    kind = type(simulator.method)
    settings = settings_of(simulator.method, simulator.model)
    return {f"of {name}": text for name, text in settings.items()} | own | {"method": kind.__qualname__}
