r"""Is a posterior calibrated? Simulate z and x from the model, and look where z falls among draws of q(z | x)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probae.analysis.uniform_ranks import BINS, LEVEL, chi_square, ecdf, random_ranks
from probae.checks import ParameterError, check_count
from probae.inference import Fit
from probae.models.pyro_context import local_parameters

__all__ = ["Calibration", "simulation_based_calibration"]

MOST_FAILED = 0.01  # part of the fits


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of simulated quantities among draws of their posterior, and what they say.

    Attributes
    ----------
    names : tuple of str
        Of the Q quantities.
    ranks : Tensor (N, Q)
        How many of the draws are below the truth, uniform on 0, ..., ``draws`` where q is the posterior.
    draws : int
    deviations : Tensor (N, K)
        (truth - mean) / sd under q of the first K quantities, those with a mean and sd; mean square 1 under the
        posterior.
    failures : tuple of (int, str)
        Simulations whose fit failed, with the reason. More than 1 % of them and the calibration has not passed.
    """

    names: tuple[str, ...]
    ranks: Int[Tensor, "samples quantities"]
    draws: int
    deviations: Float[Tensor, "samples latents"]
    failures: tuple[tuple[int, str], ...] = ()

    @classmethod
    def from_draws(
        cls,
        names: Sequence[str],
        truth: Float[Tensor, "samples quantities"],
        draws: Float[Tensor, "draws samples quantities"],
        *,
        seed: int = 0,
    ) -> Self:
        """Rank each truth (N, Q) among independent draws (L, N, Q) from its posterior, those of any sampler.

        Mean and sd of the deviations are those of the draws; the error of both makes the mean square 1 + 3 / L to first
        order for a normal posterior, which is divided out.

        Examples
        --------
        >>> import torch
        >>> theta = torch.randn(100, 1000, 2, generator=torch.Generator().manual_seed(0))
        >>> Calibration.from_draws(["a", "b"], theta[0], theta[1:]).passed                  # exchangeable
        True
        >>> Calibration.from_draws(["a", "b"], theta[0], 0.8 * theta[1:]).flagged
        tensor([True, True])
        """
        size = check_count("draws", len(draws), minimum=BINS - 1)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            ranks = random_ranks((draws < truth).sum(0), (draws == truth).sum(0))
        spread = draws.double().std(0) * (1 + 3 / size) ** 0.5
        return cls(tuple(names), ranks, size, (truth - draws.double().mean(0)) / spread)

    @cached_property
    def chi_square(self) -> Float[Tensor, " quantities"]:
        """p-value of uniform ranks in 20 bins: the better test of a wrong width."""
        return chi_square(self.ranks, self.draws)

    @cached_property
    def ecdf(self) -> Float[Tensor, " quantities"]:
        """p-value of the largest standardised distance of the ranks' ECDF from uniform: the better test of a shift.

        Simultaneous over all ranks and simulated, so at least 5e-5 for up to 100 quantities.
        """
        return ecdf(self.ranks, self.draws)

    @cached_property
    def sd_ratio(self) -> Float[Tensor, " latents"]:
        """1 / root mean square of the deviations (K,): below 1 where q is too narrow."""
        return self.deviations.square().mean(0).rsqrt()

    @cached_property
    def sd_ratio_error(self) -> Float[Tensor, " latents"]:
        """Standard error of the ratio (K,)."""
        error = self.deviations.square().std(0) / len(self.deviations) ** 0.5
        return 0.5 * error * self.sd_ratio.pow(3)

    @cached_property
    def shift(self) -> Float[Tensor, " latents"]:
        """Mean of the deviations (K,): below 0 where q is too high."""
        return self.deviations.mean(0)

    @cached_property
    def shift_error(self) -> Float[Tensor, " latents"]:
        """Standard error of the shift (K,)."""
        return self.deviations.std(0) / len(self.deviations) ** 0.5

    @property
    def level(self) -> float:
        """Level of each of the two tests of each quantity, 0.01 / Q."""
        return LEVEL / len(self.names)

    @property
    def flagged(self) -> Bool[Tensor, " quantities"]:
        """Quantities whose ranks are not uniform by either test."""
        return (self.chi_square < self.level) | (self.ecdf < self.level)

    @property
    def passed(self) -> bool:
        """Whether none is flagged, and at most one fit of a hundred failed."""
        lost = len(self.failures) > MOST_FAILED * max(len(self.ranks), 1)
        return not lost and not bool(self.flagged.any())

    def __str__(self) -> str:
        flags = self.flagged.tolist()
        problems = [f"{sum(flags)} of {len(flags)} quantities flagged"] if any(flags) else []
        if self.failures:
            number, reason = self.failures[0]
            problems.append(f"{len(self.failures)} fits failed (the first, {number}: {reason})")
        head = f"Calibration by {len(self.ranks)} simulations of {self.draws} draws: "
        verdict = ["passed" if self.passed else ""] + problems
        width = max(len(name) for name in self.names) + 2
        lines = [head + "; ".join(part for part in verdict if part)]
        lines.append(f"  {'':<{width}}sd ratio          shift             p chi2    p ECDF")
        for k, (name, flagged) in enumerate(zip(self.names, flags, strict=True)):
            effect = ""
            if k < len(self.shift):
                ratio = f"{self.sd_ratio[k]:.3f} +- {self.sd_ratio_error[k]:.3f}"
                effect = f"{ratio:<18}{self.shift[k]:+.3f} +- {self.shift_error[k]:.3f}"
            mark = "  flagged" if flagged else ""
            lines.append(f"  {name:<{width}}{effect:<36}{self.chi_square[k]:.1e}   {self.ecdf[k]:.1e}{mark}")
        return "\n".join(lines)


