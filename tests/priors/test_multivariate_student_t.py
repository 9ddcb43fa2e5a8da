"""The multivariate t law: heavy tails, and no axes."""

import numpy as np
import pytest
import torch
from scipy import stats

from probae.checks import NotExactError
from probae.priors import MultivariateStudentT, StudentT


def rotation(k):
    return torch.linalg.qr(torch.randn(k, k, dtype=torch.float64)).Q


def test_log_prob_is_scipys():
    z = torch.randn(6, 3, dtype=torch.float64)
    expected = stats.multivariate_t(np.zeros(3), np.eye(3) * 5 / 7, df=7).logpdf(z.numpy())
    assert MultivariateStudentT(df=7).log_prob(z).tolist() == pytest.approx(list(expected), rel=1e-12)


def test_rotations_change_nothing():
    prior = MultivariateStudentT(df=3)
    z = 3 * torch.randn(200, 4, dtype=torch.float64)
    turned = z @ rotation(4)
    torch.testing.assert_close(prior.log_prob(turned), prior.log_prob(z), rtol=0, atol=1e-12)
    torch.testing.assert_close(prior.joint_log_prob(turned), prior.log_prob(z), rtol=0, atol=1e-12)
    independent = StudentT(df=3).joint_log_prob
    assert float((independent(turned) - independent(z)).abs().max()) > 0.1


def test_marginals_are_student_t_of_variance_one():
    """The second coordinate integrated out of two, by the trapezoid rule in z = sinh(u)."""
    u = torch.linspace(-12, 12, 2401, dtype=torch.float64)
    first = torch.tensor([0.0, 0.5, -3.0], dtype=torch.float64)
    z = torch.stack(torch.broadcast_tensors(first[:, None], u.sinh()), -1)
    marginal = MultivariateStudentT(df=5).log_prob(z).exp() @ (0.01 * u.cosh())
    torch.testing.assert_close(marginal, StudentT(df=5).log_prob(first).exp(), rtol=1e-10, atol=1e-10)
    assert MultivariateStudentT(df=5).distribution(4).variance.tolist() == pytest.approx([1.0] * 4)


def test_score_is_the_gradient():
    prior = MultivariateStudentT(df=4, learn=True)
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(prior.log_prob(z).sum(), z)
    torch.testing.assert_close(prior.score(z), -slope)


def test_flags():
    prior = MultivariateStudentT(df=5)
    assert (prior.event_dim, prior.spherical, prior.has_scale_mixture) == (1, True, True)
    assert prior.coordinates(3) is None
    with pytest.raises(NotExactError, match="has no prox"):
        prior.prox(torch.zeros(2, 3), 1.0)


def test_distribution_is_the_law():
    prior = MultivariateStudentT(df=5)
    z = prior.sample(4, 3)
    torch.testing.assert_close(prior.distribution(3).log_prob(z), prior.log_prob(z))
    assert prior.sample(4).shape == (4,)
    assert prior.distribution(2, like=torch.zeros(1)).sample().dtype == torch.float32
    assert prior.log_prob(z.float()).dtype == torch.float32


def test_draws_have_the_radius_of_the_law():
    """|z|^2 / K nu / (nu - 2) follows Fisher's F with K and nu degrees of freedom."""
    radius = MultivariateStudentT(df=5).sample(20_000, 3).square().sum(-1) / 3 * 5 / 3
    assert stats.kstest(radius.numpy(), stats.f(3, 5).cdf).pvalue > 1e-4


def test_one_scale_is_shared_and_makes_the_law():
    prior = MultivariateStudentT(df=5)
    z = prior.sample(20_000, 3)
    tau = prior.sample_scales(z)
    assert tau.shape == z.shape
    assert torch.equal(tau[:, 0], tau[:, 2])
    standard = (z / tau.sqrt()).square().sum(-1)  # chi-square with 3 degrees of freedom, free of tau
    assert stats.kstest(standard.numpy(), stats.chi2(3).cdf).pvalue > 1e-4
    assert stats.spearmanr(standard.numpy(), tau[:, 0].numpy()).pvalue > 1e-4
    assert stats.kstest(tau[:, 0].numpy(), stats.invgamma(2.5, scale=1.5).cdf).pvalue > 1e-4
