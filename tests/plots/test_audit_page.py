"""The page of an audit: its panels are the evidence, and each that has nothing to draw says why, for every report."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import probae as pa
from probae.checks import ParameterError
from probae.identifiability.group_information import GroupInformation
from probae.identifiability.guide import inference_evidence
from probae.identifiability.guide_profile import GuideProfile
from probae.identifiability.nullity import fisher_nullity
from probae.identifiability.precision import AngleError
from probae.identifiability.proportional_variances import ProportionTest
from probae.identifiability.segments import SegmentEvidence
from probae.plots import audit_curves, audit_page, audit_planes, audit_spectrum

COLUMNS = [[3.0, 0.0], [3.0, 0.0], [3.0, 1.0], [0.0, 3.0], [0.0, 3.0], [1.0, 3.0]]
TITLES = [title for title, *_ in audit_page.PANELS]


@pytest.fixture(scope="module")
def rows():
    loadings = torch.tensor(COLUMNS, dtype=torch.float64)
    return pa.datasets.linear_factors(
        200, 6, 2, prior=pa.priors.Laplace(), noise=1.0, loadings=loadings, seed=0
    ).x


@pytest.fixture(scope="module")
def gaussian(factors, pupils):
    return pa.audit(factors, pupils.x, restarts=pa.refits(factors, pupils.x, count=2))


@pytest.fixture(scope="module")
def laplace(known, rows):
    return pa.audit(known(torch.tensor(COLUMNS), pa.priors.Laplace()), rows)


@pytest.fixture(scope="module")
def reports(gaussian, laplace, pupils, factors, rows, known):
    """One report of each kind."""
    pattern = torch.kron(torch.eye(3), torch.ones(3, 1)).bool()
    labels = torch.arange(200) // 100
    steps = pa.SVI(pa.MLPEncoder(6, 2), epochs=1)
    with pytest.warns(pa.ProbaeWarning):
        nonlinear = pa.fit(pa.Autoencoder(6, 2), rows, steps)
    sources = pa.datasets.linear_factors(80, 12, 12, noise=0.0, seed=0).x
    wide = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    return {
        "Gaussian": gaussian,
        "Laplace": laplace,
        "zeros": pa.audit(pa.fit(pa.ConfirmatoryFactorAnalysis(pattern), pupils.x), pupils.x),
        "zeros, no data": pa.audit(pa.fit(pa.ConfirmatoryFactorAnalysis(pattern), pupils.x)),
        "segments": pa.audit(pa.fit(pa.FactorAnalysis(6, 2), rows, pa.SegmentedLikelihood(labels)), rows),
        "nonlinear": pa.audit(nonlinear, rows),
        "one": pa.audit(pa.fit(pa.FactorAnalysis(6, 1), rows), rows),
        "twelve": pa.audit(known(torch.eye(12), pa.priors.Gaussian(), noise="none"), sources),
        "no data": pa.audit(factors),
        "moments": pa.audit(factors, pa.SufficientStatistics.from_data(pupils.x)),
        "bare": pa.audit(factors.model.loadings.detach(), pupils.x, prior=pa.priors.Gaussian()),
        "overcomplete": pa.audit(known(wide, pa.priors.Laplace()), rows[:, :4]),
        "few rows": pa.audit(factors, pupils.x[:20]),
        "spherical": pa.audit(known(torch.eye(6)[:, :2], pa.priors.MultivariateStudentT(5.0))),
    }


@pytest.fixture(scope="module")
def pages(reports):
    return {kind: pa.plots.audit(reports[kind], Figure(figsize=(11.7, 8.3))) for kind in PAGES}


PAGES = ["Gaussian", "Laplace", "zeros", "segments", "nonlinear", "twelve"]
OTHERS = ["zeros, no data", "one", "no data", "moments", "bare", "overcomplete", "few rows", "spherical"]


def panel(page, title):
    [ax] = [ax for ax in page.axes if ax.get_title(loc="left") == title]
    return ax


def words(ax):
    return " ".join(" ".join(text.get_text().split()) for text in ax.texts)


@pytest.mark.parametrize("kind", PAGES)
def test_every_report_has_a_page_whose_panels_draw_or_say_why(reports, pages, kind):
    page = pages[kind]
    assert [ax.get_title(loc="left") for ax in page.axes] == ["", *TITLES]
    for ax in page.axes[1:]:
        assert ax.lines or words(ax).endswith(".")
    head = words(page.axes[0])
    assert f"{reports[kind].verdict.name} {reports[kind].group}" in head
    assert reports[kind].reasons[0][:40] in head


@pytest.mark.parametrize("kind", OTHERS)
def test_every_panel_draws_or_says_why(reports, kind):
    figure = Figure(figsize=(5, 3))
    for _, draw, _ in audit_page.PANELS:
        ax = figure.add_subplot()
        why = draw(ax, reports[kind].evidence)
        assert bool(why) != bool(ax.lines)
        assert not why or why.endswith(".")


@pytest.mark.parametrize("kind", PAGES)
def test_nothing_leaves_the_page_and_no_panel_reaches_into_another(pages, kind):
    page = pages[kind]
    page.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in page.axes]
    for box in boxes:
        assert page.bbox.x0 <= box.x0
        assert box.x1 <= page.bbox.x1
        assert page.bbox.y0 <= box.y0
        assert box.y1 <= page.bbox.y1
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            wide = min(one.x1, other.x1) - max(one.x0, other.x0)
            high = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert wide <= 0 or high <= 0


def test_the_spectrum_is_that_of_the_likelihood(gaussian):
    """Nine features and three factors: 9 * 3 + 9 parameters, K (K - 1) / 2 = 3 flat directions."""
    flat, others = panel(pa.plots.audit(gaussian), TITLES[0]).lines
    assert len(flat.get_xdata()) == 3
    assert len(others.get_xdata()) == 33
    assert max(flat.get_ydata()) < 1e-9 < 1e-3 < min(others.get_ydata())
    assert flat.get_label() == "3 flat; 3 expected of O(3)"


def test_the_nullity_holds_its_spectrum(factors):
    found = fisher_nullity(factors.model)
    assert len(found.spectrum) == found.parameters
    assert found.spectrum[found.dimension - 1] == found.largest_null
    assert found.spectrum[found.dimension] == found.smallest_other
    assert found.spectrum[-1] == 1.0


def test_the_bound_of_gaussian_factors_is_the_one_that_is_climbed_to(factors, pupils):
    """Hadamard's gap in closed form against guides optimised for each row (to 1e-9 nats a row)."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double()).Q
    model = pa.FactorAnalysis(9, 3)
    model.load_state_dict(factors.model.state_dict())
    with torch.no_grad():
        model.loadings.copy_(factors.model.loadings @ turn)
    degrees = torch.tensor([0.0, 20.0, 65.0])
    climbed = pa.guide_profile(model, pupils.x[:60], (0, 2), degrees).mean_field
    [plane] = [one for one in pa.guide_gap(model, 60).planes if one.plane == (0, 2)]
    assert torch.allclose(60 * plane.bound(degrees), climbed, atol=1e-6)
    assert climbed.abs().max() > 0.1


