"""Noise-free independent components: planted axes, no slope at the maximum, units, unequal laws."""

import numpy as np
import pytest
import torch

from probae import DataError, NotExactError, amari_distance, fit
from probae.models import IndependentComponents
from probae.priors import (
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
    assert relative.abs().max() < 1e-4


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


def test_one_source():
    x = 3 * torch.randn(200, 1, dtype=torch.float64) + 1
    run = fit(IndependentComponents(1, 1, prior=Logistic()), x)
    s = run.posterior(x).mean
    assert (Logistic().score(s) * s).mean().item() == pytest.approx(1.0, abs=1e-4)


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
