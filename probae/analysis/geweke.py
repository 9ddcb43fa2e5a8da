r"""Does a transition kernel leave the posterior as it is? Let parameters and data take turns, and look at both.

If a kernel keeps p(theta | x), then drawing theta by it and x from p(x | theta) in turns keeps p(theta, x), which can
be drawn from directly as well: theta from its prior, x from p(x | theta). Errors that leave a posterior plausible, such
as a wrong degree of freedom, let the turns drift to another law (Geweke, 2004).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from arviz_stats.base import array_stats
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_count

__all__ = ["JointDistributionTest", "joint_distribution_test"]

LARGEST = 4.0  # |z| of a kernel that is right: beyond it in one of 16,000 comparisons
FEWEST = 10  # iterations, below which autocorrelations mean nothing

Functions = Callable[[Any, Any], Mapping[str, Tensor]]


@dataclass(frozen=True, eq=False)
class JointDistributionTest:
    """Moments of functions of (theta, x) by two simulators that agree if a kernel is right.

    Attributes
    ----------
    names : tuple of str
        Of the M moments: the functions, and their squares.
    marginal, successive : Tensor (M,)
        Means over draws from the prior and the model, and over the kernel and the model in turns.
    error : Tensor (M,)
        Standard error of the difference, with the autocorrelation of the second.

    Examples
    --------
    >>> means = torch.tensor([0.0, 1.0]), torch.tensor([0.01, 1.6])
    >>> found = JointDistributionTest(("theta", "theta squared"), *means, error=torch.tensor([0.02, 0.1]))
    >>> print(found)
    Joint distribution test: failed, largest |z| 6.0
                     marginal     successive   z
      theta          0            0.01         +0.5
      theta squared  1            1.6          +6.0  differs
    """

    names: tuple[str, ...]
    marginal: Float[Tensor, " moments"]
    successive: Float[Tensor, " moments"]
    error: Float[Tensor, " moments"]

    @property
    def z(self) -> Float[Tensor, " moments"]:
        """Differences in standard errors."""
        return (self.successive - self.marginal) / self.error

    @property
    def passed(self) -> bool:
        """Whether every |z| is below 4."""
        return bool((self.z.abs() < LARGEST).all())

    def __str__(self) -> str:
        largest = float(self.z.abs().max())
        verdict = "passed" if self.passed else "failed"
        width = max(len(name) for name in self.names) + 2
        lines = [f"Joint distribution test: {verdict}, largest |z| {largest:.1f}"]
        lines.append(f"  {'':<{width}}marginal     successive   z")
        for name, one, other, z in zip(
            self.names, self.marginal.tolist(), self.successive.tolist(), self.z.tolist(), strict=True
        ):
            mark = "" if abs(z) < LARGEST else "  differs"
            lines.append(f"  {name:<{width}}{one:<13.4g}{other:<13.4g}{z:+.1f}{mark}")
        return "\n".join(lines)


def joint_distribution_test(
    draw_parameters: Callable[[int], Any],
    draw_data: Callable[[Any], Any],
    kernel: Callable[[Any, Any], Any],
    functions: Functions,
    *,
    iterations: int = 20_000,
    chains: int = 1,
    seed: int = 0,
) -> JointDistributionTest:
    r"""Compare theta ~ p(theta), x ~ p(x | theta) with x ~ p(x | theta), theta ~ kernel(theta, x) in turns.

    Chains begin in the joint law, so there is nothing to warm up. Moments are those of the functions and of their
    squares, so functions need a fourth moment: take the logarithm of a variance. Few rows of x leave the prior a say,
    without which an error in it is not seen.

    Parameters
    ----------
    draw_parameters : callable
        Number of chains to parameters of all, from their prior.
    draw_data : callable
        Parameters to data, of all chains.
    kernel : callable
        Parameters and data to new parameters; not the parameters themselves, changed.
    functions : callable
        Parameters and data to named numbers (chains,).
    iterations : int
        Turns of each chain, at least 10.
    chains : int
        Chains side by side, where the callables draw for many at once.
    seed : int
        Of torch's global generator, which the callables should use; the caller's state is left as it was.

    Returns
    -------
    JointDistributionTest

    Raises
    ------
    ParameterError
        Functions that do not give a number for each chain.

    References
    ----------
    .. [1] Geweke, J. (2004). Getting it right: joint distribution tests of posterior simulators. Journal of the
       American Statistical Association 99, 799-804.

    Examples
    --------
    x is N(theta, 1) and theta is N(0, 1), so theta given x is N(x / 2, 1/2):

    >>> import torch
    >>> def kernel(theta, x):
    ...     return x / 2 + torch.randn_like(x) / 2**0.5
    >>> def draw(theta):
    ...     return theta + torch.randn_like(theta)
    >>> found = joint_distribution_test(
    ...     torch.randn, draw, kernel, lambda theta, x: {"theta": theta, "x": x}, iterations=200, chains=100)
    >>> found.names, found.passed
    (('theta', 'x', 'theta squared', 'x squared'), True)
    >>> joint_distribution_test(torch.randn, draw, lambda theta, x: x / 2 + torch.randn_like(x) / 2,
    ...     lambda theta, x: {"theta": theta}, iterations=200, chains=100).passed
    False
    """
    check_count("iterations", iterations, minimum=FEWEST)
    check_count("chains", chains)
    check_count("seed", seed, minimum=0)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        independent, turns = [], []
        for _ in range(iterations):
            theta = draw_parameters(chains)
            independent.append(_numbers(functions(theta, draw_data(theta)), chains))
        theta = draw_parameters(chains)
        x = draw_data(theta)
        for _ in range(iterations):
            theta = kernel(theta, x)
            x = draw_data(theta)
            turns.append(_numbers(functions(theta, x), chains))
    return _compared(tuple(functions(theta, x)), torch.stack(independent), torch.stack(turns))


def _numbers(found: Mapping[str, Tensor], chains: int) -> Float[Tensor, "chains functions"]:
    for name, value in found.items():
        if value.shape != (chains,):
            raise ParameterError(
                f"functions should give {chains} numbers for {name!r}, one for each chain, got shape "
                f"{tuple(value.shape)}."
            )
    return torch.stack([value.double() for value in found.values()], -1)


def _compared(
    names: tuple[str, ...],
    independent: Float[Tensor, "iterations chains functions"],
    turns: Float[Tensor, "iterations chains functions"],
) -> JointDistributionTest:
    """Compare first and second moments; the error of the turns is that of Markov chains (spectral variance at 0)."""
    one, other = (torch.cat([values, values.square()], -1) for values in (independent, turns))
    error = torch.as_tensor(
        np.asarray(array_stats.mcse(other.numpy(), method="mean", chain_axis=1, draw_axis=0))
    )
    one = one.flatten(0, 1)
    variance = one.var(0) / len(one) + error.square()
    names = (*names, *(f"{name} squared" for name in names))
    return JointDistributionTest(names, one.mean(0), other.mean((0, 1)), variance.sqrt())
