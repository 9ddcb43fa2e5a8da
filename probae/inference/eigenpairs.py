r"""Leading eigenpairs of Psi^{-1/2} R Psi^{-1/2}, again and again for nearby Psi: what a factor analysis is made of.

A block of K vectors and a few spare ones starts where the last call ended, and Rayleigh-Ritz steps of subspace
iteration improve it until its residual is small enough. With S = Psi^{-1/2} R Psi^{-1/2} known entry by entry,

    T = B S,   T B' = C L C',   residual = |C'T - L C'B|,   B <- orthonormal rows of T.

With more features than rows, R = X'X is known by X, the N standardised rows over sqrt(N), and S is never formed: with
Y = X Psi^{-1/2} and orthonormal rows B in R^N,

    T = B Y,   Z = T Y',   (Z Z') c = l (T T') c,   u = T'c,   B <- l^{-1/2} c'Z,

two products with X, O(N D b) time and O(N D) memory. Where eigenvalues crowd together and a block does not settle, a
direct solver takes over.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

DENSE_LIMIT = 160  # size up to which a direct eigen-solver beats Lanczos
SMALL = 40  # features up to which a direct eigen-solver beats a block
FEW = 200  # rows up to which the N x N matrix costs no more than a block
SPARE = 6  # directions carried along, so that the K wanted ones settle sooner
PATIENCE = 8  # Rayleigh-Ritz steps before a block is called slow
GRAM_LIMIT = 3000  # rows up to which the N x N matrix is cheaper than Lanczos on the rows
NOTHING = 1e-14  # eigenvalue, relative to the largest, that rounding leaves of zero
APPROACH = 1e-2  # promised decrease per row below which eigenvectors are wanted exactly


def leading_eigenpairs(
    matrix: np.ndarray, count: int, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``count`` largest eigenvalues and vectors of a symmetric matrix, largest first."""
    size = len(matrix)
    if size <= DENSE_LIMIT or 4 * count >= size:
        values, vectors = scipy.linalg.eigh(
            matrix, subset_by_index=(size - count, size - 1), check_finite=False
        )
    elif not matrix.any():
        values, vectors = np.zeros(count), np.eye(size, count)
    else:
        first = _first(size) if start is None else start.sum(axis=1)
        values, vectors = scipy.sparse.linalg.eigsh(matrix, k=count, which="LA", v0=first)
    order = np.argsort(values)[::-1]
    return values[order], vectors[:, order]


def _first(size: int) -> np.ndarray:
    """Return where Lanczos starts: patterned matrices may send a vector of equal entries to zero."""
    return np.random.default_rng(0).normal(size=size)


