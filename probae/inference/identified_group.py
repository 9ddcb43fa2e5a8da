r"""The changes of the factors that leave a posterior as it is, and the alignment they allow.

What the likelihood leaves free follows from the law of the factors: independent Gaussian factors of one variance turn
freely among themselves, W to W R; other independent laws allow signs where they are symmetric, and places where they
are equal. A prior of the loadings that is not invariant under rotations leaves signs and order only. To align by a
larger group would take real uncertainty away, to align by a smaller one would leave chains apart that agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import NotExactError
from probae.inference.aligned import Aligner, OrthogonalProcrustes, SignedPermutations, matched, procrustes
from probae.inference.assignment import Columns
from probae.inference.base import Fit
from probae.models import ConfirmatoryFactorAnalysis, LinearFactorModel
from probae.parameter_priors.base import LoadingsPrior
from probae.priors import Prior
from probae.priors.information import information_of, is_symmetric, spread_of

__all__ = ["IdentifiedGroup", "group_of_run", "identified_group", "in_frame_of"]

GAUSSIAN = 1e-6  # information above that of a Gaussian law that is none


@dataclass(frozen=True, eq=False)
class IdentifiedGroup(Aligner):
    r"""Align by the group that leaves the posterior unchanged.

    Attributes
    ----------
    block : tuple of int
        Factors that turn freely among themselves.
    columns : Columns
        Which of the others change places and signs.
    root : Tensor (K, K) or None
        Root of the covariance of the factors where that is not I: the group is then its conjugate, A = root R root^-1.
    reason : str
        What decided.

    Examples
    --------
    >>> import probae as pa
    >>> group = identified_group(pa.FactorAnalysis(9, 3))
    >>> group.name, group.reason
    ('O(3)', 'Gaussian factors')
    """

    block: tuple[int, ...]
    columns: Columns
    root: Float[Tensor, "latents latents"] | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """The group in words: ``SP(2) x O(2)``; signs without changes of place are S, no change at all is I."""
        rest = self._rest(len(self.columns.classes))
        classes, flips = self.columns.at(rest).classes, self.columns.at(rest).flips
        counts: dict[str, int] = {}
        for label, flip in zip(classes, flips, strict=True):
            alone = classes.count(label) == 1
            kind = ("S" if flip else "I") if alone else f"{'S' * flip}P{label}"
            counts[kind] = counts.get(kind, 0) + 1
        parts = [f"{kind.rstrip('0123456789')}({count})" for kind, count in counts.items()]
        return " x ".join(parts + [f"O({len(self.block)})"] * self.rotates)

    @property
    def rotates(self) -> bool:
        """Whether the group has a rotation in it."""
        return len(self.block) > 1

    def rotations(
        self, loadings: Float[Tensor, "chains draws features latents"]
    ) -> Float[Tensor, "chains draws latents latents"]:
        """Return A of each draw, with W A aligned."""
        white = loadings if self.root is None else loadings @ self.root
        block, rest = list(self.block) * self.rotates, self._rest(loadings.shape[-1])
        turn = torch.zeros(*loadings.shape[:2], *[loadings.shape[-1]] * 2, dtype=loadings.dtype)
        if block:
            _put(turn, block, OrthogonalProcrustes().rotations(white[..., block]))
        if rest:
            _put(turn, rest, SignedPermutations(self.columns.at(rest)).rotations(white[..., rest]))
        return self._coloured(turn)

    def onto(
        self, loadings: Float[Tensor, "features latents"], target: Float[Tensor, "features latents"]
    ) -> Float[Tensor, "latents latents"]:
        """Return the member A of the group that brings W A nearest a target, rows in units of the target's size."""
        white, goal = (w if self.root is None else w @ self.root for w in (loadings.unsqueeze(0), target))
        size = goal.square().sum(1)
        weights = torch.where(size > 0, 1 / size, 0.0)
        block, rest = list(self.block) * self.rotates, self._rest(loadings.shape[-1])
        turn = torch.zeros(1, *[loadings.shape[-1]] * 2, dtype=loadings.dtype)
        if block:
            _put(turn, block, procrustes(white[..., block], goal[:, block], weights))
        if rest:
            _put(turn, rest, matched(white[..., rest], goal[:, rest], weights, self.columns.at(rest)))
        return self._coloured(turn)[0]

    def _rest(self, latents: int) -> list[int]:
        """Factors that do not turn."""
        return [k for k in range(latents) if not (self.rotates and k in self.block)]

    def _coloured(self, turn: Tensor) -> Tensor:
        """Put the covariance of the factors back."""
        return turn if self.root is None else self.root @ turn @ torch.linalg.inv(self.root)


