"""A general factor behind correlated factors, made explicit: the Schmid-Leiman transformation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import HeywoodWarning, ParameterError, UnderidentifiedWarning, warn
from probae.inference import MinimumResiduals
from probae.inference.fit import fit
from probae.models import FactorAnalysis
from probae.rotation.result import Rotation
from probae.statistics import SufficientStatistics


@dataclass(frozen=True, eq=False)
class SchmidLeiman:
    """Loadings on one general factor and on what is left of the others, all uncorrelated.

    Attributes
    ----------
    general : Tensor (D,)
        Loadings on the general factor, W g.
    group : Tensor (D, K)
        Loadings on the group factors, W diag(sqrt(1 - g^2)).
    factor_loadings : Tensor (K,)
        Loadings g of the factors on the general one.
    communalities : Tensor (D,)
        Of the correlated factors. The sums of squares of the loadings above are equal to them where one factor
        explains all correlations, and close to them otherwise.

    Examples
    --------
    >>> import probae as pa
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)
    >>> split = pa.schmid_leiman(pa.rotate(run, pa.rotation.Quartimin(), oblique=True))
    >>> split.general.shape, split.group.shape, split.factor_loadings.shape
    (torch.Size([9]), torch.Size([9, 3]), torch.Size([3]))
    """

    general: Float[Tensor, " features"]
    group: Float[Tensor, "features latents"]
    factor_loadings: Float[Tensor, " latents"]
    communalities: Float[Tensor, " features"]


def schmid_leiman(rotation: Rotation) -> SchmidLeiman:
    r"""Split correlated factors z into a general factor and group factors.

    One factor is fitted to their correlations by minimum residuals, Phi ~ g g' + diag(1 - g^2); then

    .. math:: W z = W g\, z_0 + W \operatorname{diag}(\sqrt{1 - g^2})\, z_\perp.

    Exact for three factors whose correlations allow it. Two factors do not determine g: they are given equal loadings
    sqrt(phi), with a warning.

    Parameters
    ----------
    rotation : Rotation
        Oblique, of two factors or more.

    Raises
    ------
    ParameterError
        `rotation` is none; the factors are uncorrelated, or there is only one; two correlate negatively.

    Warns
    -----
    UnderidentifiedWarning
        Two factors.
    HeywoodWarning
        The general factor takes all of one factor.

    References
    ----------
    .. [1] Schmid, J. & Leiman, J. M. (1957). The development of hierarchical factor solutions. Psychometrika 22, 53-61.

    Examples
    --------
    >>> import probae as pa
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)
    >>> rotation = pa.rotate(run, pa.rotation.Quartimin(), oblique=True)
    >>> split = pa.schmid_leiman(rotation)
    >>> rebuilt = split.general.outer(split.general) + split.group @ split.group.T
    >>> bool(torch.allclose(rebuilt, run.model.loadings @ run.model.loadings.T))
    True
    """
    if not isinstance(rotation, Rotation):
        raise ParameterError(f"rotation should be the result of pa.rotate, got {type(rotation).__name__}.")
    correlation = rotation.factor_correlation.double()
    latents = len(correlation)
    if not rotation.oblique or latents < 2:
        raise ParameterError("schmid_leiman needs two or more correlated factors: rotate with oblique=True.")
    g = _two(correlation) if latents == 2 else _several(correlation)
    largest = g.abs().argmax()
    g = g * torch.where(g.sum() < 0, -1.0, 1.0) if g.sum() != 0 else g * g[largest].sign()
    loadings = rotation.loadings.double()
    communalities = ((loadings @ correlation) * loadings).sum(1)
    return SchmidLeiman(loadings @ g, loadings * (1 - g.square()).clamp_min(0).sqrt(), g, communalities)


def _two(correlation: Tensor) -> Tensor:
    phi = correlation[0, 1]
    if phi < 0:
        raise ParameterError(
            f"Two factors that correlate {phi:.2f} have no general factor: turn one of them round."
        )
    warn(
        "Two factors do not determine a general one: they were given equal loadings on it.",
        UnderidentifiedWarning,
    )
    return phi.sqrt().expand(2)


def _several(correlation: Tensor) -> Tensor:
    latents = len(correlation)
    statistics = SufficientStatistics(1000, torch.zeros(latents, dtype=torch.float64), 1000 * correlation)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = fit(FactorAnalysis(latents, 1), statistics, MinimumResiduals())
    if any(issubclass(w.category, HeywoodWarning) for w in caught):
        warn("The general factor takes all of one factor, so its group factor vanishes.", HeywoodWarning)
    return run.model.loadings[:, 0].double()
