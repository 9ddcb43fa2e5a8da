"""The lines are the rows of the plans; what no number of rows reaches is not drawn."""

import numpy as np
import pytest

import probae as pa
from probae.checks import ParameterError


def test_lines_are_the_rows_needed_in_order_of_the_signal():
    plan = pa.plan_angles(pa.priors.Laplace(), noise=[1.0, 0.1, 0.01])
    ax = pa.plots.plan(plan)
    five, one = ax.lines[:2]
    assert five.get_xdata().tolist() == pytest.approx([0.0, 10.0, 20.0])
    assert five.get_ydata().tolist() == pytest.approx([row.samples_for[0] for row in plan.rows])
    assert np.allclose(one.get_ydata() / five.get_ydata(), 25.0)  # five degrees against one
    assert ax.get_yscale() == "log"


def test_no_noise_has_a_place_of_its_own():
    ax = pa.plots.plan(pa.plan_angles(pa.priors.Laplace(), noise=[0.0, 0.1, 10.0]))
    ticks = [label.get_text() for label in ax.get_xticklabels()]
    assert (ticks[0], ticks[-1]) == ("−10", "none")  # a minus, as Matplotlib writes it
    assert ax.lines[0].get_xdata()[-1] > 10.0


def test_levels_on_both_sides_of_zero_are_labelled():
    ax = pa.plots.plan(pa.plan_angles(pa.priors.Laplace()))  # from -9.5 to 30 dB, and no noise
    ticks = [label.get_text() for label in ax.get_xticklabels()]
    assert ticks[0].startswith("−")
    assert "0" in ticks
    assert ticks[-1] == "none"


def test_several_plans_share_a_figure_and_differ_in_grey():
    plans = [pa.plan_angles(law, noise=[0.1, 1.0]) for law in (pa.priors.Laplace(), pa.priors.Logistic())]
    ax = pa.plots.plan(plans)
    styles = {(line.get_marker(), line.get_linestyle()) for line in ax.lines[:4]}
    assert len(styles) == 4
    assert len(ax.get_legend().get_texts()) == 4


@pytest.mark.parametrize("wrong", ["Laplace", [], [1], None])
def test_refuses_what_is_no_plan(wrong):
    with pytest.raises(ParameterError, match="AnglePlan"):
        pa.plots.plan(wrong)


def test_refuses_gaussian_factors_with_a_reason():
    with pytest.raises(ParameterError, match="No number of rows"):
        pa.plots.plan(pa.plan_angles(pa.priors.Gaussian()))
