"""Binary codes, 64 bits to a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probae.checks import DataError
from probae.retrieval.tables import check_named

WORD = 64
BLOCK = 2**15  # rows compared at a time: what is in between stays in the cache


@dataclass(frozen=True, eq=False, repr=False)
class PackedCodes:
    """Codes of N rows, packed: bit k of a row is bit k mod 64 of its word k div 64, and unused bits are 0.

    Attributes
    ----------
    words : uint64 array (N, ceil(K / 64))
        From ``pack`` in Fortran order: one word of all rows is compared at a time.
    bits : int
        K.

    Examples
    --------
    >>> codes = pack([[1, 0, 1], [0, 0, 0]])
    >>> codes, codes.words.tolist(), codes.distances(codes).tolist()
    (PackedCodes(2 rows, 3 bits), [[5], [0]], [[0, 2], [2, 0]])
    """

    words: NDArray[np.uint64]
    bits: int

    def __repr__(self) -> str:
        return f"PackedCodes({len(self)} rows, {self.bits} bits)"

    def __len__(self) -> int:
        return len(self.words)

    def take(self, rows: NDArray[np.int64]) -> PackedCodes:
        """Return the codes of rows by their numbers; quickest where the words of a row stand together."""
        return PackedCodes(np.take(self.words, rows, axis=0), self.bits)

    def __getitem__(self, rows: Any) -> PackedCodes:
        """Return the codes of some rows: a slice, a mask or a list of numbers."""
        return PackedCodes(np.atleast_2d(self.words[rows]), self.bits)

    def unpack(self) -> Tensor:
        """Return the codes as booleans, shape (N, K)."""
        octets = self.words.astype("<u8", order="C").view(np.uint8)
        bits = np.unpackbits(octets, axis=1, count=self.bits, bitorder="little")
        return torch.from_numpy(bits.astype(bool))

    def distances(self, queries: PackedCodes) -> Tensor:
        """Return the Hamming distance of each query from each row, int64, shape (Q, N)."""
        self.check_same(queries)
        found = np.empty((len(queries), len(self)), np.int64)
        for row, words in zip(found, queries.words, strict=True):
            row[:] = self.distances_from(words)
        return torch.from_numpy(found)

    def check_same(self, queries: PackedCodes) -> None:
        """Refuse queries with codes of another length."""
        if queries.bits != self.bits:
            raise DataError(
                f"queries should have codes of {self.bits} bits like the rows, got {queries.bits}: "
                "use the same encoder for both."
            )

    def distances_from(self, query: NDArray[np.uint64]) -> NDArray[np.unsignedinteger]:
        """Return the distance of each row from the words of one query, in the shortest dtype that holds it."""
        total = np.zeros(len(self), dtype=np.min_scalar_type(self.bits))
        for low in range(0, len(self), BLOCK):
            part = slice(low, low + BLOCK)
            for word, column in zip(query, self.words[part].T, strict=True):
                total[part] += np.bitwise_count(word ^ column)
        return total


def pack(codes: Any) -> PackedCodes:
    """Pack codes of zeros and ones.

    Parameters
    ----------
    codes : table (N, K) of 0 and 1, or booleans, or PackedCodes
        Such as ``BinaryCodeEncoder.bits(x)``.

    Returns
    -------
    PackedCodes

    Raises
    ------
    DataError
        If an entry is neither 0 nor 1.

    Examples
    --------
    >>> pack([[True, False, True]]).unpack()
    tensor([[ True, False,  True]])
    >>> pack([[0.2, 1.0]])
    Traceback (most recent call last):
    ...
    probae.errors.DataError: codes should be 0 or 1, got 0.2 at row 0, column 0:
    threshold activations first, as in z > 0.5.
    """
    if isinstance(codes, PackedCodes):
        return codes
    bits = check_named("codes", codes).numpy()
    bad = np.argwhere((bits != 0) & (bits != 1))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"codes should be 0 or 1, got {bits[row, column]:g} at row {row}, column {column}: "
            "threshold activations first, as in z > 0.5."
        )
    octets = np.packbits(bits.astype(bool), axis=1, bitorder="little")
    width = -(-bits.shape[1] // WORD) * WORD // 8
    padded = np.zeros((len(bits), width), dtype=np.uint8)
    padded[:, : octets.shape[1]] = octets
    return PackedCodes(padded.view("<u8").astype(np.uint64, order="F"), bits.shape[1])
