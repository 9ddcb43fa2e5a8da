"""The atoms of a dictionary as image tiles."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray

from probae.checks import ParameterError, check_count
from probae.inference import Fit
from probae.plots.canvas import axes_or_new
from probae.plots.subject import fitted_loadings

# Black to light grey, so that white stands for the gaps alone.
GREYS = ListedColormap(np.repeat(np.linspace(0.0, 0.85, 256)[:, None], 3, axis=1), name="atoms")
GREYS.set_bad("white")


def dictionary(fit: Fit, shape: tuple[int, int] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the columns of the loadings as images, the one with the largest norm first, in reading order.

    Each tile is divided by its own largest absolute value, so only the order tells large from small.

    Parameters
    ----------
    fit : Fit
        Of a model with loadings over pixels.
    shape : (int, int), optional
        Rows and columns of an atom in pixels; by default a square.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        Its image is one array of tiles with a masked line of a pixel around each.

    Raises
    ------
    ParameterError
        If the model has no loadings, or ``shape`` does not multiply to the number of features.

    Examples
    --------
    >>> import probae as pa
    >>> patches = pa.datasets.natural_patches(size=4, count=500)
    >>> ax = pa.plots.dictionary(pa.fit(pa.SparseCoding(16, 20), patches.x, pa.MAP(penalty=0.1)))
    >>> ax.get_title()
    '20 atoms of 4 x 4, largest norm first'
    """
    atoms = fitted_loadings(fit).T
    rows, columns = _check_shape(shape, atoms.shape[1])
    order = np.argsort(-np.linalg.norm(atoms, axis=1), kind="stable")
    across = min(len(atoms), math.ceil(math.sqrt(len(atoms) * rows / columns)))
    picture = mosaic(atoms[order].reshape(-1, rows, columns), across)
    ax = axes_or_new(ax, *_size(picture.shape, across))
    image = ax.imshow(picture, cmap=GREYS, vmin=-1.0, vmax=1.0, interpolation="nearest")
    ax.set_axis_off()
    title = f"{len(atoms)} atoms of {rows} x {columns}, largest norm first"
    ax.set_title(title if len(atoms) > 1 else f"1 atom of {rows} x {columns}", fontsize="medium")
    ax.figure.colorbar(image, ax=ax, aspect=30, ticks=[-1, 0, 1], label="weight / largest of the atom")
    return ax


def mosaic(tiles: NDArray[np.float64], across: int) -> np.ma.MaskedArray:
    """Lay tiles (K, rows, columns), each over its largest size, side by side with masked gaps of a pixel.

    Examples
    --------
    >>> mosaic(np.array([[[4.0]], [[-2.0]], [[0.0]]]), across=2).shape
    (5, 5)
    """
    count, rows, columns = tiles.shape
    down = math.ceil(count / across)
    picture = np.full((down * (rows + 1) + 1, across * (columns + 1) + 1), np.nan)
    for number, tile in enumerate(tiles):
        top, left = number // across * (rows + 1) + 1, number % across * (columns + 1) + 1
        picture[top : top + rows, left : left + columns] = tile / (np.abs(tile).max() or 1.0)
    return np.ma.masked_invalid(picture)


def _size(shape: tuple[int, ...], across: int) -> tuple[float, float]:
    """Return width and height in inches of a new figure: 6 for the longer side, less for few tiles."""
    height, width = min(6.0, 2.0 * across) * np.array(shape) / max(shape)
    return float(max(width, 2.6)) + 1.4, float(max(height, 2.6)) + 0.5


def _check_shape(shape: tuple[int, int] | None, features: int) -> tuple[int, int]:
    if shape is None:
        side = math.isqrt(features)
        if side * side != features:
            raise ParameterError(
                f"shape should be given as (rows, columns): {features} features do not make a square image."
            )
        return side, side
    sides = tuple(check_count("a side of shape", side) for side in shape)
    if len(sides) != 2 or math.prod(sides) != features:
        raise ParameterError(
            f"shape should be (rows, columns) that multiply to {features} features, got {sides}, "
            f"which makes {math.prod(sides)}."
        )
    return sides[0], sides[1]
