"""Maximum likelihood with non-Gaussian factors and noise: planted axes, and a likelihood not below the truth's."""

import math
import warnings

import numpy as np
import pytest
import torch

from probae import ConvergenceWarning, HeywoodWarning, NotExactError, fit
from probae.checks import check_data
from probae.datasets import linear_factors
from probae.inference import MaximumLikelihood, noisy
from probae.inference.importance import ImportancePosterior
from probae.linalg import givens
from probae.matching import match_columns
from probae.models import FactorAnalysis, LinearFactorModel, SparseCoding
from probae.priors import (
    Gaussian,
    GeneralizedNormal,
    Independent,
    Laplace,
    MultivariateStudentT,
    Scaled,
    StudentT,
    Uniform,
)


@pytest.fixture(scope="module")
def planted():
    """2000 rows, ten columns, three Laplace factors, communality two thirds, and the fit of the true model."""
    data = linear_factors(2000, 10, 3, prior=Laplace(), communality=0.67, seed=3)
    truth = LinearFactorModel(10, 3, prior=Laplace())
    for name in ("loadings", "noise_variance", "mean"):
        setattr(truth, name, data.truth[name])
    return data, truth, fit(LinearFactorModel(10, 3, prior=Laplace()), data.x)


def test_planted_axes_are_recovered(planted):
    """Tucker's congruence of every matched column above .98."""
    data, _, run = planted
    match = match_columns(data.truth["loadings"], run.model.loadings)
    assert run.converged
    assert (match.cosines > 0.98).all()


def test_scale_and_noise_are_recovered(planted):
    """Laplace codes of unit variance set the scale: 10 % on loadings, 20 % on uniquenesses at n = 2000."""
    data, _, run = planted
    matched = match_columns(data.truth["loadings"], run.model.loadings).matched
    assert torch.allclose(matched.norm(dim=0), data.truth["loadings"].norm(dim=0), rtol=0.1)
    assert torch.allclose(run.model.noise_variance, data.truth["noise_variance"], rtol=0.2)


def test_the_likelihood_is_not_below_that_of_the_truth(planted):
    """Both estimated with the same thousand draws per row; the difference has a standard error of its own."""
    data, truth, run = planted
    fitted, true = (
        ImportancePosterior(m, count=1000, seed=1).log_likelihood(data.x) for m in (run.model, truth)
    )
    gain = fitted - true
    assert gain.mean() > -2 * gain.std() / len(gain) ** 0.5
    # the maximum lies about (number of parameters) / 2n above the truth: 50 / 4000
    assert gain.mean() > 0


def test_the_frame_is_better_than_the_gaussian_fit(planted):
    data, _, run = planted
    gaussian = LinearFactorModel(10, 3, prior=Laplace())
    fitted = fit(FactorAnalysis(10, 3), data.x).model
    for name in ("loadings", "noise_variance", "mean"):
        setattr(gaussian, name, getattr(fitted, name))
    unrotated = ImportancePosterior(gaussian, count=500, seed=1).log_likelihood(data.x).mean()
    assert ImportancePosterior(run.model, count=500, seed=1).log_likelihood(data.x).mean() > unrotated + 0.01


def test_history_rises_and_is_the_likelihood(planted):
    data, _, run = planted
    assert (run.history.diff() > -1e-9).all()
    assert run.history[-1].item() == pytest.approx(run.log_likelihood(data.x).mean().item(), abs=0.02)


def test_the_posterior_is_close_to_the_factors(planted):
    """Mean squared error near the mean posterior variance, as it is for a calibrated posterior."""
    data, _, run = planted
    match = match_columns(data.truth["loadings"], run.model.loadings)
    posterior = run.posterior(data.x)
    scores = posterior.mean[:, match.order] * match.signs
    error = (scores - data.truth["z"]).square().mean(0)
    assert torch.allclose(error, posterior.variance.mean(0)[match.order], rtol=0.25)


def test_isotropic_noise_and_tails_of_student(rows):
    data = linear_factors(1000, 6, 2, prior=StudentT(4), noise=0.2, seed=1)
    run = fit(SparseCoding(6, 2, prior=StudentT(4)), data.x)
    assert (match_columns(data.truth["loadings"], run.model.loadings).cosines > 0.95).all()
    assert run.model.noise_variance.item() == pytest.approx(0.2, rel=0.15)


