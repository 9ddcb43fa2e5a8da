r"""MAP sparse coding: unit-norm atoms and lasso codes, on the scale of the generative model.

Atoms A have unit norm, loadings are W = c A and codes h = c z, so with unit-variance Laplace z

    -log p(x, z) = (1 / sigma^2) [1/2 |x - A h|^2 + penalty |h|_1] + constant,   penalty = sqrt(2) sigma^2 / c

Only the covariance fixes c: tr S = c^2 K + D sigma^2.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import (
    ConvergenceWarning,
    Data,
    DataError,
    NotExactError,
    check_count,
    check_data,
    check_positive,
)
from probae.codes import lasso
from probae.inference.base import Loop, Method, Outcome
from probae.models import LinearFactorModel
from probae.models.base import local_parameters
from probae.priors import Laplace
from probae.statistics import SufficientStatistics

LOOSE, TIGHT = 1e-2, 1e-4  # relative duality gap of the codes early and late in learning


@dataclass(frozen=True)
class MAP(Method):
    r"""Dictionary learning by alternating certified lasso codes and dictionary updates on minibatches.

    Parameters
    ----------
    penalty : float, optional
        Weight of the codes in 1/2 ||x - A h||^2 + penalty ||h||_1, in units of x. By default 1.2 / sqrt(D) times the
        root mean square norm of a centred row.
    steps : int
        Minibatches.
    batch : int
        Rows in each.

    Notes
    -----
    The dictionary step is block coordinate descent on accumulated moments with forgetting (Mairal et al., 2010,
    algorithms 1 and 2). Atoms no row uses are replaced by rows and counted in a warning.

    References
    ----------
    .. [1] Mairal, J., Bach, F., Ponce, J. & Sapiro, G. (2010). Online learning for matrix factorization and sparse
       coding. Journal of Machine Learning Research 11, 19-60.

    Examples
    --------
    >>> import probae as pa
    >>> patches = pa.datasets.natural_patches(size=4, count=500)
    >>> run = pa.fit(pa.SparseCoding(16, 20), patches.x, pa.MAP(steps=50))
    >>> run.posterior(patches.x[:2]).mean.shape
    torch.Size([2, 20])
    """

    penalty: float | None = None
    steps: int = 200
    batch: int = 512
    objective_name: ClassVar[str] = "negative MAP energy"

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("batch", self.batch)
        if self.penalty is not None:
            check_positive("penalty", self.penalty)

    def in_units(self, units: Float[Tensor, " features"]) -> MAP:
        """Return the method with its penalty, which has the units of x, divided by them."""
        return self if self.penalty is None else replace(self, penalty=self.penalty / float(units[0]))

    def objective_in_units(self, value: float, units: Float[Tensor, " features"]) -> float:
        """Return the energy in squared units of x."""
        return value * float(units[0]) ** 2

    @local_parameters
    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Learn the dictionary and put the model on its scale."""
        data = self.rows(data)
        self._check(model, data)
        mean = data.values.mean(0)
        x = (data.values - mean).to(data.dtype)
        power = float(x.square().sum(1).mean())
        penalty = self.penalty or 1.2 * math.sqrt(power / model.features)
        atoms, history, change, interrupted = self._learn(x, model.latents, penalty, seed)
        scale = match_scale(power, model.features, model.latents, penalty)
        model.mean, model.loadings = mean, atoms.double() * scale
        model.noise_variance = torch.tensor(penalty * scale / math.sqrt(2), dtype=torch.float64)
        return Outcome(CodesPosterior(model), history, change < 0.05, interrupted)

    def _check(self, model: LinearFactorModel, data: Data) -> None:
        if (
            not isinstance(model, LinearFactorModel)
            or not isinstance(model.prior, Laplace)
            or model.noise != "isotropic"
        ):
            raise NotExactError(
                f"MAP learns Laplace codes with isotropic noise, got {model!r}: use SparseCoding(features, latents), "
                "or another method."
            )
        if data.missing is not None:
            raise DataError("MAP needs complete rows, but x has missing values: fill them in first.")

    def _learn(
        self, x: Tensor, latents: int, penalty: float, seed: int
    ) -> tuple[Tensor, list[float], float, bool]:
        """Return unit-norm atoms, the energy of each minibatch, the last relative change, and if it was cut off."""
        generator = torch.Generator().manual_seed(seed)
        atoms = seed_atoms(x, latents, generator)
        moments = (
            torch.zeros(latents, latents, dtype=x.dtype),
            torch.zeros(x.shape[1], latents, dtype=x.dtype),
        )
        history: list[float] = []
        change, replaced = math.inf, 0
        with Loop("dictionary") as loop:
            for step in loop.steps(self.steps):
                rows = x[torch.randint(len(x), (min(self.batch, len(x)),), generator=generator)]
                codes = lasso(rows, atoms, penalty, LOOSE if step < self.steps // 2 else TIGHT, 500)
                residual = rows - codes.z @ atoms.T
                energy = 0.5 * residual.square().sum(1) + penalty * codes.z.abs().sum(1)
                history.append(-float(energy.mean()))
                keep = 1.0 - 1.0 / (step + 1) ** 0.7
                moments = (
                    keep * moments[0] + (1 - keep) * codes.z.T @ codes.z / len(rows),
                    keep * moments[1] + (1 - keep) * rows.T @ codes.z / len(rows),
                )
                updated, dead = update_atoms(atoms, *moments, rows, generator)
                replaced += dead
                change = float((updated - atoms).norm() / atoms.norm())
                atoms = updated
                loop.value = history[-1]
        if replaced:
            warnings.warn(
                f"{replaced} times an atom that no row used was replaced by a row: fewer latents may do.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return atoms, history, change, loop.interrupted


def seed_atoms(x: Tensor, latents: int, generator: torch.Generator) -> Float[Tensor, "features latents"]:
    """Return normalised random rows as first atoms."""
    picked = x[torch.randint(len(x), (latents,), generator=generator)]
    noise = torch.randn(picked.shape, generator=generator, dtype=torch.float64).to(x.dtype)
    picked = picked + 0.01 * picked.norm(dim=1, keepdim=True).clamp_min(1e-12) * noise
    return (picked / picked.norm(dim=1, keepdim=True).clamp_min(1e-300)).T.contiguous()


def update_atoms(
    atoms: Tensor, second: Tensor, cross: Tensor, rows: Tensor, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Take one pass of block coordinate descent over the atoms; replace dead ones and count them."""
    atoms = atoms.clone()
    usage = second.diagonal()
    dead = usage <= 1e-8 * usage.max()
    for j in torch.nonzero(~dead).flatten().tolist():
        direction = atoms[:, j] + (cross[:, j] - atoms @ second[:, j]) / usage[j]
        atoms[:, j] = direction / direction.norm().clamp_min(1e-300)
    if dead.any():
        atoms[:, dead] = seed_atoms(rows, int(dead.sum()), generator)
    return atoms, int(dead.sum())


def match_scale(power: float, features: int, latents: int, penalty: float) -> float:
    """Solve tr S = c^2 K + D penalty c / sqrt 2 for the scale c of the codes."""
    slope = features * penalty / math.sqrt(2)
    return (math.sqrt(slope**2 + 4 * latents * power) - slope) / (2 * latents)


@dataclass(frozen=True, eq=False)
class CodesPosterior:
    """A point mass at the MAP codes z = h / c of each row."""

    model: LinearFactorModel
    tolerance: float = 1e-6

    def __call__(self, x: Any) -> dist.Delta:
        """Return the point mass at the codes of each row."""
        model = self.model
        data = check_data(x, features=model.features, names=model.feature_names)
        loadings, noise, mean = model._gaussian_parameters()
        penalty = math.sqrt(2) * float(noise[0])  # of z itself, in units where atoms are the loadings
        codes = lasso(data.values - mean, loadings, penalty, self.tolerance, 10_000)
        return dist.Delta(codes.z.to(data.dtype), event_dim=1)