@local_parameters
def simulation_based_calibration(
    run: Fit, simulations: int = 1000, draws: int = 99, *, seed: int = 0
) -> Calibration:
    r"""Simulate z and x from the fitted model and rank each z among draws of the fit's posterior q(z | x).

    If q(z | x) = p(z | x), then z and the draws are exchangeable and the ranks uniform (Talts et al., 2018). Ranks find
    what is wrong on average over x; an error that cancels over x is left to `gaps`. With 1,000 simulations a posterior
    20 % too narrow is found for sure, one 10 % too narrow about every second time.

    Parameters
    ----------
    run : Fit
        Its posterior gives draws.
    simulations : int
        Rows simulated, at least 100.
    draws : int
        Draws of q for each row.
    seed : int

    Raises
    ------
    ParameterError
        The posterior is a point mass.

    References
    ----------
    .. [1] Talts, S., Betancourt, M., Simpson, D., Vehtari, A. & Gelman, A. (2018). Validating Bayesian inference
       algorithms with simulation-based calibration. arXiv:1804.06788.
    .. [2] Sailynoja, T., Burkner, P.-C. & Vehtari, A. (2022). Graphical test for discrete uniformity and its
       applications in goodness-of-fit evaluation and multiple sample comparison. Statistics and Computing 32.

    Examples
    --------
    >>> import probae as pa
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)
    >>> found = pa.simulation_based_calibration(run, simulations=300)      # of the exact posterior
    >>> found.ranks.shape, found.passed
    (torch.Size([300, 4]), True)
    """
    if not isinstance(run, Fit):
        raise ParameterError(
            f"simulation_based_calibration needs the result of fit, got {type(run).__name__}."
        )
    check_count("simulations", simulations, minimum=100)
    check_count("draws", draws, minimum=BINS - 1)
    check_count("seed", seed, minimum=0)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        z, x = _simulate(run.model, simulations)
        law = run.posterior(x)
        if isinstance(law, dist.Delta):
            raise ParameterError(
                f"{type(run.posterior).__name__} is a point mass, whose draws are all one: it cannot be calibrated."
            )
        ranks = _ranks(run.model, law, x, z, draws)
    deviations = (z - law.mean.double()) / law.variance.double().sqrt()
    names = (*(f"z[{k}]" for k in range(run.model.latents)), "log p(x, z)")
    return Calibration(names, ranks, draws, deviations)


def _simulate(model: Any, size: int) -> tuple[Tensor, Tensor]:
    """Draw z from the prior and x given z."""
    like = model.read_parameters()
    z = model.prior.distribution(model.latents, like=like).expand((size,)).sample()
    return z.double(), model.likelihood(z).sample().double()


def _ranks(model: Any, law: Any, x: Tensor, z: Tensor, draws: int) -> Tensor:
    """Count the draws of q below the truth, ties at random."""
    truth = torch.column_stack([z, model.log_joint(x, z)])
    below = equal = torch.zeros(truth.shape, dtype=torch.long)
    for _ in range(draws):
        sample = law.sample().double()
        other = torch.column_stack([sample, model.log_joint(x, sample)])
        below, equal = below + (other < truth), equal + (other == truth)
    return random_ranks(below, equal)
