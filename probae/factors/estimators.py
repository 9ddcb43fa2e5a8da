r"""Ways to find the covariance of estimates: expected information, observed information, and the sandwich.

With H the information of all rows, s_n the gradient of log p(x_n) and C the Jacobian of the conditions of the frame,
the block V of

.. math:: \begin{pmatrix} H & C' \\ C & 0 \end{pmatrix}^{-1} = \begin{pmatrix} V & \cdot \\ \cdot & \cdot \end{pmatrix}

is the covariance of the estimates where the model is right (Jennrich, 1974, Psychometrika 39, 121-131), and
:math:`V (\sum_n w_n^2 s_n s_n') V` where it need not be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, ParameterError
from probae.factors import information
from probae.factors.groups import Group
from probae.factors.structure import Structure

SINGULAR = (
    1e-13  # reciprocal condition of the scaled information below which it says nothing of some parameter
)

MOST = 12_000  # parameters whose information, a square matrix, still fits into memory a few times over

Matrix = Float[Tensor, "parameters parameters"]


@dataclass(frozen=True)
class Information:
    """A way to find the covariance of estimates: `ExpectedInformation`, `ObservedInformation` or `Sandwich`."""

    def covariance(self, structure: Structure, groups: list[Group], conditions: Tensor) -> Matrix:
        """Covariance of the free parameters of a structure."""
        raise NotImplementedError


@dataclass(frozen=True)
class ExpectedInformation(Information):
    r"""The inverse of the expected information, :math:`\tfrac n2 \operatorname{tr}(\Sigma^{-1} \Sigma_a \Sigma^{-1}
    \Sigma_b)`: right where x is normal and the model true.

    With missing entries it is right only where they are missing completely at random (Kenward & Molenberghs, 1998,
    Statistical Science 13, 236-247).

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 1), x)
    >>> pa.standard_errors(run, x, information=ExpectedInformation()).loadings.shape
    torch.Size([9, 1])
    """

    def bread(self, structure: Structure, groups: list[Group]) -> Matrix:
        """Expected information of all rows about the free parameters."""
        total = sum(g.count * information.expected(structure, structure.inverse(g.observed)) for g in groups)
        return structure.layout.reduce_matrix(torch.as_tensor(total))

    def covariance(self, structure: Structure, groups: list[Group], conditions: Tensor) -> Matrix:
        """Bordered inverse of the expected information."""
        return bordered_inverse(self.bread(structure, groups), conditions)


@dataclass(frozen=True)
class ObservedInformation(Information):
    """The inverse of minus the second derivatives of the log-likelihood, those by the mean included where entries are
    missing: right where the model is true, also with entries missing at random.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 1), x)
    >>> pa.standard_errors(run, x, information=ObservedInformation()).loadings.shape
    torch.Size([9, 1])
    """

    def bread(self, structure: Structure, groups: list[Group]) -> Matrix:
        """Observed information about the free parameters and, after them, the mean where entries are missing."""
        layout = structure.layout
        inverses = [structure.inverse(g.observed) for g in groups]
        pairs = list(zip(inverses, groups, strict=True))
        full = sum(information.observed(structure, A, g.second, g.count) for A, g in pairs)
        inner = layout.reduce_matrix(torch.as_tensor(full))
        if is_complete(groups):
            return inner
        cross = layout.reduce(
            torch.as_tensor(sum(information.mean_cross(structure, A, g.total) for A, g in pairs))
        )
        corner = torch.as_tensor(sum(g.count * A for A, g in pairs))
        return torch.cat([torch.cat([inner, cross.mT], 1), torch.cat([cross, corner], 1)])

    def covariance(self, structure: Structure, groups: list[Group], conditions: Tensor) -> Matrix:
        """Bordered inverse of the observed information."""
        bread = self.bread(structure, groups)
        size = structure.layout.size
        return bordered_inverse(bread, _widen(conditions, len(bread)))[:size, :size]


@dataclass(frozen=True)
class Sandwich(Information):
    """Robust covariance from the rows: right for any law of x with finite fourth moments and under row weights.

    With the observed information inside it is so for the best-fitting parameters of a wrong model, too.

    With `ExpectedInformation()` inside it gives the robust standard errors of Satorra & Bentler (1994), with
    `ObservedInformation()` those of White (1982), also called Huber-White or MLR.

    Parameters
    ----------
    bread : ExpectedInformation or ObservedInformation
        Default: the observed information.

    Raises
    ------
    ParameterError
        `bread` is neither.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 1), x)
    >>> pa.standard_errors(run, x, information=Sandwich()).loadings.shape
    torch.Size([9, 1])
    """

    bread: ExpectedInformation | ObservedInformation = field(default_factory=ObservedInformation)

    def __post_init__(self) -> None:
        if not isinstance(self.bread, ExpectedInformation | ObservedInformation):
            raise ParameterError(
                f"bread should be ExpectedInformation() or ObservedInformation(), got {self.bread!r}."
            )

    def covariance(self, structure: Structure, groups: list[Group], conditions: Tensor) -> Matrix:
        """V M V with the second moments M of the gradients of the rows."""
        if any(g.rows is None for g in groups):
            raise DataError("Sandwich needs the rows of x, got SufficientStatistics: pass x itself.")
        bread = self.bread.bread(structure, groups)
        size = structure.layout.size
        inverse = bordered_inverse(bread, _widen(conditions, len(bread)))
        filling = meat(structure, groups, with_mean=len(bread) > size)
        covariance = inverse @ filling @ inverse
        return ((covariance + covariance.mT) / 2)[:size, :size]


def meat(structure: Structure, groups: list[Group], with_mean: bool) -> Matrix:
    """Sum of w^2 s s' over the rows, the gradients by the mean after the others."""
    size = structure.layout.size + structure.layout.features * with_mean
    total = torch.zeros(size, size, dtype=torch.float64)
    for group in groups:
        A = structure.inverse(group.observed)
        for rows, weights in group.blocks(structure.loadings.numel() + size):
            scores = structure.layout.reduce(information.row_scores(structure, A, rows))
            if with_mean:
                scores = torch.cat([scores, rows @ A], 1)
            scores = scores if weights is None else scores * weights.unsqueeze(1)
            total += scores.mT @ scores
    return total


