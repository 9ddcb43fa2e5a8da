"""Derivatives of each row's log-likelihood: automatic differentiation of dense densities says the same."""

import numpy as np
import pytest
import torch

from probae import DataError, MissingRowWarning, NotExactError, ParameterError, fit
from probae.datasets import holzinger_swineford
from probae.inference.scores import observed_scores
from probae.models import FactorAnalysis, LinearFactorModel, ProbabilisticPCA, SparseCoding
from probae.priors import CorrelatedGaussian

CORRELATION = torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
MODELS = {
    "diagonal": lambda: FactorAnalysis(5, 2),
    "isotropic": lambda: ProbabilisticPCA(5, 2),
    "correlated": lambda: LinearFactorModel(5, 2, prior=CorrelatedGaussian(CORRELATION)),
}


def randomized(name):
    model, generator = MODELS[name](), torch.Generator().manual_seed(0)
    model.loadings = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    model.mean = torch.randn(5, generator=generator, dtype=torch.float64)
    shape = model.noise_variance.shape
    model.noise_variance = 0.3 + torch.rand(shape, generator=generator, dtype=torch.float64)
    return model


def differentiated(model, row):
    """Gradient of the dense log-density of the observed entries."""
    start = torch.cat([v.detach().flatten() for v in (model.loadings, model.noise_variance, model.mean)])
    theta = start.requires_grad_()
    W, psi, mu, seen = theta[:10].view(5, 2), theta[10:-5].expand(5), theta[-5:], ~row.isnan()
    sigma = W @ model.factor_correlation @ W.T + psi.diag()
    law = torch.distributions.MultivariateNormal(mu[seen], sigma[seen][:, seen])
    return torch.autograd.grad(law.log_prob(row[seen]), theta)[0]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rows", [8, 200])
def test_scores_are_derivatives(name, rows):
    """Few rows go in one batch; of many rows those with a common pattern go together."""
    model = randomized(name)
    x = model.sample(rows, seed=1)
    x[0, 1] = x[1, :4] = x[2, [0, 3]] = torch.nan
    x[8:150, 3] = torch.nan
    scores = observed_scores(model, x)
    for n in (0, 1, 2, 3, 7, min(40, rows - 1), rows - 1):
        assert torch.allclose(scores[n], differentiated(model, x[n]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("build", [FactorAnalysis, ProbabilisticPCA])
def test_scores_add_up_to_zero_at_the_maximum(build):
    x = holzinger_swineford().x.clone()
    x[::5, 2] = x[1::7, 6] = torch.nan
    run = fit(build(9, 2), x)
    assert observed_scores(run.model, x).mean(0).abs().max() < 1e-5


def test_a_row_without_values_has_no_score():
    x = torch.full((2, 5), torch.nan, dtype=torch.float64)
    x[0] = 1.0
    with pytest.warns(MissingRowWarning):
        scores = observed_scores(randomized("diagonal"), x)
    assert (scores[1] == 0).all()


def test_their_covariance_is_the_information_where_the_model_is_true():
    """E s = 0 and E s_mu s_mu' = S^{-1}: 5 standard errors of 20,000 rows."""
    model = randomized("diagonal")
    scores = observed_scores(model, model.sample(20_000, seed=2))
    information = torch.linalg.inv(
        (model.loadings @ model.loadings.T).detach() + model.uniquenesses.detach().diag()
    )
    found = torch.cov(scores[:, -5:].T)
    squares = torch.outer(information.diagonal(), information.diagonal()) + information.square()
    assert ((found - information).abs() < 5 * (squares / 20_000).sqrt()).all()
    assert (scores.mean(0).abs() < 5 * scores.std(0) / 20_000**0.5).all()


def test_refusals():
    x = np.zeros((2, 5))
    with pytest.raises(NotExactError, match="Gaussian factors"):
        observed_scores(SparseCoding(5, 2), x)
    with pytest.raises(ParameterError, match="noise"):
        observed_scores(LinearFactorModel(5, 5, noise="none"), x)
    with pytest.raises(DataError, match=r"shape \(samples, 5\)"):
        observed_scores(FactorAnalysis(5, 2), x[:, :4])
    with pytest.raises(DataError, match="inf at row 0"):
        observed_scores(FactorAnalysis(5, 2), x + np.inf)
