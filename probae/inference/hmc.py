"""The posterior of the codes by Hamiltonian Monte Carlo, all rows and chains at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probae.checks import check_count, check_data
from probae.inference.draws import Draws
from probae.inference.hamiltonian import FIRST_STEP, adapted, start, transition
from probae.inference.nonlinear_reference import reference_of
from probae.inference.reference import Reference
from probae.models import LatentModel
from probae.models.pyro_context import local_parameters

__all__ = ["HMCPosterior"]


@dataclass(frozen=True, eq=False)
class HMCPosterior:
    r"""Posterior p(z | x) of any model with noise, by Hamiltonian Monte Carlo.

    .. math:: p(z \mid x) \propto p(z)\, p(x \mid z)

    It asks the prior of a linear model for `log_prob` and `score` only, any other model for `log_joint`, and works for
    more latents than features. Chains start at draws of the Gaussian posterior of :mod:`probae.inference.reference`, or
    of the best Gaussian of a nonlinear model, which is also their mass matrix; the step of each row
    is adapted during the warm-up and then held.

    Parameters
    ----------
    model : LatentModel
        A model with noise.
    draws : int
        Draws kept of each chain.
    warmup : int
        Moves of each chain before them.
    chains : int
        Chains for each row.
    seed : int
        The same rows give the same draws at every call.
    leapfrogs : int
        Average number of gradients in a move; the number is drawn anew for each, to break cycles.

    Raises
    ------
    ParameterError
        The model has no noise, or a parameter with a prior.

    Notes
    -----
    The answer holds draws x chains x N x K numbers. `Draws.r_hat` and `Draws.effective_sample_size` say whether they
    are enough; modes that the chains do not cross between show in the first.

    References
    ----------
    .. [1] Neal, R. M. (2011). MCMC using Hamiltonian dynamics. Handbook of Markov Chain Monte Carlo, ch. 5, sec. 5.5.1.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.SparseCoding(4, 6)
    >>> x = model.sample(3, seed=0)
    >>> law = pa.HMCPosterior(model, draws=200)(x)
    >>> law.mean.shape, bool((law.r_hat < 1.1).all())
    (torch.Size([3, 6]), True)
    """

    model: LatentModel
    draws: int = 500
    warmup: int = 200
    chains: int = 4
    seed: int = 0
    leapfrogs: int = 6

    def __post_init__(self) -> None:
        for name in ("draws", "warmup", "chains", "leapfrogs"):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, minimum=0)

    @local_parameters
    def __call__(self, x: Any) -> Draws:
        """Draw z for each row of x (N, D)."""
        model = self.model
        data = check_data(x, features=model.features, names=model.feature_names)
        return self.around(reference_of(model, data.values), data.dtype)

    def around(self, reference: Reference, dtype: torch.dtype = torch.float64) -> Draws:
        """Draw z for each row of a reference."""
        generator = torch.Generator().manual_seed(self.seed)
        parts = [self._run(block, generator) for block in reference.split(reference.block(self.chains))]
        draws, acceptance = zip(*parts, strict=True)
        return Draws(torch.cat(draws, 2).to(dtype), acceptance=torch.cat(acceptance).to(dtype))

    @torch.no_grad()
    def _run(self, reference: Reference, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return draws (chains, draws, N, K) and the share of accepted moves (N,)."""
        rows, latents = reference.centre.shape
        chains = start(reference, reference.draw(self.chains, generator))
        step = torch.full((rows,), FIRST_STEP, dtype=torch.float64)
        kept = torch.empty(self.chains, self.draws, rows, latents, dtype=torch.float64)
        accepted = torch.zeros(rows, dtype=torch.float64)
        for number in range(self.warmup + self.draws):
            leapfrogs = int(torch.randint(1, 2 * self.leapfrogs, (), generator=generator))
            chains, acceptance = transition(reference, chains, 1.0, step, leapfrogs, generator)
            if number < self.warmup:
                step = adapted(step, acceptance, (number + 1) ** -0.5)
            else:
                kept[:, number - self.warmup] = chains.z.transpose(0, 1)
                accepted += acceptance / self.draws
        return kept, accepted
