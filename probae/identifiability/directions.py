"""How many directions of a table are not Gaussian: one test for each number, and what they leave free together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.identifiability.data_test import DataTest, monte_carlo_p
from probae.identifiability.gaussian_scores import whiten
from probae.identifiability.structure import describe_blocks

Spread = Callable[[Tensor, int], float]
Axes = Callable[[Tensor, int], Tensor]
STOP = 0.1  # p-value from which a bootstrap looks at no larger number of directions


@dataclass(frozen=True, eq=False)
class NonGaussianDirections:
    """Tests that all but q directions of a table are Gaussian, q = 0, 1, ...

    Attributes
    ----------
    tests : tuple of DataTest
        The one at place q assumes q non-Gaussian directions.
    dimensions : int
        Columns of the table.
    samples : int
    method : str
        What was compared, in words.
    blind : str
        What the tests cannot see, in words.
    """

    tests: tuple[DataTest, ...]
    dimensions: int
    samples: int
    method: str
    blind: str

    def count(self, alpha: float = 0.01) -> int:
        """Smallest number of non-Gaussian directions that is not rejected; all of them where each number is."""
        for number, test in enumerate(self.tests):
            if test.p_value >= alpha:
                return number
        return self.dimensions

    def group(self, alpha: float = 0.01, latents: int | None = None) -> str:
        """Name what Gaussian factors leave free, of so many (all columns): nothing where at most one is Gaussian."""
        factors = self.dimensions if latents is None else latents
        found = min(self.count(alpha), factors)
        if factors - found <= 1:
            return describe_blocks(tuple((i,) for i in range(factors)))
        return describe_blocks((*((i,) for i in range(found)), tuple(range(found, factors))))

    def describe(self) -> str:
        """Say the result in a sentence."""
        shown = self.tests[: self.count() + 2]
        p = ", ".join(f"{test.p_value:.2g}" for test in shown) + ", ..." * (len(shown) < len(self.tests))
        null = self.tests[0].null if self.tests else "none"
        return (
            f"Non-Gaussian directions (T4, {self.method}): {self.count()} of {self.dimensions} at level .01 "
            f"(p for 0, 1, ...: {p}; {null}). {self.blind}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "method": self.method,
            "count": self.count(),
            "dimensions": self.dimensions,
            "group": self.group(),
            "p": [test.p_value for test in self.tests],
            "null": self.tests[0].null if self.tests else "",
        }


def bootstrap_tests(
    y: Float[Tensor, "samples latents"], numbers: int, spread: Spread, axes: Axes, replicates: int, seed: int
) -> tuple[DataTest, ...]:
    """Test 0, 1, ... non-Gaussian directions, up to the first that is far from rejected, by rows drawn under each.

    The scores on the first axes are drawn again from their rows, the others are normal (Nordhausen, Oja, Tyler & Virta,
    2017).
    """
    generator = torch.Generator().manual_seed(seed)
    samples, dimensions = y.shape
    tests: list[DataTest] = []
    for number in range(numbers):
        turned = whiten(y @ axes(y, number))[:, :number]
        values = [spread(y, number)]
        for _ in range(replicates):
            rows = torch.randint(samples, (samples,), generator=generator)
            normal = torch.randn(samples, dimensions - number, generator=generator, dtype=torch.float64)
            values.append(spread(torch.cat([turned[rows], normal], 1), number))
        p = monte_carlo_p(torch.tensor(values, dtype=torch.float64))
        name = f"{number} non-Gaussian directions"
        tests.append(DataTest(name, values[0], None, p, f"bootstrap of {replicates}"))
        if p >= STOP:
            break
    return tuple(tests)
