"""The tiles are the atoms, the largest first, each over its own largest absolute value, with gaps between."""

import math

import numpy as np
import pytest

import probae as pa
from probae.checks import ParameterError
from probae.plots.tiles import GREYS


def tiles(ax, rows, columns):
    """Cut the picture along its masked lines, and check that nothing else is masked."""
    picture = ax.images[0].get_array()
    cells = [
        picture[top : top + rows, left : left + columns]
        for top in range(1, picture.shape[0], rows + 1)
        for left in range(1, picture.shape[1], columns + 1)
    ]
    shown = [cell.data for cell in cells if not np.ma.getmaskarray(cell).any()]
    assert picture.count() == len(shown) * rows * columns
    assert all(np.ma.getmaskarray(cell).all() for cell in cells[len(shown) :])
    return shown


def test_each_atom_is_a_tile_over_its_own_maximum_in_order_of_norm(known):
    W = np.random.default_rng(0).standard_normal((16, 7))
    ax = pa.plots.dictionary(known(W))
    shown = tiles(ax, 4, 4)
    assert len(shown) == 7
    order = sorted(range(7), key=lambda k: -np.linalg.norm(W[:, k]))
    for tile, k in zip(shown, order, strict=True):
        assert tile.flatten() == pytest.approx(W[:, k] / np.abs(W[:, k]).max(), abs=1e-15)
    assert ax.get_title() == "7 atoms of 4 x 4, largest norm first"
    assert (ax.images[0].norm.vmin, ax.images[0].norm.vmax) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("shape", "count"), [((2, 6), 5), ((6, 2), 5), ((1, 12), 3), ((12, 1), 1), ((3, 4), 24)]
)
def test_shapes_that_are_no_squares(known, shape, count):
    W = np.random.default_rng(0).standard_normal((12, count))
    ax = pa.plots.dictionary(known(W, prior=pa.priors.Laplace(), noise="isotropic"), shape)
    assert len(tiles(ax, *shape)) == count
    assert ax.get_title().startswith(f"{count} atom")


def test_a_pixel_of_an_atom_is_where_its_feature_says(known):
    W = np.zeros((6, 1))
    W[4] = -3.0  # second row, second column of 2 x 3
    [tile] = tiles(pa.plots.dictionary(known(W), (2, 3)), 2, 3)
    assert tile.tolist() == [[0.0, 0.0, 0.0], [0.0, -1.0, 0.0]]


def test_an_atom_of_zero_is_a_flat_tile_at_the_end(known):
    W = np.zeros((4, 2))
    W[:, 1] = [1.0, -2.0, 0.5, 0.0]
    last = tiles(pa.plots.dictionary(known(W)), 2, 2)[-1]
    assert np.array_equal(last, np.zeros((2, 2)))


def test_gaps_are_lighter_than_any_pixel():
    lightest = GREYS(np.linspace(0.0, 1.0, 256))[:, :3].max()
    assert GREYS.get_bad()[:3].min() - lightest >= 0.1


def test_sparse_coding_of_patches_can_be_drawn():
    patches = pa.datasets.natural_patches(size=4, count=300)
    fit = pa.fit(pa.SparseCoding(16, 20), patches.x, pa.MAP(steps=50, tol=1.0))
    assert len(tiles(pa.plots.dictionary(fit), 4, 4)) == 20


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (None, r"shape should be given as \(rows, columns\): 12 features do not make a square image"),
        ((4, 4), r"multiply to 12 features, got \(4, 4\), which makes 16"),
        ((-3, -4), "a side of shape should be a whole number of at least 1, got -3"),
        ((0, 12), "a side of shape should be a whole number of at least 1, got 0"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(known, shape, sentence):
    assert math.isqrt(12) ** 2 != 12
    with pytest.raises(ParameterError, match=sentence):
        pa.plots.dictionary(known(np.ones((12, 2))), shape)
