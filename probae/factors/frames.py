r"""Which of the equally likely frames of a factor model is meant: conditions that its parameters satisfy.

Loadings W and W R have one likelihood, so the information has a null space, and only the conditions by which one
frame is chosen make standard errors finite:

- the canonical frame, W' Psi^{-1} W diagonal (Lawley & Maxwell, 1971, section 2.3): K (K - 1) / 2 conditions;
- a stationary point of a rotation criterion f with gradient G at the loadings L, L' G symmetric for orthogonal and
  L' G Phi^{-1} diagonal for oblique rotation (Jennrich, 1973, Psychometrika 38, 593-604; Archer & Jennrich, 1973,
  Psychometrika 38, 581-592): K (K - 1) / 2 or K (K - 1) conditions.

Their Jacobian comes from differentiating the criterion's gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ConvergenceWarning, ParameterError, warn
from probae.factors.structure import Structure
from probae.rotation import Kaiser
from probae.rotation.result import Rotation

Conditions = Callable[[Tensor, Tensor, Tensor], Tensor]  # of loadings, correlation, noise

SAME = 1e-6  # largest cosine between columns of Psi^{-1/2} W that are at right angles
CLOSE = 1e-4  # two sets of loadings that differ by less, relative to the largest, are the same
STATIONARY = 1e-3  # largest condition, relative to its terms, that still counts as met


@dataclass(frozen=True, eq=False)
class Frame:
    """A structure in one frame, the conditions that define the frame, and its name."""

    structure: Structure
    conditions: Conditions | None
    name: str

    def jacobian(self) -> Float[Tensor, "conditions parameters"]:
        """Derivatives of the conditions by the free parameters."""
        layout = self.structure.layout
        t, u = layout.pairs
        if self.conditions is None or layout.latents == 1:
            return torch.zeros(0, layout.size, dtype=torch.float64)
        conditions = self.conditions

        def of(loadings: Tensor, pairs: Tensor, noise: Tensor) -> Tensor:
            identity = torch.eye(layout.latents, dtype=torch.float64)
            correlation = identity.index_put((t, u), pairs).index_put((u, t), pairs)
            return conditions(loadings, correlation, noise)

        point = (self.structure.loadings, self.structure.correlation[t, u], self.structure.noise)
        parts = torch.func.jacrev(of, argnums=(0, 1, 2))(*point)
        return layout.reduce(torch.cat([part.flatten(1) for part in parts], 1))


def canonical(structure: Structure) -> Structure:
    """Rotate to W' Psi^{-1} W diagonal, largest first, the entry of largest size in each column positive."""
    plain = structure.orthogonal() if structure.layout.correlated else structure
    gram = plain.loadings.mT @ (plain.loadings / plain.noise.unsqueeze(1))
    scale = gram.diagonal().sqrt().clamp_min(torch.finfo(gram.dtype).tiny)
    off = (gram / torch.outer(scale, scale)).tril(-1)
    if off.abs().max() <= SAME:
        return plain
    loadings = plain.loadings @ torch.linalg.eigh(gram)[1].flip(1)
    largest = loadings.gather(0, loadings.abs().argmax(0, keepdim=True))
    return replace(plain, loadings=loadings * torch.where(largest < 0, -1.0, 1.0))


def frame_of(structure: Structure, rotation: Rotation | None) -> Frame:
    """Put a structure in the frame that is asked for.

    Raises
    ------
    ParameterError
        A rotation of a confirmatory model or of another fit; a rotated fit without its rotation.
    """
    if rotation is None:
        if not structure.rotatable:
            return Frame(structure, None, "confirmatory")
        if structure.layout.correlated:
            raise ParameterError(
                "The factors of this fit are correlated, so it was rotated: pass that rotation too, as rotation=."
            )
        return Frame(canonical(structure), _is_canonical, "canonical")
    return _rotated(structure, rotation)


