"""How the learning rate changes over training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from probae.checks import ParameterError, check_count


@dataclass(frozen=True)
class Schedule:
    """Learning rate over training, as a factor on ``lr``; subclasses are small frozen dataclasses.

    Parameters
    ----------
    warmup : int
        Epochs over which the rate rises linearly from 0.
    """

    warmup: int = 0

    def __post_init__(self) -> None:
        check_count("warmup", self.warmup, minimum=0)

    def factor(self, epoch: float, epochs: int) -> float:
        """Return the factor at a time in epochs, fractions included."""
        if epoch < self.warmup:
            return epoch / self.warmup
        return self.after((epoch - self.warmup) / max(epochs - self.warmup, 1))

    def after(self, progress: float) -> float:
        """Return the factor after warm-up, at a time between 0 and 1."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The rate stays, after a linear rise over ``warmup`` epochs.

    Examples
    --------
    >>> Constant(warmup=4).factor(1.0, epochs=10), Constant().factor(9.9, epochs=10)
    (0.25, 1.0)
    """

    def after(self, progress: float) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Cosine(Schedule):
    r"""The rate falls along half a cosine, f + (1 - f) (1 + cos(pi t)) / 2, after a rise over ``warmup`` epochs [1]_.

    Parameters
    ----------
    warmup : int
        Epochs over which the rate rises linearly from 0.
    final : float
        Factor f at the end, from 0 to 1.

    References
    ----------
    .. [1] Loshchilov, I. & Hutter, F. (2017). SGDR: stochastic gradient descent with warm restarts. ICLR, eq. 5.

    Examples
    --------
    >>> rate = Cosine(warmup=2, final=0.0)
    >>> [round(rate.factor(epoch, epochs=10), 6) for epoch in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    final: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        number = isinstance(self.final, int | float) and not isinstance(self.final, bool)
        if not number or not 0 <= self.final <= 1:
            raise ParameterError(f"final should be a number from 0 to 1, got {self.final!r}.")

    def after(self, progress: float) -> float:
        """Return the cosine at a time between 0 and 1."""
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
