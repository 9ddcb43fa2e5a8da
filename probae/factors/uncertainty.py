"""Estimates with their covariance: standard errors, intervals and tables, in the units of x or of correlations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.checks import ParameterError
from probae.factors.estimators import Information
from probae.factors.printing import grid, number
from probae.factors.structure import Layout, Structure

UNIT = 1e-9  # variances of standardised features differ from 1 by rounding only


@dataclass(frozen=True, eq=False)
class Parameters:
    """One number for each parameter: the estimates, or the ends of their intervals.

    Attributes
    ----------
    loadings : Tensor (D, K)
    noise_variance : Tensor (D,) or ()
    factor_correlation : Tensor (K, K)
    communalities : Tensor (D,)
    """

    loadings: Float[Tensor, "features latents"]
    noise_variance: Tensor
    factor_correlation: Float[Tensor, "latents latents"]
    communalities: Float[Tensor, " features"]


@dataclass(frozen=True, eq=False)
class StandardErrors:
    """Standard errors in one frame, in the units of x; `standardized` has those of correlations.

    Attributes
    ----------
    loadings, noise_variance, factor_correlation, communalities : Tensor
        Standard errors, in the shapes of `Parameters`. Fixed zeros have 0. NaN: not available, the noise variance
        stands on its floor.
    estimate : Parameters
        The estimates they belong to, in the frame of `frame`.
    covariance : Tensor (q, q)
        Covariance of the estimates of the free parameters, in the order of `labels`.
    labels : tuple of str
    names : tuple of str
        Feature names.
    heywood : tuple of str
        Features whose noise variance stands on its floor and was held there.
    frame : str
        "canonical", "confirmatory", or the name of the rotation criterion.
    information : Information
        How the covariance was found.
    structure : Structure
        The estimates with the masks that say which of them are free.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> errors = pa.standard_errors(pa.fit(pa.FactorAnalysis(9, 1), x), x)
    >>> errors.labels[0], errors.labels[-1], errors.covariance.shape
    ('column 0 on z[0]', 'noise of column 8', torch.Size([18, 18]))
    >>> errors.standardized.loadings.shape
    torch.Size([9, 1])
    """

    loadings: Float[Tensor, "features latents"]
    noise_variance: Tensor
    factor_correlation: Float[Tensor, "latents latents"]
    communalities: Float[Tensor, " features"]
    estimate: Parameters
    covariance: Float[Tensor, "parameters parameters"]
    labels: tuple[str, ...]
    names: tuple[str, ...]
    heywood: tuple[str, ...]
    frame: str
    information: Information
    structure: Structure

    @property
    def standardized(self) -> StandardErrors:
        """The same of x / sd with the standard deviations that the model implies, which are estimates as well.

        With a fit to correlations these are the right ones, and those in the units of x are not.
        """
        structure, covariance = standardize(self.structure, self.covariance)
        return collect(structure, covariance, self.names, self.frame, self.information)

    def interval(self, level: float = 0.95) -> tuple[Parameters, Parameters]:
        """Lower and upper ends of intervals, each parameter by itself.

        Variances on the log scale, shares of a variance of 1 on that of log odds, correlations on that of Fisher's z,
        loadings as they are.

        Parameters
        ----------
        level : float
            Coverage, between 0 and 1.

        Examples
        --------
        >>> import probae as pa
        >>> x = pa.datasets.holzinger_swineford().x
        >>> lower, upper = pa.standard_errors(pa.fit(pa.FactorAnalysis(9, 1), x), x).interval()
        >>> bool((lower.loadings < upper.loadings).all())
        True
        """
        if not 0 < level < 1:
            raise ParameterError(f"level should be between 0 and 1, got {level}.")
        z = float(stats.norm.ppf(0.5 + level / 2))
        lower, upper = (self._end(side * z) for side in (-1.0, 1.0))
        return lower, upper

    def _end(self, z: float) -> Parameters:
        at = self.estimate
        correlation = at.factor_correlation.clone()
        off = ~torch.eye(len(correlation), dtype=torch.bool)
        rho = correlation[off]
        correlation[off] = torch.tanh(
            torch.atanh(rho) + z * self.factor_correlation[off] / (1 - rho.square())
        )
        shares = bool((self.structure.variance - 1).abs().max() < UNIT)
        end = _share_end if shares else _positive_end
        return Parameters(
            at.loadings + z * self.loadings,
            end(at.noise_variance, self.noise_variance, z),
            correlation,
            end(at.communalities, self.communalities, z),
        )

    def table(self, level: float = 0.95) -> str:
        """Every free parameter with its estimate, standard error and interval, as text.

        Examples
        --------
        >>> import probae as pa
        >>> x = pa.datasets.holzinger_swineford().x
        >>> errors = pa.standard_errors(pa.fit(pa.FactorAnalysis(9, 1), x), x)
        >>> errors.table().splitlines()[0].split()
        ['estimate', 'error', '95', '%', 'from', 'to']
        """
        lower, upper = self.interval(level)
        columns = [_flatten(part, self.structure.layout) for part in (self.estimate, self, lower, upper)]
        rows = [
            [label, *(number(float(v)) for v in values)]
            for label, *values in zip(self.labels, *columns, strict=True)
        ]
        return grid(["", "estimate", "error", f"{100 * level:g} % from", "to"], rows)

    def __str__(self) -> str:
        at = self.estimate
        factors = self.structure.layout.factors
        noise = at.noise_variance.expand(len(self.names)), self.noise_variance.expand(len(self.names))
        rows = [
            [
                name,
                *(_pair(v, e) for v, e in zip(at.loadings[i], self.loadings[i], strict=True)),
                _pair(at.communalities[i], self.communalities[i]),
                _pair(noise[0][i], noise[1][i]),
            ]
            for i, name in enumerate(self.names)
        ]
        text = f"Estimates (standard errors), {self.frame} frame, {type(self.information).__name__}\n"
        text += grid(["", *factors, "communality", "noise variance"], rows)
        if self.structure.layout.correlated:
            pairs = [
                [
                    factors[k],
                    *(
                        _pair(v, e)
                        for v, e in zip(at.factor_correlation[k], self.factor_correlation[k], strict=True)
                    ),
                ]
                for k in range(len(factors))
            ]
            text += "\n\nFactor correlations\n" + grid(["", *factors], pairs)
        if self.heywood:
            text += f"\n\nHeld on its floor, without a standard error: noise variance of {', '.join(self.heywood)}."
        return text


def standardize(structure: Structure, covariance: Tensor) -> tuple[Structure, Tensor]:
    """Divide by the standard deviations the model implies and carry the covariance along (delta method)."""
    layout = structure.layout
    sd = structure.variance.sqrt()
    scaled = structure.scaled(sd)
    target = replace(layout, isotropic=False)
    full = torch.eye(layout.loadings.numel() + len(layout.pairs[0]) + layout.features, dtype=torch.float64)
    jacobian = layout.reduce(full)  # of the full parameter vector by the free parameters
    relative = variance_gradient(structure) / structure.variance.unsqueeze(1)  # of the log variances
    loadings, rest = jacobian[: layout.loadings.numel()], jacobian[layout.loadings.numel() :]
    pairs, noise = rest[: len(layout.pairs[0])], rest[len(layout.pairs[0]) :]
    latents = layout.latents
    loadings = loadings / sd.repeat_interleave(latents).unsqueeze(1)
    loadings = loadings - 0.5 * scaled.loadings.reshape(-1, 1) * relative.repeat_interleave(latents, 0)
    noise = noise / structure.variance.unsqueeze(1) - scaled.noise.unsqueeze(1) * relative
    derivative = torch.cat([loadings, pairs, noise])[target.free]
    moved = derivative @ covariance @ derivative.mT
    return replace(scaled, layout=target), (moved + moved.mT) / 2


def communality_gradient(structure: Structure) -> Tensor:
    """Derivatives (D, q) of the communalities by the free parameters."""
    W, layout = structure.loadings, structure.layout
    t, u = layout.pairs
    loading = torch.diag_embed((2 * W @ structure.correlation).mT).permute(1, 2, 0).flatten(1)
    return layout.reduce(
        torch.cat([loading, 2 * W[:, t] * W[:, u], torch.zeros(len(W), len(W), dtype=W.dtype)], 1)
    )


def variance_gradient(structure: Structure) -> Tensor:
    """Derivatives (D, q) of the implied variances by the free parameters."""
    layout = structure.layout
    noise = torch.zeros(layout.features, layout.loadings.numel() + len(layout.pairs[0]) + layout.features)
    noise[:, -layout.features :] = torch.eye(layout.features)
    return communality_gradient(structure) + layout.reduce(noise.double())


def collect(
    structure: Structure, covariance: Tensor, names: tuple[str, ...], frame: str, information: Information
) -> StandardErrors:
    """Put estimates and the square roots of their variances in place."""
    layout = structure.layout
    loadings, correlation, noise = layout.spread(covariance.diagonal().clamp_min(0).sqrt())
    gradient = communality_gradient(structure)
    communalities = ((gradient @ covariance) * gradient).sum(1).clamp_min(0).sqrt()
    estimate = Parameters(
        structure.loadings,
        structure.noise[0] if layout.isotropic else structure.noise,
        structure.correlation,
        structure.communalities,
    )
    return StandardErrors(
        loadings,
        noise,
        correlation,
        communalities,
        estimate=estimate,
        covariance=covariance,
        labels=layout.labels(names),
        names=names,
        heywood=tuple(name for name, free in zip(names, layout.noise.tolist(), strict=True) if not free),
        frame=frame,
        information=information,
        structure=structure,
    )


def _positive_end(value: Tensor, error: Tensor, z: float) -> Tensor:
    """End of an interval on the log scale; 0 stays 0."""
    return torch.where(value > 0, value * (z * error / value.clamp_min(1e-300)).exp(), value + z * error)


def _share_end(value: Tensor, error: Tensor, z: float) -> Tensor:
    """End of an interval on the scale of log odds; 0 and 1 stay."""
    inside = (value > 0) & (value < 1)
    spread = (value * (1 - value)).clamp_min(1e-300)
    return torch.where(inside, torch.sigmoid(torch.logit(value) + z * error / spread), value)


def _flatten(values: Any, layout: Layout) -> Tensor:
    parts = [values.loadings[layout.loadings]]
    if layout.correlated:
        parts.append(values.factor_correlation[layout.pairs])
    noise = values.noise_variance.reshape(1) if layout.isotropic else values.noise_variance[layout.noise]
    return torch.cat([*parts, noise])


def _pair(value: Tensor, error: Tensor) -> str:
    return f"{number(float(value))} ({number(float(error))})" if error != 0 else number(float(value))