def bordered_inverse(information: Matrix, conditions: Float[Tensor, "conditions parameters"]) -> Matrix:
    """Upper left block of the inverse of [[H, C'], [C, 0]].

    H + C'C has no null space where the conditions cut that of H, and gives the same block: on C v = 0 they agree.

    Raises
    ------
    ParameterError
        Some parameter is not identified, even in this frame.
    """
    scale = information.diagonal().clamp_min(0).sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    H = information / torch.outer(scale, scale)
    C = conditions / scale
    C = C / C.norm(dim=1, keepdim=True).clamp_min(torch.finfo(C.dtype).tiny)
    lower, failed = torch.linalg.cholesky_ex(H + C.mT @ C)
    pivots = lower.diagonal()
    if bool(failed) or pivots.min() < math.sqrt(SINGULAR) * pivots.max():
        raise ParameterError(
            "The information matrix is not positive definite, so standard errors do not exist: some parameter is not "
            "identified (fit fewer factors, or fix more loadings at zero), or the fit is to other data than these."
        )
    inverse = torch.cholesky_inverse(lower)
    if len(C):
        bent = inverse @ C.mT
        middle, failed = torch.linalg.cholesky_ex(C @ bent)
        if bool(failed):
            raise ParameterError(
                "The conditions of this frame depend on each other: choose another rotation."
            )
        half = torch.linalg.solve_triangular(middle, bent.mT, upper=False)
        inverse = inverse - half.mT @ half
    inverse = inverse / torch.outer(scale, scale)
    return (inverse + inverse.mT) / 2


def check_size(structure: Structure) -> None:
    """Refuse more parameters than a square matrix of them can be held and inverted for."""
    if structure.layout.size > MOST:
        raise ParameterError(
            f"Standard errors take a square matrix with a row for each of {structure.layout.size} parameters, more "
            f"than the {MOST} that are allowed here: fit fewer features."
        )


def gain_left(structure: Structure, groups: list[Group], covariance: Matrix) -> float:
    """Nats by which a Newton step would still raise the log-likelihood of all rows, 1/2 g' V g."""
    W, Phi = structure.loadings, structure.correlation
    t, u = structure.layout.pairs
    gradient = torch.zeros(structure.layout.size, dtype=torch.float64)
    for group in groups:
        A = structure.inverse(group.observed)
        Q = A @ group.second @ A - group.count * A
        full = torch.cat([(Q @ W @ Phi).flatten(), (W.mT @ Q @ W)[t, u], 0.5 * Q.diagonal()])
        gradient += structure.layout.reduce(full)
    return float(0.5 * gradient @ covariance @ gradient)


def is_complete(groups: list[Group]) -> bool:
    """Whether no entry is missing."""
    return all(bool(group.observed.all()) for group in groups)


def _widen(conditions: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(conditions, (0, size - conditions.shape[1]))
