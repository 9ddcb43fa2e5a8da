r"""Counting rules: what a pattern of loadings identifies, before or after a fit.

For D features, K factors and diagonal noise:

- free parameters <= D (D + 1) / 2                                                      (t-rule, necessary)
- Ledermann: ((D - K)^2 - (D + K)) / 2 >= 0                       (generic, for the noise of unrestricted factors)
- row deletion: whichever row of W is deleted, two disjoint K x K submatrices of rank K remain
                                          (Anderson & Rubin, 1956, theorem 5.1: sufficient for the noise variances)
- 3-5-7: every q columns have at least 2 q + 1 rows that are not zero
                                                  (Fruhwirth-Schnatter et al., 2023: necessary for row deletion)
- three or two features for each factor and no cross-loadings      (Bollen, 1989, chapter 7: sufficient)
- the rows where column k is fixed to zero have rank K - 1 in the other columns
                                                     (Joreskog, 1979: no rotation, correlations free)
- the rank of the derivatives of the covariance by the free parameters                  (exact, local)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probae.checks import ParameterError, check_positive
from probae.identifiability.counting_checks import Check, Rule
from probae.identifiability.nullity import Nullity, Parts, fisher_nullity
from probae.inference import Fit
from probae.models import ConfirmatoryFactorAnalysis, FactorAnalysis, LinearFactorModel
from probae.priors import CorrelatedGaussian

__all__ = ["CountingRules", "Rule", "counting_rules"]


@dataclass(frozen=True, eq=False)
class CountingRules:
    """The rules for one model, and the exact count of flat directions.

    Attributes
    ----------
    rules : tuple of Rule
    nullity : Nullity
    degrees_of_freedom : int
        Variances and covariances minus free parameters, plus the rotations that leave the model unchanged.
    where : str
        At which loadings the exact rules were asked.

    Examples
    --------
    >>> import probae as pa
    >>> rules = pa.counting_rules(pa.FactorAnalysis(9, 3))
    >>> rules.identified, rules.nullity.rotations.dimension, rules["row deletion"].holds
    (False, 3, True)
    """

    rules: tuple[Rule, ...]
    nullity: Nullity
    degrees_of_freedom: int
    where: str

    @property
    def identified(self) -> bool:
        """Whether all parameters are locally identified: no flat direction at all."""
        return self.nullity.dimension == 0 and self.nullity.conclusive

    def __getitem__(self, name: str) -> Rule:
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise KeyError(f"{name!r} is no rule of this report: {', '.join(rule.name for rule in self.rules)}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, ready for JSON."""
        return {
            "identified": self.identified,
            "degrees_of_freedom": self.degrees_of_freedom,
            "where": self.where,
            "nullity": self.nullity.dimension,
            "rotations": self.nullity.rotations.dimension,
            "rules": [
                {
                    "name": rule.name,
                    "holds": rule.holds,
                    "kind": rule.kind,
                    "sentence": rule.sentence,
                    "factors": list(rule.factors),
                    "features": list(rule.features),
                }
                for rule in self.rules
            ],
        }

    def __str__(self) -> str:
        lines = [f"Counting rules at {self.where}: {self.degrees_of_freedom} degrees of freedom"]
        width = max(len(rule.name) for rule in self.rules)
        for rule in self.rules:
            mark = "yes" if rule.holds else "NO "
            lines.append(f" {mark} {rule.name.ljust(width)}  {rule.sentence} ({rule.kind})")
        return "\n".join(lines)


def counting_rules(model: Fit | LinearFactorModel, *, smallest: float | None = None) -> CountingRules:
    """Check the counting rules of a Gaussian factor model, and count its flat directions exactly.

    Parameters
    ----------
    model : Fit or LinearFactorModel
        A Fit is checked at its loadings. A model alone is checked at random ones with its pattern, which is what
        holds for almost all loadings.
    smallest : float, optional
        Loadings below this, for features of variance 1, count as zeros in the rules about patterns: for the rotated
        loadings of an exploratory fit. Fixed zeros are zeros in any case.

    Returns
    -------
    CountingRules
        ``print`` shows a line for each rule; ``report["row deletion"]`` is one of them.

    Raises
    ------
    NotExactError
        The factors are not Gaussian.
    ParameterError
        No model, or no noise.

    References
    ----------
    .. [1] Anderson, T. W. & Rubin, H. (1956). Statistical inference in factor analysis. Proceedings of the Third
       Berkeley Symposium 5, 111-150.
    .. [2] Fruhwirth-Schnatter, S., Hosszejni, D. & Lopes, H. F. (2023). When it counts - econometric identification
       of the basic factor model based on GLT structures. Econometrics 11(4), 26.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.ConfirmatoryFactorAnalysis([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 1]])
    >>> rules = counting_rules(model)
    >>> rules.identified, rules.degrees_of_freedom
    (True, 8)
    >>> print(counting_rules(pa.ConfirmatoryFactorAnalysis([[1], [1]]))["three features"].sentence)
    z[0] has 2 features that measure nothing else
    """
    fitted = isinstance(model, Fit)
    found = model.model if isinstance(model, Fit) else model
    if not isinstance(found, LinearFactorModel):
        raise ParameterError(
            f"counting_rules needs a Fit or a linear factor model, got {type(model).__name__}."
        )
    if found.noise != "diagonal":
        raise ParameterError(
            f"Counting rules are about one noise variance for each feature, and the model has {found.noise!r} noise."
        )
    point = found if fitted else generic(found)
    parts = Parts.of(point)
    nullity = fisher_nullity(point)
    pattern = parts.layout.pattern.copy()
    if smallest is not None:
        pattern &= np.abs(parts.loadings) >= check_positive("smallest", smallest)
    factors = getattr(found, "factor_labels", tuple(f"z[{k}]" for k in range(found.latents)))
    names = found.feature_names or tuple(f"column {i}" for i in range(found.features))
    check = Check(parts, pattern, nullity, tuple(factors), tuple(names))
    free = nullity.parameters + len(nullity.boundary)
    freedom = found.features * (found.features + 1) // 2 - free + nullity.rotations.dimension
    where = "the fitted loadings" if fitted else "random loadings of this pattern"
    return CountingRules(tuple(check.rules(freedom)), nullity, freedom, where)


def generic(model: LinearFactorModel) -> LinearFactorModel:
    """Return a model of the same pattern with random parameters, for which generic statements hold."""
    rng = np.random.default_rng(20_561)
    if isinstance(model, ConfirmatoryFactorAnalysis):
        other: LinearFactorModel = ConfirmatoryFactorAnalysis(model.pattern, model.correlated)
        mask = model.pattern.numpy()
        if model.free_correlations:
            rows = rng.normal(size=(model.latents, 4 * model.latents)) + 0.5
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            other.prior = CorrelatedGaussian(rows @ rows.T, learn=True)
    else:
        other = FactorAnalysis(model.features, model.latents)
        mask = np.ones((model.features, model.latents), dtype=bool)
        if isinstance(model.prior, CorrelatedGaussian):
            other = LinearFactorModel(model.features, model.latents, prior=model.prior)
        elif not model.gaussian:
            return model
    signs = rng.choice([-1.0, 1.0], size=mask.shape)
    other.loadings = torch.as_tensor(mask * signs * rng.uniform(0.4, 1.2, size=mask.shape) + 0.0)
    other.noise_variance = torch.as_tensor(rng.uniform(0.4, 1.2, size=model.features))
    return other
