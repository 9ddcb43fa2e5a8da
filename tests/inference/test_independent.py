"""Noise-free independent components: planted axes, no slope at the maximum, units, unequal and learnt laws."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from probae import (
    DataError,
    HeywoodWarning,
    MaximumLikelihood,
    NotExactError,
    ProbaeWarning,
    amari_distance,
    fit,
    load,
    mean_correlation,
    save,
)
from probae.inference.independent import deal, reduce_rows
from probae.models import IndependentComponents, LinearFactorModel
from probae.priors import (
    Gaussian,
    GeneralizedNormal,
    Independent,
    Laplace,
    Logistic,
    MultivariateStudentT,
    StudentT,
    Uniform,
)


def planted(prior, rows=4000, seed=0):
    """Three sources of a law, mixed by a matrix of condition number 5.8."""
    model = IndependentComponents(3, 3, prior=prior)
    mixing = torch.tensor([[2.0, 0.5, 0.3], [0.4, 1.0, -0.6], [-0.5, 0.2, 1.5]], dtype=torch.float64)
    model.loadings, model.mean = mixing, torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    return model, model.sample(rows, seed=seed)


@pytest.mark.parametrize(
    "prior", [Laplace(), StudentT(5), GeneralizedNormal(4.0), GeneralizedNormal(0.8)], ids=repr
)
def test_planted_sources_are_recovered(prior):
    truth, x = planted(prior)
    run = fit(IndependentComponents(3, 3, prior=prior), x)
    assert run.converged
    assert amari_distance(truth.loadings.detach(), run.model.loadings) < 0.05
    assert run.history[-1] >= truth.log_likelihood(x).mean().item() - 1e-9
    assert run.history[-1].item() == pytest.approx(run.log_likelihood(x).mean().item(), rel=1e-9)


@pytest.mark.parametrize("prior", [StudentT(5), Logistic(), GeneralizedNormal(4.0)], ids=repr)
def test_the_likelihood_has_no_slope_in_the_unmixing_matrix(prior):
    """-E[psi(s) s'] + I = 0 with s = W^-1 (x - mean): the relative gradient, free of units."""
    _, x = planted(prior, rows=1000)
    run = fit(IndependentComponents(3, 3, prior=prior), x)
    s = run.posterior(x).mean
    relative = prior.score(s).T @ s / len(s) - torch.eye(3, dtype=torch.float64)
    # below 1e-7 of the white rows' own sources; whitening and back loses a few digits of 16
    assert relative.abs().max() < 2e-7


def test_scale_of_the_sources_is_that_of_the_law():
    """The sources of a fitted model have E[psi(s) s] = 1, so variance about 1 where the law is right."""
    _, x = planted(Laplace(), rows=8000)
    s = fit(IndependentComponents(3, 3), x).posterior(x).mean
    assert torch.allclose(
        s.var(0), torch.ones(3, dtype=torch.float64), atol=5 * (5 / 8000) ** 0.5
    )  # kurtosis 6


def test_unequal_laws_find_their_columns():
    """Column j of the loadings belongs to law j: no permutation is left, only signs."""
    prior = Independent([Laplace(), GeneralizedNormal(6.0), StudentT(3)])
    truth, x = planted(prior, rows=6000)
    fitted = fit(IndependentComponents(3, 3, prior=prior), x).model.loadings
    cosines = (fitted * truth.loadings).sum(0) / fitted.norm(dim=0) / truth.loadings.norm(dim=0)
    assert (cosines.detach().abs() > 0.99).all()


def test_signs_are_fixed_and_restarts_reported():
    _, x = planted(Laplace(), rows=500)
    run = fit(IndependentComponents(3, 3), x)
    largest = run.model.loadings.gather(0, run.model.loadings.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()
    assert len(run.restarts) > 1
    assert all({"restart", "contrast"} <= set(report) for report in run.restarts)
    assert torch.allclose(run.model.mean, x.mean(0))


def test_starts_may_be_counted():
    _, x = planted(Laplace(), rows=500)
    assert len(fit(IndependentComponents(3, 3), x, MaximumLikelihood(starts=1)).restarts) == 1
    assert len(fit(IndependentComponents(3, 3), x, MaximumLikelihood(starts=7)).restarts) == 7


@pytest.mark.parametrize("prior", [Laplace(), GeneralizedNormal(0.8), GeneralizedNormal(1.5)], ids=repr)
def test_a_rounded_kink_costs_no_likelihood(prior):
    """No matrix near the answer fits better by more than rounding explains: O(h^2) per row and source, h^2 = 1/n."""
    _, x = planted(prior, rows=2000)
    run = fit(IndependentComponents(3, 3, prior=prior), x)
    best = run.log_likelihood(x).mean()
    fitted, generator = run.model.loadings.clone(), torch.Generator().manual_seed(1)
    for size in (1e-1, 1e-2, 1e-3, 1e-4):
        for _ in range(20):
            change = size * torch.randn(3, 3, generator=generator, dtype=torch.float64)
            run.model.loadings = fitted @ (torch.eye(3, dtype=torch.float64) + change)
            assert run.model.log_likelihood(x).mean() < best + 3 / 2000


@pytest.mark.parametrize("samples", [10, 100, 30_000])
def test_few_and_many_rows_converge(samples):
    _, x = planted(Laplace(), rows=samples)
    run = fit(IndependentComponents(3, 3), x)
    assert run.converged
    assert run.history[-1].item() == pytest.approx(run.log_likelihood(x).mean().item(), rel=1e-9)


def test_one_source():
    x = 3 * torch.randn(200, 1, dtype=torch.float64) + 1
    run = fit(IndependentComponents(1, 1, prior=Logistic()), x)
    s = run.posterior(x).mean
    assert (Logistic().score(s) * s).mean().item() == pytest.approx(1.0, abs=2e-7)


def test_a_law_with_bounded_support_is_fitted_or_refused():
    """One row outside its support has no likelihood: the answer holds every row, or a sentence says why."""
    truth, x = planted(Uniform(), rows=300)
    try:
        run = fit(IndependentComponents(3, 3, prior=Uniform()), x)
    except NotExactError:
        return
    assert run.history.isfinite().all()
    assert run.log_likelihood(x).isfinite().all()
    assert run.history[-1] >= truth.log_likelihood(x).mean() - 0.1


def test_a_spherical_law_has_no_axes():
    x = torch.randn(50, 3, dtype=torch.float64)
    with pytest.raises(NotExactError, match="not independent"):
        fit(IndependentComponents(3, 3, prior=MultivariateStudentT(5)), x)


def test_fewer_rows_than_sources_are_refused():
    with pytest.raises(DataError, match="singular"):
        fit(IndependentComponents(3, 3), np.random.default_rng(0).normal(size=(3, 3)))


def test_sources_are_dealt_to_the_laws_they_fit():
    generator = torch.Generator().manual_seed(0)
    sources = torch.stack(
        [
            torch.distributions.Laplace(0.0, 0.5**0.5).icdf(torch.rand(4000, generator=generator).double()),
            math.sqrt(12) * (torch.rand(4000, generator=generator).double() - 0.5),
        ],
        1,
    )
    light, heavy = GeneralizedNormal(6.0), Laplace()
    dealt, scale = deal(sources, [light, heavy])
    assert dealt.tolist() == [1, 0]
    assert (
        scale.log().abs() < 0.11
    ).all()  # tried at steps of 0.067, of sources that are at scale but for their tails


def test_many_unequal_laws_reach_the_likelihood_of_the_truth():
    """A maximum cannot lie below the likelihood at the planted matrix with the same mean."""
    prior = Independent([Laplace(), GeneralizedNormal(6.0), StudentT(3), GeneralizedNormal(0.8), Logistic()])
    truth = IndependentComponents(5, 5, prior=prior)
    x = truth.sample(5000, seed=2)
    run = fit(IndependentComponents(5, 5, prior=prior), x)
    truth.mean = x.mean(0)
    assert run.history[-1] >= truth.log_likelihood(x).mean()


LEARNT = {
    "heavy": (StudentT(4), StudentT(10, learn=True), 4.0),
    "light": (GeneralizedNormal(5.0), GeneralizedNormal(1.2, learn=True), 5.0),
    "sharp": (GeneralizedNormal(0.8), GeneralizedNormal(3.0, learn=True), 0.8),
}


def shape_of(prior):
    return float((prior.df if isinstance(prior, StudentT) else prior.shape).detach())


@pytest.mark.parametrize("name", LEARNT)
def test_a_learnt_shape_finds_sources_of_either_kind(name):
    """From a shape on the other side of the Gaussian; 15 % is five standard errors of the shape or more."""
    law, prior, expected = LEARNT[name]
    truth, x = planted(law, rows=8000)
    run = fit(IndependentComponents(3, 3, prior=prior), x)
    assert run.converged
    assert shape_of(run.model.prior) == pytest.approx(expected, rel=0.15)
    assert amari_distance(truth.loadings.detach(), run.model.loadings) < 0.05
    truth.mean = x.mean(0)
    assert run.history[-1] >= truth.log_likelihood(x).mean()
    assert shape_of(prior) != shape_of(run.model.prior)  # the caller's law is left as it was


@pytest.mark.parametrize("start", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("shape", [1.0, 3.0, 8.0])
def test_a_learnt_exponent_that_starts_on_the_wrong_side_of_the_gaussian_does_not_stick(start, shape):
    """A maximum cannot lie below the likelihood at the truth; 45 degrees off lose 20 nats of 800 rows or more."""
    truth = IndependentComponents(2, 2, prior=GeneralizedNormal(shape))
    truth.loadings = torch.eye(2, dtype=torch.float64)
    x = truth.sample(800, seed=3)
    run = fit(IndependentComponents(2, 2, prior=GeneralizedNormal(start, learn=True)), x)
    truth.mean = x.mean(0)
    assert run.history[-1] >= truth.log_likelihood(x).mean()
    assert amari_distance(truth.loadings, run.model.loadings) < 0.15
    assert {entry["start_shapes"][0] < 2 for entry in run.restarts} == {True, False}


@pytest.mark.parametrize("name", LEARNT)
def test_the_likelihood_has_no_slope_in_a_learnt_shape(name):
    law, prior, _ = LEARNT[name]
    _, x = planted(law, rows=2000)
    run = fit(IndependentComponents(3, 3, prior=prior), x)
    s = run.posterior(x).mean
    law = run.model.prior.requires_grad_(True)
    (slope,) = torch.autograd.grad(law.log_prob(s).sum(1).mean(), list(law.parameters()))
    assert abs(slope) < (
        0.05 if name == "sharp" else 1e-6
    )  # a rounded kink moves the slope by O(h), h = 0.022


def test_one_law_has_one_shape_and_independent_laws_their_own():
    laws = [GeneralizedNormal(0.8), GeneralizedNormal(5.0), GeneralizedNormal(1.0)]
    truth, x = planted(Independent(laws), rows=8000)
    own = Independent([GeneralizedNormal(1.5, learn=True) for _ in range(3)])
    run = fit(IndependentComponents(3, 3, prior=own), x)
    found = sorted(float(law.shape) for law in run.model.prior.laws)
    assert found == pytest.approx([0.8, 1.0, 5.0], rel=0.15)
    shared = fit(IndependentComponents(3, 3, prior=GeneralizedNormal(1.5, learn=True)), x)
    assert len(list(shared.model.prior.parameters())) == 1
    assert run.history[-1] > shared.history[-1]  # three shapes hold one


def test_a_shape_outside_the_family_is_said():
    x = torch.rand(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).round() - 0.25
    x = x + 1e-3 * torch.tensor([1.0, 2.0], dtype=torch.float64)
    with pytest.warns(ProbaeWarning, match="end of its range"):
        fit(IndependentComponents(2, 2, prior=GeneralizedNormal(1.5, learn=True)), x)


def test_a_learnt_shape_is_saved(tmp_path):
    _, x = planted(StudentT(4), rows=500)
    run = fit(IndependentComponents(3, 3, prior=StudentT(10, learn=True)), x)
    save(run, tmp_path / "fit")
    again = load(tmp_path / "fit")
    assert torch.equal(again.log_likelihood(x), run.log_likelihood(x))


def reduced(rows=4000, seed=0):
    """Two Laplace sources of five features, with noise outside their span."""
    model = IndependentComponents(5, 2)
    generator = torch.Generator().manual_seed(7)
    model.loadings = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    model.noise_variance = torch.tensor(0.05, dtype=torch.float64)
    return model, model.sample(rows, seed=seed)


def test_fewer_sources_than_features_are_recovered():
    truth, x = reduced()
    run = fit(IndependentComponents(5, 2), x)
    assert run.converged
    cosine = (torch.linalg.pinv(truth.loadings.detach()) @ run.model.loadings).abs()
    # rms error of a loading of the pair: sqrt(2 / (3 n)) = 0.013, theory.md 2.6; five of them
    assert torch.allclose(
        cosine.sort(1).values, torch.tensor([[0.0, 1.0]] * 2, dtype=torch.float64), atol=0.07
    )
    # 12,000 squares of normal noise: relative error sqrt(2 / 12,000)
    assert run.model.noise_variance == pytest.approx(0.05, rel=5 * math.sqrt(2 / 12_000))
    assert run.history[-1].item() == pytest.approx(run.log_likelihood(x).mean().item(), rel=1e-9)


def test_fewer_sources_are_those_of_the_principal_components():
    """The same unmixing as a square fit of the projected rows, in the span of the leading eigenvectors."""
    _, x = reduced()
    run = fit(IndependentComponents(5, 2), x)
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    basis = vectors[:, 3:]
    square = fit(IndependentComponents(2, 2), x @ basis)
    expected, found = basis @ square.model.loadings, run.model.loadings
    both = torch.linalg.lstsq(expected, found).solution
    assert torch.allclose(expected @ both, found, rtol=1e-9)
    assert torch.allclose(both.abs().sort(1).values, torch.tensor([[0.0, 1.0]] * 2).double(), atol=1e-5)
    assert run.model.noise_variance == pytest.approx(values[:3].mean().item(), rel=1e-9)


def test_the_principal_span_has_the_largest_likelihood_of_normal_rows():
    """With the white rows' part equal in all spans, of all sets of eigenvectors that vary by more than the rest."""
    _, x = reduced(1000)
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    best = reduce_rows(x, 2).rest

    def rest(basis):
        inside = torch.linalg.slogdet(basis.T @ torch.cov(x.T, correction=0) @ basis)[1]
        noise = (values.sum() - (basis.T @ torch.cov(x.T, correction=0) @ basis).trace()) / 3
        return -0.5 * float(inside + 3 * (math.log(2 * math.pi) + noise.log() + 1))

    assert best == pytest.approx(rest(vectors[:, 3:]), rel=1e-12)
    generator = torch.Generator().manual_seed(0)
    for size in (0.01, 0.1, 0.3):
        for _ in range(50):
            near = vectors[:, 3:] + size * torch.randn(5, 2, generator=generator, dtype=torch.float64)
            assert rest(torch.linalg.qr(near)[0]) < best


def test_rows_without_noise_outside_the_sources_are_fitted_and_said():
    """Four columns of two sources: the noise is held, the sources are those of a square fit of two columns."""
    truth, x = planted(Laplace(), rows=3000)
    wide = torch.cat([x, x @ torch.tensor([[1.0], [2.0], [-1.0]], dtype=torch.float64)], 1)
    with pytest.warns(HeywoodWarning, match="lie in 3 dimensions"):
        run = fit(IndependentComponents(4, 3), wide)
    assert amari_distance(truth.loadings.detach(), run.model.loadings[:3]) < 0.05
    with pytest.raises(DataError, match="singular"):
        fit(IndependentComponents(5, 4), torch.cat([wide, wide[:, :1]], 1))


def test_normal_sources_have_no_maximum_to_leave():
    """The whitened axes have no slope and fit as well as any others."""
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    run = fit(IndependentComponents(3, 3, prior=Independent([Gaussian(), Gaussian(), Gaussian()])), x)
    exact = fit(LinearFactorModel(3, 3, noise="none"), x)
    assert run.history[-1].item() == pytest.approx(exact.history[-1].item(), rel=1e-9)


def agreement(shape, rows, seed, prior):
    """Agreement of three fitted sources with the true ones."""
    truth = IndependentComponents(3, 3, prior=GeneralizedNormal(shape))
    generator = torch.Generator().manual_seed(1000 + seed)
    truth.loadings = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    x = truth.sample(rows, seed=seed)
    run = fit(IndependentComponents(3, 3, prior=prior), x, seed=seed)
    return mean_correlation(run.posterior(x).mean, truth.posterior(x).mean)


@pytest.mark.parametrize("shape", [0.7, 1.0, 1.8, 2.2, 6.0])
def test_generalized_normal_sources_are_found_on_both_sides_of_the_normal_law(shape):
    """Oracle: MCC above .995 at b = 1; elsewhere as near 1 as the bound on each of two angles allows, times 5.

    1 - MCC averages half the sum of both variances, 1 / (n (2 kappa - 2)) each: .0002 at b = 1, .009 at b = 1.8.
    """
    loss = 1 / (5000 * (2 * GeneralizedNormal(shape).fisher_information() - 2))
    found = agreement(shape, 5000, 0, GeneralizedNormal(1.5, learn=True))
    assert found.value > 1 - 5 * loss
    assert shape != 1.0 or found.value > 0.995


@pytest.mark.slow
def test_normal_sources_are_found_by_chance_alone():
    """Oracle: at b = 2 the chance-corrected MCC averages less than .1 in size over 200 seeds."""
    found = [agreement(2.0, 1000, seed, Laplace()).corrected for seed in range(200)]
    assert abs(np.mean(found)) < 0.1


def test_a_sparse_prior_turns_light_tailed_sources_by_45_degrees():
    """Oracle: within 2 degrees at b = 3; the axes of 200,000 rows err by half a degree."""
    truth = IndependentComponents(2, 2, prior=GeneralizedNormal(3.0))
    truth.loadings = torch.eye(2, dtype=torch.float64)
    x = truth.sample(200_000, seed=0)
    fitted = fit(IndependentComponents(2, 2), x).model.loadings
    angle = math.degrees(math.atan2(float(fitted[1, 0]), float(fitted[0, 0]))) % 90
    assert 43 < angle < 47


BOUND_LAWS = {
    "laplace": Laplace(),
    "t3": StudentT(3),
    "t5": StudentT(5),
    "logistic": Logistic(),
    "generalized-1.5": GeneralizedNormal(1.5),
}


def variance_over_bound(law, replicates, rows=5000):
    """n (2 kappa - 2) times the mean square of the fitted rotation angle of two sources of a known law."""
    truth = IndependentComponents(2, 2, prior=law)
    truth.loadings = torch.eye(2, dtype=torch.float64)
    angles = []
    for replicate in range(replicates):
        x = truth.sample(rows, seed=replicate)
        fitted = fit(IndependentComponents(2, 2, prior=law), x, MaximumLikelihood(starts=1)).model.loadings
        if fitted[0].abs().argmax() == 1:
            fitted = fitted.flip(1)
        fitted = fitted / fitted.diagonal()
        angles.append(float(fitted[1, 0] - fitted[0, 1]) / 2)
    return float(np.square(angles).mean()) * rows * (2 * law.fisher_information() - 2)


def test_the_angle_varies_as_little_as_it_can():
    """Of 100 replicates: a variance ratio between .8 and 1.4 is measured within chi-square quantiles of 1e-4."""
    ratio = variance_over_bound(BOUND_LAWS["laplace"], 100)
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], 100) / 100
    assert 0.8 * low < ratio < 1.4 * high


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUND_LAWS)
def test_the_angle_attains_the_cramer_rao_bound(name):
    """Theory 2.6, n = 5,000, 1,000 replicates: between .8 and 1.4 of the bound."""
    assert 0.8 < variance_over_bound(BOUND_LAWS[name], 1000) < 1.4
