r"""Standard errors of loadings, noise variances and factor correlations, in the frame the loadings are read in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

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
from probae.factors.structure import Structure, feature_names, structure_of
from probae.factors.uncertainty import StandardErrors, collect
from probae.inference import Fit
from probae.inference.least_squares import LeastSquares
from probae.rotation.result import Rotation

SMALLEST_UNIT, LARGEST_UNIT = (
    1e-60,
    1e60,
)  # standard deviations whose fourth powers and their inverses are in range
GAIN = 0.05  # nats of all rows that may be left to gain at a maximum found by an iterative method


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
    errors = collect(frame.structure, covariance, names, frame.name, information)
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
