"""The points are the posterior means of two factors, on equal axes, with labels that can be told apart."""

import inspect

import numpy as np
import pytest
import torch

import probae as pa
from probae.checks import DataError, ParameterError
from probae.plots.scatter import opacity


def points(ax):
    return np.concatenate([np.asarray(cloud.get_offsets()) for cloud in ax.collections])


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("plane", [(0, 1), (2, 0)])
def test_points_are_posterior_means(factors, pupils, plane):
    ax = pa.plots.scores(factors, pupils.x, plane)
    mean = factors.posterior(pupils.x).mean
    assert np.array_equal(points(ax), mean[:, list(plane)].numpy())
    assert ax.get_xlabel() == f"z[{plane[0]}] (posterior mean)"
    assert ax.get_ylabel() == f"z[{plane[1]}] (posterior mean)"
    assert ax.get_aspect() == 1.0


def test_axes_run_through_zero(factors, pupils):
    ax = pa.plots.scores(factors, pupils.x)
    horizontal, vertical = ax.lines
    assert list(horizontal.get_ydata()) == [0.0, 0.0]
    assert list(vertical.get_xdata()) == [0.0, 0.0]


def test_every_point_is_within_the_axes(factors, pupils):
    ax = pa.plots.scores(factors, pupils.x)
    ax.figure.draw_without_rendering()
    inside = ax.transData.transform(points(ax))
    box = ax.get_window_extent()
    assert (inside > [box.x0, box.y0]).all()
    assert (inside < [box.x1, box.y1]).all()


def test_scores_of_a_dictionary_are_its_codes():
    patches = pa.datasets.natural_patches(size=4, count=300)
    fit = pa.fit(pa.SparseCoding(16, 20), patches.x, pa.MAP(steps=50, tol=1.0))
    ax = pa.plots.scores(fit, patches.x[:50], (3, 7))
    assert np.array_equal(points(ax), fit.posterior(patches.x[:50]).mean[:, [3, 7]].numpy())


def test_classes_have_colours_markers_and_legend_entries(factors, pupils):
    school = pupils.extra["school"]
    ax = pa.plots.scores(factors, pupils.x, labels=school)
    mean = factors.posterior(pupils.x).mean[:, :2].numpy()
    assert entries(ax) == ["Grant-White", "Pasteur"]
    for cloud, name in zip(ax.collections, entries(ax), strict=True):
        assert np.array_equal(np.asarray(cloud.get_offsets()), mean[np.array(school) == name])
    first, second = ax.collections
    assert not np.array_equal(first.get_facecolor(), second.get_facecolor())
    assert len(first.get_paths()[0].vertices) != len(second.get_paths()[0].vertices)


def test_labels_of_one_letter_are_their_own_markers(factors, pupils):
    ax = pa.plots.scores(factors, pupils.x, labels=pupils.extra["sex"])
    assert entries(ax) == ["1", "2"]
    one, two = (cloud.get_paths()[0].vertices for cloud in ax.collections)
    assert one.shape != two.shape


def test_the_legend_covers_no_point_and_stays_on_the_figure(factors, pupils):
    ax = pa.plots.scores(factors, pupils.x, labels=pupils.extra["school"])
    ax.figure.draw_without_rendering()
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 >= ax.get_window_extent().x1
    assert legend.x1 <= ax.figure.bbox.x1


def test_many_numbers_get_a_colour_scale(factors, pupils):
    first = pupils.x[:, 0]
    ax = pa.plots.scores(factors, pupils.x, labels=first)
    assert np.array_equal(np.asarray(ax.collections[0].get_array()), first.numpy())
    assert ax.get_legend() is None
    assert len(ax.figure.axes) == 2


def test_many_points_are_fainter_but_never_gone():
    levels = [opacity(count) for count in (1, 100, 10_000, 10**6, 10**9)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] <= 1
    assert levels[-1] > 0.01


def test_results_need_no_gradient(known):
    """A mean that tracks gradients can be drawn too."""
    fit = known(np.ones((4, 2)) + np.eye(4)[:, :2])
    fit.model.requires_grad_(True)
    x = torch.randn(5, 4, dtype=torch.float64)
    assert points(pa.plots.scores(fit, x)).shape == (5, 2)


@pytest.mark.parametrize("plane", [(0, 3), (1, 1), (-1, 0), (0,), (0, 1, 2), (0.0, 1.0), (True, False), 1])
def test_a_plane_that_is_none_is_refused(factors, pupils, plane):
    with pytest.raises(ParameterError, match=r"plane should be two different factors of 0\.\.2, got "):
        inspect.unwrap(pa.plots.scores)(factors, pupils.x, plane)


def test_one_factor_spans_no_plane(known):
    with pytest.raises(ParameterError, match="plane needs two factors to span it, but the model has 1"):
        pa.plots.scores(known(np.ones((3, 1))), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([1, 2], r"one value for each of 301 rows, got shape \(2,\)"),
        (torch.zeros(301, 1), r"one value for each of 301 rows, got shape \(301, 1\)"),
        ([f"pupil {n}" for n in range(301)], "at most 10 different values unless they are numbers, got 301"),
    ],
)
def test_labels_that_do_not_fit_are_refused(factors, pupils, labels, sentence):
    with pytest.raises(DataError, match=sentence):
        pa.plots.scores(factors, pupils.x, labels=labels)


def test_rows_of_the_wrong_width_are_refused(factors):
    with pytest.raises(DataError, match="the model was built for 9 features"):
        pa.plots.scores(factors, np.zeros((4, 8)))
