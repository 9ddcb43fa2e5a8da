r"""Standard errors of loadings, noise variances and factor correlations, in the frame the loadings are read in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.checks import ConvergenceWarning, DataError, HeywoodWarning, ParameterError, warn
from probae.factors.estimators import (
    ExpectedInformation,
    Information,
    ObservedInformation,
    check_size,
    gain_left,
    is_complete,
)
from probae.factors.frames import frame_of
from probae.factors.groups import Group, group_rows
from probae.factors.printing import grid, number
from probae.factors.structure import Layout, Structure, feature_names, structure_of
from probae.inference import Fit
from probae.inference.least_squares import LeastSquares
from probae.rotation.result import Rotation

SMALLEST_UNIT, LARGEST_UNIT = (
    1e-60,
    1e60,
)  # standard deviations whose fourth powers and their inverses are in range
GAIN = 0.05  # nats of all rows that may be left to gain at a maximum found by an iterative method


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
        return _collect(structure, covariance, self.names, self.frame, self.information)

    def interval(self, level: float = 0.95) -> tuple[Parameters, Parameters]:
        """Lower and upper ends of intervals, each parameter by itself.

        Variances on the log scale, correlations on that of Fisher's z, loadings as they are.

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
        return Parameters(
            at.loadings + z * self.loadings,
            _positive_end(at.noise_variance, self.noise_variance, z),
            correlation,
            _positive_end(at.communalities, self.communalities, z),
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
        factors = [f"factor {k + 1}" for k in range(at.loadings.shape[1])]
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


def standard_errors(
    run: Fit,
    x: Any,
    *,
    rotation: Rotation | None = None,
    information: Information | None = None,
    weights: Any = None,
) -> StandardErrors:
    """Standard errors of a maximum likelihood fit of a Gaussian factor model.

    Loadings are determined up to rotation, so their errors depend on the conditions by which a frame is chosen: the
    canonical one of the unrotated solution (W' Psi^{-1} W diagonal), the stationarity of a rotation criterion, or
    the zeros of a confirmatory model. Noise variances and communalities have the same errors in every frame.

    Parameters
    ----------
    run : Fit
        By `MaximumLikelihood` or `EM`, of factor analysis, probabilistic PCA or a confirmatory model.
    x : table (N, D), or SufficientStatistics
        The data of the fit, NaN where missing. Statistics do for all but `Sandwich`.
    rotation : Rotation, optional
        What `rotate` gave for this fit; the errors are those of its loadings and factor correlations, with its
        normalisation and its standardisation taken into account.
    information : Information, optional
        `ExpectedInformation()`, `ObservedInformation()` or `Sandwich()`. Default: expected, and observed where
        entries are missing.
    weights : vector (N,), optional
        The row weights of the fit; use `Sandwich()` with them.

    Returns
    -------
    StandardErrors

    Raises
    ------
    ParameterError
        The fit is none by maximum likelihood; some parameter is not identified; the rotation is of another fit.
    DataError
        As `check_data`; statistics where rows are needed.

    Warns
    -----
    HeywoodWarning
        A noise variance stands on its floor: it is held there, and the others are judged as if it were known.
    ConvergenceWarning
        The fit is not at the maximum of the likelihood of x, or the rotation not at a stationary point.

    Notes
    -----
    Time grows as the cube of the number of parameters, D (K + 1), memory as its square.

    References
    ----------
    .. [1] Jennrich, R. I. (1974). Simplified formulae for standard errors in maximum-likelihood factor analysis.
       British Journal of Mathematical and Statistical Psychology 27, 122-131.
    .. [2] Jennrich, R. I. (1973). Standard errors for obliquely rotated factor loadings. Psychometrika 38, 593-604.
    .. [3] Lawley, D. N. & Maxwell, A. E. (1971). Factor Analysis as a Statistical Method, 2nd ed., Butterworths.

    Examples
    --------
    >>> import probae as pa
    >>> data = pa.datasets.holzinger_swineford()
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), data.x)
    >>> errors = pa.standard_errors(run, data.x)
    >>> [round(e, 3) for e in errors.noise_variance.tolist()]
    [0.087, 0.102, 0.097, 0.048, 0.061, 0.042, 0.106, 0.08, 0.06]
    """
    structure = structure_of(run, "standard_errors")
    if isinstance(run.method, LeastSquares):
        raise ParameterError(
            f"standard_errors needs a maximum likelihood fit, got one by {type(run.method).__name__}(): fit again "
            "with MaximumLikelihood()."
        )
    check_size(structure)
    groups = group_rows(run, x, weights)
    structure = _hold_constant(structure, groups)
    if information is None:
        information = ExpectedInformation() if is_complete(groups) else ObservedInformation()
    if not isinstance(information, Information):
        raise ParameterError(
            f"information should be a value such as ExpectedInformation(), got {information!r}."
        )
    frame = frame_of(structure, rotation)
    covariance = information.covariance(frame.structure, groups, frame.jacobian())
    names = feature_names(run.names, run.model.features)
    errors = _collect(frame.structure, covariance, names, frame.name, information)
    if errors.heywood:
        warn(
            f"The noise variance of {', '.join(errors.heywood)} stands on its floor: it has no standard error, and "
            "the others take it as known.",
            HeywoodWarning,
        )
    gain = gain_left(frame.structure, groups, covariance)
    if gain > GAIN:
        warn(
            f"The fit is not at the maximum of the likelihood of x (about {gain:.3g} nats are left to gain): pass the "
            "data it was fitted to, or let it converge.",
            ConvergenceWarning,
        )
    return errors


def _hold_constant(structure: Structure, groups: list[Group]) -> Structure:
    """Hold the noise variance of features that do not vary in x: it stands on its floor, above their variance."""
    sd = structure.variance.sqrt()
    if not SMALLEST_UNIT < float(sd.min()) <= float(sd.max()) < LARGEST_UNIT:
        raise DataError(
            f"x should have standard deviations between {SMALLEST_UNIT:g} and {LARGEST_UNIT:g} for standard errors, "
            f"whose squares are held in float64, got {float(sd.min()):.2g} to {float(sd.max()):.2g}: rescale x."
        )
    count = torch.stack([g.count * g.observed for g in groups]).sum(0)
    varies = torch.stack([g.second.diagonal() for g in groups]).sum(0) > 1e-6 * structure.noise * count
    layout = structure.layout
    return (
        structure
        if layout.isotropic
        else replace(structure, layout=replace(layout, noise=layout.noise & varies))
    )


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


def _collect(
    structure: Structure, covariance: Tensor, names: tuple[str, ...], frame: str, information: Information
) -> StandardErrors:
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


def _flatten(values: Any, layout: Layout) -> Tensor:
    parts = [values.loadings[layout.loadings]]
    if layout.correlated:
        parts.append(values.factor_correlation[layout.pairs])
    noise = values.noise_variance.reshape(1) if layout.isotropic else values.noise_variance[layout.noise]
    return torch.cat([*parts, noise])


def _pair(value: Tensor, error: Tensor) -> str:
    return f"{number(float(value))} ({number(float(error))})" if error != 0 else number(float(value))
