"""Scores by importance sampling are the gradient of the exact likelihood where that is known, and L L' their square."""

import torch

from probae.inference.importance import standard_draws
from probae.inference.score_information import information_root, row_scores
from probae.priors import Gaussian


def test_scores_of_gaussian_factors_are_the_gradient_of_their_likelihood():
    """Twenty batches of draws say how exact their mean is: five standard errors are allowed."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    loadings = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    noise = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    mean = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    parts = [part.clone().requires_grad_() for part in (loadings, noise.log(), mean)]
    covariance = parts[0] @ parts[0].mT + torch.diag(parts[1].exp())
    likelihood = torch.distributions.MultivariateNormal(parts[2], covariance).log_prob(x)
    exact = torch.cat([torch.autograd.grad(one, parts, retain_graph=True)[0].flatten() for one in likelihood])
    rest = [torch.autograd.grad(one, parts[1:], retain_graph=True) for one in likelihood]
    exact = torch.cat([exact, *(torch.cat(one) for one in rest)])

    def batch():
        found = row_scores(Gaussian(), x, loadings, noise, mean, standard_draws(2000, 4, 2, generator))
        return torch.cat([found[0].flatten(), torch.cat([found[1], found[2]], 1).flatten()])

    batches = torch.stack([batch() for _ in range(20)])
    error = batches.std(0) / 20**0.5
    assert ((batches.mean(0) - exact).abs() < 5 * error).all()
    assert error.max() < 0.1


def test_more_parameters_than_half_the_rows_leave_a_diagonal():
    scores = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    root = information_root(scores, torch.ones(5, dtype=torch.float64))
    assert torch.equal(root, torch.diag(root.diagonal()))


def test_a_coordinate_without_scores_keeps_a_finite_step():
    """A thousandth of the standard deviation of its score with z observed."""
    scores = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores[:, 1] = 0.0
    root = information_root(scores, torch.tensor([1.0, 4.0], dtype=torch.float64))
    assert 0 < root[1, 1] <= 2e-3
