"""Annealed importance sampling and the sandwich: exact where the answer is known, closed where it is not."""

import pytest
import torch

import probae as pa
from probae.analysis.path import Path
from probae.analysis.sandwich import simulate
from probae.inference.reference import gaussian_reference
from probae.priors import GeneralizedNormal, Laplace, MultivariateStudentT, SpikeSlab, StudentT, Uniform

SHORT = pa.AnnealedImportance(steps=40, chains=16, leapfrogs=2)


def test_orthonormal_dictionary_within_three_standard_errors(orthonormal):
    model = orthonormal(8)
    x = model.sample(30, seed=1)
    exact = pa.log_evidence(model, x)
    result = pa.log_evidence(model, x, pa.AnnealedImportance(steps=60))
    assert result.bound == "lower"
    # the bias is half the squared error of each row
    bias = float(result.standard_error.square().sum()) / 2
    assert abs(result.total - exact.total + bias) < 3 * result.total_standard_error
    assert result.standard_error.mean() < 0.1


def test_gaussian_latents_have_nothing_to_anneal(build):
    model = build(3, 5, pa.priors.Gaussian())
    x = model.sample(4, seed=0)
    result = pa.log_evidence(model, x, SHORT)
    assert torch.allclose(result.value, model.log_likelihood(x), atol=1e-10)
    assert result.standard_error.max() < 1e-10


@pytest.mark.parametrize(
    "prior",
    [Laplace(), StudentT(3), GeneralizedNormal(0.7), GeneralizedNormal(4.0), Uniform()],
    ids=repr,
)
@pytest.mark.parametrize("features", [1, 3])
def test_more_or_fewer_latents_against_quadrature(build, prior, features):
    model = build(features, 2, prior)
    x = model.sample(20, seed=2)
    exact = pa.log_evidence(model, x, pa.Quadrature(points=6))
    result = pa.log_evidence(model, x, pa.AnnealedImportance(steps=40, chains=64))
    error = result.value - exact.value
    fine = ~result.doubtful
    assert fine.sum() > 15
    total = float(result.standard_error[fine].square().sum().sqrt())
    # 64 skewed weights a row: rows are summed, and the bias is half of the squared errors
    assert abs(float(error[fine].sum()) + 0.5 * total**2) < 4 * total
    assert error[fine].abs().max() < 0.3


def test_joint_laws_are_annealed_too(build):
    """A multivariate t of 8 degrees of freedom, one latent: a t with one coordinate, which quadrature knows."""
    model, same = build(3, 1, MultivariateStudentT(8)), build(3, 1, StudentT(8))
    x = model.sample(10, seed=0)
    result = pa.log_evidence(model, x, SHORT)
    exact = pa.log_evidence(same, x, pa.Exact())
    assert abs(result.total - exact.total) < 4 * result.total_standard_error + 1e-3


def test_forward_and_reverse_weights_are_unbiased(build):
    """E w = p(x) / reference forward, and its inverse in reverse, with temperatures too few to be good."""
    model = build(2, 2)
    x, z = simulate(model, 1, seed=4)
    reference = gaussian_reference(model, x)
    generator = torch.Generator().manual_seed(0)
    path = Path.pilot(reference, 3, 1, generator)
    exact = float(pa.log_evidence(model, x, pa.Quadrature()).value - reference.log_evidence)
    forward = (path.forward(reference, 20_000, generator) - exact).exp()
    assert float(forward.mean()) == pytest.approx(1, abs=4 * float(forward.std()) / 20_000**0.5)
    draws = pa.HMCPosterior(model, draws=200, warmup=100, chains=100)(x).draws[:, 19::20].flatten(0, 1)
    weights = path.reverse(reference, draws.transpose(0, 1), generator)
    reverse = (weights + exact).exp()
    assert float(reverse.mean()) == pytest.approx(1, abs=4 * float(reverse.std()) / reverse.numel() ** 0.5)
    assert 0.02 < float(forward.std()) < 2  # the weights do vary


def test_temperatures_are_frozen_and_end_at_one(build):
    model = build(3, 6)
    reference = gaussian_reference(model, model.sample(5, seed=0))
    path = Path.pilot(reference, 30, 2, torch.Generator().manual_seed(0))
    assert path.betas[0] == 0
    assert path.betas[-1] == 1
    assert (path.betas.diff() > 0).all()
    assert path.steps.shape == (30, 5)
    assert ((path.steps > 0) & (path.steps <= 1.5)).all()


