r"""Which loadings have mixed: R-hat and effective sample size of raw, invariant and aligned quantities side by side.

Where the likelihood leaves a rotation free, R-hat of raw loadings says nothing of the axes. A sampler without a move
along the orbit W R leaves every chain in a frame of its own: raw R-hat is large although all else has converged. With
such a move raw loadings wander over the whole orbit: their R-hat is 1 and their mean close to 0.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probae.analysis.draws_source import Source, read_source
from probae.analysis.mixed_quantity import Quantity, even_choice, quantity_of
from probae.checks import DataError
from probae.inference.aligned import OrthogonalProcrustes, SignedPermutations
from probae.inference.identified_group import IdentifiedGroup
from probae.inference.parameter_draws import LEAST_ESS

__all__ = ["Mixing", "Pattern", "mixing"]

FEWEST = 4  # draws of a chain; a single one is cut in two
SMALL_MEAN = 0.3  # of the length of the loadings: a mean below it is that of draws in many frames


class Pattern(enum.Enum):
    """What raw, invariant and aligned loadings say together."""

    NOT_CONVERGED = "not converged"
    FLAT_ORBIT = "flat orbit, walked along"
    FRAMES_OF_CHAINS = "each chain in a frame of its own"
    SIGNED_PERMUTATIONS = "the same axes up to signs and order"
    FRAME_SWITCH = "more than one frame"
    ONE_FRAME = "one frame"
    UNCLEAR = "aligned loadings differ"


@dataclass(frozen=True, eq=False)
class Mixing:
    """R-hat and effective sample sizes of raw, invariant and aligned quantities.

    Attributes
    ----------
    raw, covariance, noise, permuted, rotated : Quantity
        Of W as drawn, W W', the noise variances (None without draws of them), W after signed permutations, and after
        orthogonal Procrustes.
    group : IdentifiedGroup or None
        What the model leaves free; None for bare draws.
    raw_mean, aligned_mean : float
        Length of the mean of W over that of W itself, rows in units of their size: 1 where all draws are one, near 0
        where they are in many frames.
    names : tuple of str, or None

    Examples
    --------
    >>> import torch, probae as pa
    >>> W = 1 + 0.1 * torch.randn(4, 250, 4, 1, generator=torch.Generator().manual_seed(0))
    >>> found = pa.mixing(W)
    >>> found.converged, found.pattern.value, found.noise
    (True, 'one frame', None)
    """

    raw: Quantity
    covariance: Quantity
    noise: Quantity | None
    permuted: Quantity
    rotated: Quantity
    group: IdentifiedGroup | None
    raw_mean: float
    aligned_mean: float
    names: tuple[str, ...] | None

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The rows of the table."""
        rows = (self.raw, self.covariance, self.noise, self.permuted, self.rotated)
        return tuple(one for one in rows if one is not None)

    @property
    def invariants(self) -> tuple[Quantity, ...]:
        """W W' and the noise variances: what no change of axes has a part in."""
        return tuple(one for one in (self.covariance, self.noise) if one is not None)

    @property
    def converged(self) -> bool:
        """Whether invariants have R-hat at most 1.01 and are worth 400 independent draws at least."""
        return all(one.mixed and min(one.least_bulk, one.least_tail) >= LEAST_ESS for one in self.invariants)

    @property
    def pattern(self) -> Pattern:
        """What the rows of the table say together."""
        if not self.converged:
            return Pattern.NOT_CONVERGED
        if self.raw.mixed and self.raw_mean >= SMALL_MEAN * self.aligned_mean:
            return Pattern.ONE_FRAME
        rotates = self.group is None or self.group.rotates
        orbit = self.raw.mixed and rotates  # whose draws in random frames any alignment makes alike
        if self.permuted.mixed and not orbit:
            return Pattern.SIGNED_PERMUTATIONS
        if not self.rotated.mixed:
            return Pattern.UNCLEAR
        if not rotates:
            return Pattern.FRAME_SWITCH
        return Pattern.FLAT_ORBIT if orbit else Pattern.FRAMES_OF_CHAINS

    @property
    def meaning(self) -> str:
        """The pattern in a sentence or two."""
        return _meaning(self)

    def __str__(self) -> str:
        chains, draws = self.raw.draws.shape[:2]
        group = "" if self.group is None else f"; {self.group.reason}: {self.group.name} is free"
        lines = [f"Mixing of {chains} chains of {draws} draws{group}"]
        lines.append(f"  {'':<26}{'numbers':>8}{'R-hat':>9}{'bulk ESS':>10}{'tail ESS':>10}")
        for one in self.quantities:
            sizes = f"{_whole(one.least_bulk):>10}{_whole(one.least_tail):>10}"
            lines.append(f"  {one.name:<26}{len(one.labels):>8}{_short(one.worst_r_hat):>9}{sizes}")
        lengths = f"{self.raw_mean:.2f} as drawn, {self.aligned_mean:.2f} rotated"
        lines.append(f"  worst R-hat, least ESS of each; |mean W| / |W| is {lengths}")
        lines.append(f"{self.pattern.value[0].upper()}{self.pattern.value[1:]}: {self.meaning}")
        return "\n".join(lines)