def test_gaussian_factors_are_flat_beside_a_bound_that_is_not(gaussian):
    likelihood, bound = panel(pa.plots.audit(gaussian), TITLES[1]).lines
    assert np.abs(likelihood.get_ydata()).max() < 1e-9
    assert np.ptp(bound.get_ydata()) > 2
    assert "not used by this fit: exact" in bound.get_label()


def test_a_profile_of_the_guide_is_drawn_where_there_is_one(laplace):
    angles = torch.arange(0.0, 181.0, 45.0)
    curve = torch.tensor([0.0, -5.0, 0.0, -5.0, 0.0])
    found = GuideProfile((0, 1), angles, curve, 0.1 * curve.abs(), -curve, 2 * curve, curve, 50, False)
    evidence = laplace.evidence
    evidence = replace(evidence, inference=replace(evidence.inference, profile=found))
    ax = Figure().add_subplot()
    assert audit_curves.along_rotation(ax, evidence) == ""
    likelihood, independent, full = (line.get_ydata() for line in ax.lines)
    assert np.allclose(likelihood, curve)
    assert np.allclose(independent, -curve)
    assert np.allclose(full, 2 * curve)
    assert len(ax.collections) == 1  # the band of the likelihood
    low, high = ax.get_ylim()
    assert low < -10
    assert high > 5
    assert "50 rows" in ax.get_ylabel()


def test_the_bounds_of_a_restricted_encoder_are_profiled(rows):
    """Of an encoder with correlated codes, of Gaussian factors (closed form) and without rows they are not."""
    encoder = pa.MLPEncoder(6, 2, covariance="diagonal")
    with pytest.warns(pa.ProbaeWarning):
        run = pa.fit(
            pa.LinearFactorModel(6, 2, prior=pa.priors.Laplace()), rows[:40], pa.SVI(encoder, epochs=2)
        )
    found = inference_evidence(run, rows[:40], samples=40, restricted=True, plane=(0, 1))
    assert found.profile.samples == 40
    assert inference_evidence(run, rows[:40], samples=40, restricted=False, plane=(0, 1)).profile is None
    assert inference_evidence(run, None, samples=40, restricted=True, plane=None).profile is None


