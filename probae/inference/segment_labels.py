"""Labels that say which segment each row belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from probae.checks import DataError, ParameterError


@dataclass(frozen=True, eq=False)
class Segments:
    """One label for each row, whole numbers or text.

    Attributes
    ----------
    labels : Tensor (N,)
        The whole numbers, or positions in `names`.
    names : tuple of str, or None
        The labels that are text, sorted.

    Examples
    --------
    >>> segments = Segments.of(["day", "night", "day"])
    >>> segments, segments.labels.tolist(), segments.shown()
    (Segments(3 rows, 2 segments), [0, 1, 0], ('day', 'night'))
    """

    labels: Int[Tensor, " samples"]
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        known = self.names is None or all(isinstance(name, str) for name in self.names)
        right = isinstance(self.labels, Tensor) and self.labels.dtype == torch.int64 and self.labels.ndim == 1
        if not right or not known or len(self.labels) == 0:
            raise ParameterError("Segments need a label for each row: build them with Segments.of(labels).")
        if self.names is not None and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(
            self.names
        ):
            raise ParameterError("Segments have labels without a name: build them with Segments.of(labels).")

    @classmethod
    def of(cls, labels: Any) -> Segments:
        """Read labels: a list, array, Tensor or pandas Series of whole numbers or text.

        Raises
        ------
        DataError
            For anything else.
        """
        if isinstance(labels, Segments):
            return labels
        try:
            values = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
        except (ValueError, TypeError):
            values = np.empty((0, 0))
        if values.ndim != 1 or values.size == 0:
            raise DataError("segments should be one label for each row, a sequence of whole numbers or text.")
        if values.dtype.kind in "biu":
            return cls(torch.from_numpy(values.astype(np.int64)))
        if values.dtype.kind == "U" or all(isinstance(value, str) for value in values):
            names, index = np.unique(values.astype(str), return_inverse=True)
            return cls(torch.from_numpy(index.astype(np.int64)), tuple(map(str, names)))
        raise DataError(
            f"segments should be whole numbers or text, got {values.dtype} such as {str(values[0])[:40]}: give each "
            "segment a number or a name."
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Segments({len(self)} rows, {len(self.labels.unique())} segments)"

    def distinct(self) -> Segments:
        """One row for each segment, in order."""
        return Segments(self.labels.unique(), self.names)

    def shown(self) -> tuple[str, ...]:
        """The label of each segment as text, in order."""
        return tuple(str(v) if self.names is None else self.names[v] for v in self.labels.unique().tolist())

    def positions(self, segments: Any, rows: int) -> Int[Tensor, " rows"]:
        """Return which of these segments, in order, each of so many labels names.

        Raises
        ------
        DataError
            For a label that is none of these, or another number of labels than rows.

        Examples
        --------
        >>> Segments.of([3, 5, 3]).positions([5, 3], 2)
        tensor([1, 0])
        """
        asked = Segments.of(segments)
        if len(asked) != rows:
            raise DataError(f"segments should be one label for each row, got {len(asked)} for {rows} rows.")
        mine = self.labels.unique()
        known = {self._key(value, self.names): place for place, value in enumerate(mine.tolist())}
        kinds, index = asked.labels.unique(return_inverse=True)
        places = [known.get(self._key(value, asked.names)) for value in kinds.tolist()]
        if None in places:
            stranger = self._key(int(kinds[places.index(None)]), asked.names)
            raise DataError(
                f"segments hold {stranger!r}, which the fit has not seen: its segments are "
                f"{', '.join(self.shown()[:8])}{', ...' if len(mine) > 8 else ''}."
            )
        return torch.tensor(places)[index]

    @staticmethod
    def _key(value: int, names: tuple[str, ...] | None) -> int | str:
        return value if names is None else names[value]
