"""The counting rules one by one, asked of one pattern and one set of loadings; `counting` says what they are for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probae.identifiability.independence import few_rows, row_deletion_failures
from probae.identifiability.nullity import Nullity, Parts
from probae.identifiability.structure import ledermann_count

__all__ = ["Check", "Rule"]

SHOWN = 6


@dataclass(frozen=True)
class Rule:
    """One rule: whether it holds, what follows from that, and which columns (factors) and rows (features) fail it.

    Attributes
    ----------
    name : str
    holds : bool
    kind : str
        What it is good for: "necessary", "sufficient", "generic" or "exact", and for what.
    sentence : str
    factors, features : tuple of int
    """

    name: str
    holds: bool
    kind: str
    sentence: str
    factors: tuple[int, ...] = ()
    features: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Check:
    """The rules, asked of one pattern and one set of loadings."""

    parts: Parts
    pattern: np.ndarray
    nullity: Nullity
    factors: tuple[str, ...]
    features: tuple[str, ...]

    def rules(self, freedom: int) -> list[Rule]:
        """Return every rule that applies."""
        rules = [self._count(freedom), self._ledermann(), self._row_deletion(), self._three_five_seven()]
        if self._simple():
            rules.append(self._three_features())
            if self.parts.layout.pairs:
                rules.append(self._two_features())
        if self.parts.layout.pairs:
            rules.append(self._zeros())
        return [*rules, self._exact()]

    def _count(self, freedom: int) -> Rule:
        size = len(self.features) * (len(self.features) + 1) // 2
        free = self.nullity.parameters + len(self.nullity.boundary)
        turned = self.nullity.rotations.dimension
        less = f" less {turned} for rotations" if turned else ""
        sentence = f"{free} free parameters{less}, {size} variances and covariances"
        return Rule("t-rule", freedom >= 0, "necessary", sentence)

    def _ledermann(self) -> Rule:
        features, factors = self.pattern.shape
        count = ledermann_count(features, factors)
        holds = count >= 0
        verb = "leave" if holds else "do not leave"
        sentence = (
            f"{factors} factors of {features} features {verb} room for the noise variances (count {count:g})"
        )
        return Rule("Ledermann", holds, "generic", sentence)

    def _row_deletion(self) -> Rule:
        failing = row_deletion_failures(np.where(self.pattern, self.parts.loadings, 0.0))
        if failing:
            rows = _listed(failing, self.features)
            sentence = (
                f"without {rows} no two disjoint sets of {self.pattern.shape[1]} independent rows are left"
            )
        else:
            sentence = "two disjoint sets of independent rows are left whichever row is deleted"
        kind = "sufficient for the noise variances"
        return Rule("row deletion", not failing, kind, sentence, features=failing)

    def _three_five_seven(self) -> Rule:
        columns = few_rows(self.pattern)
        if columns:
            rows = int(self.pattern[:, list(columns)].any(axis=1).sum())
            sentence = f"{_listed(columns, self.factors)} reach{'es' if len(columns) == 1 else ''} {rows} "
            sentence += f"feature{'s' if rows != 1 else ''}, fewer than {2 * len(columns) + 1}"
        else:
            sentence = "every q factors reach at least 2 q + 1 features"
        return Rule("3-5-7", not columns, "necessary for row deletion", sentence, factors=columns)

    def _simple(self) -> bool:
        return bool((self.pattern.sum(axis=1) <= 1).all())

    def _three_features(self) -> Rule:
        counts = self.pattern.sum(axis=0)
        few = tuple(np.flatnonzero(counts < 3).tolist())
        sentence = "every factor has three features that measure nothing else"
        if few:
            sentence = "; ".join(
                f"{self.factors[k]} has {counts[k]} feature{'s' if counts[k] != 1 else ''} that measure nothing else"
                for k in few[:SHOWN]
            )
        return Rule("three features", not few, "sufficient", sentence, factors=few)

    def _two_features(self) -> Rule:
        counts = self.pattern.sum(axis=0)
        related = np.abs(self.parts.correlation - np.eye(len(counts))).max(axis=0) > 1e-6
        few = tuple(np.flatnonzero((counts < 2) | ((counts < 3) & ~related)).tolist())
        sentence = "every factor has two features that measure nothing else, and is correlated with another"
        if few:
            sentence = f"{_listed(few, self.factors)}: fewer than two features, or two and no correlation"
        return Rule("two features", not few, "sufficient", sentence, factors=few)

    def _zeros(self) -> Rule:
        turned = self.nullity.rotations
        free = tuple(k for k in range(len(self.factors)) if k not in turned.fixed)
        sentence = "the fixed zeros of every factor leave no rotation"
        if free:
            sentence = f"the fixed zeros of {_listed(free, self.factors)} leave other factors to be mixed in"
        return Rule("zeros", not free, "exact", sentence, factors=free)

    def _exact(self) -> Rule:
        found = self.nullity
        turned = found.rotations
        beyond = found.beyond_rotations
        sentence = "the covariance sees every parameter" if not found.dimension else (
            f"{found.dimension} flat direction{'s' if found.dimension > 1 else ''} of {found.parameters} parameters: "
            f"{turned.dimension} rotation{'s' if turned.dimension != 1 else ''} of the factors, {beyond} other"
        )  # fmt: skip
        if beyond and found.features:
            verb = "moves" if beyond == 1 else "move"
            sentence += f", which {verb} the noise of {_listed(found.features, self.features)}"
        if not found.conclusive:
            sentence += f"; not clear-cut, the next direction is at {found.smallest_other:.1e}"
        mixing = tuple(k for block in turned.blocks if len(block) > 1 for k in block)
        return Rule("rank", not found.dimension, "exact", sentence, factors=mixing, features=found.features)


def _listed(members: tuple[int, ...], names: tuple[str, ...]) -> str:
    shown = ", ".join(names[i] for i in members[:SHOWN])
    return shown + (f" and {len(members) - SHOWN} more" if len(members) > SHOWN else "")
