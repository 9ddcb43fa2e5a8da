"""collapse: divergences from the prior by formula, and which latents are used."""

import pytest
import torch
from torch.distributions import Independent, Laplace, Normal, kl_divergence

import probae as pa


def test_the_divergence_of_each_latent_is_that_of_two_normals(build, encoded):
    model = build(5, 3, prior=pa.priors.Gaussian())
    x = model.sample(20, seed=0)
    encoder = pa.MLPEncoder(5, 3).double()
    encoder.start(x, torch.Generator().manual_seed(0))
    run = encoded(model, encoder)
    q = run.posterior(x)
    expected = kl_divergence(Normal(q.mean, q.variance.sqrt()), Normal(0.0, 1.0)).mean(0)
    found = pa.collapse(run, x)
    assert torch.allclose(found.divergence, expected, atol=1e-12)
    assert torch.allclose(found.activity, q.mean.var(0, correction=0), atol=1e-12)


def test_a_column_of_zeros_collapses(build, encoded):
    """z_1 is not in x: its exact posterior is its prior, whose divergence is 0 to rounding."""
    model = build(5, 3, prior=pa.priors.Gaussian())
    loadings = model.loadings.detach().clone()
    loadings[:, 1] = 0
    model.loadings = loadings
    found = pa.collapse(
        encoded(model, pa.LinearGaussianEncoder(5, 3), model.posterior), model.sample(200, seed=0)
    )
    assert found.collapsed.tolist() == [False, True, False]
    assert found.active.tolist() == [True, False, True]
    assert found.divergence[1].abs() < 1e-12
    assert found.fraction == pytest.approx(1 / 3)
    assert "2 of 3 latents are active, 1 have collapsed" in str(found)


def test_a_dead_unit_that_is_not_the_prior_is_told_apart(build, encoded):
    """The encoder says N(0, .1^2) of every row: it has not collapsed, KL = log 10 + (.01 - 1) / 2, and says nothing."""
    model = build(4, 1, prior=pa.priors.Gaussian())
    law = lambda x: Independent(Normal(torch.zeros(len(x), 1).double(), 0.1), 1)  # noqa: E731
    found = pa.collapse(encoded(model, pa.LinearGaussianEncoder(4, 1), law), model.sample(10, seed=0))
    assert found.divergence.item() == pytest.approx(2.302585093 - 0.495, abs=1e-9)
    assert found.dead.tolist() == [True]
    assert found.collapsed.tolist() == [False]


def test_other_laws_of_independent_codes_are_averaged(build, encoded):
    """q is the prior, Laplace of unit variance: every draw gives a divergence of 0."""
    model = build(4, 2)
    law = lambda x: Independent(Laplace(torch.zeros(len(x), 2).double(), 0.5**0.5), 1)  # noqa: E731
    found = pa.collapse(encoded(model, pa.LinearGaussianEncoder(4, 2), law), model.sample(10, seed=0))
    assert found.divergence.abs().max() < 1e-12


@pytest.mark.parametrize(
    "prior",
    [pa.priors.MultivariateStudentT(5), pa.priors.CorrelatedGaussian([[1.0, 0.5], [0.5, 1.0]])],
    ids=["student", "correlated"],
)
def test_joint_priors_are_taken_by_their_marginals(prior, encoded):
    """Against draws of the prior's k-th coordinate: E log p(z_k) by its own law is what makes KL of a wide q >= 0."""
    model = pa.LinearFactorModel(4, 2, prior=prior)
    law = lambda x: Independent(Normal(torch.zeros(len(x), 2).double(), 1.0), 1)  # noqa: E731
    found = pa.collapse(encoded(model, pa.LinearGaussianEncoder(4, 2), law), torch.randn(5, 4).double())
    if isinstance(prior, pa.priors.CorrelatedGaussian):
        assert found.divergence.abs().max() < 1e-12
    else:  # KL(N(0, 1) || t_5 of unit variance), by the trapezium rule
        z = torch.linspace(-12, 12, 20001, dtype=torch.float64)
        normal = Normal(0.0, 1.0).log_prob(z)
        student = torch.distributions.StudentT(5.0, scale=0.6**0.5).log_prob(z)
        assert found.divergence[0].item() == pytest.approx(
            torch.trapezoid(normal.exp() * (normal - student), z).item(), abs=1e-6
        )


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_what_is_refused(build, encoded):
    model = build(2, 3)
    x = model.sample(30, seed=0)
    with pytest.raises(pa.ParameterError, match="point mass"):
        pa.collapse(pa.fit(pa.SparseCoding(2, 3), x, pa.MAP(steps=2)), x)
    with pytest.raises(pa.ParameterError, match="needs the result of fit"):
        pa.collapse(model, x)
    run = encoded(model, pa.LinearGaussianEncoder(2, 3))
    with pytest.raises(pa.ParameterError, match="threshold"):
        pa.collapse(run, x, threshold=0.0)
    student = pa.LinearFactorModel(3, 2, prior=pa.priors.MultivariateStudentT(5))
    with pytest.raises(pa.NotExactError, match="Gaussian posterior or independent codes"):
        pa.collapse(
            encoded(student, pa.LinearGaussianEncoder(3, 2), student.posterior), student.sample(5, seed=0)
        )
