r"""Do the rows of the loadings know axes? A pattern of many features, whatever the law of the factors.

If the rows of Psi^{-1/2} W are independent draws of one law that is not elliptical, such as one with many small and few
large entries, their directions single out axes (varimax as inference: Rohe & Zeng, 2023). This is T1 with features in
the place of rows of data: it grows with the number of features and not with that of rows, and it says nothing of the
likelihood, which for Gaussian factors stays the same under every rotation. A prior on W may use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.errors import ProbaeError
from probae.identifiability.data_tests import RotationInformation, rotation_information
from probae.models import LinearFactorModel

__all__ = ["SimpleStructure", "row_units", "simple_structure"]


@dataclass(frozen=True, eq=False)
class SimpleStructure:
    """T1 on the rows of whitened loadings.

    Attributes
    ----------
    information : RotationInformation or None
        The tests, with features as rows; ``overall`` does not depend on the rotation of the fitted loadings.
    features : int
    why : str
        Why there is no test.

    Examples
    --------
    >>> found = SimpleStructure(None, 9, "9 features are too few.")
    >>> found.p_value, found.describe()
    (1.0, 'simple-structure evidence: not tested. 9 features are too few.')
    """

    information: RotationInformation | None
    features: int
    why: str = ""

    @property
    def p_value(self) -> float:
        """Bonferroni over the degrees of the tests over all factors; 1 without a test."""
        tests = () if self.information is None else self.information.overall
        return min(1.0, len(tests) * min(test.p_value for test in tests)) if tests else 1.0

    def describe(self) -> str:
        """Say the result in a sentence."""
        if self.information is None or not self.information.overall:
            return f"simple-structure evidence: not tested. {self.why}".rstrip()
        return (
            f"simple-structure evidence, rows of whitened loadings: p = {self.p_value:.3g} (T1 over {self.features} "
            "features, asymptotic; grows with features, not with rows)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        tested = self.information is not None and bool(self.information.overall)
        return {
            "p": self.p_value if tested else None,
            "features": self.features,
            "planes": self.information.to_rows() if self.information is not None else [],
            "why_not": self.why,
        }


def simple_structure(model: LinearFactorModel) -> SimpleStructure:
    """Test whether the rows of whitened loadings single out axes (T1).

    Parameters
    ----------
    model : LinearFactorModel
        Fitted. Without noise, rows are divided by the length that they have.

    Returns
    -------
    SimpleStructure
        Without a test below 30 features or 10 a factor, and where rows lie on lines.

    Notes
    -----
    Loadings are estimates: their errors have about one covariance for all whitened rows, and make the test weaker.

    References
    ----------
    .. [1] Rohe, K. & Zeng, M. (2023). Vintage factor analysis with varimax performs statistical inference. Journal of
       the Royal Statistical Society B 85, 1037-1060.

    Examples
    --------
    >>> import probae as pa, torch
    >>> _ = torch.manual_seed(0)
    >>> sparse, dense = pa.FactorAnalysis(200, 2), pa.FactorAnalysis(200, 2)
    >>> dense.loadings = torch.randn(200, 2).double()
    >>> sparse.loadings = torch.randn(200, 2).double() ** 3                          # many small, few large
    >>> simple_structure(sparse).p_value < 0.01 < simple_structure(dense).p_value
    True
    """
    features, latents = model.features, model.latents
    if latents < 2:
        return SimpleStructure(None, features, "One factor has no axes to turn.")
    needed = max(30, 10 * latents)
    if features < needed:
        return SimpleStructure(
            None, features, f"{features} features are too few: it takes {needed} for {latents} factors."
        )
    whitened = model._gaussian_parameters()[0] / row_units(model)
    try:
        return SimpleStructure(rotation_information(whitened), features)
    except ProbaeError as error:
        return SimpleStructure(None, features, str(error))


def row_units(model: LinearFactorModel) -> Float[Tensor, "features 1"]:
    """Return the unit of each row of the loadings: the deviation of its noise, or without noise its own length.

    Examples
    --------
    >>> import probae as pa
    >>> row_units(pa.FactorAnalysis(3, 1)).mT                               # noise of variance 1 before a fit
    tensor([[1., 1., 1.]], dtype=torch.float64)
    """
    loadings, noise, _ = model._gaussian_parameters()
    scale = noise.sqrt() if model.noise != "none" else loadings.norm(dim=1)
    return torch.where(scale > 0, scale, 1.0).unsqueeze(1)
