"""The collapsed density sampled by nutpie."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probae.checks import ParameterError
from probae.inference.nuts.first import Start, density_of
from probae.inference.nuts.record import parameters_of
from probae.inference.nuts.settings import Sampled, Settings
from probae.inference.nuts.start import Density
from probae.inference.nuts.target import precision_of
from probae.inference.parameter_draws import Problem

__all__ = ["sample"]

NAMES = {  # nutpie's: those of ArviZ
    "diverging": "diverging",
    "energy": "energy",
    "mean_tree_accept": "acceptance_rate",
    "depth": "tree_depth",
    "n_steps": "n_steps",
    "step_size": "step_size",
}


def sample(problem: Problem, start: Start, method: Settings, generator: np.random.Generator) -> Sampled:
    """Return draws and statistics, (C, T, ...) each.

    Raises
    ------
    ParameterError
        nutpie is not installed, or the prior of the loadings has hyperparameters, which are drawn between moves.
    """
    try:
        import nutpie
    except ImportError:
        raise ParameterError(
            'engine="nutpie" needs nutpie, which is not installed: pip install "probae[nuts]", or use NUTS().'
        ) from None
    if problem.loadings.start(1, problem.model.features, problem.model.latents):
        raise ParameterError(
            f'engine="nutpie" has no moves for the hyperparameters of {problem.loadings!r}: use NUTS() or Gibbs().'
        )
    precision = precision_of(problem.loadings.variance({}), 1, start.place)[0]
    model = _model(density_of(start.target, precision), start, generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of ArviZ, about its own next version
        trace: Any = nutpie.sample(
            model,
            draws=method.draws,
            tune=method.warmup,
            chains=method.chains,
            cores=1,
            seed=int(generator.integers(2**31)),
            save_warmup=False,
            progress_bar=False,
            low_rank_modified_mass_matrix=True,
            target_accept=method.target_acceptance,
            maxdepth=method.tree_depth,
        )
    theta = np.ascontiguousarray(trace.posterior["theta"].values)
    draws, log_joint = parameters_of(problem, start, theta, {}, generator)
    told = trace.sample_stats
    statistics = {own: torch.from_numpy(told[name].values.astype(float)) for name, own in NAMES.items()}
    return draws, statistics | {"lp": log_joint}, False


def _model(density: Density, start: Start, generator: np.random.Generator) -> Any:
    """Return the density as nutpie takes it."""
    from nutpie.compiled_pyfunc import from_pyfunc

    size = len(start.theta)
    seeds = int(generator.integers(2**31))

    def first(seed: int) -> NDArray[np.float64]:
        return start.jittered(1, np.random.default_rng([seeds, seed]))[0]

    def expand(*_: int) -> Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
        return lambda theta: {"theta": theta.copy()}

    return from_pyfunc(
        size,
        lambda: density,
        expand,
        [np.dtype(np.float64)],
        [(size,)],
        ["theta"],
        make_initial_point_fn=first,
    )
