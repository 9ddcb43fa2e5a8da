r"""What the model identifies, whatever the data: the null space of the score information under W -> W (I + t B).

For a right action by B in gl(K) the score of one row is E[psi(z)' B z | x] - tr B, and without noise its information is

    J = E[S S'],   S = vec(psi(z) z' - I)

B is in the null space exactly when W e^{tB} has the same likelihood for every W and every noise. For independent
coordinates of standard deviations s_i and information kappa_i = s_i^2 E psi_i^2, the pair (B_ij, B_ji) has, after
normalisation, the smallest eigenvalue 1 - (kappa_i kappa_j)^{-1/2}: zero if and only if both are Gaussian (Maxwell).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.models import LinearFactorModel
from probae.priors import CorrelatedGaussian, Prior
from probae.priors.information import information_of, spread_of

NULL = 1e-6  # normalised information below this is zero for exact values
DRAWS = 200_000
RANK = 1e-6  # singular value of the whitened loadings, relative to the largest, that counts as zero


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
        "O", or "GL" where the correlations of the factors are free, so that a block may be turned obliquely.
    """

    blocks: tuple[tuple[int, ...], ...]
    null_dimension: int
    information: float
    exact: bool
    equal_scales: bool = True
    family: str = "O"

    @property
    def group(self) -> str:
        """The group in words: ``SP(2) x O(2)``."""
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


def describe_blocks(blocks: tuple[tuple[int, ...], ...], family: str = "O") -> str:
    """Name the group of a grouping of factors: singles are SP, larger blocks O (or another family)."""
    singles = sum(len(block) == 1 for block in blocks)
    parts = [f"SP({singles})"] if singles else []
    parts += [f"{family}({len(block)})" for block in sorted(blocks, key=len) if len(block) > 1]
    return " x ".join(parts)


def structure(prior: Prior, latents: int) -> Structure:
    """Return the structural group of a prior of ``latents`` factors.

    Examples
    --------
    >>> from probae import priors
    >>> structure(priors.Gaussian(), 3).group, structure(priors.Laplace(), 3).group
    ('O(3)', 'SP(3)')
    """
    laws = prior.coordinates(latents)
    if isinstance(prior, CorrelatedGaussian) and laws is None:
        null = latents * (latents - 1) // 2
        return Structure((tuple(range(latents)),), null, 0.0, exact=True, equal_scales=False)
    return _independent(laws) if laws is not None else _joint(prior, latents)


def _independent(laws: list[Prior]) -> Structure:
    kappas = {repr(law): information_of(law) * spread_of(law) ** 2 for law in laws}
    kappa = [kappas[repr(law)] for law in laws]
    null = {
        (i, j)
        for i, j in itertools.combinations(range(len(laws)), 2)
        if 1 - 1 / math.sqrt(kappa[i] * kappa[j]) < NULL
    }
    rest = [
        1 - 1 / math.sqrt(kappa[i] * kappa[j])
        for i, j in itertools.combinations(range(len(laws)), 2)
        if (i, j) not in null
    ]
    blocks = connected(len(laws), null)
    equal = all(len({round(spread_of(laws[i]), 12) for i in block}) == 1 for block in blocks)
    return Structure(blocks, len(null), min(rest, default=0.0), exact=True, equal_scales=equal)


def _joint(prior: Prior, latents: int) -> Structure:
    """Find the null space of J by Monte Carlo; a law that says it is spherical is O(K) without error."""
    if prior.spherical:
        return Structure((tuple(range(latents)),), latents * (latents - 1) // 2, 0.0, exact=True)
    values, _ = gl_information(prior, latents)
    error = 10 / math.sqrt(DRAWS)
    null = int((values < error).sum())
    blocks = (tuple(range(latents)),) if null else tuple((i,) for i in range(latents))
    return Structure(blocks, null, float(values[null]) if null < len(values) else 0.0, exact=False)


def gl_information(
    prior: Prior, latents: int, draws: int = DRAWS, seed: int = 0
) -> tuple[Float[Tensor, "pairs"], Float[Tensor, "pairs pairs"]]:
    """Return eigenvalues (ascending) and vectors of the normalised information of the rotations, by Monte Carlo.

    Only the skew part matters for a group of rotations of unit-variance factors: for each plane (i, j) the score is
    psi_i z_j - psi_j z_i.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        z = prior.sample(draws, latents).double()
    psi = prior.score(z)
    planes = list(itertools.combinations(range(latents), 2))
    scores = torch.stack([psi[:, i] * z[:, j] - psi[:, j] * z[:, i] for i, j in planes], 1)
    size = torch.stack(
        [(psi[:, i] * z[:, j]).square().mean() + (psi[:, j] * z[:, i]).square().mean() for i, j in planes]
    )
    return torch.linalg.eigh(scores.T @ scores / draws / torch.outer(size, size).sqrt())


def connected(count: int, edges: set[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Return the connected components of a graph on 0..count-1, in order of their first member."""
    label = list(range(count))
    for i, j in sorted(edges):
        old, new = max(label[i], label[j]), min(label[i], label[j])
        label = [new if value == old else value for value in label]
    return tuple(tuple(i for i in range(count) if label[i] == name) for name in sorted(set(label)))


@dataclass(frozen=True)
class LoadingsCheck:
    """What can be said of the loadings and the noise before any rotation: rank, Ledermann count, Heywood cases."""

    rank: int
    separable: bool
    degrees_of_freedom: float
    heywood: tuple[int, ...]


def check_loadings(model: LinearFactorModel) -> LoadingsCheck:
    r"""Check the fitted loadings: numerical rank of Psi^{-1/2} W, and d = ((D - K)^2 - (D + K)) / 2 (Ledermann)."""
    loadings, noise, _ = model._gaussian_parameters()
    variance = (model.communalities if model.gaussian else loadings.square().sum(1)) + noise
    scale = noise.sqrt() if model.noise != "none" else variance.sqrt()
    singular = torch.linalg.svdvals(loadings / scale.unsqueeze(1))
    rank = int((singular > RANK * singular[0]).sum())
    heywood = (
        torch.nonzero(noise <= 1.01e-6 * variance).flatten().tolist() if model.noise == "diagonal" else []
    )
    features, latents = model.features, model.latents
    degrees = (
        ((features - latents) ** 2 - (features + latents)) / 2 if latents < features else -float(latents)
    )
    return LoadingsCheck(rank, rank == model.latents, degrees, tuple(heywood))
