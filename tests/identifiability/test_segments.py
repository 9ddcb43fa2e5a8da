"""Axes from the variances of segments: closed-form information, the size of the test, verdicts with a known answer."""

import json
import math

import numpy as np
import pytest
import torch

import probae as pa
from probae import DataError, SegmentedLikelihood, fit
from probae.identifiability.proportional_variances import plane_tests, proportion_test
from probae.identifiability.report import Verdict
from probae.identifiability.segment_information import SegmentFit, segment_angle_errors, segment_information
from probae.models import LinearFactorModel


def simulate(variances, rows, seed, features=None, noise=0.0, law="normal"):
    """Factors whose variances are those of the segment, mixed; labels repeat."""
    generator = torch.Generator().manual_seed(seed)
    segments, latents = variances.shape
    labels = torch.arange(rows) % segments
    z = torch.randn(rows, latents, generator=generator, dtype=torch.float64)
    if law == "laplace":
        u = torch.rand(rows, latents, generator=generator, dtype=torch.float64)
        z = torch.distributions.Laplace(0.0, 0.5**0.5).icdf(u)
    mixing = torch.randn(features or latents, latents, generator=generator, dtype=torch.float64)
    x = (z * variances[labels].sqrt()) @ mixing.T
    return x + noise * torch.randn(x.shape, generator=generator, dtype=torch.float64), labels, mixing


def table(values):
    return torch.tensor(values, dtype=torch.float64)


APART = table([[1.8, 0.3, 1.0], [0.2, 1.7, 1.0], [1.0, 1.0, 0.1], [1.0, 1.0, 1.9]])
TWO_ALIKE = table([[1.8, 1.8, 1.0], [0.2, 0.2, 1.0], [1.0, 1.0, 0.1], [1.0, 1.0, 1.9]])
ALIKE = table([[0.5, 0.5, 0.5], [1.5, 1.5, 1.5]])


def fitted(x, labels, variances, mixing, noise=None):
    return SegmentFit(mixing, noise, True, variances, x, labels)


def test_information_is_the_curvature_of_the_likelihood():
    """Minus the expected second derivative in the angle, the symmetric change profiled out, by differences."""
    shares = table([0.3, 0.7])
    variances = table([[0.5, 2.0], [1.4, 0.3]])

    def expected(theta, phi):
        change = torch.eye(2).double() + table([[0.0, theta + phi], [phi - theta, 0.0]])
        second = change @ torch.diag_embed(variances) @ change.T
        energy = variances.log().sum(1) + (second.diagonal(dim1=1, dim2=2) / variances).sum(1)
        return float(torch.linalg.slogdet(change).logabsdet - 0.5 * shares @ energy)

    h = 1e-4
    curve = np.zeros((2, 2))
    for i, a in enumerate(np.eye(2) * h):
        for j, b in enumerate(np.eye(2) * h):
            corners = expected(*(a + b)) - expected(*(a - b)) - expected(*(b - a)) + expected(*(-a - b))
            curve[i, j] = corners / (4 * h * h)
    profiled = -(curve[0, 0] - curve[0, 1] ** 2 / curve[1, 1])
    assert float(segment_information(variances, shares)[0, 1]) == pytest.approx(profiled, rel=1e-5)


def test_proportional_variances_have_no_information():
    found = segment_information(torch.cat([ALIKE, 3 * ALIKE[:, :1]], 1), table([0.4, 0.6]))
    assert found.abs().max() < 1e-12


def test_errors_without_noise_are_those_of_the_closed_form():
    x, labels, mixing = simulate(APART, 400, 0)
    shares = torch.full((4,), 0.25, dtype=torch.float64)
    information = segment_information(APART, shares)
    for error in segment_angle_errors(fitted(x, labels, APART, mixing)):
        expected = math.degrees((400 * float(information[error.plane])) ** -0.5)
        assert error.cramer_rao == pytest.approx(expected, rel=1e-6)


