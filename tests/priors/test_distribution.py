"""The Pyro distribution of a prior that torch has no distribution of."""

import pytest
import torch
from scipy import stats

from probae.priors import GeneralizedNormal


@pytest.mark.parametrize("shape", [0.5, 1.5, 20.0])
def test_draws_of_the_generalized_normal_are_scipys(shape):
    prior = GeneralizedNormal(shape=shape)
    law = stats.gennorm(shape, scale=float(prior.alpha))
    assert stats.kstest(prior.sample(20_000).numpy(), law.cdf).pvalue > 1e-4


def test_small_draws_of_a_flat_law_do_not_underflow():
    """A gamma law of shape 1/20 in float32 gives 0 once in a hundred; the law itself gives 0 almost never."""
    x = torch.zeros(1)
    draws = GeneralizedNormal(shape=20.0).distribution(1, like=x).sample((50_000,))
    assert int((draws.abs() < 1e-3).sum()) == pytest.approx(50_000 * 1e-3 * 0.57, abs=4 * 28.5**0.5)


def test_draws_are_differentiable_in_the_shape():
    """d/dbeta E |z| by pathwise draws and by the closed E |z| = Gamma(2/b) / sqrt(Gamma(1/b) Gamma(3/b))."""
    prior = GeneralizedNormal(shape=1.5, learn=True)
    prior.distribution(1).rsample((200_000,)).abs().mean().backward()
    excess = torch.tensor(1.5, dtype=torch.float64).log().requires_grad_()
    beta = excess.exp()
    gammas = [torch.lgamma(k / beta) for k in (1.0, 2.0, 3.0)]
    (gammas[1] - 0.5 * (gammas[0] + gammas[2])).exp().backward()
    # the pathwise derivative of |z| has a standard deviation below 0.3, so five standard errors are 0.0034
    assert float(prior.exponent.log_excess.grad) == pytest.approx(float(excess.grad), abs=0.0034)


def test_expansion_keeps_the_law():
    law = GeneralizedNormal(shape=3).distribution(2)
    wide = law.expand([4, 1]).expand([4, 5])
    assert (wide.batch_shape, wide.event_shape) == ((4, 5), (2,))
    assert wide.mean.shape == wide.variance.shape == wide.sample().shape == (4, 5, 2)
    z = torch.randn(2, dtype=torch.float64)
    assert wide.log_prob(z).shape == (4, 5)
    torch.testing.assert_close(wide.log_prob(z)[2, 3], law.log_prob(z))
    assert wide.sample((3,)).shape == (3, 4, 5, 2)
