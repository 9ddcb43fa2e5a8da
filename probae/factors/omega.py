r"""McDonald's omega: the reliability of a sum of items, from a factor model of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, ParameterError
from probae.factors.printing import number
from probae.factors.schmid_leiman import SchmidLeiman
from probae.factors.structure import Structure, structure_of
from probae.factors.uncertainty import StandardErrors
from probae.inference import Fit

SAME = 1e-6  # relative difference up to which two sets of communalities are the same


@dataclass(frozen=True, eq=False)
class Omega:
    """Parts of the variance of a weighted sum of items.

    Attributes
    ----------
    total : float
        Due to all factors: the reliability of the sum.
    hierarchical : float
        Due to the general factor alone; NaN where there is none.
    group : Tensor (K,)
        Due to each of the other factors alone, which depends on the frame; NaN for correlated factors.
    total_error, hierarchical_error : float
        Standard errors, where those of the parameters were given; NaN for a general factor that the fit does not have.

    Examples
    --------
    >>> import probae as pa
    >>> run = pa.fit(pa.FactorAnalysis(9, 1), pa.datasets.holzinger_swineford().x)
    >>> found = pa.omega(run)
    >>> found.total == found.hierarchical                                   # one factor is the general one
    True
    """

    total: float
    hierarchical: float
    group: Float[Tensor, " latents"]
    total_error: float = math.nan
    hierarchical_error: float = math.nan

    @property
    def limit(self) -> float:
        """Hierarchical over total: hierarchical omega of a test with infinitely many such items."""
        return self.hierarchical / self.total

    def __str__(self) -> str:
        total, hierarchical = (
            number(value) + (f" ({number(error)})" if not math.isnan(error) else "")
            for value, error in ((self.total, self.total_error), (self.hierarchical, self.hierarchical_error))
        )
        parts = ", ".join(number(v) for v in self.group.tolist())
        groups = f", group factors {parts}" if parts else ""
        return f"omega total {total}, hierarchical {hierarchical}{groups}"


def omega(
    run: Fit,
    general: SchmidLeiman | int | None = None,
    *,
    weights: Any = None,
    standard_errors: StandardErrors | None = None,
) -> Omega:
    r"""McDonald's omega of a weighted sum of the items, by default of their plain sum.

    .. math:: \omega_t = \frac{w' W \Phi W' w}{w' (W \Phi W' + \Psi) w}, \qquad
              \omega_h = \frac{(w' \lambda_g)^2}{w' (W \Phi W' + \Psi) w}

    Parameters
    ----------
    run : Fit
        Of a Gaussian factor model with any number of factors; with one, total and hierarchical omega agree.
    general : SchmidLeiman or int, optional
        Where the general factor is: what `schmid_leiman` made of an oblique rotation of this fit, or, for a fit whose
        factors are uncorrelated, the index of its general factor. Default: the only factor, or the only one on which
        a confirmatory model lets every item load.
    weights : vector (D,), optional
        Weights of the items in the sum, known in advance. One over each standard deviation gives omega of standardised
        items.
    standard_errors : StandardErrors, optional
        Those of this fit, from which omega gets its own (delta method).

    Returns
    -------
    Omega

    Raises
    ------
    NotExactError, ParameterError
        The fit is of another model; `general` or `standard_errors` do not belong to it.
    DataError
        Weights of another length, or under which the sum does not vary.

    References
    ----------
    .. [1] McDonald, R. P. (1999). Test Theory: A Unified Treatment. Erlbaum.
    .. [2] Zinbarg, R. E., Revelle, W., Yovel, I. & Li, W. (2005). Cronbach's alpha, Revelle's beta, and McDonald's
       omega_H. Psychometrika 70, 123-133.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), x)
    >>> split = pa.schmid_leiman(pa.rotate(run, pa.rotation.Quartimin(), oblique=True))
    >>> print(pa.omega(run, split))
    omega total 0.853, hierarchical 0.452, group factors 0.221, 0.097, 0.083
    """
    structure = structure_of(run, "omega")
    w = _weights(weights, structure.layout.features)
    common = structure.loadings.mT @ w
    explained = float(common @ structure.correlation @ common)
    total = explained + float(structure.noise @ w.square())
    if total <= 0:
        raise DataError("weights should give a sum that varies, got one without variance.")
    own, others = _parts(structure, general)
    errors = (
        (math.nan, math.nan) if standard_errors is None else _errors(structure, standard_errors, general, w)
    )
    return Omega(
        total=explained / total,
        hierarchical=math.nan if own is None else float((own @ w).square()) / total,
        group=(others.mT @ w).square() / total,
        total_error=errors[0],
        hierarchical_error=errors[1],
    )


def _errors(
    structure: Structure, errors: StandardErrors, general: SchmidLeiman | int | None, w: Tensor
) -> tuple[float, float]:
    """Standard errors of total and hierarchical omega by the delta method."""
    if not isinstance(errors, StandardErrors):
        raise ParameterError(
            f"standard_errors should be the result of pa.standard_errors, got {type(errors).__name__}."
        )
    found = errors.structure
    own = found.communalities.shape == structure.communalities.shape
    if not own or not torch.allclose(found.communalities, structure.communalities, rtol=SAME):
        raise ParameterError("standard_errors should be those of this fit, but their communalities differ.")
    total = _delta(found, errors.covariance, w, None)
    same_frame = torch.allclose(found.loadings, structure.loadings, rtol=SAME, atol=SAME)
    if isinstance(general, SchmidLeiman) or structure.layout.correlated or not same_frame:
        return total, math.nan
    index = _general_index(structure) if general is None else general
    return total, math.nan if index is None else _delta(found, errors.covariance, w, index)


def _delta(structure: Structure, covariance: Tensor, w: Tensor, index: int | None) -> float:
    layout = structure.layout
    t, u = layout.pairs

    def share(loadings: Tensor, pairs: Tensor, noise: Tensor) -> Tensor:
        identity = torch.eye(layout.latents, dtype=torch.float64)
        Phi = identity.index_put((t, u), pairs).index_put((u, t), pairs)
        common = loadings.mT @ w
        explained = common @ Phi @ common
        part = explained if index is None else common[index].square()
        return part / (explained + noise @ w.square())

    point = (structure.loadings, structure.correlation[t, u], structure.noise)
    gradient = layout.reduce(torch.cat([g.flatten() for g in torch.func.grad(share, (0, 1, 2))(*point)]))
    return float((gradient @ covariance @ gradient).clamp_min(0).sqrt())


def _parts(structure: Structure, general: SchmidLeiman | int | None) -> tuple[Tensor | None, Tensor]:
    """Return the loadings on the general factor, if there is one, and on the others."""
    W = structure.loadings
    latents = W.shape[1]
    if isinstance(general, SchmidLeiman):
        found = general.communalities
        for scale in (torch.ones_like(found), structure.variance):
            if found.shape == scale.shape and torch.allclose(
                found * scale, structure.communalities, rtol=SAME
            ):
                root = scale.sqrt()
                return general.general * root, general.group * root.unsqueeze(1)
        raise ParameterError("general should come from a rotation of this fit, but its communalities differ.")
    off = (structure.correlation - torch.eye(latents)).abs().max()
    if off > 0:
        if general is not None:
            raise ParameterError(
                "The factors of this fit are correlated, so none is general: pass schmid_leiman of a rotation."
            )
        return None, torch.full_like(W, torch.nan)
    index = _general_index(structure) if general is None else _check_index(general, latents)
    if index is None:
        return None, W
    return W[:, index], W[:, [k for k in range(latents) if k != index]]


def _general_index(structure: Structure) -> int | None:
    if structure.layout.latents == 1:
        return 0
    full = structure.layout.loadings.all(0).nonzero().flatten().tolist()
    return full[0] if len(full) == 1 else None


def _check_index(index: Any, latents: int) -> int:
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < latents:
        raise ParameterError(f"general should be the index of a factor, 0 to {latents - 1}, got {index!r}.")
    return index


def _weights(weights: Any, features: int) -> Tensor:
    if weights is None:
        return torch.ones(features, dtype=torch.float64)
    try:
        values = torch.as_tensor(weights, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"weights should be a vector of numbers, got a {type(weights).__name__}.") from None
    if values.shape != (features,) or not bool(values.isfinite().all()):
        raise DataError(
            f"weights should be {features} finite numbers, one for each item, got {tuple(values.shape)}."
        )
    return values
