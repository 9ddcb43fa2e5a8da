"""The line is the eigenvalues, the band is parallel analysis, and the numbers above are the answers."""

import inspect

import numpy as np
import pytest

import probae as pa
from probae.checks import ParameterError
from probae.factors.number import BIC, EmpiricalKaiser, Kaiser, MinimumAveragePartial, ParallelAnalysis

GAUSSIAN = ParallelAnalysis(replicates=100)
RULES = [Kaiser(), GAUSSIAN, ParallelAnalysis(permute=True, replicates=100), MinimumAveragePartial()]


@pytest.fixture(scope="module")
def result(pupils):
    return pa.number_of_factors(pupils.x, rules=RULES)


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def line(ax, label):
    return next(one for one in ax.lines if one.get_label().startswith(label))


def test_the_line_is_the_eigenvalues(result, pupils):
    ax = pa.plots.scree(result)
    drawn = line(ax, "eigenvalues")
    assert drawn.get_xdata().tolist() == list(range(1, 10))
    assert drawn.get_ydata() == pytest.approx(np.linalg.eigvalsh(np.corrcoef(pupils.x.numpy().T))[::-1])
    assert set(line(ax, "1 (Kaiser)").get_ydata()) == {1.0}


def test_the_band_reaches_from_the_median_to_the_percentile(result):
    [band] = pa.plots.scree(result).collections
    corners = band.get_paths()[0].vertices
    found = result.judgement(GAUSSIAN)
    at_2 = corners[corners[:, 0] == 2.0, 1]
    assert at_2.min() == pytest.approx(float(found.typical[1]))
    assert at_2.max() == pytest.approx(float(found.threshold[1]))


def test_each_answer_is_marked_with_how_many_rules_gave_it(result):
    ax = pa.plots.scree(result)
    marks = {int(text.get_position()[0]): text for text in ax.texts}
    assert {k: int(text.get_text()) for k, text in marks.items()} == {2: 1, 3: 3}
    assert (marks[3].get_weight(), marks[2].get_weight()) == ("bold", "normal")


def test_lines_differ_without_colour(result):
    ax = pa.plots.scree(result)
    looks = {
        (one.get_linestyle(), one.get_marker()) for one in ax.lines if not one.get_label().startswith("_")
    }
    assert len(looks) == 2
    assert {one.get_linestyle() for one in ax.lines} >= {"-", "--", ":"}


def test_the_legend_covers_nothing_and_stays_on_the_figure(result):
    ax = pa.plots.scree(result)
    ax.figure.draw_without_rendering()
    legend, label = ax.get_legend().get_window_extent(), ax.xaxis.label.get_window_extent()
    assert legend.y1 <= label.y0
    assert legend.y0 >= 0
    title = ax._left_title.get_window_extent()
    assert all(text.get_window_extent().y1 <= title.y0 for text in ax.texts)
    assert title.y1 <= ax.figure.bbox.y1


def test_the_band_fits_even_above_all_eigenvalues():
    few = pa.SufficientStatistics.from_covariance(np.eye(5), count=12)
    ax = pa.plots.scree(pa.number_of_factors(few, rules=[Kaiser(), GAUSSIAN]))
    assert ax.get_ylim()[1] > max(np.max(one.get_ydata()) for one in ax.lines)
    assert {int(text.get_position()[0]) for text in ax.texts} == {0}
    assert ax.get_xlim()[0] < 0


def test_the_tail_of_many_columns_is_left_out():
    x = pa.datasets.linear_factors(300, 80, 2, seed=0).x
    ax = pa.plots.scree(pa.number_of_factors(x, rules=[GAUSSIAN, MinimumAveragePartial()]))
    assert line(ax, "eigenvalues").get_xdata().tolist() == list(range(1, 13))


def test_answers_beyond_the_figure_are_named():
    x = np.random.default_rng(0).standard_normal((2000, 160))
    ax = pa.plots.scree(pa.number_of_factors(x, rules=[Kaiser(), EmpiricalKaiser()]))
    assert "beyond: " in ax._left_title.get_text()


def test_without_parallel_analysis_there_is_no_band(pupils):
    ax = pa.plots.scree(pa.number_of_factors(pupils.x, rules=[Kaiser()]))
    assert len(ax.collections) == 0
    assert entries(ax) == ["eigenvalues of 9 columns, 301 rows", "1 (Kaiser)"]


def test_it_draws_where_it_is_told(result):
    import matplotlib.pyplot as plt

    given = plt.subplots(layout="constrained")[1]
    assert pa.plots.scree(result, given) is given


def test_what_cannot_be_drawn_is_refused(pupils):
    with pytest.raises(ParameterError, match="result should be a NumberOfFactors.*got int"):
        inspect.unwrap(pa.plots.scree)(3)
    with pytest.raises(ParameterError, match="none of its rules looked at them"):
        pa.plots.scree(pa.number_of_factors(pupils.x, rules=[BIC()]))