def _padded(values: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Add the zero eigenvalues of dimensions that the rows do not span."""
    short = count - len(values)
    if short == 0:  # nearly always, and padding by nothing takes longer than a small decomposition
        return values, vectors
    return np.pad(values, (0, short)), np.pad(vectors, ((0, 0), (0, short)))


class Correlation:
    """A correlation matrix R that gives the leading eigenpairs of diag(scale) R diag(scale).

    Attributes
    ----------
    features : number of features D
    slow : whether the block did not settle, so that the direct solver answers from now on
    loose, tight : residuals relative to the eigenvalue, on the way and for the answer
    diagonal : diagonal of R, (D,)
    """

    loose: float
    tight: float
    diagonal: np.ndarray

    def __init__(self, features: int, dimension: int, slow: bool) -> None:
        self.features = features
        self.dimension = dimension  # of the vectors in the block
        self.slow = slow
        self.tolerance = self.tight
        self.block: np.ndarray | None = None

    @staticmethod
    def of(matrix: np.ndarray | Correlation) -> Correlation:
        """Wrap a matrix; pass on what is wrapped already."""
        return matrix if isinstance(matrix, Correlation) else DenseCorrelation(matrix)

    def expect(self, decrease: float) -> None:
        """Settle for approximate eigenvectors while a step still promises to lower the objective by this much."""
        self.tolerance = self.loose if decrease > APPROACH else self.tight

    def leading(self, scale: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``count`` largest eigenvalues of diag(scale) R diag(scale) and their vectors (D, count)."""
        found = min(count, self.dimension)
        width = min(count + SPARE, self.dimension)
        if not self.slow and 4 * width < self.dimension:
            if self.block is None or len(self.block) < width:
                start = np.random.default_rng(0).normal(size=(self.dimension, width))
                self.block = np.ascontiguousarray(np.linalg.qr(start)[0].T)
            for _ in range(PATIENCE):
                values, vectors, residual = self._step(scale, found)
                if residual <= self.tolerance:
                    return _padded(values, vectors, count)
            self.slow = True
        return _padded(*self._direct(scale, found), count)

    def dense(self) -> np.ndarray:
        """Return the matrix entry by entry, for few features."""
        raise NotImplementedError

    def _step(self, scale: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
        raise NotImplementedError

    def _direct(self, scale: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError


class DenseCorrelation(Correlation):
    """A correlation matrix (D, D) known entry by entry."""

    loose, tight = 1e-4, 1e-8

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(len(matrix), len(matrix), slow=len(matrix) <= SMALL)
        self.matrix = matrix
        self.diagonal = matrix.diagonal()
        self.vectors: np.ndarray | None = None

    def dense(self) -> np.ndarray:
        """Return the matrix."""
        return self.matrix

    def _step(self, scale: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the Ritz pairs of the block with their residual, and improve the block for the next step."""
        assert self.block is not None
        images = ((self.block * scale) @ self.matrix) * scale
        values, turn = np.linalg.eigh(images @ self.block.T)
        values, turn = values[::-1], turn[:, ::-1].T
        vectors, images = turn @ self.block, turn @ images
        error = images[:count] - values[:count, None] * vectors[:count]
        residual = np.sqrt(np.einsum("kd,kd->k", error, error)) / values[:count]
        self.block = np.ascontiguousarray(np.linalg.qr(images.T)[0].T)
        return values[:count], vectors[:count].T, float(residual.max())

    def _direct(self, scale: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        scaled = np.outer(scale, scale)
        scaled *= self.matrix  # in place: a second matrix would cost more than the product
        values, self.vectors = leading_eigenpairs(scaled, count, self.vectors)
        return values, self.vectors


class WideCorrelation(Correlation):
    """The correlation matrix X'X of N rows of D > N features, known by its rows.

    Parameters
    ----------
    root : centred rows, shape (N, D)
    scale : what each column is divided by to have unit sum of squares, shape (D,)
    """

    loose, tight = 5e-2, 1e-6  # of the block a step starts from; the vectors it returns are better

    def __init__(self, root: np.ndarray, scale: np.ndarray) -> None:
        super().__init__(root.shape[1], len(root), slow=len(root) <= FEW)
        self.root = root
        self.unit = 1.0 / scale
        self.diagonal = np.ones(len(scale))

    def dense(self) -> np.ndarray:
        """Return X'X."""
        standard = self.root * self.unit
        return standard.T @ standard

    def _step(self, scale: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Improve the block once; the residual is that of the block it started from, so on the safe side."""
        assert self.block is not None
        weight = self.unit * scale
        images = (self.block @ self.root) * weight  # T
        gram = images @ images.T
        values, turn = np.linalg.eigh(gram)
        turn = turn[:, ::-1]  # largest first
        keep = values[::-1] > NOTHING * values[-1]
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

    def _direct(self, scale: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return eigenpairs from the N x N matrix YY', or by Lanczos where that is too large."""
        weight, rows = self.unit * scale, len(self.root)
        if rows <= GRAM_LIMIT or 4 * count >= rows:
            scaled = self.root * weight
            values, left = leading_eigenpairs(scaled @ scaled.T, count)
        else:
            squares = weight**2
            operator = scipy.sparse.linalg.LinearOperator(
                (rows, rows), matvec=lambda v: self.root @ (squares * (self.root.T @ v)), dtype=np.float64
            )
            values, left = scipy.sparse.linalg.eigsh(operator, k=count, which="LA", v0=_first(rows))
            values, left = values[::-1], left[:, ::-1]
        kept = values > NOTHING * values[0]
        vectors = (left[:, kept].T @ self.root * weight).T
        return _padded(values[kept], vectors / np.sqrt(values[kept]), count)
