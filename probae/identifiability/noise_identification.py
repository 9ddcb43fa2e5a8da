r"""Whether the model and its loadings tell the noise variances from the factors.

Normal factors show their covariance alone, and flat directions beyond rotations are noise variances that it does not
see (`nullity`). Factors of a known law that is not normal fix the scale of their columns by higher cumulants, which
normal noise has none of: their part of the covariance is known, and only that of the normal factors among them is left
to be told from the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from probae.identifiability.lie_algebra import NULL
from probae.identifiability.nullity import Nullity, fisher_nullity
from probae.identifiability.structure import ledermann_count
from probae.models import LinearFactorModel
from probae.priors import CorrelatedGaussian, Gaussian
from probae.priors.information import information_of, spread_of

__all__ = ["NoiseIdentification", "noise_identification"]

LARGEST = 2_000_000  # numbers in the Jacobian; larger models are counted only


@dataclass(frozen=True)
class NoiseIdentification:
    """What is known of the noise variances.

    Attributes
    ----------
    identified : bool
    gaussian : tuple of int
        The normal factors, whose part of the covariance has to be told from the noise.
    beyond : int or None
        Flat directions beyond rotations; None where they were not counted.
    local : bool
        Whether this is as far as it goes that no nearby noise has the same covariance: at the Ledermann bound itself
        a few distant ones may.
    nullity : Nullity or None
        The exact count, where it was made.
    sentence : str
    """

    identified: bool
    gaussian: tuple[int, ...]
    beyond: int | None
    local: bool
    nullity: Nullity | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        found = self.nullity
        return {
            "identified": self.identified,
            "gaussian_factors": list(self.gaussian),
            "beyond_rotations": self.beyond,
            "local": self.local,
            "flat_directions": None if found is None else found.dimension,
            "rotations": None if found is None else found.rotations.dimension,
            "largest_null": None if found is None else found.largest_null,
            "smallest_other": None if found is None else found.smallest_other,
            "boundary": [] if found is None else list(found.boundary),
            "sentence": self.sentence,
        }


def noise_identification(model: LinearFactorModel) -> NoiseIdentification | None:
    """Say whether the noise variances are identified at the model's parameters; None for noise that x shows apart.

    Examples
    --------
    >>> import probae as pa
    >>> found = noise_identification(pa.FactorAnalysis(5, 3))
    >>> found.identified, found.nullity.dimension, found.beyond
    (False, 5, 2)
    >>> noise_identification(pa.LinearFactorModel(5, 3, pa.priors.Laplace())).identified
    True
    """
    if model.invertible:
        return None
    normal = gaussian_factors(model)
    if not normal:
        sentence = "factors of a known law that is not Gaussian fix their scale, so the noise is what is left"
        return NoiseIdentification(True, (), 0, False, None, sentence)
    part = model if model.gaussian else _part(model, normal)
    features, factors = part.features, part.latents
    count = _count(features, factors, model.noise)
    if features * (features + 1) // 2 * (features * factors + features) > LARGEST:
        verb = "leave" if count >= 0 else "do not leave"
        sentence = f"{_named(factors)} of {features} features {verb} room for the noise (count {count:g})"
        return NoiseIdentification(count >= 0, normal, None, count == 0, None, sentence)
    return _counted(part, normal, count, model.noise)


def gaussian_factors(model: LinearFactorModel) -> tuple[int, ...]:
    """Return the factors whose law is normal: all of a correlated normal law, none of another joint law."""
    laws = model.prior.coordinates(model.latents)
    if laws is None:
        return tuple(range(model.latents)) if isinstance(model.prior, CorrelatedGaussian) else ()
    return tuple(i for i, law in enumerate(laws) if information_of(law) * spread_of(law) ** 2 < 1 + NULL)


def _part(model: LinearFactorModel, normal: tuple[int, ...]) -> LinearFactorModel:
    """Return the model of the normal factors alone, of variance 1."""
    laws = model.prior.coordinates(model.latents)
    assert laws is not None
    spread = torch.tensor([spread_of(laws[i]) for i in normal], dtype=torch.float64)
    part = LinearFactorModel(model.features, len(normal), Gaussian(), noise=model.noise)
    part.loadings = model.loadings.detach().double()[:, list(normal)] * spread
    part.noise_variance = model.noise_variance.detach().double().clone()
    return part


def _count(features: int, factors: int, noise: str) -> float:
    """Return how far the count of the noise is from failing: Ledermann's, or the dimensions that no factor reaches."""
    if noise == "isotropic":
        return float(features - 1 - factors)
    return ledermann_count(features, factors)


def _counted(
    part: LinearFactorModel, normal: tuple[int, ...], count: float, noise: str
) -> NoiseIdentification:
    """Count the flat directions at the parameters."""
    found = fisher_nullity(part)
    turned, beyond = found.rotations.dimension, found.beyond_rotations
    sentence = (
        f"{_named(part.latents)} of {part.features} features: {found.dimension} flat directions, {turned} of them "
        "rotations (exact, local)"
    )
    if found.features:
        rows = ", ".join(str(i) for i in found.features[:6])
        more = " and more" if len(found.features) > 6 else ""
        sentence += f"; the noise of columns {rows}{more} is not told from the factors"
    elif beyond and noise == "isotropic" and count < 0:
        sentence += "; the noise variance is not told from the smallest of them"
    if found.boundary:
        sentence += f"; noise at its floor in {len(found.boundary)} columns was held fixed"
    if not found.conclusive:
        sentence += f"; not clear-cut, the next direction is at {found.smallest_other:.1e}"
    local = beyond == 0 and noise == "diagonal" and count == 0
    if local:
        sentence += (
            "; at the Ledermann bound itself, so that other noise far away may have the same covariance"
        )
    return NoiseIdentification(beyond == 0, normal, beyond, local, found, sentence)


def _named(factors: int) -> str:
    return f"{factors} Gaussian factor{'s' if factors > 1 else ''}"
