"""The table a factor analysis is read from: loadings, communalities, noise, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError
from probae.factors.frames import turn
from probae.factors.posterior_loadings import has_draws, posterior_loadings
from probae.factors.printing import grid, number
from probae.factors.structure import Structure, feature_names, structure_of
from probae.factors.uncertainty import Parameters, StandardErrors
from probae.inference import Fit
from probae.rotation.result import Rotation


@dataclass(frozen=True, eq=False)
class LoadingsTable:
    """Loadings with the names of their features; printed as a table.

    Attributes
    ----------
    names : tuple of str
    loadings : Tensor (D, K)
    communalities, noise_variance : Tensor (D,)
    factor_correlation : Tensor (K, K)
    lower, upper : Parameters or None
        Ends of the intervals, where standard errors were given.
    level : float
        Their coverage.
    note : str
        What else is to be known of them.

    Examples
    --------
    >>> import probae as pa
    >>> data = pa.datasets.holzinger_swineford()
    >>> table = pa.loadings_table(pa.fit(pa.FactorAnalysis(9, 2), data.x), standardized=True)
    >>> bool(torch.allclose(table.communalities + table.noise_variance, torch.ones(9).double()))
    True
    """

    names: tuple[str, ...]
    factors: tuple[str, ...]
    loadings: Float[Tensor, "features latents"]
    communalities: Float[Tensor, " features"]
    noise_variance: Float[Tensor, " features"]
    factor_correlation: Float[Tensor, "latents latents"]
    lower: Parameters | None
    upper: Parameters | None
    level: float
    note: str = ""

    @property
    def explained(self) -> Float[Tensor, " latents"]:
        """Variance each factor explains, summed over features; of correlated factors, the diagonal of Phi W'W."""
        return (self.loadings * (self.loadings @ self.factor_correlation)).sum(0)

    def to_dict(self) -> dict[str, list[float]]:
        """Columns by name, as a data frame takes them.

        Examples
        --------
        >>> import pandas as pd, probae as pa
        >>> data = pa.datasets.holzinger_swineford()
        >>> table = pa.loadings_table(pa.fit(pa.FactorAnalysis(9, 2), data.x))
        >>> pd.DataFrame(table.to_dict(), index=table.names).columns.tolist()
        ['z[0]', 'z[1]', 'communality', 'noise variance']
        """
        found: dict[str, list[float]] = {}
        for k, factor in enumerate(self.factors):
            found[factor] = self.loadings[:, k].tolist()
            if self.lower is not None and self.upper is not None:
                found[f"{factor} lower"] = self.lower.loadings[:, k].tolist()
                found[f"{factor} upper"] = self.upper.loadings[:, k].tolist()
        found["communality"] = self.communalities.tolist()
        found["noise variance"] = self.noise_variance.tolist()
        return found

    def __str__(self) -> str:
        latents = self.loadings.shape[1]
        rows = [
            [
                name,
                *(self._cell(i, k) for k in range(latents)),
                number(float(self.communalities[i])),
                number(float(self.noise_variance[i])),
            ]
            for i, name in enumerate(self.names)
        ]
        rows.append(["explained", *(number(v) for v in self.explained.tolist()), "", ""])
        text = grid(["", *self.factors, "communality", "noise variance"], rows)
        if self.lower is not None:
            text = f"Loadings with {100 * self.level:g} % intervals\n{text}"
        if not torch.equal(self.factor_correlation, torch.eye(latents, dtype=torch.float64)):
            pairs = zip(self.factors, self.factor_correlation.tolist(), strict=True)
            lines = [[name, *(number(v) for v in line)] for name, line in pairs]
            text += "\n\nFactor correlations\n" + grid(["", *self.factors], lines)
        return f"{text}\n{self.note}" if self.note else text

    def _cell(self, i: int, k: int) -> str:
        value = number(float(self.loadings[i, k]))
        if self.lower is None or self.upper is None or self.lower.loadings[i, k] == self.upper.loadings[i, k]:
            return value
        return f"{value} ({number(float(self.lower.loadings[i, k]))}, {number(float(self.upper.loadings[i, k]))})"


