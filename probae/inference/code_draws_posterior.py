r"""The posterior of factors with random scales when the parameters are random: Gibbs chains that follow their draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import check_count, check_data
from probae.inference.base import few_threads
from probae.inference.draws import Draws
from probae.inference.gibbs_posterior import KEPT as NUMBERS
from probae.inference.gibbs_posterior import start_chains, sweep
from probae.inference.scale_conditional import ScaleConditional
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters

__all__ = ["CodeDrawsPosterior"]

KEPT = 200  # draws of the parameters


@dataclass(frozen=True, eq=False)
class CodeDrawsPosterior:
    r"""Posterior p(z | x) averaged over draws of the parameters, for factors that are normal given random scales.

    .. math:: p(z \mid x_n) = \frac1S \sum_s p(z \mid x_n, W_s, \Psi_s, \mu_s), \qquad
              z \mid \tau, x \sim N, \quad \tau \mid z \sim p(\tau \mid z)

    For each draw of the parameters the chains of a row make some sweeps that do not count, from where they were under
    the draw before, and then some that do. Draws of z beyond 16 million numbers are thinned, which the mean is not.

    Parameters
    ----------
    model : LinearFactorModel
        Says what the law of the factors is.
    loadings : Tensor (S, D, K)
        All in one order and with the same signs: draws in mixed ones would average to nothing.
    noise : Tensor (S, D)
    mean : Tensor (S, D)
    draws : int
        Sweeps of each chain that count, for each draw of the parameters.
    warmup : int
        Sweeps before, which do not; ten times as many before the first.
    chains : int
        Chains of each row.
    seed : int
        The same rows give the same draws at every call.

    Raises
    ------
    ParameterError
        A count that is none.
    DataError
        When called: rows with missing entries, or of another width.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.SparseCoding(3, 1)
    >>> posterior = CodeDrawsPosterior(model, torch.ones(5, 3, 1), torch.ones(5, 3), torch.zeros(5, 3))
    >>> posterior([[4.0, 4.0, 4.0]]).draws.shape
    torch.Size([2, 15, 1, 1])
    """

    model: LinearFactorModel
    loadings: Float[Tensor, "parameters features latents"]
    noise: Float[Tensor, "parameters features"]
    mean: Float[Tensor, "parameters features"]
    draws: int = 3
    warmup: int = 5
    chains: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("draws", self.draws)
        check_count("warmup", self.warmup, minimum=0)
        check_count("chains", self.chains)
        check_count("seed", self.seed, minimum=0)

    @classmethod
    def of(cls, model: LinearFactorModel, loadings: Tensor, noise: Tensor, mean: Tensor) -> Self:
        """Keep at most 200 draws, evenly spaced."""
        kept = torch.linspace(0, len(loadings) - 1, min(len(loadings), KEPT)).round().long()
        return cls(model, loadings[kept], noise[kept].contiguous(), mean[kept])

    @local_parameters
    @torch.no_grad()
    def __call__(self, x: Any) -> Draws:
        """Return draws of z for each row; the mean averages E[z | tau, x] over every sweep (Rao and Blackwell)."""
        data = check_data(x, features=self.model.features, names=self.model.feature_names)
        rows = data.values.double()
        with torch.random.fork_rng(devices=[]), few_threads(rows.numel() * self.chains * self.model.latents):
            torch.default_generator.manual_seed(self.seed)
            draws, mean = self._run(rows)
        return Draws(draws.to(data.dtype), mean.to(data.dtype))

    def _run(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return draws (chains, S draws, N, K) and the mean (N, K)."""
        prior, latents = self.model.prior, self.model.latents
        rows = rows.repeat(self.chains, 1)
        z = start_chains(prior, rows, latents)
        shape = (self.chains, -1, latents)
        kept: list[Tensor] = []
        total, count = torch.zeros_like(z), len(self.loadings) * self.draws
        every = max(1, -(-count * z.numel() // NUMBERS))  # rounded up
        for number in range(len(self.loadings)):
            law = ScaleConditional(self.loadings[number], self.noise[number])
            y = law.whiten(rows - self.mean[number])
            warmup = self.warmup * (10 if number == 0 else 1)
            for step in range(-warmup, self.draws):
                mean = torch.empty_like(z)
                for part in law.blocks(len(y)):
                    mean[part], z[part] = sweep(prior, law, z[part], y[part])
                if step >= 0:
                    total += mean
                    if (number * self.draws + step) % every == 0:
                        kept.append(z.reshape(shape).clone())
        return torch.stack(kept, 1), (total / count).reshape(shape).mean(0)