def test_p_values_are_those_of_the_report(laplace):
    ax = panel(pa.plots.audit(laplace), TITLES[2])
    information = laplace.evidence.data.information
    drawn = sorted(float(x) for line in ax.lines if line.get_marker() in "oD" for x in line.get_xdata())
    expected = sorted(max(t.p_value, 1e-12) for t in (*information.planes, *information.overall))
    assert drawn == pytest.approx(expected)


def test_filled_marks_are_what_holm_rejects(laplace):
    ax = panel(pa.plots.audit(laplace), TITLES[2])
    [circle] = [line for line in ax.lines if line.get_marker() == "o"]
    rejects = bool(laplace.evidence.data.information.rejected(0.01))
    assert (circle.get_markerfacecolor() == circle.get_color()) == rejects


def test_tests_of_segments_are_drawn_with_that_of_all_factors_and_filled_by_holm(laplace):
    """.006 is below .01, yet not a second of three at that level over all of them: .006 > .01 / 2."""
    planes = ((0, 1), 0.001), ((0, 2), 0.006), ((1, 2), 0.3)
    tests = tuple(ProportionTest(plane, 1.0, p, 999) for plane, p in planes)
    found = SegmentEvidence(2, tests, (), None, overall=ProportionTest((0, 1, 2), 1.0, 0.002, 999))
    ax = Figure().add_subplot()
    assert audit_planes.harmonics(ax, replace(laplace.evidence, segments=found, factors=3)) == ""
    drawn = {line.get_label(): line.get_xdata() for line in ax.lines[:3]}
    assert {name: list(p) for name, p in drawn.items()} == {
        "plane of two, rejects": [0.001],
        "plane of two": [0.3, 0.006],
        "all factors, rejects": [0.002],
    }
    assert "permuted labels" in ax.get_xlabel()


def test_small_p_values_of_rows_that_fail_a_check_are_said_to_prove_nothing(laplace):
    def below(evidence):
        ax = Figure().add_subplot()
        assert audit_planes.harmonics(ax, evidence) == ""
        return ax.get_xlabel()

    data = laplace.evidence.data
    sound = replace(data, discrete=(), noise=None, rows=None)
    assert "prove nothing" not in below(replace(laplace.evidence, data=sound))
    items = replace(sound, discrete=("item",))
    assert "noise not Gaussian: small p-values prove nothing" in below(replace(laplace.evidence, data=items))
    one = replace(data.rows, tests=(replace(data.rows.tests[0], p_value=1e-9),), inflation=2.0)
    serial = replace(sound, rows=one)
    assert "dependent rows: small p-values prove nothing" in below(replace(laplace.evidence, data=serial))


def test_rows_that_were_left_out_are_counted(factors, pupils):
    x = pupils.x.clone()
    x[:7, 0] = math.nan
    report = pa.audit(pa.fit(pa.FactorAnalysis(9, 3), x), x)
    assert "294 complete rows of 301" in str(report).splitlines()[0]
    assert "294 complete rows of 301" in words(pa.plots.audit(report).axes[0])


def test_marks_at_the_edges_are_whole(gaussian, reports):
    """Half a diamond, 5 points, has room beside the first and the last of 36 values; one value stands alone."""
    ax = panel(pa.plots.audit(gaussian), TITLES[0])
    low, high = ax.get_xlim()
    width = ax.get_position().width * ax.figure.get_figwidth() * 72
    for edge in (1 - low, high - 36):
        assert edge / (high - low) * width > 5.5
    assert 1 <= ax.get_xticks()[0]
    alone = Figure().add_subplot()
    assert (
        audit_spectrum.spectrum(alone, replace_structure(reports["spherical"].evidence, torch.ones(1))) == ""
    )
    assert alone.get_xticks().tolist() == [1]


def test_the_gap_above_exact_zeros_is_a_bound(reports):
    evidence = reports["spherical"].evidence
    for zero, words_of_gap in ((0.0, "gap: more than 18 decades"), (1e-16, "gap: 16 decades")):
        ax = Figure().add_subplot()
        values = torch.tensor([zero, 1.0, 1.0, 1.0], dtype=torch.float64)
        assert audit_spectrum.spectrum(ax, replace_structure(evidence, values, dimension=1)) == ""
        assert [text.get_text() for text in ax.texts] == [words_of_gap]


def replace_structure(evidence, values, dimension=0):
    """Return evidence on factors with these eigenvalues, of which so many are null."""
    from probae.identifiability.group_information import GroupInformation

    algebra = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]], dtype=torch.float64)[:dimension]
    found = GroupInformation(values.double(), algebra, draws=0, error=0.0)
    return replace(evidence, structure=replace(evidence.structure, spectrum=found))


