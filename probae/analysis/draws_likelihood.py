r"""The likelihood of each row under each draw of the parameters, latents integrated out."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import NotExactError, ParameterError, check_data
from probae.linalg import LowRankCovariance
from probae.models import LinearFactorModel
from probae.models.marginal import missing_patterns
from probae.models.patterns import BLOCK
from probae.models.pyro_context import local_parameters
from probae.priors import CorrelatedGaussian

__all__ = ["log_likelihood_of_draws"]

LOG_TWO_PI = math.log(2 * math.pi)


@local_parameters
def log_likelihood_of_draws(
    model: LinearFactorModel, draws: Mapping[str, Tensor], x: Any
) -> Float[Tensor, "chain draw samples"]:
    r"""Return log p(x_n | W_s, Psi_s, mu_s) of every row n and every draw s of the parameters, z integrated out.

    .. math:: \log N(x_n;\ \mu_s,\ W_s \Phi W_s' + \Psi_s)

    for Gaussian latents, over the observed entries of each row; else what ``model.log_likelihood`` has in closed form.
    This is what leave-one-out cross-validation needs: with z sampled, each row has a latent of its own and the
    importance weights break down [1]_.

    Parameters
    ----------
    model : LinearFactorModel
        The law of z and the kind of noise; its own parameters stand in for those that have no draws.
    draws : mapping of str to Tensor
        As ``Fit.draws``: ``loadings`` (chain, draw, D, K), ``noise_variance`` (chain, draw, D), or (chain, draw) for
        one common variance, and ``mean`` (chain, draw, D). Other names are left alone.
    x : array, DataFrame or Tensor (N, D)
        NaN entries are integrated out where the latents are Gaussian.

    Returns
    -------
    Tensor (chain, draw, N)
        In nats, float64 as the draws are. Some megabytes beside it are held at a time, however many the draws.

    Raises
    ------
    NotExactError
        Where log p(x) has no closed form.
    ParameterError
        If the draws are not those of such a model.
    DataError
        For rows the model cannot take.

    References
    ----------
    .. [1] Merkle, E. C., Furr, D. & Rabe-Hesketh, S. (2019). Bayesian comparison of latent variable models:
       conditional versus marginal likelihoods. Psychometrika 84, 802-829.

    Examples
    --------
    >>> import probae as pa, torch
    >>> model = pa.FactorAnalysis(3, 1)
    >>> W = torch.randn(2, 5, 3, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> found = log_likelihood_of_draws(model, {"loadings": W}, [[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]])
    >>> model.loadings = W[1, 3]
    >>> torch.allclose(found[1, 3], model.log_likelihood([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]]))
    True
    """
    if not isinstance(model, LinearFactorModel):
        raise NotExactError(
            f"The likelihood of {type(model).__name__} has no closed form: log_evidence(run, x) estimates it."
        )
    allowed = model.gaussian and model.noise != "none"
    data = check_data(
        x, features=model.features, names=model.feature_names, missing="allow" if allowed else "refuse"
    )
    return of_checked_rows(model, draws, data.values)


def of_checked_rows(
    model: LinearFactorModel, draws: Mapping[str, Tensor], x: Float[Tensor, "samples features"]
) -> Float[Tensor, "chain draw samples"]:
    """Return `log_likelihood_of_draws` of rows that the model is known to take."""
    if model.gaussian and model.noise != "none":
        lead, loadings, noise, mean = flat_parameters(model, draws)
        return _gaussian(x, loadings, noise, mean).reshape(*lead, -1)
    lead, models = models_of(model, draws)
    return torch.stack([one.log_likelihood(x).double() for one in models]).reshape(*lead, -1)


def flat_parameters(
    model: LinearFactorModel, draws: Mapping[str, Tensor]
) -> tuple[torch.Size, Tensor, Tensor, Tensor]:
    """Return (chain, draw), and loadings (S, D, K) of uncorrelated factors, noise (S, D) and mean (S, D) of all draws.

    Raises
    ------
    ParameterError
        If the draws are not those of such a model.
    """
    lead, found = _checked(model, draws)
    loadings, noise, mean = (
        found.get(name, own).detach().double()
        for name, own in (
            ("loadings", model.loadings), ("noise_variance", model.noise_variance), ("mean", model.mean)
        )
    )  # fmt: skip
    if isinstance(model.prior, CorrelatedGaussian):
        loadings = loadings @ model.prior.factor.detach().double()
    if noise.ndim == len(lead) * ("noise_variance" in found):
        noise = noise.unsqueeze(-1)  # one variance for all features
    features, latents = model.features, model.latents
    return (
        lead,
        loadings.expand(*lead, features, latents).reshape(-1, features, latents),
        noise.expand(*lead, features).reshape(-1, features),
        mean.expand(*lead, features).reshape(-1, features),
    )


def _checked(model: LinearFactorModel, draws: Mapping[str, Tensor]) -> tuple[torch.Size, dict[str, Tensor]]:
    """Return (chain, draw) and the draws of parameters, whose shapes are those of the model."""
    found = {name: draws[name] for name in model.parameter_names if name in draws}
    if not found:
        raise ParameterError(
            f"draws should hold some of {', '.join(model.parameter_names)}, got {', '.join(draws) or 'none'}."
        )
    lead = next(iter(found.values())).shape[:2]
    for name, values in found.items():
        wanted = (*lead, *getattr(model, name).shape)
        if len(lead) < 2 or tuple(values.shape) != wanted:
            shape = ", ".join(["chain", "draw", *map(str, wanted[2:])])
            raise ParameterError(f"draws[{name!r}] should have shape ({shape}), got {tuple(values.shape)}.")
    return lead, found


def _gaussian(x: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor) -> Float[Tensor, "draws samples"]:
    """Return log N(x; mean, W W' + Psi) of each draw and row, over the observed entries of the row."""
    value = torch.empty(len(loadings), len(x), dtype=torch.float64)
    for rows, seen in missing_patterns(x):
        block, width = x[rows][:, seen], max(int(seen.sum()), 1)
        for some in _chunks(len(loadings), len(block) * width + width * loadings.shape[-1]):
            covariance = LowRankCovariance.factor(loadings[some][:, seen], noise[some][:, seen])
            parts = [
                covariance.log_density(part - mean[some][:, seen].unsqueeze(1))
                for part in block.split(max(BLOCK // width, 1))
            ]
            value[some, rows] = torch.cat(parts, 1) + 0.0  # no minus zero for a row without values
    return value


def _chunks(count: int, numbers: int) -> Iterator[slice]:
    """Cut draws into pieces that hold a few megabytes, where each takes so many numbers."""
    size = max(BLOCK // numbers, 1)
    return (slice(low, low + size) for low in range(0, count, size))


def models_of(
    model: LinearFactorModel, draws: Mapping[str, Tensor]
) -> tuple[torch.Size, Iterator[LinearFactorModel]]:
    """Return (chain, draw) and the model of each draw, one after the other in one copy."""
    lead, found = _checked(model, draws)
    one = copy.deepcopy(model)

    def walk() -> Iterator[LinearFactorModel]:
        for place in range(math.prod(lead)):
            for name, values in found.items():
                setattr(one, name, values.flatten(0, 1)[place])
            yield one

    return lead, walk()