def test_unequal_laws_find_their_columns():
    """Column j belongs to law j: there is no permutation left to match."""
    prior = Independent([GeneralizedNormal(6.0), Laplace()])
    data = linear_factors(3000, 8, 2, prior=prior, communality=0.8, seed=5)
    fitted = fit(LinearFactorModel(8, 2, prior=prior), data.x).model.loadings
    cosines = (
        (fitted * data.truth["loadings"]).sum(0) / fitted.norm(dim=0) / data.truth["loadings"].norm(dim=0)
    )
    assert (cosines.abs() > 0.97).all()


def test_a_gaussian_law_in_disguise_reaches_the_gaussian_likelihood():
    """`Independent` Gaussians take the sampled road; its end is the closed form's, to the sampling error."""
    x = linear_factors(400, 6, 2, prior=Gaussian(), seed=2).x
    exact = fit(FactorAnalysis(6, 2), x)
    run = fit(LinearFactorModel(6, 2, prior=Independent([Gaussian(), Gaussian()])), x)
    assert run.model.loadings.isfinite().all()
    disguise = FactorAnalysis(6, 2)
    for name in ("loadings", "noise_variance", "mean"):
        setattr(disguise, name, getattr(run.model, name))
    assert disguise.log_likelihood(x).mean().item() == pytest.approx(exact.history[-1].item(), abs=0.01)


def test_a_known_other_variance_moves_into_the_loadings(planted):
    """Codes of twice the standard deviation have loadings half as long."""
    data, _, run = planted
    scaled = fit(LinearFactorModel(10, 3, prior=Scaled(Laplace(), 2.0)), data.x[:1000]).model
    plain = fit(LinearFactorModel(10, 3, prior=Laplace()), data.x[:1000]).model
    match = match_columns(plain.loadings, 2 * scaled.loadings)
    assert match.distance < 0.05


def test_a_spherical_law_is_fitted_without_a_frame():
    data = linear_factors(500, 6, 2, prior=MultivariateStudentT(5), communality=0.7, seed=2)
    run = fit(LinearFactorModel(6, 2, prior=MultivariateStudentT(5)), data.x)
    assert run.restarts == ()
    assert run.log_likelihood(data.x).mean() > fit(FactorAnalysis(6, 2), data.x).history[-1]


