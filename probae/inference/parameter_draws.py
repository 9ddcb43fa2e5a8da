r"""The two ends of every method whose parameters are random: the problem in units near 1, the answer in those of x."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from arviz_stats.base import array_stats
from jaxtyping import Float
from torch import Tensor

from probae.checks import ConvergenceWarning, Data, NotExactError, ParameterError, warn
from probae.inference.base import Outcome
from probae.inference.code_draws_posterior import CodeDrawsPosterior
from probae.inference.draws_posterior import DrawsPosterior
from probae.inference.gaussian import assign, set_canonical
from probae.inference.identified_group import identified_group
from probae.inference.units import spread_of
from probae.models import LinearFactorModel
from probae.parameter_priors import (
    Flat,
    InverseGamma,
    LoadingsPrior,
    MeanPrior,
    NoisePrior,
    Normal,
)
from probae.statistics import SufficientStatistics

LARGEST_R_HAT = 1.01
LEAST_ESS = 400  # Vehtari et al. (2021): below it, R-hat and intervals are themselves unreliable


@dataclass(frozen=True, eq=False)
class Problem:
    """Data and priors of a linear Gaussian model in units near 1.

    Attributes
    ----------
    model : LinearFactorModel
        Copy with fixed parameters, in units of x.
    data : SufficientStatistics, or Data with missing entries
        Of x / units.
    loadings, noise, mean : priors of x / units
    fixed_mean : Tensor (D,), in x / units; what ``Fixed()`` refers to.
    units : Tensor (D,)
    """

    model: LinearFactorModel
    data: SufficientStatistics | Data
    loadings: LoadingsPrior
    noise: NoisePrior
    mean: MeanPrior
    fixed_mean: Float[Tensor, " features"]
    units: Float[Tensor, " features"]

    @property
    def count(self) -> int:
        """Rows n."""
        return self.data.count if isinstance(self.data, SufficientStatistics) else len(self.data.values)

    @property
    def isotropic(self) -> bool:
        """Whether all features share one noise variance."""
        return self.model.noise == "isotropic"


def problem_of(model: LinearFactorModel, data: Data | SufficientStatistics, method: str) -> Problem:
    """Put data and priors in units of each column's spread; parameters without a prior get the default one.

    The defaults are W_dk ~ N(0, s_d^2), psi_d ~ IG(2, s_d^2 / 2), with s_d the standard deviation of column d (one
    common s under isotropic noise), and a flat mean.

    Raises
    ------
    NotExactError
        The model is not linear with Gaussian factors, or has no noise.
    ParameterError
        A parameter carries a plain Pyro distribution.
    """
    if (
        not isinstance(model, LinearFactorModel)
        or not model.gaussian
        or model.noise not in ("diagonal", "isotropic")
    ):
        raise NotExactError(
            f"{method} needs a linear model with Gaussian factors and noise, such as FactorAnalysis(9, 3), got "
            f"{model!r}: StochasticEM() samples the codes of non-Gaussian factors."
        )
    if isinstance(data, Data) and data.missing is None:
        data = SufficientStatistics.from_data(data.values).named(data.names)
    return in_units(model, data, method)


def in_units(model: LinearFactorModel, data: Data | SufficientStatistics, method: str) -> Problem:
    """Put data and priors in units of each column's spread, whatever the law of the factors; as `problem_of`."""
    units = units_of(model, data)
    priors = _priors(model, units, method)
    scaled = (
        data.scaled(units)
        if isinstance(data, SufficientStatistics)
        else replace(data, values=data.values / units)
    )
    loadings, noise, mean = (prior.in_units(units) for prior in priors)
    at = model.mean.detach().double() / units
    return Problem(model, scaled, loadings, noise, mean, fixed_mean=at, units=units)  # type: ignore[arg-type]


def units_of(model: LinearFactorModel, data: Data | SufficientStatistics) -> Tensor:
    """The spread of each column; the root of the mean variance for all under isotropic noise."""
    spread = data.variances.sqrt() if isinstance(data, SufficientStatistics) else spread_of(data.values)
    if model.noise == "isotropic":
        spread = torch.full_like(spread, float(spread.square().mean().sqrt()))
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def _priors(
    model: LinearFactorModel, units: Tensor, method: str
) -> tuple[LoadingsPrior, NoisePrior, MeanPrior]:
    """The priors of the model, in units of x, with the defaults for those it does not carry."""
    square = units.square() if model.noise == "diagonal" else float(units[0]) ** 2
    defaults = {"loadings": Normal(units), "noise_variance": InverseGamma(2.0, 0.5 * square), "mean": Flat()}
    kinds = {"loadings": LoadingsPrior, "noise_variance": NoisePrior, "mean": MeanPrior}
    found = defaults | model.parameter_priors
    for name, kind in kinds.items():
        if not isinstance(found[name], kind):
            raise ParameterError(
                f"{method} needs a law of probae.parameter_priors for {name}, such as {defaults[name]!r}, got "
                f"{found[name]!r}: NUTS() takes any distribution of Pyro."
            )
    return found["loadings"], found["noise_variance"], found["mean"]


