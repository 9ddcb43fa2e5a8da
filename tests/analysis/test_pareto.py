"""pareto_k: where weights are known."""

import pytest
import torch

import probae as pa


def test_narrow_tails_are_heavy_weights(build, encoded):
    """q has 1/a^2 of the posterior's variance: log w = (1 - 1 / a^2) e^2 / 2 under q, a tail of shape 1 - 1 / a^2.

    For a = 2 that is .75, estimated from about 95 of 1,000 weights with a deviation near .15 a row; over 40 rows the
    mean is within .1 of it (the prior of the estimator draws it to .5 by a tenth).
    """
    model = build(3, 1, prior=pa.priors.Gaussian())
    x = model.sample(40, seed=0)

    def narrow(rows):
        q = model.posterior(rows)
        return torch.distributions.MultivariateNormal(q.mean, q.covariance_matrix / 4)

    found = pa.pareto_k(encoded(model, pa.LinearGaussianEncoder(3, 1), narrow), x)
    assert found.mean().item() == pytest.approx(0.75, abs=0.12)


def test_wide_proposals_have_bounded_weights(build, encoded):
    model = build(3, 2, prior=pa.priors.Gaussian())

    def wide(rows):
        q = model.posterior(rows)
        return torch.distributions.MultivariateNormal(q.mean, q.covariance_matrix * 2)

    run = encoded(model, pa.LinearGaussianEncoder(3, 2), wide)
    assert (pa.pareto_k(run, model.sample(20, seed=0)) < 0.5).all()


def test_the_exact_posterior_has_none(build, encoded):
    """Zero of every row of a linear Gaussian model: all weights are p(x)."""
    model = build(4, 2, prior=pa.priors.Gaussian())
    run = encoded(model, pa.LinearGaussianEncoder(4, 2), model.posterior)
    assert (pa.pareto_k(run, model.sample(20, seed=0)) == 0).all()


def test_what_is_refused(build, encoded):
    model = build(4, 2)
    with pytest.raises(pa.ParameterError, match="needs the result of fit"):
        pa.pareto_k(model, model.sample(3, seed=0))
    with pytest.raises(pa.ParameterError, match="draws"):
        pa.pareto_k(encoded(model, pa.LinearGaussianEncoder(4, 2)), model.sample(3, seed=0), draws=10)
