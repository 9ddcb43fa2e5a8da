"""Where figures are drawn: on the caller's Axes, or on one of pyplot's, which nothing else touches."""

import inspect
import subprocess
import sys
from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.figure import Figure

import probae as pa
from probae.analysis.cross_validation import CrossValidation
from probae.checks import ParameterError
from probae.factors.number import Kaiser, ParallelAnalysis
from probae.identifiability.likelihood_ratio import rotation_profile

RULES = [Kaiser(), ParallelAnalysis(replicates=20)]


def drawn(fit):
    """Draws of loadings (4, 100, D, K) about those of a fit."""
    shape = (4, 100, *fit.model.loadings.shape)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return fit.model.loadings + 0.1 * noise


def sampled(fit):
    """The fit with draws."""
    spread = fit.model.noise_variance.expand(4, 100, -1)
    mean = fit.model.mean.expand(4, 100, -1)
    return replace(fit, draws={"loadings": drawn(fit), "noise_variance": spread, "mean": mean})


def ranked():
    """A calibration of two quantities."""
    theta = torch.randn(100, 200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return pa.Calibration.from_draws(["psi", "lambda"], theta[0], theta[1:])


def compared(x):
    """Two models of the same rows."""
    densities = {k: pa.fit(pa.FactorAnalysis(9, k), x).log_likelihood(x) for k in (1, 2)}
    return pa.compare({f"{k} factors": CrossValidation(d, "x", "rows") for k, d in densities.items()})


DRAWINGS = {
    "calibration": lambda fit, x, ax: pa.plots.calibration(ranked(), ax=ax),
    "comparison": lambda fit, x, ax: pa.plots.comparison(compared(x), ax=ax),
    "forest": lambda fit, x, ax: pa.plots.forest(pa.align(drawn(fit), pa.OrthogonalProcrustes()), ax=ax),
    "plan": lambda fit, x, ax: pa.plots.plan(
        pa.plan_angles(pa.priors.Laplace(), noise=[0.0, 0.1, 1.0]), ax=ax
    ),
    "predictive": lambda fit, x, ax: pa.plots.predictive(
        pa.posterior_predictive_check(fit, x, sets=30)["sd"], ax=ax
    ),
    "ranks": lambda fit, x, ax: pa.plots.ranks(pa.mixing(drawn(fit)), ax=ax),
    "residuals": lambda fit, x, ax: pa.plots.residuals(pa.covariance_residual(sampled(fit), x), ax=ax),
    "trace": lambda fit, x, ax: pa.plots.trace(pa.mixing(drawn(fit)), ax=ax),
    "loadings": lambda fit, x, ax: pa.plots.loadings(fit, ax=ax),
    "dictionary": lambda fit, x, ax: pa.plots.dictionary(fit, ax=ax),
    "rotation": lambda fit, x, ax: pa.plots.rotation(rotation_profile(fit, x), ax=ax),
    "scores": lambda fit, x, ax: pa.plots.scores(fit, x, ax=ax),
    "scree": lambda fit, x, ax: pa.plots.scree(pa.number_of_factors(x, 3, rules=RULES), ax=ax),
}
every_drawing = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)

QUIET = """
import sys
import probae.plots, probae as pa
from matplotlib.figure import Figure
fit = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)
pa.plots.loadings(fit, Figure().add_subplot())
print("matplotlib.pyplot" in sys.modules)
"""


def test_pyplot_is_not_imported_for_callers_with_their_own_axes():
    assert subprocess.check_output([sys.executable, "-c", QUIET], text=True).split() == ["False"]


def test_every_drawing_is_tried_here():
    assert set(DRAWINGS) == set(pa.plots.__all__) - {"audit"}  # a page, not axes: test_audit_page


@every_drawing
def test_the_given_axes_are_drawn_on_and_returned(draw, factors, pupils):
    ax = Figure().add_subplot()
    assert draw(factors, pupils.x, ax) is ax
    assert ax.has_data()
    assert plt.get_fignums() == []


@every_drawing
def test_without_axes_a_figure_of_pyplot_is_made(draw, factors, pupils):
    ax = draw(factors, pupils.x, None)
    assert plt.get_fignums() == [ax.figure.number]


@every_drawing
def test_nothing_is_shown_and_no_setting_changes(draw, factors, pupils, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("plt.show was called"))
    before = plt.rcParams.copy()
    draw(factors, pupils.x, None)
    assert plt.rcParams.copy() == before


@every_drawing
def test_everything_fits_on_a_new_figure_and_no_label_covers_another(draw, factors, pupils):
    figure = draw(factors, pupils.x, None).figure
    figure.draw_without_rendering()
    edge = figure.bbox.padded(1.0)  # a pixel for rounding
    boxes = [text for axes in figure.axes for text in outer_texts(axes)]
    assert boxes
    for index, box in enumerate(boxes):
        assert edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1  # noqa: PT018
        assert not any(overlap(box, other) for other in boxes[:index])


def outer_texts(axes):
    """Give the boxes of the title, the axis labels and the tick labels that can be seen."""
    ticks = [
        label
        for axis in (axes.xaxis, axes.yaxis)
        for position, label in zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
        if axes.axison and min(axis.get_view_interval()) <= position <= max(axis.get_view_interval())
    ]
    labels = [axes.title, *([axes.xaxis.label, axes.yaxis.label] if axes.axison else [])]
    return [text.get_window_extent() for text in [*labels, *ticks] if text.get_text() and text.get_visible()]


def overlap(one, other):
    """Whether two boxes share more than a pixel in each direction."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    return width > 1 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1


def test_something_else_than_axes_is_refused(factors):
    from probae.plots.canvas import axes_or_new

    with pytest.raises(ParameterError, match=r"matplotlib Axes, got ndarray: pass one, as in axes\[0\]"):
        inspect.unwrap(axes_or_new)(plt.subplots(1, 2)[1], 3.0, 3.0)