def outcome_of(
    problem: Problem,
    draws: dict[str, Tensor],
    sample_stats: dict[str, Tensor],
    *,
    interrupted: bool = False,
    independent: bool = False,
) -> Outcome:
    """Put draws in units of x; build the posterior of the factors, the point model and the program, and warn.

    Parameters
    ----------
    problem : Problem
    draws : dict
        ``loadings`` (C, S, D, K), ``noise_variance`` (C, S, D) or (C, S), ``mean`` (C, S, D) and hyperparameters, of
        x / units.
    sample_stats : dict
        (C, S) each; ``lp`` is the log density of x / units and its parameters, in nats.
    independent : bool
        Whether the draws are independent, of a known law: nothing then asks whether chains mix.
    """
    units = problem.units
    draws = dict(draws)
    draws["loadings"] = draws["loadings"] * units[:, None]
    draws["noise_variance"] = draws["noise_variance"] * (units[0] if problem.isotropic else units).square()
    draws["mean"] = draws["mean"] * units
    model, posterior = summarize(problem.model, draws, problem.loadings)
    program = problem.model.with_priors(**_outer(problem))
    if "mean" not in program.random_parameters:
        program.mean = model.mean.detach().clone()
    converged = independent or check_mixing(draws)
    rows = problem.count
    shift = float(units.log().sum())
    history = sample_stats["lp"].mean(0) / rows - shift if "lp" in sample_stats else torch.zeros(0)
    return Outcome(
        posterior=posterior,
        history=history.tolist(),
        converged=converged,
        interrupted=interrupted,
        draws=draws,
        sample_stats=sample_stats,
        program=program,
    )


def _outer(problem: Problem) -> dict[str, Any]:
    """The priors in units of x."""
    back = 1 / problem.units
    return {
        "loadings": problem.loadings.in_units(back),
        "noise_variance": problem.noise.in_units(back),
        "mean": problem.mean.in_units(back),
    }


def summarize(
    model: LinearFactorModel, draws: dict[str, Tensor], prior: Any
) -> tuple[LinearFactorModel, DrawsPosterior | CodeDrawsPosterior]:
    """Write the aligned mean into the model; return the posterior of the factors in the same frame.

    Draws are rotated to the frame with W' Psi^{-1} W diagonal; where the prior holds the axes, their signs and order
    are matched.
    """
    loadings = draws["loadings"].flatten(0, 1)
    noise = draws["noise_variance"].flatten(0, 1)
    noise = noise[:, None].expand(loadings.shape[:2]) if noise.dim() == 1 else noise
    mean = draws["mean"].flatten(0, 1)
    group = identified_group(model, prior)
    with torch.no_grad():
        if group.rotates:
            set_canonical(model, _aligned(loadings, loadings[-1]).mean(0), noise.mean(0), mean.mean(0))
            aligned = _aligned(loadings, model.loadings.detach())
        else:
            matched = (draws["loadings"] @ group.rotations(draws["loadings"])).flatten(0, 1)
            level = noise.mean(0) if model.noise == "diagonal" else noise.mean()
            assign(model, matched.mean(0).numpy(), level, mean.mean(0))
            aligned = matched @ group.onto(matched.mean(0), model.loadings.detach())
        model.loadings = aligned.mean(0)
    if not model.gaussian:
        return model, CodeDrawsPosterior.of(model, aligned, noise, mean)
    return model, DrawsPosterior.of(aligned, noise, mean)


def _aligned(loadings: Tensor, reference: Tensor) -> Tensor:
    """Rotate each draw to the reference by orthogonal Procrustes."""
    u, _, v = torch.linalg.svd(loadings.mT @ reference)
    return loadings @ (u @ v)


def check_mixing(draws: dict[str, Tensor]) -> bool:
    """Warn of rotation-invariant quantities whose chains disagree, or whose draws are too few to tell.

    Looks at the noise variances and the diagonal of W W': raw loadings of Gaussian factors may rotate freely.
    """
    chains, count = draws["mean"].shape[:2]
    if count < 4:
        warn(f"{count} draws are too few to tell whether the chains have converged.", ConvergenceWarning)
        return False
    quantities = [draws["noise_variance"].reshape(chains, count, -1), draws["loadings"].square().sum(-1)]
    joined = torch.cat(quantities, -1)
    values = joined[..., (joined != joined[:1, :1]).any(1).any(0)].numpy()  # not what never moves
    if not values.shape[-1]:
        warn("No chain moved: no draw differs from the first.", ConvergenceWarning)
        return False
    r_hat = np.asarray(array_stats.rhat(values, chain_axis=0, draw_axis=1)).max()
    ess = np.asarray(array_stats.ess(values, chain_axis=0, draw_axis=1)).min()
    if not r_hat <= LARGEST_R_HAT:
        warn(
            f"R-hat of the noise variances and communalities reaches {r_hat:.3f}, above {LARGEST_R_HAT}: the chains "
            "have not converged to one law; allow more warmup and draws.",
            ConvergenceWarning,
        )
    if not ess >= LEAST_ESS:
        warn(
            f"The draws of the noise variances and communalities are worth as few as {ess:.0f} independent ones, below "
            f"{LEAST_ESS}: allow more draws.",
            ConvergenceWarning,
        )
    return bool(r_hat <= LARGEST_R_HAT and ess >= LEAST_ESS)