def _is_canonical(loadings: Tensor, correlation: Tensor, noise: Tensor) -> Tensor:
    gram = loadings.mT @ (loadings / noise.unsqueeze(1))
    return gram[torch.triu_indices(gram.shape[0], gram.shape[1], offset=1).unbind()]


def _rotated(structure: Structure, rotation: Rotation) -> Frame:
    turned, standardized = turn(structure, rotation)
    if not hasattr(rotation.criterion, "gradient"):
        raise ParameterError(
            f"{type(rotation.criterion).__name__} is a procedure, no criterion with a gradient: no standard errors."
        )
    frame = Frame(turned, _stationary(rotation, standardized), type(rotation.criterion).__name__)
    _check_stationary(frame)
    return frame


def turn(structure: Structure, rotation: Rotation) -> tuple[Structure, bool]:
    """Return the rotated structure, and whether the criterion looked at standardised loadings.

    Where x was standardised before the fit both are one, and count as standardised.

    Raises
    ------
    ParameterError
        `rotation` is none, or of another fit, or the model has fixed loadings.
    """
    if not isinstance(rotation, Rotation):
        raise ParameterError(f"rotation should be the result of pa.rotate, got {type(rotation).__name__}.")
    if not structure.rotatable:
        raise ParameterError("A model with fixed loadings is not rotated: leave rotation out.")
    if rotation.loadings.shape != structure.loadings.shape:
        raise ParameterError(
            f"rotation should be that of this fit, with loadings of shape {tuple(structure.loadings.shape)}, got "
            f"{tuple(rotation.loadings.shape)}: run pa.rotate(run) again."
        )
    sd = structure.variance.sqrt().unsqueeze(1)
    layout = replace(structure.layout, correlated=bool(rotation.oblique))
    turned = replace(
        structure,
        loadings=structure.loadings @ rotation.matrix.double(),
        correlation=rotation.factor_correlation.double(),
        layout=layout,
    )
    candidates = [replace(structure, layout=layout)]
    if not structure.layout.correlated:
        candidates.insert(0, turned)
    wanted = rotation.loadings.double()
    for candidate in candidates:
        for standardized, loadings in ((True, candidate.loadings / sd), (False, candidate.loadings)):
            if (
                loadings.shape == wanted.shape
                and (loadings - wanted).abs().max() <= CLOSE * wanted.abs().max()
            ):
                return candidate, standardized or bool((rotation.units != 1).any())
    raise ParameterError(
        "rotation should be that of this fit, but its loadings are not: run pa.rotate(run) again."
    )


def _stationary(rotation: Rotation, standardized: bool) -> Conditions:
    gradient = rotation.criterion.gradient  # type: ignore[union-attr]
    rule = Kaiser() if rotation.normalize is True else rotation.normalize
    upper = torch.triu_indices(len(rotation.matrix), len(rotation.matrix), offset=1).unbind()
    off = ~torch.eye(len(rotation.matrix), dtype=torch.bool)

    def conditions(loadings: Tensor, correlation: Tensor, noise: Tensor) -> Tensor:
        if standardized:
            variance = ((loadings @ correlation) * loadings).sum(1) + noise
            loadings = loadings / variance.sqrt().unsqueeze(1)
        if rule:
            loadings = loadings * rule.weights(loadings @ torch.linalg.cholesky(correlation)).unsqueeze(1)
        product = loadings.mT @ gradient(loadings)
        if rotation.oblique:
            return torch.linalg.solve(correlation, product.mT).mT[off]
        return (product - product.mT)[upper]

    return conditions


def _check_stationary(frame: Frame) -> None:
    structure, conditions = frame.structure, frame.conditions
    if conditions is None or structure.layout.latents == 1:
        return
    found = conditions(structure.loadings, structure.correlation, structure.noise)
    size = frame.jacobian().abs() @ torch.ones(structure.layout.size, dtype=torch.float64)
    if (found.abs() > STATIONARY * size.clamp_min(1e-300)).any():
        warn(
            "The rotation is not at a stationary point of its criterion: allow it more steps before trusting these "
            "standard errors.",
            ConvergenceWarning,
        )