def test_the_ladder_is_that_of_the_restarts(gaussian):
    ax = panel(pa.plots.audit(gaussian), TITLES[3])
    found = gaussian.evidence.inference.restarts
    steps = ax.lines[0]
    assert steps.get_xdata().tolist() == pytest.approx([max(v, 0.01) for v in found.spread.values()])
    assert [text.get_text() for text in ax.get_yticklabels()][1] == "signed\npermutation"
    assert "3 of 3 fits within 2 nats" in " ".join(ax.get_xlabel().split())


def errors(evidence, *found):
    ax = Figure(figsize=(4, 3)).add_subplot()
    assert audit_planes.angles(ax, replace(evidence, precision=found)) == ""
    return ax


def test_angle_errors_are_drawn_worst_first_with_the_rows_for_five_and_one_degree(laplace):
    small, large = AngleError((0, 1), 1.0, 2.0, 100, 1.5, 0.1), AngleError((0, 2), 4.0, 5.0, 100)
    ax = errors(laplace.evidence, small, large)
    by_name = {line.get_label(): line for line in ax.lines}
    assert by_name["sandwich"].get_xdata().tolist() == [5.0, 2.0]
    assert by_name["Cramer-Rao"].get_xdata().tolist() == [4.0, 1.0]
    assert by_name["all estimated"].get_xdata()[1] == 1.5
    assert [text.get_text() for text in ax.texts[:2]] == ["100\n2,500", "16\n400"]  # n (degrees / target)^2
    assert ax.get_xlim()[0] < 13 < ax.get_xlim()[1]


def test_an_angle_that_is_not_known_has_an_arrow_and_no_number_of_rows(laplace):
    ax = errors(laplace.evidence, AngleError((0, 1), math.inf, math.inf, 100))
    assert ax.lines[0].get_xdata().tolist() == [90.0]
    assert ">" in [line.get_marker() for line in ax.lines]
    assert ax.texts[0].get_text() == "no number\nno number"


def test_many_planes_are_counted_not_named(laplace):
    many = [AngleError((i, 12), 1.0 + i, 1.0, 100) for i in range(13)]
    ax = errors(laplace.evidence, *many)
    assert ax.get_ylabel() == "13 planes"
    assert not ax.get_yticklabels()
    assert "worst: z[12], z[12]; rows needed for 5°: 676; for 1°: 16,900" in " ".join(
        ax.get_xlabel().split()
    )  # 100 (13 / 5)^2, 100 13^2


def test_noisy_eigenvalues_have_their_error(laplace):
    values = torch.tensor([-1e-17, 0.5, 1.0, 1.0], dtype=torch.float64)
    algebra = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]], dtype=torch.float64)
    shape = replace(laplace.evidence.structure, blocks=((0, 1),), null_dimension=1,
                    spectrum=GroupInformation(values, algebra, draws=100, error=0.1))  # fmt: skip
    ax = Figure().add_subplot()
    assert audit_spectrum.spectrum(ax, replace(laplace.evidence, structure=shape)) == ""
    assert len(ax.containers) == 1
    assert ax.lines[0].get_label() == "1 flat; 1 expected of O(2)"
    assert "Monte Carlo" in ax.get_ylabel()


def test_long_reasons_are_cut_and_counted(gaussian):
    reasons = tuple(f"Reason {i}: {'word ' * 60}." for i in range(6))
    long = replace(gaussian, decision=replace(gaussian.decision, reasons=reasons))
    text = pa.plots.audit(long).axes[0].texts[-1].get_text()
    assert len(text.splitlines()) <= 1 + audit_page.LINES
    shown = text.count("Reason")
    assert shown >= 2
    assert text.splitlines()[-1] == f"• … and {6 - shown} more in the report"


def test_a_figure_of_ones_own_is_drawn_on(gaussian):
    figure = Figure(figsize=(11.7, 8.3))
    assert pa.plots.audit(gaussian, figure) is figure
    assert len(figure.axes) == 6


def test_what_is_no_report_or_no_figure_is_refused(gaussian):
    with pytest.raises(ParameterError, match=r"report should be a Report, as pa\.audit gives, got str"):
        pa.plots.audit("report")
    with pytest.raises(ParameterError, match="figure should be a matplotlib Figure, got str"):
        pa.plots.audit(gaussian, "page")


def test_the_ladder_is_in_the_text_and_the_dictionary(gaussian):
    assert "3 of 3 fits within 2 nats of the best" in str(gaussian).split("INFERENCE")[1].split("VERDICT")[0]
    kept = json.loads(json.dumps(gaussian.to_dict()))["inference"]["restarts"]
    assert kept["kept"] == [0, 1, 2]
