r"""Draws of loadings turned to one frame: A = W R for every draw, jointly over all chains.

The reference is a mean of aligned draws, found on every second draw of each chain and not on the others. Rows count
in units of their own size, so that the answer does not depend on the units of x. Nothing that is computed depends on
the frame the draws came in: draws that were each turned on their own are aligned to the same loadings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.alignment_frame import Sample, order_and_signs, principal_turn, root_of_mean
from probae.inference.assignment import Columns, assign_columns, signed_permutation
from probae.linalg import haar_rotation
from probae.rotation import Varimax
from probae.rotation.projection import Frames, Problem, descend

__all__ = ["Aligner", "OrthogonalProcrustes", "PivotMatch", "SignedPermutations", "VarimaxPermutations"]

STEPS = 200  # of a reference; it takes about ten
STARTS = 30  # random frames that the varimax frame of the mean is looked for from
BLOCK = 2**18  # loadings rotated by varimax at a time
LEAST = 1e-8  # variance of a row of size 1 that is as good as none, as where all draws are one
SETTLED = 1e-11  # change of a reference, in units of the rows, that is none


@dataclass(frozen=True)
class Aligner:
    """How draws of loadings are aligned; subclasses are small frozen dataclasses with ``rotations``."""

    def rotations(
        self, loadings: Float[Tensor, "chains draws features latents"]
    ) -> Float[Tensor, "chains draws latents latents"]:
        """Return R of each draw: the aligned loadings are W R. Loadings are finite and float64."""
        raise NotImplementedError


@dataclass(frozen=True)
class OrthogonalProcrustes(Aligner):
    r"""Turn each draw onto the mean of the turned draws (weighted orthogonal Procrustes).

    .. math:: \min_{R_i,\, T} \sum_i \sum_d \omega_d \| w_{id} R_i - t_d \|^2, \qquad
              R_i = U V' \text{ of } W_i' \Omega T = U S V'

    with :math:`\omega_d` one over the variance of row d about the mean, found along with it. The mean T is then
    turned to its principal axes, :math:`T' \Omega T` diagonal and decreasing, with the largest entry of each column
    positive: a convention, as every frame is where the model identifies loadings up to a rotation only.

    Parameters
    ----------
    weighted : bool
        False gives all rows, in units of their size, the same weight.

    References
    ----------
    .. [1] Assmann, C., Boysen-Hogrefe, J. & Pape, M. (2016). Bayesian analysis of static and dynamic factor models: an
       ex-post approach towards the rotation problem. Journal of Econometrics 192, 190-206.

    Examples
    --------
    >>> from probae.linalg import haar_rotation
    >>> generator = torch.Generator().manual_seed(0)
    >>> W = torch.randn(9, 3, dtype=torch.float64, generator=generator)
    >>> turned = W @ haar_rotation(3, generator, 40).view(4, 10, 3, 3)         # one frame for each draw
    >>> aligned = turned @ OrthogonalProcrustes().rotations(turned)
    >>> bool((aligned - aligned[0, 0]).abs().max() < 1e-12)
    True
    """

    weighted: bool = True

    def rotations(
        self, loadings: Float[Tensor, "chains draws features latents"]
    ) -> Float[Tensor, "chains draws latents latents"]:
        """Return R of each draw."""
        sample = Sample.of(loadings)
        target, weights = self.reference(sample)
        return procrustes(sample.rows, target, weights).view(*loadings.shape[:2], *target.shape[1:], -1)

    def reference(
        self, sample: Sample
    ) -> tuple[Float[Tensor, "features latents"], Float[Tensor, " features"]]:
        """Return the mean T of the turned draws, in units of the rows and its principal axes, and the weights."""
        half = sample.half
        draws, features, latents = half.shape
        side, size = half.transpose(0, 1).reshape(features, -1), half.square().mean((0, 2))
        target, weights = root_of_mean(half), torch.ones(features, dtype=half.dtype)
        for _ in range(STEPS):
            turn = procrustes(half, target, weights)
            before, target = target, side @ turn.view(-1, latents) / draws
            if self.weighted:
                weights = precisions(size - target.square().mean(1))
            if float((target - before).abs().max()) <= SETTLED:
                break
        return target @ principal_turn(target, weights, half.mean(0)), weights


@dataclass(frozen=True)
class SignedPermutations(Aligner):
    """Reorder and reflect the columns of each draw to be nearest the mean of the reordered draws.

    Distances weigh each row by one over its variance about the mean; the best of the 2^K K! signed permutations
    is one assignment problem. The columns of the mean are ordered by size, the largest entry of each positive.

    Parameters
    ----------
    columns : Columns, optional
        Which columns may change places and signs; all, by default.

    Examples
    --------
    >>> W = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    >>> draws = torch.stack([W, -W, W.flip(1)]).unsqueeze(0)
    >>> (draws @ SignedPermutations().rotations(draws))[0, 2]
    tensor([[2., 0.],
            [0., 1.],
            [1., 1.]], dtype=torch.float64)
    """

    columns: Columns | None = None

    def rotations(
        self, loadings: Float[Tensor, "chains draws features latents"]
    ) -> Float[Tensor, "chains draws latents latents"]:
        """Return R of each draw, a signed permutation."""
        sample, latents = Sample.of(loadings), loadings.shape[-1]
        columns = self.columns or Columns.alike(latents)
        half = sample.half
        target, weights = half[nearest_to_mean(half)], torch.ones(half.shape[1], dtype=half.dtype)
        before = None
        for _ in range(STEPS):
            turn = matched(half, target, weights, columns)
            turned = half @ turn
            target = turned.mean(0)
            weights = precisions((turned - target).square().mean((0, 2)))
            if before is not None and torch.equal(turn, before):
                break
            before = turn
        target = target @ order_and_signs(target, weights, columns)
        return matched(sample.rows, target, weights, columns).view(*loadings.shape[:2], latents, latents)


@dataclass(frozen=True)
class VarimaxPermutations(Aligner):
    """Turn each draw to its own varimax frame, then match signs and order (rotation, sign and permutation; RSP).

    Axes that varimax chooses are a convention of the analyst: under Gaussian codes they agree between chains because
    every chain was turned by the same rule. Each draw starts from the varimax frame of the mean, so that it finds the
    same one of several local maxima.

    Parameters
    ----------
    normalize : bool
        Rows in units of their root mean square over the draws (Kaiser's weights); False takes them as they are.

    References
    ----------
    .. [1] Papastamoulis, P. & Ntzoufras, I. (2022). On the identifiability of Bayesian factor analytic models.
       Statistics and Computing 32, 23.

    Examples
    --------
    >>> from probae.linalg import haar_rotation
    >>> generator = torch.Generator().manual_seed(0)
    >>> simple = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 0.5]], dtype=torch.float64)
    >>> draws = (simple @ haar_rotation(2, generator, 6)).view(2, 3, 4, 2)
    >>> (draws @ VarimaxPermutations().rotations(draws))[1, 2].round(decimals=9).abs().T
    tensor([[1.0000, 2.0000, 0.0000, 0.0000],
            [0.0000, 0.0000, 1.0000, 0.5000]], dtype=torch.float64)
    """

    normalize: bool = True

    def rotations(
        self, loadings: Float[Tensor, "chains draws features latents"]
    ) -> Float[Tensor, "chains draws latents latents"]:
        """Return R of each draw."""
        turn = varimax_frames(loadings, self.normalize)
        return turn @ SignedPermutations().rotations(loadings @ turn)


@dataclass(frozen=True)
class PivotMatch(Aligner):
    """Turn each draw to its own varimax frame, then match its columns to those of one draw, the pivot (MatchAlign).

    The pivot is the draw with the median of the largest singular values. Columns are matched by one assignment
    problem, where the original takes the closest columns one by one.

    Parameters
    ----------
    normalize : bool
        As in `VarimaxPermutations`.

    References
    ----------
    .. [1] Poworoznek, E., Anceschi, N., Ferrari, F. & Dunson, D. (2021). Efficiently resolving rotational ambiguity in
       Bayesian matrix sampling with matching. arXiv:2107.13783.

    Examples
    --------
    >>> draws = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]][None, None, :, :] * torch.tensor([1.0, 2.0, 3.0])
    >>> draws = torch.cat([draws, -draws.flip(-1)]).double()
    >>> aligned = draws @ PivotMatch().rotations(draws)
    >>> bool((aligned[0] - aligned[1]).abs().max() < 1e-12)
    True
    """

    normalize: bool = True

    def rotations(
        self, loadings: Float[Tensor, "chains draws features latents"]
    ) -> Float[Tensor, "chains draws latents latents"]:
        """Return R of each draw."""
        turn = varimax_frames(loadings, self.normalize)
        sample = Sample.of(loadings @ turn)
        half, latents = sample.half, loadings.shape[-1]
        largest = torch.linalg.matrix_norm(half, 2)
        pivot = half[int(largest.argsort(stable=True)[(len(largest) - 1) // 2])]
        weights, columns = torch.ones(half.shape[1], dtype=half.dtype), Columns.alike(latents)
        pivot = pivot @ order_and_signs(pivot, weights, columns)
        return turn @ matched(sample.rows, pivot, weights, columns).view(*turn.shape)


def procrustes(
    rows: Float[Tensor, "draws features latents"], target: Tensor, weights: Float[Tensor, " features"]
) -> Float[Tensor, "draws latents latents"]:
    """Return the orthogonal R of each draw that brings W R nearest the target, rows weighted."""
    draws, features, latents = rows.shape
    against = rows.mT.reshape(-1, features) @ (weights.unsqueeze(-1) * target)
    left, _, right = torch.linalg.svd(against.view(draws, latents, -1))
    return left @ right


def matched(
    rows: Float[Tensor, "draws features latents"],
    target: Float[Tensor, "features latents"],
    weights: Float[Tensor, " features"],
    columns: Columns,
) -> Float[Tensor, "draws latents latents"]:
    """Return the signed permutation R of each draw that brings W R nearest the target, rows weighted."""
    return signed_permutation(*assign_columns((weights.unsqueeze(-1) * target).mT @ rows, columns))


def precisions(variance: Float[Tensor, " features"]) -> Float[Tensor, " features"]:
    """Return one over the variances of the rows about their means, relative to the average of them."""
    variance = variance.clamp_min(0.0) + LEAST
    return 1 / (variance * (1 / variance).mean())


def nearest_to_mean(rows: Float[Tensor, "draws features latents"]) -> int:
    """Return the draw whose W W' is nearest the mean of W W', which no change of axes has a part in."""
    root = root_of_mean(rows)
    gram = (rows.mT @ rows).square().sum((-2, -1))
    return int((gram - 2 * (root.mT @ rows).square().sum((-2, -1))).argmin())


def varimax_frames(
    loadings: Float[Tensor, "chains draws features latents"], normalize: bool
) -> Float[Tensor, "chains draws latents latents"]:
    """Return the rotation of each draw to a varimax frame, all near that of their mean."""
    sample = Sample.of(loadings, units=normalize)
    target, weights = OrthogonalProcrustes().reference(sample)
    turn = procrustes(sample.rows, target, weights)
    if target.any() and target.shape[1] > 1:
        turn = turn @ _best_varimax(target)
        block = max(1, BLOCK // target.numel())
        parts = zip(sample.rows.split(block), turn.split(block), strict=True)
        turn = torch.cat([part @ descended(rows @ part).transform for rows, part in parts])
    return turn.view(*loadings.shape[:2], *turn.shape[1:])


def _best_varimax(loadings: Float[Tensor, "features latents"]) -> Float[Tensor, "latents latents"]:
    """Return the rotation to the best of the maxima of varimax that some random frames lead to."""
    random = haar_rotation(loadings.shape[1], torch.Generator().manual_seed(0), STARTS)
    ends = descended(loadings @ random)
    return (random @ ends.transform)[int(ends.value.argmin())]


def descended(rows: Float[Tensor, "draws features latents"]) -> Frames:
    """Turn each matrix to the maximum of varimax next to the frame it has."""
    problem, latents = Problem(rows, Varimax(), False), rows.shape[-1]
    start = problem.frames(torch.eye(latents, dtype=rows.dtype).repeat(len(rows), 1, 1))
    size = float(rows.square().sum((-2, -1)).square().mean())  # of the criterion, and of its slope
    return descend(problem, start, (size, size), 1e-12, 1000)
