r"""Leading eigenpairs of Psi^{-1/2} R Psi^{-1/2} for more features than rows, from the rows alone.

With R = X'X, X the N standardised rows over sqrt(N), and Y = X Psi^{-1/2}, the leading eigenvectors of Y'Y (D x D,
never formed) are Y'B for those of YY'. A block B (b, N) of orthonormal rows is improved by

    T = B Y,   Z = T Y',   (Z Z') c = l (T T') c,   u = T'c,   B <- l^{-1/2} c'Z

one Rayleigh-Ritz step of subspace iteration: two products with X, O(N D b) time and O(N D) memory. Each block starts
where the last one ended. Where eigenvalues crowd together and the block does not settle, Lanczos takes over.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

SPARE = 6  # directions carried along, so that the K wanted ones settle sooner
PATIENCE = 8  # Rayleigh-Ritz steps before the block is called slow
FEW = 200  # rows up to which the N x N matrix costs no more than a block
GRAM_LIMIT = 1500  # rows up to which the N x N matrix is cheaper than Lanczos
APPROACH = 1e-2  # promised decrease per row below which eigenvectors are wanted exactly
LOOSE, TIGHT = 5e-2, 1e-6  # residuals relative to the eigenvalue: on the way, and for the answer


class WideCorrelation:
    """The correlation matrix X'X of N rows of D > N standardised features, known by its rows.

    Parameters
    ----------
    root : centred rows, shape (N, D)
    scale : what each column is divided by to have unit sum of squares, shape (D,)
    """

    def __init__(self, root: np.ndarray, scale: np.ndarray) -> None:
        self.root = root
        self.unit = 1.0 / scale
        self.tolerance = TIGHT
        self.block: np.ndarray | None = None
        self.slow = len(root) <= FEW

    def __len__(self) -> int:
        return len(self.unit)

    def expect(self, decrease: float) -> None:
        """Settle for approximate eigenvectors while a step still promises to lower the objective by this much."""
        self.tolerance = LOOSE if decrease > APPROACH else TIGHT

    def leading(self, scale: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``count`` largest eigenvalues of diag(scale) X'X diag(scale) and their vectors (D, count)."""
        weight = self.unit * scale
        rows = len(self.root)
        count_found = min(count, rows)
        if not self.slow:
            if self.block is None or len(self.block) < min(count + SPARE, rows):
                start = np.random.default_rng(0).normal(size=(rows, min(count + SPARE, rows)))
                self.block = np.ascontiguousarray(np.linalg.qr(start)[0].T)
            for _ in range(PATIENCE):
                values, vectors, residual = self._step(weight, count_found)
                if residual <= self.tolerance:
                    return _padded(values, vectors, count)
            self.slow = True
        return _padded(*self._direct(weight, count_found), count)

    def _step(self, weight: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Improve the block once; the residual is that of the block it started from, so on the safe side."""
        assert self.block is not None
        images = (self.block @ self.root) * weight  # T
        gram = images @ images.T
        values, turn = np.linalg.eigh(gram)
        turn = turn[:, ::-1]  # largest first
        keep = values[::-1] > 1e-14 * values[-1]
        images, values = (turn[:, keep].T @ images), values[::-1][keep]
        back = (images * weight) @ self.root.T  # Z
        power = back @ back.T
        spread = np.sqrt(np.maximum(power.diagonal() / values**2 - 1.0, 0.0))
        whitening = 1.0 / np.sqrt(values)
        ritz, turn = np.linalg.eigh(power * np.outer(whitening, whitening))
        ritz, turn = ritz[::-1], turn[:, ::-1]
        coefficients = turn.T * whitening
        self.block = (coefficients @ back) / np.sqrt(ritz)[:, None]
        return ritz[:count], (coefficients[:count] @ images).T, float(spread[:count].max())

    def _direct(self, weight: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return eigenpairs from the N x N matrix YY', or by Lanczos where that is too large."""
        rows = len(self.root)
        if rows <= GRAM_LIMIT or 4 * count >= rows:
            scaled = self.root * weight
            values, left = scipy.linalg.eigh(scaled @ scaled.T, subset_by_index=(rows - count, rows - 1))
        else:
            squares = weight**2
            operator = scipy.sparse.linalg.LinearOperator(
                (rows, rows), matvec=lambda v: self.root @ (squares * (self.root.T @ v)), dtype=np.float64
            )
            first = None if self.block is None else self.block[:count].sum(axis=0)
            values, left = scipy.sparse.linalg.eigsh(operator, k=count, which="LA", v0=first)
        order = np.argsort(values)[::-1]
        values, left = np.maximum(values[order], 0.0), left[:, order]
        vectors = (left.T @ self.root * weight).T
        return values, vectors / np.maximum(np.sqrt(values), np.finfo(float).tiny)


def _padded(values: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill up with eigenvalue zero: N centred rows span no more than N - 1 dimensions."""
    short = count - len(values)
    if short <= 0:
        return values, vectors
    return np.pad(values, (0, short)), np.pad(vectors, ((0, 0), (0, short)))
