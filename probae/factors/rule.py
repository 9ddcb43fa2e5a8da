"""What a rule for the number of factors is, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from probae.factors.sample import NotApplicable, Sample


@dataclass(frozen=True, eq=False)
class Judgement:
    """The answer of one rule, and the statistic it looked at.

    Attributes
    ----------
    rule : Rule
    answer : int or None
        The number of factors; None if the rule could not run or settled on none, and ``note`` says why.
    counts : Tensor (M,), int
        The numbers of factors the statistic was computed for.
    values : Tensor (M,)
        The statistic.
    threshold : Tensor (M,) or None
        What the statistic is compared with, for rules that compare.
    typical : Tensor (M,) or None
        The median of the statistic without any factors, for parallel analysis.
    note : str
    """

    rule: Rule
    answer: int | None
    counts: Int[Tensor, " counts"]
    values: Float[Tensor, " counts"]
    threshold: Float[Tensor, " counts"] | None = None
    typical: Float[Tensor, " counts"] | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """Name of the rule."""
        return self.rule.name


@dataclass(frozen=True)
class Rule:
    """A rule for the number of factors; subclasses are small frozen dataclasses with a ``judge``.

    ``statistic`` names what the rule looks at for each number of factors, ``source`` where it is from.
    """

    statistic: ClassVar[str]
    source: ClassVar[str]

    @property
    def name(self) -> str:
        """Name in tables, different for different settings."""
        raise NotImplementedError

    def judge(self, sample: Sample) -> Judgement:
        """Apply the rule, or raise `NotApplicable`."""
        raise NotImplementedError

    def apply(self, sample: Sample) -> Judgement:
        """Apply the rule once to a sample; a rule that cannot run gives a judgement that says why."""

        def compute() -> Judgement:
            try:
                return self.judge(sample)
            except NotApplicable as reason:
                return self.answer(None, 0, [], note=f"not run: {reason}")

        return sample.share(self, compute)

    def answer(
        self,
        answer: int | None,
        first: int,
        values: np.ndarray | list[float],
        threshold: np.ndarray | None = None,
        typical: np.ndarray | None = None,
        note: str = "",
    ) -> Judgement:
        """Return a judgement whose statistic belongs to ``first``, ``first + 1``, ... factors."""
        statistic = _tensor(values)
        counts = torch.arange(first, first + len(statistic))
        found = None if answer is None else int(answer)
        limits = None if threshold is None else _tensor(threshold)
        medians = None if typical is None else _tensor(typical)
        return Judgement(self, found, counts, statistic, limits, medians, note)


def _tensor(values: np.ndarray | list[float]) -> Tensor:
    return torch.tensor(np.ascontiguousarray(values, dtype=float))


def leading(holds: np.ndarray) -> int:
    """Return how many entries hold before the first that does not.

    Examples
    --------
    >>> leading(np.array([True, True, False, True]))
    2
    """
    return int(np.logical_and.accumulate(holds).sum())
