"""Early stopping on rows that training does not see."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, ParameterError, check_count

MEMORY = 2**22  # numbers of held-out rows evaluated at a time
HELD_OUT = "held-out bound"  # its name in ``Fit.restarts``


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when the bound of held-out rows has not risen for a while, and keep the state in which it was highest.

    Parameters
    ----------
    fraction : float
        Share of the rows that is held out, between 0 and 1; drawn by the seed of the fit, at least one row.
    patience : int
        Epochs without a new highest bound after which training stops.

    Notes
    -----
    The bound is evaluated after every epoch, without regularisers, in evaluation mode, with the same random numbers
    every time, so epochs differ in their parameters alone. The highest of many noisy values is too high on average:
    report a bound on rows of a test set. First values are those for the rows trained on; only the units of columns,
    where a fit changes them, are those of all rows.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> method = pa.SVI(pa.MLPEncoder(9, 2), epochs=50, stopping=pa.EarlyStopping(fraction=0.2))
    >>> run = pa.fit(pa.FactorAnalysis(9, 2), x, method)
    >>> 1 <= run.restarts[0]["kept epoch"] <= len(run.history)
    True
    """

    fraction: float = 0.1
    patience: int = 20

    def __post_init__(self) -> None:
        number = isinstance(self.fraction, int | float) and not isinstance(self.fraction, bool)
        if not number or not 0 < self.fraction < 1:
            raise ParameterError(f"fraction should be a number between 0 and 1, got {self.fraction!r}.")
        check_count("patience", self.patience)

    def split(
        self, x: Float[Tensor, "samples features"], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return rows to train on and rows held out."""
        held = max(1, round(self.fraction * len(x)))
        if len(x) - held < 2:
            raise DataError(
                f"fraction={self.fraction:g} would hold out {held} of {len(x)} rows: at least 2 should be left."
            )
        order = torch.randperm(len(x), generator=generator)
        return x[order[held:]], x[order[:held]]


@dataclass
class Watch:
    """The held-out bound of each epoch and the epoch it was highest in; without rows, the last epoch counts as best."""

    stopping: EarlyStopping | None
    values: list[float] = field(default_factory=list)

    @property
    def best(self) -> int:
        """Epoch (from 0) of the highest bound; -1, the state before the first epoch, where none was finite."""
        best = max(range(len(self.values)), key=self.values.__getitem__, default=-1)
        return -1 if best < 0 or self.values[best] == -math.inf else best

    def add(self, value: float) -> bool:
        """Note the bound of an epoch and say whether it is the highest; one that is not finite never is."""
        self.values.append(value if math.isfinite(value) else -math.inf)
        return self.best == len(self.values) - 1

    @property
    def done(self) -> bool:
        """Whether patience is at its end."""
        return self.stopping is not None and len(self.values) - 1 - self.best >= self.stopping.patience

    @property
    def blind(self) -> bool:
        """Whether there were bounds, but never a finite one."""
        return bool(self.values) and self.best < 0


def held_out_bound(bound: Callable[[Tensor], Tensor], rows: Float[Tensor, "samples features"]) -> float:
    """Return the mean bound of rows, always with the same random numbers; the caller's random state is kept."""
    total = 0.0
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for part in rows.split(max(1, MEMORY // rows.shape[1])):
            total += float(bound(part)) * len(part)
    return total / len(rows)