def test_noise_takes_information_away_and_little_noise_takes_none():
    x, labels, mixing = simulate(APART, 400, 0, features=6, noise=0.5)
    errors = {}
    for noise in (1e-8, 0.25, 4.0):
        found = segment_angle_errors(
            fitted(x, labels, APART, mixing, torch.full((6,), noise, dtype=torch.float64))
        )
        errors[noise] = [error.cramer_rao for error in found]
    square = segment_angle_errors(fitted(*simulate(APART, 400, 0)[:2], APART, torch.eye(3).double()))
    assert errors[1e-8] == pytest.approx([error.cramer_rao for error in square], rel=1e-4)
    assert all(a < b < c for a, b, c in zip(*errors.values(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("features", "noise"), [(None, 0.0), (7, 0.6)])
def test_angles_vary_by_their_standard_error(features, noise):
    """Over 200 replicates of 2,000 rows: a standard deviation is known to 5 %, four of which are allowed."""
    angles, predicted = [], []
    for seed in range(200):
        x, labels, mixing = simulate(APART[:, :2], 2000, seed, features, noise)
        model = LinearFactorModel(x.shape[1], 2, noise="none" if features is None else "isotropic")
        run = fit(model, x, SegmentedLikelihood(labels))
        match = pa.match_columns(mixing * APART[:, :2].mean(0).sqrt(), run.model.loadings)
        change = torch.linalg.pinv(mixing * APART[:, :2].mean(0).sqrt()) @ match.matched
        angles.append(math.degrees(float(change[0, 1] - change[1, 0]) / 2))
        predicted.append(pa.audit(run, x).evidence.precision[0].cramer_rao)
    assert np.std(angles) == pytest.approx(np.mean(predicted), rel=0.2)


@pytest.mark.parametrize(
    ("law", "noise", "seeds", "most"),
    [
        ("laplace", 0.0, 30, 6),
        pytest.param("laplace", 0.5, 200, 21, marks=pytest.mark.slow),
        pytest.param("normal", 0.0, 200, 21, marks=pytest.mark.slow),
        pytest.param("normal", 0.5, 200, 21, marks=pytest.mark.slow),
    ],
)
def test_size_of_the_test_of_proportional_variances(law, noise, seeds, most):
    """At most the nominal .05 for two segments, heavy tails or not, binomial to a probability of .001 (30: .003)."""
    variances, rejected = table([[0.5, 0.5], [1.5, 1.5]]), 0
    for seed in range(seeds):
        x, labels, mixing = simulate(variances, 400, seed, 4 if noise else None, noise, law)
        sizes = torch.full((4,), noise**2, dtype=torch.float64) if noise else None
        (test,) = plane_tests(fitted(x - x.mean(0), labels, variances, mixing, sizes))
        rejected += test.p_value < 0.05
    assert rejected <= most


@pytest.mark.slow
@pytest.mark.parametrize("segments", [2, 5])
@pytest.mark.parametrize("rows", [60, 400])
def test_labels_in_random_order_show_nothing_in_a_mixture_of_segments(rows, segments):
    """Rows of each label are a scale mixture: 200 data sets, levels .05 and .01, binomial to a probability of .001."""
    p_values = []
    for seed in range(200):
        x, labels, mixing = simulate(table([[1.7, 0.3], [0.3, 1.7]]), rows, seed)
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(1000 + seed))
        place = (torch.arange(rows) % segments)[order]
        start = torch.ones(segments, 2, dtype=torch.float64)
        (test,) = plane_tests(fitted(x - x.mean(0), place, start, mixing))
        p_values.append(test.p_value)
    p = np.array(p_values)
    assert (p < 0.05).sum() <= 21
    assert (p < 0.01).sum() <= 8


@pytest.mark.slow
@pytest.mark.parametrize("latents", [2, 3, 4])
def test_axes_fitted_to_labels_in_random_order_are_not_called_identified(latents):
    """The fit chooses the planes in which the variances differ most: 200 data sets, level .01."""
    called = 0
    for seed in range(200):
        x, labels, _ = simulate(APART[:2].repeat(1, 2)[:, :latents], 300, seed)
        order = torch.randperm(300, generator=torch.Generator().manual_seed(1000 + seed))
        run = fit(LinearFactorModel(latents, latents, noise="none"), x, SegmentedLikelihood(labels[order]))
        called += pa.audit(run, x).verdict in (Verdict.IDENTIFIED_SP, Verdict.PARTIAL)
    assert called <= 8  # binomial(200, .01) to a probability of .0005


def test_the_statistic_is_that_of_any_axes_and_any_names_of_the_segments():
    x, labels, mixing = simulate(APART[:, :2], 300, 0, law="laplace")
    other = torch.linalg.qr(table([[2.0, 1.0], [0.3, -1.0]])).Q
    found = [
        proportion_test(fitted(x, place, torch.ones(4, 2).double(), axes), (0, 1))
        for place, axes in ((labels, mixing), (labels, mixing @ other), ((labels + 1) % 4, mixing))
    ]
    # to the tolerance of the fitted C_s, which stops at slopes of 1e-9 or a relative change of 1e-15
    assert [one.statistic for one in found] == pytest.approx([found[0].statistic] * 3, rel=1e-4)
    assert len({one.p_value > 0.01 for one in found}) == 1


def test_the_seed_of_an_audit_is_that_of_the_permuted_labels():
    x, labels, _ = simulate(ALIKE[:, :2], 200, 0)
    run = fit(LinearFactorModel(2, 2, noise="none"), x, SegmentedLikelihood(labels))
    p = [pa.audit(run, x, seed=seed).evidence.segments.tests[0].p_value for seed in (0, 0, 1, 2)]
    assert p[0] == p[1]
    assert len(set(p)) > 1


def test_different_variances_are_found():
    x, labels, mixing = simulate(APART, 800, 1)
    assert all(test.p_value < 1e-6 for test in plane_tests(fitted(x, labels, APART, mixing)))


CASES = {
    "apart": (APART, 2000, "IDENTIFIED_SP", "SP(3)"),
    "two of three alike": (TWO_ALIKE, 2000, "PARTIAL", "SP(1) x O(2)"),
    "all alike": (ALIKE, 2000, "MODEL_ONLY", "O(3)"),
    "one segment": (APART[:1], 500, "NOT_IDENTIFIED", "O(3)"),
}


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize("case", CASES)
def test_verdict(case, noise):
    variances, rows, verdict, group = CASES[case]
    x, labels, _ = simulate(variances, rows, 3, 8 if noise else None, noise)
    model = LinearFactorModel(x.shape[1], 3, noise="diagonal" if noise else "none")
    run = fit(model, x, SegmentedLikelihood(labels))
    report = pa.audit(run, x)
    assert (report.verdict.name, report.group) == (verdict, group), str(report)
    assert json.loads(json.dumps(report.to_dict()))["segments"]["segments"] == len(variances)
    assert "SEGMENTS" in str(report)


def test_dependent_rows_are_inconclusive():
    x, _, _ = simulate(APART, 1000, 1)
    walk = x.cumsum(0)[::1] - 0.9 * torch.nn.functional.pad(x.cumsum(0)[:-1], (0, 0, 1, 0))
    labels = torch.arange(1000) // 250
    run = fit(LinearFactorModel(3, 3, noise="none"), walk, SegmentedLikelihood(labels))
    assert pa.audit(run, walk).verdict is Verdict.INCONCLUSIVE


def test_without_rows_and_with_other_rows():
    x, labels, _ = simulate(APART, 400, 1)
    run = fit(LinearFactorModel(3, 3, noise="none"), x, SegmentedLikelihood(labels))
    assert pa.audit(run).verdict is Verdict.INCONCLUSIVE
    with pytest.raises(DataError, match="its own 400 rows, and x has 399"):
        pa.audit(run, x[1:])


def test_one_factor_has_no_axes():
    x, labels, _ = simulate(APART[:, :1], 400, 1, 4, 0.5)
    run = fit(LinearFactorModel(4, 1), x, SegmentedLikelihood(labels))
    assert pa.audit(run, x).verdict is Verdict.IDENTIFIED_SP