def test_a_law_with_bounded_support():
    data = linear_factors(600, 6, 2, prior=Uniform(), communality=0.8, seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            run = fit(LinearFactorModel(6, 2, prior=Uniform()), data.x)
        except NotExactError:
            return
    assert run.history.isfinite().all()
    assert run.model.loadings.isfinite().all()
    assert run.log_likelihood(data.x).isfinite().all()


def test_more_draws_change_little(planted):
    data, _, run = planted
    more = fit(LinearFactorModel(10, 3, prior=Laplace()), data.x, MaximumLikelihood(draws=64), seed=1).model
    assert match_columns(run.model.loadings, more.loadings).distance < 0.05


def test_many_rows_are_all_used(monkeypatch):
    """The refinement begins with some of them, and ends where that of all does: a hundredth of a standard error."""
    data = linear_factors(1500, 5, 1, communality=0.7, seed=4)
    full = fit(LinearFactorModel(5, 1, prior=Laplace()), data.x, MaximumLikelihood(draws=64)).model
    monkeypatch.setattr(noisy, "ROWS", 600)
    monkeypatch.setattr(noisy, "BLOCK", 400)
    part = fit(LinearFactorModel(5, 1, prior=Laplace()), data.x, MaximumLikelihood(draws=64)).model
    assert match_columns(full.loadings, part.loadings).distance < 0.02


def test_nearly_gaussian_factors_are_turned_all_the_way():
    """Turned by 3 degrees either way, the exact likelihood falls; it is 5 nats lower at 45 degrees."""
    law = StudentT(20.0)
    x = linear_factors(8000, 5, 2, prior=law, seed=4).x
    model = fit(LinearFactorModel(5, 2, prior=law), x).model
    scores = model.sufficient_scores(x)
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    grid = torch.cartesian_prod(*2 * [torch.from_numpy(nodes)])
    share = torch.from_numpy(np.outer(weights, weights).ravel() / weights.sum() ** 2).log()
    z = scores.values.unsqueeze(1) - grid @ torch.linalg.cholesky(scores.covariance).mT

    def likelihood(degrees):
        turned = z @ givens(2, 0, 1, math.radians(degrees))
        return float((law.joint_log_prob(turned) + share).logsumexp(1).sum())

    here = likelihood(0.0)
    assert max(likelihood(3.0), likelihood(-3.0)) < here
    assert here - likelihood(45.0) > 5


def test_a_superfluous_factor_does_no_harm():
    """One factor in the data, two in the model: finite, and not below the one-factor fit."""
    data = linear_factors(800, 6, 1, communality=0.7, seed=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        two = fit(LinearFactorModel(6, 2, prior=Laplace()), data.x)
        one = fit(LinearFactorModel(6, 1, prior=Laplace()), data.x)
    assert all(p.isfinite().all() for p in two.model.state_dict().values())
    assert two.log_likelihood(data.x).mean() > one.log_likelihood(data.x).mean() - 0.02


def test_as_many_factors_as_features_name_an_alternative():
    with pytest.raises(NotExactError, match=r"MAP\(\)"):
        fit(
            LinearFactorModel(4, 4, prior=Laplace()),
            torch.randn(50, 4, dtype=torch.float64),
            MaximumLikelihood(),
        )


def test_normal_factors_of_unequal_variances_have_the_covariance_of_factor_analysis():
    """W diag(1, 4) W' and the noise are those of unit factors, to rounding: a likelihood by draws is not asked."""
    laws = [Gaussian(), Scaled(Gaussian(), 2.0)]
    x = linear_factors(200, 6, 2, prior=Gaussian(), seed=0).x
    run = fit(LinearFactorModel(6, 2, Independent(laws)), x)
    unit = fit(FactorAnalysis(6, 2), x)
    scaled = run.model.loadings.detach() * torch.tensor([1.0, 2.0])
    assert run.converged
    assert torch.allclose(scaled @ scaled.mT, unit.model.loadings @ unit.model.loadings.mT, atol=1e-12)
    assert torch.allclose(run.model.noise_variance, unit.model.noise_variance, atol=1e-12)


@pytest.mark.parametrize(("shape", "start"), [(6.0, 1.5), (6.0, 2.0), (1.0, 4.0)])
def test_a_learnt_exponent_finds_the_axes_from_the_wrong_side_of_the_gaussian(shape, start):
    """Axes within 15 degrees, four standard errors or more; a log shape has one of about .1 at the true axes."""
    data = linear_factors(1000, 6, 2, prior=GeneralizedNormal(shape), communality=0.85, seed=4)
    run = fit(LinearFactorModel(6, 2, prior=GeneralizedNormal(start, learn=True)), data.x)
    assert (match_columns(data.truth["loadings"], run.model.loadings).cosines > 0.966).all()
    assert abs(math.log(float(run.model.prior.shape) / shape)) < 0.5
    assert {report["start_shapes"][0] < 2 for report in run.restarts} == {True, False}


def test_a_noise_variance_may_leave_the_floor_where_the_gaussian_fit_left_it(recwarn):
    """A Heywood case of Gaussian factors is none of Laplace ones here: the climb from the truth ends at the same."""
    data = linear_factors(200, 6, 2, prior=Laplace(), noise=2.0, seed=5)
    with pytest.warns(HeywoodWarning):
        fit(FactorAnalysis(6, 2), data.x)
    recwarn.clear()
    run = fit(LinearFactorModel(6, 2, prior=Laplace()), data.x)
    assert run.converged
    assert not [w for w in recwarn if issubclass(w.category, HeywoodWarning)]
    assert (run.model.noise_variance > 0.1).all()
    from_truth = LinearFactorModel(6, 2, prior=Laplace())
    for name in ("loadings", "noise_variance", "mean"):
        setattr(from_truth, name, data.truth[name])
    assert noisy._refine(from_truth, check_data(data.x), 0, 128)[1]
    one, other = (
        ImportancePosterior(m, count=4000, seed=1).log_likelihood(data.x).sum().item()
        for m in (run.model, from_truth)
    )
    assert one == pytest.approx(other, abs=1.0)  # by draws that err by .1 nats; the climb from the floor lost 4.5


@pytest.mark.filterwarnings("ignore::probae.errors.CollinearWarning")
def test_a_column_that_is_a_copy_is_a_heywood_case():
    """Without noise two columns of ten agree in full: the likelihood grows until their noise is on its floor."""
    x = linear_factors(1000, 10, 3, seed=0).x.clone()
    x[:, 4] = x[:, 5]
    with pytest.warns(HeywoodWarning, match="column 4, column 5"):
        run = fit(LinearFactorModel(10, 3, Laplace()), x)
    assert run.converged
    assert bool(run.model.loadings.isfinite().all())
