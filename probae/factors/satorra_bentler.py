r"""The mean of the likelihood ratio statistic where x is not normal: Satorra & Bentler's scaling factor.

With V the weight matrix of the normal theory at the fitted covariance, Delta the derivatives of the covariance and
Gamma the covariance of the products d d' of centred rows,

.. math:: c = \operatorname{tr}(U \Gamma) / \text{df}, \qquad U = V - V \Delta (\Delta' V \Delta)^- \Delta' V.

V Delta are the gradients s_n of the rows, and u' V u is half a trace, so with A = Sigma^{-1}, m_n = d_n' A d_n,

.. math:: \operatorname{tr}(V \Gamma) = \tfrac1{2N} \sum_n \big(m_n^2 - 2 d_n' A S A d_n
          + \operatorname{tr} A S A S\big),

.. math:: \operatorname{tr}(V \Delta (\Delta' V \Delta)^- \Delta' V \Gamma) = \operatorname{tr} (I^- M),

I the expected information of all rows, M the second moments of their gradients: no matrix of D^4 entries is formed.

Satorra, A. & Bentler, P. M. (1994). Corrections to test statistics and standard errors in covariance structure
analysis. In von Eye & Clogg (eds.), Latent Variables Analysis, Sage, 399-419.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from probae.factors.estimators import ExpectedInformation, bordered_inverse, meat
from probae.factors.frames import frame_of
from probae.factors.groups import Group
from probae.factors.structure import Structure

Rows = Float[Tensor, "samples features"]


def trace_of_model(structure: Structure, rows: Rows, weights: Tensor | None) -> float:
    """tr(U Gamma) of a factor model, for rows about their mean."""
    free = structure.orthogonal() if structure.rotatable else structure
    frame = frame_of(free, None)
    observed = torch.ones(rows.shape[1], dtype=torch.bool)
    weighted = rows if weights is None else rows * weights.unsqueeze(1)
    group = Group(observed, float(len(rows)), weighted.sum(0), weighted.mT @ rows, rows, weights)
    bread = ExpectedInformation().bread(frame.structure, [group])
    inverse = bordered_inverse(bread, frame.jacobian())
    explained = float((inverse * meat(frame.structure, [group], with_mean=False)).sum())
    return total_trace(frame.structure.inverse(), rows, weights) - explained


def trace_of_baseline(rows: Rows, weights: Tensor | None, isotropic: bool) -> float:
    """tr(U Gamma) of uncorrelated features, of one variance where ``isotropic``."""
    w = torch.ones(len(rows), dtype=rows.dtype) if weights is None else weights
    variance = (w.unsqueeze(1) * rows.square()).mean(0)
    if isotropic:
        variance = variance.mean().expand(rows.shape[1])
    square = rows.square() / variance
    w2 = w.square()
    if isotropic:
        features = rows.shape[1]
        explained = (w2 * (square.sum(1) - features).square()).mean() / (2 * features)
    else:
        explained = 0.5 * (w2.unsqueeze(1) * (square - 1).square()).mean(0).sum()
    return total_trace(torch.diag(1 / variance), rows, weights) - float(explained)


def total_trace(A: Float[Tensor, "features features"], rows: Rows, weights: Tensor | None) -> float:
    """tr(V Gamma) with V at the inverse covariance A."""
    w = torch.ones(len(rows), dtype=rows.dtype) if weights is None else weights
    S = (rows * w.unsqueeze(1)).mT @ rows / len(rows)
    turned = rows @ A
    m = (turned * rows).sum(1)
    cross = ((turned @ S) * turned).sum(1)
    AS = A @ S
    constant = (AS * AS.mT).sum()
    return float(0.5 * (w.square() * (m.square() - 2 * cross + constant)).mean())