def test_sandwich_closes_on_an_overcomplete_dictionary(overcomplete):
    """16 features, 32 Laplace codes, 10 dB: the mean gap over simulated rows is below 0.1 nats, and no bound fails."""
    result = pa.evidence_sandwich(overcomplete(), size=40, estimator=pa.AnnealedImportance(steps=60))
    assert result.upper.bound == "upper"
    assert abs(result.mean_gap) < 0.1
    assert result.mean_gap > -3 * result.mean_gap_standard_error
    assert result.mean_gap_standard_error < 0.05


def test_few_temperatures_leave_a_gap_and_more_close_it(overcomplete):
    model = overcomplete()
    gaps = [
        pa.evidence_sandwich(model, size=40, estimator=pa.AnnealedImportance(steps, chains=2))
        for steps in (4, 40)
    ]
    assert gaps[0].mean_gap - gaps[1].mean_gap > 3 * gaps[0].mean_gap_standard_error
    assert gaps[0].mean_gap > 0.3


def test_sandwich_holds_the_exact_evidence(orthonormal):
    model = orthonormal(4)
    result = pa.evidence_sandwich(model, size=60, estimator=SHORT)
    exact = model.log_likelihood(result.x)
    for side, difference in ((1, exact - result.lower.value), (-1, exact - result.upper.value)):
        error = float(difference.std()) / 60**0.5
        assert side * float(difference.mean()) > -3 * error
        assert abs(float(difference.mean())) < 0.05


def test_rows_of_the_caller_are_labelled_approximate(overcomplete):
    model = overcomplete(6, 12)
    x = model.sample(10, seed=5)
    result = pa.evidence_sandwich(model, x, estimator=SHORT)
    assert result.upper.bound == "approximately upper"
    assert torch.equal(result.x, x)
    assert abs(result.mean_gap) < 0.2
    assert "approximate" in str(result)


def test_spike_and_slab_says_that_it_is_doubtful(build):
    """Modes that chains do not cross between: weights spread, and the standard error shows it."""
    model = build(1, 2, SpikeSlab(probability=0.05, spike=0.02), noise_variance=0.05)
    x = model.sample(20, seed=0)
    result = pa.log_evidence(model, x, pa.AnnealedImportance(steps=10, chains=16))
    assert result.doubtful.any()


def test_a_simulation_is_one_of_the_model(build):
    model = build(3, 2)
    x, z = simulate(model, 20_000, seed=0)
    residual = x - model.mean - z @ model.loadings.T
    # variances of 20,000 numbers: relative standard error below 1 % for noise, 2 % for Laplace codes
    assert torch.allclose(residual.var(0), model.noise_variance.expand(3), rtol=0.05)
    assert torch.allclose(z.var(0), torch.ones(2, dtype=torch.float64), rtol=0.08)


def test_what_a_sandwich_cannot_do_is_said(build):
    with pytest.raises(pa.ParameterError, match="AnnealedImportance"):
        pa.evidence_sandwich(build(2, 3), estimator=pa.Exact())
    with pytest.raises(pa.ParameterError, match="noise"):
        pa.evidence_sandwich(pa.IndependentComponents(2, 2))
    with pytest.raises(pa.ParameterError, match="size"):
        pa.evidence_sandwich(build(2, 3), size=0)


def test_hard_dictionaries_and_rows_give_numbers(build):
    """Equal atoms, an atom of zeros, a row of zeros, a row far out, almost no noise: bounds that meet, no warning."""
    model = build(3, 5, noise_variance=1e-8)
    loadings = model.loadings.detach().clone()
    loadings[:, 1], loadings[:, 2] = loadings[:, 0], 0.0
    model.loadings, model.mean = loadings, torch.zeros(3, dtype=torch.float64)
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [1e3, -1e3, 3.0]], dtype=torch.float64)
    annealed = pa.log_evidence(model, x, SHORT)
    weighted = pa.log_evidence(model, x, pa.ImportanceWeighted(4000))
    assert annealed.value.isfinite().all()
    error = (annealed.standard_error**2 + weighted.standard_error**2).sqrt()
    assert ((annealed.value - weighted.value).abs() < 5 * error + 0.1).all()
    model.noise_variance = torch.tensor(1e8, dtype=torch.float64)
    assert pa.log_evidence(model, 1e6 * x, pa.ImportanceWeighted(200)).value.isfinite().all()