def loadings_table(
    run: Fit,
    *,
    rotation: Rotation | None = None,
    standard_errors: StandardErrors | None = None,
    standardized: bool = False,
    level: float = 0.95,
) -> LoadingsTable:
    """Tabulate the loadings of a Gaussian factor model with communalities and noise variances.

    Of a fit by a sampler these are posterior means with intervals: draws are aligned to the frame of the fitted model
    (`align`), by the group that model and prior leave free.

    Parameters
    ----------
    run : Fit
    rotation : Rotation, optional
        Show its loadings and factor correlations, in place of those of the fit.
    standard_errors : StandardErrors, optional
        Adds intervals; the frame is then that of the standard errors.
    standardized : bool
        Divide by the standard deviation of each feature that the model implies, so that loadings of uncorrelated
        factors are correlations, and communality and noise add up to 1.
    level : float
        Coverage of the intervals; posterior probability, where there are draws.

    Returns
    -------
    LoadingsTable

    Raises
    ------
    NotExactError, ParameterError
        The fit is of another model; both a rotation and standard errors, or those of another fit.

    Examples
    --------
    >>> import probae as pa
    >>> table = pa.datasets.ability_cov()
    >>> statistics = pa.SufficientStatistics.from_covariance(table.covariance, count=table.count)
    >>> run = pa.fit(pa.FactorAnalysis(6, 1), statistics)
    >>> print(pa.loadings_table(run, standardized=True))
                z[0]  communality  noise variance
    column 0   0.682        0.465           0.535
    column 1   0.384        0.147           0.853
    column 2   0.502        0.252           0.748
    column 3   0.300        0.090           0.910
    column 4   0.877        0.768           0.232
    column 5   0.849        0.720           0.280
    explained  2.443
    """
    structure = structure_of(run, "loadings_table")
    names = feature_names(run.names, run.model.features)
    if standard_errors is not None:
        if rotation is not None:
            raise ParameterError(
                "standard_errors has a frame of its own: pass rotation to pa.standard_errors instead."
            )
        return _with_intervals(structure, standard_errors, names, standardized, level)
    if rotation is not None:
        structure = turn(structure, rotation)[0]
    if has_draws(run):
        found = posterior_loadings(run, structure, standardized, level)
        mean = found.mean
        means = replace(structure, loadings=mean.loadings, noise=mean.noise_variance)
        table = _table(means, names, found.lower, found.upper, level)
        return replace(table, communalities=mean.communalities, note=found.note)
    if standardized:
        structure = structure.scaled(structure.variance.sqrt())
    return _table(structure, names, None, None, level)


def _with_intervals(
    structure: Structure, errors: StandardErrors, names: tuple[str, ...], standardized: bool, level: float
) -> LoadingsTable:
    if not isinstance(errors, StandardErrors):
        raise ParameterError(
            f"standard_errors should come from pa.standard_errors, got {type(errors).__name__}."
        )
    if standardized:
        errors = errors.standardized
        structure = structure.scaled(structure.variance.sqrt())
    own = errors.structure.communalities
    if own.shape != structure.communalities.shape or not torch.allclose(
        own, structure.communalities, rtol=1e-6
    ):
        raise ParameterError("standard_errors should be those of this fit, but its communalities differ.")
    lower, upper = errors.interval(level)
    return _table(errors.structure, names, lower, upper, level)


def _table(
    structure: Structure,
    names: tuple[str, ...],
    lower: Parameters | None,
    upper: Parameters | None,
    level: float,
) -> LoadingsTable:
    return LoadingsTable(
        names,
        structure.layout.factors,
        structure.loadings,
        structure.communalities,
        structure.noise,
        structure.correlation,
        lower,
        upper,
        level,
    )