def mixing(source: Any) -> Mixing:
    """Tabulate R-hat and effective sample size of raw, invariant, permuted and rotated loadings.

    Parameters
    ----------
    source : Fit, sequence of Fit, Tensor (chain, draw, D, K), or dict of such draws
        As `align` takes. Aligned quantities are aligned jointly over all chains, to a reference made of half of the
        draws. Of more than 200 numbers of one kind an even choice is looked at.

    Raises
    ------
    ParameterError, DataError
        As `align` does, and for fewer than 4 draws a chain.

    References
    ----------
    .. [1] Vehtari, A., Gelman, A., Simpson, D., Carpenter, B. & Burkner, P.-C. (2021). Rank-normalization, folding, and
       localization: an improved R-hat for assessing convergence of MCMC. Bayesian Analysis 16, 667-718.

    Examples
    --------
    >>> import torch, probae as pa
    >>> from probae.linalg import haar_rotation
    >>> generator = torch.Generator().manual_seed(0)
    >>> W = torch.randn(5, 2, dtype=torch.float64, generator=generator)
    >>> W = W + 0.1 * torch.randn(4, 250, 5, 2, dtype=torch.float64, generator=generator)
    >>> found = pa.mixing(W @ haar_rotation(2, generator, 4)[:, None])             # one frame for each chain
    >>> found.pattern.name, found.raw.worst_r_hat > 1.5, found.rotated.mixed
    ('FRAMES_OF_CHAINS', True, True)
    """
    read = read_source(source, "mixing")
    draws = read.draws["loadings"]
    fewest = FEWEST * (1 + (len(draws) == 1))
    if draws.shape[1] < fewest:
        raise DataError(f"mixing needs at least {fewest} draws of each chain, got {draws.shape[1]}.")
    group, features, latents = read.group, draws.shape[2], draws.shape[3]
    names = read.names or tuple(str(d) for d in range(features))
    columns = None if group is None or group.rotates else group.columns
    permuted = draws @ SignedPermutations(columns).rotations(draws)
    rotated = draws @ OrthogonalProcrustes().rotations(draws)
    every = [f"{name} on z[{k}]" for name in names for k in range(latents)]
    return Mixing(
        raw=quantity_of("W as drawn", draws.flatten(2), every),
        covariance=_covariance(draws, names),
        noise=_noise(read, names),
        permuted=quantity_of("W, signs and order matched", permuted.flatten(2), every),
        rotated=quantity_of("W, rotated (Procrustes)", rotated.flatten(2), every),
        group=group,
        raw_mean=_mean_length(draws),
        aligned_mean=_mean_length(rotated),
        names=read.names,
    )


def _covariance(draws: Tensor, names: tuple[str, ...]) -> Quantity:
    """Diagnose an even choice of the entries of W W'."""
    first, second = torch.tril_indices(len(names), len(names))
    chosen = even_choice(len(first))
    pairs = list(zip(first[chosen].tolist(), second[chosen].tolist(), strict=True))
    products = torch.stack([(draws[:, :, i] * draws[:, :, j]).sum(-1) for i, j in pairs], -1)
    return quantity_of("W W'", products, [f"{names[i]}, {names[j]}" for i, j in pairs], total=len(first))


def _noise(read: Source, names: tuple[str, ...]) -> Quantity | None:
    noise = read.draws.get("noise_variance")
    if noise is None:
        return None
    if noise.dim() == 2:
        return quantity_of("noise variance", noise.unsqueeze(-1), ["all features"])
    return quantity_of("noise variances", noise, list(names))


def _mean_length(draws: Tensor) -> float:
    """Return the length of the mean over that of the draws, rows in units of their size."""
    size = draws.square().mean((0, 1, 3))
    share = draws.mean((0, 1)).square().mean(1) / torch.where(size > 0, size, 1.0)
    varying = int((size > 0).sum())
    return float((share.sum() / max(varying, 1)).sqrt())


def _short(r_hat: float) -> str:
    return f"{r_hat:.3f}" if r_hat < 100 else f"{r_hat:.3g}"


def _whole(size: float) -> str:
    return f"{size:.0f}" if size < float("inf") else "-"


def _meaning(found: Mixing) -> str:
    worst = max(found.invariants, key=lambda one: one.worst_r_hat)
    free = found.group is None or found.group.rotates
    said = {
        Pattern.NOT_CONVERGED: (
            f"{worst.name} has R-hat {_short(worst.worst_r_hat)} and the invariants are worth as few as "
            f"{_whole(min(one.least_bulk for one in found.invariants))} independent draws (1.01 and 400 are asked "
            "for): no verdict on the axes before the chains are longer."
        ),
        Pattern.FLAT_ORBIT: (
            "raw loadings mix, over all rotations: their mean is close to 0 and no estimate. Read invariants, or "
            "aligned loadings, whose axes are a convention."
        ),
        Pattern.FRAMES_OF_CHAINS: (
            "invariants and rotated loadings agree between chains, raw ones do not: the sampler has not moved along "
            "the rotations, which the likelihood leaves free. The axes are a convention."
        ),
        Pattern.SIGNED_PERMUTATIONS: (
            "chains find the same axes; "
            + (
                "as the likelihood leaves rotations free, the prior or the sampler holds them."
                if free
                else "average draws after signs and order are matched."
            )
        ),
        Pattern.FRAME_SWITCH: (
            "the model identifies its axes, but chains stand in frames that differ by more than signs and order: "
            "several modes, or too few data to tell them apart; run longer chains, or tempered ones."
        ),
        Pattern.ONE_FRAME: (
            "raw loadings agree between chains; "
            + (
                "as the likelihood leaves rotations free, the prior, the start or the sampler holds the frame."
                if free
                else "no alignment is needed."
            )
        ),
        Pattern.UNCLEAR: (
            "invariants agree, but no alignment brings the loadings of the chains together: more factors than the "
            "data have leave columns without a direction. Read invariants only."
        ),
    }
    return said[found.pattern]
