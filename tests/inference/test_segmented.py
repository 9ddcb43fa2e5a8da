"""Gaussian factors with known segments: planted axes, no slope at the end, the right likelihood, all labels."""

import numpy as np
import pandas as pd
import pytest
import torch

import probae as pa
from probae import DataError, NotExactError, ParameterError, SegmentedLikelihood, fit
from probae.inference.base import Loop
from probae.inference.joint_diagonalization import SegmentMoments, diagonalize, objective
from probae.inference.segment_labels import Segments
from probae.inference.segment_noise import SegmentLikelihood, SegmentParameters
from probae.models import FactorAnalysis, LinearFactorModel, ProbabilisticPCA
from probae.priors import Laplace


def planted(segments=5, rows=5000, features=3, latents=3, noise=0.0, seed=0, scales=None):
    """Gaussian factors whose standard deviations are log-normal(1) in each segment."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    sd = normal(segments, latents).exp() if scales is None else scales
    labels = torch.arange(rows) % segments
    z = normal(rows, latents) * sd[labels]
    mixing = normal(features, latents)
    return z @ mixing.T + noise * normal(rows, features) + 2.0, labels, z, mixing


def moments(x, labels):
    groups = [x[labels == level] for level in labels.unique()]
    return SegmentMoments(
        torch.tensor([len(g) / len(x) for g in groups], dtype=torch.float64),
        torch.stack([g.mean(0) for g in groups]),
        torch.stack([(g - g.mean(0)).T @ (g - g.mean(0)) / len(g) for g in groups]),
    )


@pytest.mark.parametrize(("segments", "expected"), [(2, 0.9996), (5, 0.9999), (20, 0.9999)])
def test_gaussian_sources_are_found_by_their_segments(segments, expected):
    """Oracle ivae_linear_rescue: the median over seeds; two segments may by chance have profiles nearly alike."""
    scores = []
    for seed in range(7):
        x, labels, z, _ = planted(segments, seed=seed)
        run = fit(LinearFactorModel(3, 3, noise="none"), x, SegmentedLikelihood(labels))
        assert run.converged
        scores.append(pa.mean_correlation(run.posterior(x).mean, z).value)
    assert np.median(scores) > expected - 0.001
    if segments == 5:
        assert min(scores) > 0.99


def test_without_segments_the_axes_are_at_chance():
    """The principal square root is an arbitrary frame: mean correlation near .831, chance for three sources."""
    scores = []
    for seed in range(12):
        x, _, z, _ = planted(5, rows=1000, seed=seed)
        run = fit(LinearFactorModel(3, 3, noise="none"), x)
        scores.append(pa.mean_correlation(run.posterior(x).mean, z).value)
    # one frame has a standard deviation of .08 around chance; the segments' variances raise it a little
    assert abs(np.mean(scores) - 0.831) < 0.08


def test_diagonalization_never_goes_down_and_ends_without_slope():
    x, labels, _, _ = planted(4, rows=600, features=4, latents=4)
    own = moments(x, labels)
    with Loop("segments") as loop:
        found = diagonalize(own, torch.eye(4, dtype=torch.float64), 100, loop)
    assert found.converged
    assert (np.diff(found.history) >= 0).all()
    unmixing, centre = found.unmixing.requires_grad_(), found.centre.requires_grad_()
    second = own.mapped(unmixing).about(centre).diagonal(dim1=1, dim2=2)
    value = torch.linalg.slogdet(unmixing).logabsdet - 0.5 * (own.shares @ second.log()).sum()
    slopes = torch.autograd.grad(value, (unmixing, centre))
    assert (slopes[0] @ unmixing.T).abs().max() < 1e-6
    assert slopes[1].abs().max() < 1e-6
    assert value.item() == pytest.approx(
        objective(second.detach().diag_embed(), own.shares, unmixing.detach())
    )


def test_exactly_diagonalisable_covariances_are_diagonalised():
    """Where the moments are those of a model, the maximum is the model: off-diagonals at rounding."""
    mixing = torch.randn(5, 5, dtype=torch.float64)
    variances = torch.randn(4, 5, dtype=torch.float64).exp()
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    exact = SegmentMoments(
        shares, torch.zeros(4, 5, dtype=torch.float64), mixing @ torch.diag_embed(variances) @ mixing.T
    )
    with Loop("segments") as loop:
        found = diagonalize(exact, torch.linalg.inv(mixing + 0.1 * torch.randn(5, 5)), 100, loop)
    product = (found.unmixing @ mixing).abs()
    assert pa.amari_distance(torch.linalg.inv(found.unmixing), mixing) < 1e-7
    assert (product.sort(0).values[-2] < 1e-7 * product.max(0).values).all()


@pytest.mark.parametrize("diagonal", [True, False])
def test_gradient_of_the_likelihood_with_noise(diagonal):
    x, labels, _, _ = planted(3, rows=90, features=4, latents=2, noise=0.5)
    problem = SegmentLikelihood(moments(x, labels), 2, diagonal)
    start = SegmentParameters(
        torch.randn(4, 2, dtype=torch.float64),
        torch.full((4,), 0.7, dtype=torch.float64),
        x.mean(0),
        torch.rand(3, 2, dtype=torch.float64) + 0.3,
    )
    theta = problem.join(start)
    _, gradient = problem.evaluate(theta)
    for index in range(len(theta)):
        step = torch.zeros_like(theta)
        step[index] = 1e-5
        slope = (problem.evaluate(theta + step)[0] - problem.evaluate(theta - step)[0]) / 2e-5
        assert slope == pytest.approx(float(gradient[index]), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("noise", ["diagonal", "isotropic"])
def test_planted_factors_with_noise(noise):
    x, labels, z, mixing = planted(5, features=8, noise=0.5, seed=2)
    run = fit(LinearFactorModel(8, 3, noise=noise), x, SegmentedLikelihood(labels))
    assert run.converged
    assert (run.history.diff() > -1e-10).all()
    assert pa.amari_distance(mixing, run.model.loadings) < 0.03
    assert torch.allclose(run.model.noise_variance, torch.tensor(0.25, dtype=torch.float64), rtol=0.2)
    assert pa.mean_correlation(run.posterior(x, labels).mean, z).value > 0.95


@pytest.mark.parametrize("noise", ["none", "isotropic"])
def test_likelihood_is_that_of_one_gaussian_for_each_segment(noise):
    features = 3 if noise == "none" else 6
    x, labels, _, _ = planted(3, rows=300, features=features, noise=0.3)
    run = fit(LinearFactorModel(features, 3, noise=noise), x, SegmentedLikelihood(labels))
    found = run.posterior.log_likelihood(x, labels)
    model, variances = run.model, run.posterior.variances
    for level in range(3):
        covariance = model.loadings * variances[level] @ model.loadings.T
        if noise != "none":
            covariance = covariance + model.noise_variance * torch.eye(6).double()
        law = torch.distributions.MultivariateNormal(model.mean, covariance)
        assert torch.allclose(found[labels == level], law.log_prob(x[labels == level]), rtol=1e-9)
    assert found.mean().item() == pytest.approx(run.history[-1].item(), rel=1e-9)
    assert torch.allclose(variances[labels].mean(0), torch.ones(variances.shape[1]).double(), rtol=1e-9)


def test_posterior_is_bayes_rule_with_the_variances_of_the_segment():
    x, labels, _, _ = planted(3, rows=300, features=5, latents=2, noise=0.5)
    run = fit(FactorAnalysis(5, 2), x, SegmentedLikelihood(labels))
    z = torch.randn(300, 2, dtype=torch.float64)
    prior = torch.distributions.Normal(0.0, run.posterior.context(labels).sqrt()).log_prob(z).sum(1)
    joint = prior + run.model.likelihood(z).log_prob(x)
    expected = joint - run.posterior.log_likelihood(x, labels)
    assert torch.allclose(run.posterior(x, labels).log_prob(z), expected, rtol=1e-9)


def test_context_is_what_the_program_takes():
    x, labels, _, _ = planted(3, rows=300, features=5, latents=2, noise=0.5)
    run = fit(FactorAnalysis(5, 2), x, SegmentedLikelihood(labels))
    many = labels.repeat(200)
    torch.manual_seed(0)
    simulated = run.model(None, run.posterior.context(many), size=len(many))
    for level in range(3):
        rows = simulated[many == level]
        covariance = run.model.loadings * run.posterior.variances[level] @ run.model.loadings.T
        covariance = covariance + torch.diag(run.model.noise_variance)
        # a variance of 20,000 normal rows has a relative standard error of .01
        assert torch.allclose(rows.var(0), covariance.diagonal(), rtol=0.05)


@pytest.mark.parametrize("noise", ["none", "diagonal"])
def test_one_segment_is_the_pooled_model(noise):
    """Nothing singles out axes then, and the likelihood is that of the Gaussian model."""
    x, _, _, _ = planted(1, rows=400, features=6, latents=6 if noise == "none" else 2, noise=0.5)
    model = LinearFactorModel(6, 6 if noise == "none" else 2, noise=noise)
    run = fit(model, x, SegmentedLikelihood([0] * 400))
    assert run.history[-1].item() == pytest.approx(fit(model, x).history[-1].item(), abs=1e-7)


def test_units_do_not_matter():
    x, labels, _, _ = planted(4, rows=800)
    units = torch.tensor([1e-3, 1.0, 1e4], dtype=torch.float64)
    model, method = LinearFactorModel(3, 3, noise="none"), SegmentedLikelihood(labels)
    one, two = fit(model, x, method), fit(model, x * units, method)
    match = pa.match_columns(one.model.loadings * units.unsqueeze(1), two.model.loadings)
    assert (match.cosines > 1 - 1e-9).all()
    assert two.history[-1].item() == pytest.approx(
        one.history[-1].item() - float(units.log().sum()), abs=1e-8
    )


LABELS = {
    "list": lambda labels: labels.tolist(),
    "array": lambda labels: labels.numpy(),
    "small integers": lambda labels: labels.to(torch.int8),
    "text": lambda labels: [f"part {i}" for i in labels.tolist()],
    "series": lambda labels: pd.Series(labels.numpy()).map({0: "a", 1: "b", 2: "c"}),
    "category": lambda labels: pd.Series(labels.numpy()).map({0: "a", 1: "b", 2: "c"}).astype("category"),
    "numbers with gaps": lambda labels: labels * 17 - 5,
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_kind_give_one_answer(kind):
    x, labels, _, _ = planted(3, rows=300)
    model = LinearFactorModel(3, 3, noise="none")
    one, two = (fit(model, x, SegmentedLikelihood(u)) for u in (labels, LABELS[kind](labels)))
    assert torch.equal(one.model.loadings, two.model.loadings)
    found = two.posterior.log_likelihood(x, LABELS[kind](labels))
    assert torch.equal(found, one.posterior.log_likelihood(x, labels))


@pytest.mark.parametrize(
    "labels", [[0.5, 1.5], [[0, 1]], [], [None, "a"], 3, [float("nan"), 1.0], [[0], [0, 1]]], ids=repr
)
def test_labels_that_are_none_are_refused(labels):
    with pytest.raises(DataError, match="segments should be"):
        SegmentedLikelihood(labels)


def test_what_does_not_go_together_is_refused():
    x, labels, _, _ = planted(3, rows=60, features=4)
    square, method = LinearFactorModel(4, 4, noise="none"), SegmentedLikelihood(labels)
    with pytest.raises(DataError, match="60 for 59 rows"):
        fit(square, x[:-1], method)
    with pytest.raises(DataError, match="'20' has 2 rows, but without noise"):
        fit(square, x + torch.randn(60, 4), SegmentedLikelihood([*labels.tolist()[:58], 20, 20]))
    with pytest.raises(NotExactError, match="independent Gaussian factors"):
        fit(LinearFactorModel(4, 2, Laplace()), x, method)
    gap = x.clone()
    gap[0, 0] = torch.nan
    with pytest.raises(DataError, match="missing values"):
        fit(ProbabilisticPCA(4, 2), gap, method)
    with pytest.raises(DataError, match="needs the rows"):
        fit(ProbabilisticPCA(4, 2), pa.SufficientStatistics.from_data(x), method)


def test_a_constant_column_in_one_segment_has_no_likelihood_without_noise():
    x, labels, _, _ = planted(3, rows=300)
    x[labels == 1, 0] = 7.0
    with pytest.raises(DataError, match=r"segment '1' is singular"):
        fit(LinearFactorModel(3, 3, noise="none"), x, SegmentedLikelihood(labels))


def test_the_posterior_asks_for_the_segments_it_needs():
    x, labels, _, _ = planted(3, rows=300, features=5, latents=2, noise=0.5)
    run = fit(FactorAnalysis(5, 2), x, SegmentedLikelihood(labels))
    for ask in (run.posterior, run.log_likelihood):
        with pytest.raises(ParameterError, match="pass the labels as well"):
            ask(x)
    with pytest.raises(DataError, match="hold 9, which the fit has not seen"):
        run.posterior(x[:2], [0, 9])
    with pytest.raises(DataError, match="got 1 for 2 rows"):
        run.posterior(x[:2], [0])
    assert run.posterior(x[:2].float(), labels[:2]).mean.dtype == torch.float32


def test_segments_are_compared_by_label_not_by_position():
    known = Segments.of(["b", "a", "c"])
    assert known.positions(["c", "a"], 2).tolist() == [2, 0]
    assert Segments.of([7, 3]).positions([3, 7, 7], 3).tolist() == [0, 1, 1]
    with pytest.raises(DataError, match="hold 7"):
        known.positions([7], 1)
