"""Fit indices of a factor model as a table; `fit_indices` has their formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass

from probae.factors.printing import grid, number

__all__ = ["FitIndices", "ScaledTest"]


@dataclass(frozen=True)
class ScaledTest:
    """The test with the mean that the fourth moments of the rows give it, and indices made of population quantities.

    `cfi`, `tli` and `rmsea` are the robust ones of Brosseau-Liard & Savalei (2014) and Brosseau-Liard, Savalei & Li
    (2012): estimates of what the plain indices estimate under normality.

    Attributes
    ----------
    factor : float
        The mean of the statistic relative to its degrees of freedom, c.
    statistic, p_value : float
        T / c.
    baseline_factor : float
    cfi, tli, rmsea : float
    """

    factor: float
    statistic: float
    p_value: float
    baseline_factor: float
    cfi: float
    tli: float
    rmsea: float


@dataclass(frozen=True)
class FitIndices:
    """Fit of a model to data; printed as a table. NaN stands for what does not exist, and `note` says why.

    Attributes
    ----------
    count : int
        Rows n.
    parameters : int
        Free parameters, the D means among them, rotations not.
    log_likelihood, saturated_log_likelihood, baseline_log_likelihood : float
        Of all rows, in nats.
    chi_square, degrees_of_freedom, p_value : float, int, float
        Likelihood ratio test against the saturated model, T = n F.
    bartlett, bartlett_p_value : float
        The test with Bartlett's correction, closer to its law in small samples; for exploratory models.
    baseline_chi_square, baseline_degrees_of_freedom : float, int
    rmsea, rmsea_interval, close_fit : float, (float, float), float
        With divisor n - 1; its 90 % interval; the p-value of RMSEA <= .05.
    rmsea_n : float
        With divisor n, as lavaan and Mplus have it.
    cfi, tli, srmr : float
    aic, bic, sample_size_adjusted_bic : float
        Smaller is better. The last takes log((n + 2) / 24) for log n.
    scaled : ScaledTest or None
        For complete rows, and up to 3000 parameters.
    note : str

    Examples
    --------
    >>> import probae as pa
    >>> table = pa.datasets.ability_cov()
    >>> statistics = pa.SufficientStatistics.from_covariance(table.covariance, count=table.count)
    >>> found = pa.fit_indices(pa.fit(pa.FactorAnalysis(6, 2), statistics), statistics)
    >>> round(found.bartlett, 2), found.degrees_of_freedom, round(found.bartlett_p_value, 3)
    (6.11, 4, 0.191)
    """

    count: int
    parameters: int
    log_likelihood: float
    saturated_log_likelihood: float
    baseline_log_likelihood: float
    chi_square: float
    degrees_of_freedom: int
    p_value: float
    bartlett: float
    bartlett_p_value: float
    baseline_chi_square: float
    baseline_degrees_of_freedom: int
    rmsea: float
    rmsea_interval: tuple[float, float]
    close_fit: float
    rmsea_n: float
    cfi: float
    tli: float
    srmr: float
    aic: float
    bic: float
    sample_size_adjusted_bic: float
    scaled: ScaledTest | None
    note: str = ""

    def __str__(self) -> str:
        df = str(self.degrees_of_freedom)
        tests = [["likelihood ratio", number(self.chi_square), df, number(self.p_value)]]
        if not math.isnan(self.bartlett):
            tests.append(["Bartlett's correction", number(self.bartlett), df, number(self.bartlett_p_value)])
        if self.scaled is not None:
            tests.append(["Satorra-Bentler", number(self.scaled.statistic), df, number(self.scaled.p_value)])
        tests.append(
            ["baseline", number(self.baseline_chi_square), str(self.baseline_degrees_of_freedom), ""]
        )
        low, high = self.rmsea_interval
        rows = [
            [
                "RMSEA",
                f"{number(self.rmsea)} (90 % {number(low)} to {number(high)}; close fit p {number(self.close_fit)})",
            ],
            ["CFI, TLI", f"{number(self.cfi)}, {number(self.tli)}"],
            ["SRMR", number(self.srmr)],
            [
                "log-likelihood",
                f"{self.log_likelihood:.3f} with {self.parameters} parameters, {self.count} rows",
            ],
            ["AIC, BIC", f"{self.aic:.3f}, {self.bic:.3f} (adjusted {self.sample_size_adjusted_bic:.3f})"],
        ]
        if self.scaled is not None:
            robust = ", ".join(number(v) for v in (self.scaled.rmsea, self.scaled.cfi, self.scaled.tli))
            rows.insert(2, ["robust RMSEA, CFI, TLI", robust])
        width = max(len(label) for label, _ in rows)
        lines = [grid(["test", "chi-square", "df", "p"], tests), ""]
        lines += [f"{label.ljust(width)}  {text}" for label, text in rows]
        return "\n".join(lines + ([f"Note: {self.note}"] if self.note else []))
