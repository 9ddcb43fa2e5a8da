"""What the model identifies, whatever the data: the group that leaves it as it is, and what its loadings allow."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import torch

from probae.identifiability.group_information import GroupInformation, connected
from probae.identifiability.lie_algebra import prior_information
from probae.inference.profile import AT_FLOOR
from probae.models import LinearFactorModel
from probae.priors import Prior
from probae.priors.information import is_symmetric, spread_of

__all__ = [
    "LoadingsCheck",
    "Structure",
    "check_loadings",
    "connected",
    "describe_blocks",
    "ledermann_count",
    "structure",
]

RANK = 1e-6  # singular value of the whitened loadings, relative to the largest, that counts as zero
PARALLEL = 1e-9  # 1 - |cosine| of two columns that point the same way


@dataclass(frozen=True, eq=False)
class Structure:
    """The group that leaves the model's likelihood unchanged.

    Attributes
    ----------
    blocks : tuple of tuples of int
        Factors that mix freely among themselves; a block of one is identified up to sign and order.
    null_dimension : int
        Dimension of the group of right actions.
    information : float
        Smallest normalised information over the planes that are not null (0 when all are).
    exact : bool
        Closed form, or Monte Carlo with ``draws`` draws from the prior.
    equal_scales : bool
        Whether the factors within each block have one variance and no correlations; otherwise the group is a conjugate
        of O(m).
    family : str
        "O", or "GL" where the correlations of the factors are free, so that a block may be turned obliquely; "" where
        no theorem says.
    modes : int or None
        How many orders and signs of the factors outside the blocks have the same likelihood: those of one law change
        places, those of a symmetric law their sign. None where that is not known.
    orders : int or None
        How many orders alone.
    spectrum : GroupInformation or None
        The information on all right actions in the noise-free limit, with the basis of the algebra.
    """

    blocks: tuple[tuple[int, ...], ...]
    null_dimension: int
    information: float
    exact: bool
    equal_scales: bool = True
    family: str = "O"
    modes: int | None = None
    orders: int | None = None
    spectrum: GroupInformation | None = None

    @property
    def group(self) -> str:
        """The group in words: ``SP(2) x O(2)``."""
        if not self.family:
            return "unknown"
        name = describe_blocks(self.blocks, self.family)
        planes = sum(len(block) * (len(block) - 1) for block in self.blocks)
        whole = planes if self.family == "GL" else planes // 2
        return (
            name
            if self.null_dimension == whole
            else f"a {self.null_dimension}-dimensional subgroup of {name}"
        )

    @property
    def identified(self) -> bool:
        """Whether only signs and order are free."""
        return self.null_dimension == 0

    @property
    def axes(self) -> bool:
        """Whether the model tells some axis from all others."""
        return self.identified or any(len(block) == 1 for block in self.blocks)

    @property
    def free(self) -> str:
        """What of the factors that mix with no other the likelihood leaves free, in words.

        Examples
        --------
        >>> from probae import priors
        >>> laplace, t = priors.Laplace(), priors.StudentT(5.0)
        >>> [structure(law, 2).free for law in (laplace, priors.Independent([laplace, t]))]
        ['sign and order', 'sign']
        >>> structure(priors.Independent([laplace, laplace, t]), 3).free
        'sign and, among factors of one law, order'
        """
        single = sum(len(block) == 1 for block in self.blocks)
        if self.modes is None or self.orders is None:
            return "sign and, among factors of one law, order"
        signs = ["sign"] if self.modes > self.orders else []
        whole = self.orders == math.factorial(single)
        orders = [] if self.orders == 1 else ["order"] if whole else ["among factors of one law, order"]
        if signs and orders:
            return f"sign and {orders[0]}" if whole else f"sign and, {orders[0]}"
        return "".join(signs + orders) or "nothing"

    def with_any_order(self) -> Structure:
        """Return it for laws that follow the factors wherever they go: every order of those that mix with no other.

        Examples
        --------
        >>> from probae import priors
        >>> found = structure(priors.Independent([priors.Laplace(), priors.StudentT(5.0)]), 2)
        >>> found.modes, found.with_any_order().modes
        (4, 8)
        """
        if self.modes is None or self.orders is None:
            return self
        orders = math.factorial(sum(len(block) == 1 for block in self.blocks))
        return replace(self, modes=self.modes // self.orders * orders, orders=orders)


def describe_blocks(blocks: tuple[tuple[int, ...], ...], family: str = "O") -> str:
    """Name the group of a grouping of factors: singles are SP, larger blocks O (or another family)."""
    singles = sum(len(block) == 1 for block in blocks)
    parts = [f"SP({singles})"] if singles else []
    parts += [f"{family}({len(block)})" for block in sorted(blocks, key=len) if len(block) > 1]
    return " x ".join(parts)


def structure(prior: Prior, latents: int, seed: int = 0) -> Structure:
    """Return the structural group of a prior of ``latents`` factors.

    Examples
    --------
    >>> from probae import priors
    >>> structure(priors.Gaussian(), 3).group, structure(priors.Laplace(), 3).group
    ('O(3)', 'SP(3)')
    >>> structure(priors.Laplace(), 3).modes                                         # 3! orders times 2^3 signs
    48
    """
    found = prior_information(prior, latents, seed)
    laws = prior.coordinates(latents)
    blocks = found.blocks
    whole = (latents**2 - latents) // 2 == found.dimension
    known = laws is not None or whole
    orders, signs = _modes(laws, blocks) if laws is not None else (1, 1)
    return Structure(
        blocks,
        found.dimension,
        0.0 if whole and latents > 1 else min(found.smallest_other, 1.0),
        exact=found.draws == 0 or whole,
        equal_scales=prior.spherical if laws is None else _equal_scales(laws, blocks),
        modes=orders * signs if known else None,
        orders=orders if known else None,
        spectrum=found,
    )


def _equal_scales(laws: list[Prior], blocks: tuple[tuple[int, ...], ...]) -> bool:
    return all(len({round(spread_of(laws[i]), 12) for i in block}) == 1 for block in blocks)


def _modes(laws: list[Prior], blocks: tuple[tuple[int, ...], ...]) -> tuple[int, int]:
    """Count orders within equal laws, and signs of symmetric laws, of factors that mix with no other."""
    alone = [laws[block[0]] for block in blocks if len(block) == 1]
    orders = math.prod(math.factorial(count) for count in Counter(map(_kind, alone)).values())
    return orders, int(2 ** sum(is_symmetric(law) for law in alone))


def _kind(law: Prior) -> str:
    """Name a law: laws whose shapes are learnt are of one kind, whatever was learnt."""
    return str([type(part).__name__ for part in law.modules()]) if list(law.parameters()) else repr(law)


@dataclass(frozen=True)
class LoadingsCheck:
    """What can be said of the loadings and the noise before any rotation.

    Attributes
    ----------
    rank : int
        Numerical rank of Psi^{-1/2} W.
    separable : bool
        Whether x determines the factors up to noise: rank K. Overcomplete loadings may be identifiable and never are.
    degrees_of_freedom : float
        Ledermann's count ((D - K)^2 - (D + K)) / 2.
    heywood : tuple of int
        Features whose noise variance is at its floor.
    empty : tuple of int
        Columns of zeros.
    parallel : tuple of (int, int)
        Pairs of columns that point the same way: only what they contribute together can be told.
    condition : float
        Largest singular value of Psi^{-1/2} W over its smallest that is not zero.
    """

    rank: int
    separable: bool
    degrees_of_freedom: float
    heywood: tuple[int, ...]
    empty: tuple[int, ...] = ()
    parallel: tuple[tuple[int, int], ...] = ()
    condition: float = 1.0


def check_loadings(model: LinearFactorModel) -> LoadingsCheck:
    r"""Check the fitted loadings: rank, columns that are zero or parallel, the Ledermann count, noise at its floor."""
    loadings, noise, _ = model._gaussian_parameters()
    variance = (model.communalities if model.gaussian else loadings.square().sum(1)) + noise
    scale = noise.sqrt() if model.noise != "none" else variance.sqrt()
    whitened = loadings / torch.where(scale > 0, scale, 1.0).unsqueeze(1)
    singular = torch.linalg.svdvals(whitened)
    rank = int((singular > RANK * singular[0]).sum())
    heywood = (
        torch.nonzero(noise < AT_FLOOR * variance).flatten().tolist() if model.noise == "diagonal" else []
    )
    length = whitened.norm(dim=0)
    empty = length <= RANK * length.max()
    unit = whitened / torch.where(empty, 1.0, length)
    cosines = (unit.mT @ unit).abs().tril(-1)
    pairs = torch.nonzero((cosines > 1 - PARALLEL) & ~empty & ~empty.unsqueeze(1)).tolist()
    return LoadingsCheck(
        rank,
        rank == model.latents,
        ledermann_count(model.features, model.latents),
        tuple(heywood),
        tuple(empty.nonzero().flatten().tolist()),
        tuple((j, i) for i, j in pairs),
        float(singular[0] / singular[rank - 1]) if rank else math.inf,
    )


def ledermann_count(features: int, factors: int) -> float:
    """Return Ledermann's count ((D - K)^2 - (D + K)) / 2, and -K where there are as many factors as features.

    Examples
    --------
    >>> ledermann_count(9, 3), ledermann_count(5, 3), ledermann_count(4, 4)
    (12.0, -2.0, -4.0)
    """
    if factors >= features:
        return -float(factors)
    return ((features - factors) ** 2 - (features + factors)) / 2