def _put(turn: Tensor, places: list[int], part: Tensor) -> None:
    """Write the part of a change that concerns some of the factors."""
    index = torch.tensor(places)
    turn[..., index.unsqueeze(-1), index] = part


def identified_group(model: LinearFactorModel, loadings_prior: Any = None) -> IdentifiedGroup:
    """Return the group that leaves the posterior of a model unchanged.

    Parameters
    ----------
    model : LinearFactorModel
    loadings_prior : LoadingsPrior or distribution, optional
        Without one the likelihood alone decides.

    Raises
    ------
    NotExactError
        For dependent factors of a law that is not spherical.

    Examples
    --------
    >>> import probae as pa
    >>> identified_group(pa.FactorAnalysis(9, 3), pa.parameter_priors.ARD()).name
    'SP(3)'
    """
    latents = model.latents
    apart = Columns(tuple(range(latents)), (True,) * latents)
    if isinstance(model, ConfirmatoryFactorAnalysis):
        return IdentifiedGroup((), apart, reason="zeros in fixed places")
    found = _of_likelihood(model.prior, latents)
    if found.rotates and loadings_prior is not None and not leaves_rotation(loadings_prior):
        kind = type(loadings_prior).__name__
        return IdentifiedGroup((), found.columns, reason=f"the prior {kind} of the loadings, not the data")
    return found


def group_of_run(run: Fit) -> IdentifiedGroup:
    """Return the group of a fit: with draws, the prior of the loadings has its say."""
    prior = getattr(run.program, "parameter_priors", {}).get("loadings")
    return identified_group(run.model, prior if run.draws is not None else None)


def in_frame_of(
    model: LinearFactorModel, loadings: Float[Tensor, "chains draws features latents"], aligner: Aligner
) -> Float[Tensor, "chains draws latents latents"]:
    """Return rotations that align draws with each other, and their mean with the loadings of a point model."""
    rotations = aligner.rotations(loadings)
    if not isinstance(aligner, IdentifiedGroup):
        return rotations
    mean = (loadings @ rotations).mean((0, 1))
    return rotations @ aligner.onto(mean, model.loadings.detach().double())


def leaves_rotation(prior: Any) -> bool:
    """Whether a prior of the loadings is the same for W R as for W."""
    if isinstance(prior, LoadingsPrior):
        return prior.rotation_invariant
    while isinstance(prior, dist.Independent):
        prior = prior.base_dist
    if not isinstance(prior, dist.Normal):
        return False
    scale = prior.scale if prior.scale.dim() else prior.scale.unsqueeze(0)
    return bool((prior.loc == 0).all() & (scale == scale[..., :1]).all())


def _of_likelihood(prior: Prior, latents: int) -> IdentifiedGroup:
    """Return the group of a law of the factors."""
    every = tuple(range(latents))
    laws = prior.coordinates(latents)
    if laws is None:
        return _of_joint_law(prior, latents)
    kappa = [information_of(law) * spread_of(law) ** 2 for law in laws]
    gaussian = tuple(k for k in every if abs(kappa[k] - 1) < GAUSSIAN)
    names = [repr(law) for law in laws]
    columns = Columns(tuple(names.index(name) for name in names), tuple(is_symmetric(law) for law in laws))
    spreads = torch.tensor([spread_of(law) if k in gaussian else 1.0 for k, law in enumerate(laws)]).double()
    own = spreads[list(gaussian)]
    root = (
        torch.diag(spreads)
        if len(own) > 1 and float(own.max() - own.min()) > 1e-9 * float(own.max())
        else None
    )
    kinds = ["Gaussian"] * bool(gaussian) + ["non-Gaussian"] * (len(gaussian) < latents)
    return IdentifiedGroup(gaussian, columns, root, f"{' and '.join(kinds)} factors")


def _of_joint_law(prior: Prior, latents: int) -> IdentifiedGroup:
    every, alike = tuple(range(latents)), Columns.alike(latents)
    if prior.spherical:
        return IdentifiedGroup(every, alike, reason="factors of a spherical law")
    correlation = getattr(prior, "correlation", None)
    if correlation is not None:
        values, vectors = torch.linalg.eigh(correlation.detach().double())
        root = (vectors * values.sqrt()) @ vectors.mT
        return IdentifiedGroup(every, alike, root, "Gaussian factors of given correlation")
    raise NotExactError(
        f"What {prior!r} identifies is not known in closed form: pass a method of alignment, such as "
        "SignedPermutations() or OrthogonalProcrustes()."
    )
