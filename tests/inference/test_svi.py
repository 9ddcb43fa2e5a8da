"""SVI: the fast step is Pyro's step, the exact family reaches the exact likelihood, failures are loud."""

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

from probae import ELBO, ConvergenceWarning, EarlyStopping, GuideWarning, ParameterError, fit
from probae.checks import check_data
from probae.datasets import holzinger_swineford
from probae.encoders import LinearGaussianEncoder, MLPEncoder
from probae.inference import SVI
from probae.inference.svi import only_z_and_x
from probae.inference.training import settled
from probae.models import FactorAnalysis, LinearFactorModel, ProbabilisticPCA, SparseCoding
from probae.models.base import observe
from probae.priors import Gaussian, Laplace, MultivariateStudentT


@pytest.fixture(scope="module")
def x():
    return torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


ENCODERS = {
    "linear": lambda k: LinearGaussianEncoder(5, k),
    "full": lambda k: MLPEncoder(5, k, hidden=(6,)),
    "low-rank": lambda k: MLPEncoder(5, k, hidden=(6,), covariance="low_rank", rank=1),
    "diagonal": lambda k: MLPEncoder(5, k, hidden=(6,), covariance="diagonal"),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(
    "model",
    [
        FactorAnalysis(5, 2),
        ProbabilisticPCA(5, 2),
        SparseCoding(5, 7),
        LinearFactorModel(5, 2, prior=MultivariateStudentT(5)),
    ],
    ids=repr,
)
def test_the_fast_step_is_trace_elbo_on_the_same_noise(model, encoder, x):
    """Value and every gradient to 1e-12: the same numbers from the random generator, without handlers."""
    encoder = ENCODERS[encoder](model.latents).double()
    encoder.start(x, torch.Generator().manual_seed(1))
    parameters = [*model.parameters(), *encoder.parameters()]
    torch.manual_seed(5)
    fast = -ELBO(analytic=False)(model, encoder, x).mean()
    with pyro.settings.context(module_local_params=True):
        guide = encoder.guide()
        torch.manual_seed(5)
        slow = Trace_ELBO().differentiable_loss(model, guide, x) / len(x)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-12)
    ours = torch.autograd.grad(fast, parameters, allow_unused=True)
    theirs = torch.autograd.grad(slow, parameters, allow_unused=True)
    for one, two in zip(ours, theirs, strict=True):
        if one is None:
            assert two is None
        else:
            assert torch.allclose(one, two, rtol=1e-12, atol=1e-12 * (1 + two.abs().max().item()))


def test_the_bound_is_below_the_likelihood_and_its_gap_is_the_divergence(x):
    """E[log p(x, z) - log q] = log p(x) - KL(q || p(z given x)), here against the closed Gaussian divergence."""
    model = FactorAnalysis(5, 2)
    encoder = LinearGaussianEncoder(5, 2).double()
    encoder.start(x, torch.Generator().manual_seed(1))
    with torch.no_grad():
        draws = ELBO(draws=20_000)(model, encoder, x[:3])
        q, p = encoder(x[:3]), model.posterior(x[:3])
    q = torch.distributions.MultivariateNormal(q.mean, q.covariance_matrix)
    p = torch.distributions.MultivariateNormal(p.mean, p.covariance_matrix)
    gap = model.log_likelihood(x[:3]) - draws
    divergence = torch.distributions.kl_divergence(q, p)
    assert torch.allclose(gap, divergence, atol=5 * 3 / 20_000**0.5)  # the integrand has an sd below 3 here


def test_several_draws_average():
    model, encoder = FactorAnalysis(5, 2), LinearGaussianEncoder(5, 2).double()
    x = torch.randn(4, 5, dtype=torch.float64)
    assert ELBO(draws=3)(model, encoder, x).shape == (4,)


def test_elbo_needs_a_draw(as_installed):
    for draws in (0, -1, 1.5):
        with pytest.raises(ParameterError, match="draws should be a whole number of at least 1"):
            ELBO(draws=draws)


def test_linear_encoder_reaches_the_exact_likelihood():
    """Its family holds the exact posterior, so the bound closes: 1e-3 nats per row."""
    truth = ProbabilisticPCA(5, 2)
    truth.noise_variance = torch.tensor(0.5, dtype=torch.float64)
    x = truth.sample(200, seed=1)
    best = fit(ProbabilisticPCA(5, 2), x).history[-1].item()
    run = fit(ProbabilisticPCA(5, 2), x, SVI(LinearGaussianEncoder(5, 2), epochs=1200, lr=0.03))
    assert run.converged
    assert run.model.log_likelihood(x).mean().item() == pytest.approx(best, abs=1e-3)
    with torch.no_grad():
        bound = ELBO(draws=200)(run.model, run.posterior.encoder, x).mean().item()
    assert bound == pytest.approx(best, abs=1e-3)
    assert torch.allclose(run.posterior(x).mean, run.model.posterior(x).mean, atol=0.1)


def test_minibatches_use_every_row_once_an_epoch(x):
    class Counting(LinearGaussianEncoder):
        seen = []

        def forward(self, rows):
            if self.training:
                Counting.seen.append(rows.detach().clone())
            return super().forward(rows)

    run = fit(FactorAnalysis(5, 2), x, SVI(Counting(5, 2), epochs=2, batch=7))
    assert len(run.history) == 2
    seen = [rows for rows in Counting.seen if len(rows)]
    epochs = torch.cat(seen).split(30)
    assert len(epochs) == 2
    spread = x.std(0, correction=0)  # the unit of each column in which diagonal-noise models are trained
    for epoch in epochs:
        assert torch.allclose((epoch * spread).sort(0).values, x.sort(0).values, rtol=1e-12)
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize(
    "model", [FactorAnalysis(9, 2), LinearFactorModel(9, 2, prior=MultivariateStudentT(5))], ids=repr
)
def test_a_diagonal_guide_of_a_spherical_model_warns(model):
    """Such a guide has axes of its own, where the model has none."""
    with pytest.warns(GuideWarning, match="diagonal"):
        run = fit(
            model,
            holzinger_swineford().x,
            SVI(MLPEncoder(9, 2, hidden=(4,), covariance="diagonal"), epochs=2),
        )
    assert any("diagonal" in text for text in run.warnings)


def test_other_guides_give_no_warning(x):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(FactorAnalysis(5, 2), x, SVI(MLPEncoder(5, 2, hidden=(4,)), epochs=2))
        fit(FactorAnalysis(5, 2), x, SVI(LinearGaussianEncoder(5, 2), epochs=2))
        fit(SparseCoding(5, 2), x, SVI(MLPEncoder(5, 2, hidden=(4,), covariance="diagonal"), epochs=2))
    assert [w for w in caught if w.category is GuideWarning] == []


class WithExtra(LinearFactorModel):
    """A linear model whose program has one more site."""

    def program(self, x, context, *rest):
        z = pyro.sample("z", self.prior.distribution(self.latents))
        pyro.sample(
            "extra", dist.Normal(z.sum(-1), torch.ones((), dtype=torch.float64)), obs=torch.zeros(len(z))
        )
        return observe(self.likelihood(z), x)


def test_programs_with_other_sites_are_recognised(x):
    assert only_z_and_x(FactorAnalysis(5, 2), x)
    assert only_z_and_x(SparseCoding(5, 9), x)
    assert not only_z_and_x(WithExtra(5, 2), x)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_programs_with_other_sites_are_trained_through_pyro(encoder, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuideWarning)
        run = fit(WithExtra(5, 2), x, SVI(ENCODERS[encoder](2), epochs=30))
    assert run.history[-5:].mean() > run.history[:5].mean()
    assert all(p.isfinite().all() for p in run.model.parameters())


class Penalised(FactorAnalysis):
    """A model with a factor that all rows share."""

    def forward(self, x=None, context=None, *, size=None):
        pyro.factor("penalty", -50 * self.loadings.square().sum())
        return super().forward(x, context, size=size)


def exact_encoder(model):
    """The encoder of the posterior itself: log p(x, z) - log q(z | x) is log p(x) for every draw of z."""
    encoder, at_zero = (
        LinearGaussianEncoder(model.features, model.latents).double(),
        model.posterior(model.mean.unsqueeze(0)),
    )
    steps = model.posterior(model.mean + torch.eye(model.features, dtype=torch.float64)).mean
    with torch.no_grad():
        encoder.offset.copy_(model.mean)
        encoder.weight.copy_(steps.mT)
        root = torch.linalg.cholesky(at_zero.covariance_matrix.reshape(2, 2))
        encoder.log_scale.copy_(root.diagonal().log())
        encoder.lower.copy_(root.tril(-1))
    return encoder


@pytest.mark.parametrize("rows", [30, 10, 3, 1])
def test_a_factor_of_all_rows_counts_once_whatever_the_minibatch(rows, x):
    """The mean loss over minibatches is the loss of all rows, -mean log p(x) + 50 |W|^2 / N, in float64."""
    model = Penalised(5, 2)
    model.loadings = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    encoder = exact_encoder(model)
    with pyro.settings.context(module_local_params=True), torch.no_grad():
        loss = SVI(encoder)._loss(model, encoder, check_data(x))
        found = torch.stack([loss(part) for part in x.split(rows)]).mean()
        expected = -model.log_likelihood(x).mean() + 50 * model.loadings.square().sum() / len(x)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_more_rows_may_be_held_out_than_trained_on_beside_a_factor_of_all_rows(x):
    method = SVI(LinearGaussianEncoder(5, 2), epochs=3, batch=2, stopping=EarlyStopping(0.9))
    with pytest.warns(ConvergenceWarning):
        run = fit(Penalised(5, 2), x, method)
    assert len(run.history) == 3


def test_an_objective_that_cannot_be_honoured_is_refused(x):
    """The detour through Pyro computes the plain bound; another objective would be ignored without a word."""
    with pytest.raises(ParameterError, match="objective"):
        fit(WithExtra(5, 2), x, SVI(LinearGaussianEncoder(5, 2), epochs=2, objective=ELBO(draws=7)))


@pytest.mark.parametrize("lr", [1e3, 1e10, 1e300])
def test_a_step_too_long_keeps_usable_parameters(lr, x):
    """The parameters kept are those of the last objective reported, not those that blew it up."""
    with pytest.warns(ConvergenceWarning, match="not finite"):
        run = fit(FactorAnalysis(5, 2), x, SVI(LinearGaussianEncoder(5, 2), epochs=20, lr=lr))
    assert not run.converged
    assert all(p.isfinite().all() for p in run.model.state_dict().values())
    assert all(p.isfinite().all() for p in run.posterior.encoder.state_dict().values())
    assert run.model.log_likelihood(x).isfinite().all()
    torch.manual_seed(0)
    bound = ELBO(draws=100)(run.model, run.posterior.encoder, x).mean()
    assert bound.isfinite()
    if len(run.history):
        assert bound.item() == pytest.approx(run.history[-1].item(), abs=5)


def test_an_unfinished_run_is_reported(x):
    """Two epochs settle nothing: `converged` is False and a warning says so."""
    with pytest.warns(ConvergenceWarning):
        run = fit(FactorAnalysis(5, 2), x, SVI(LinearGaussianEncoder(5, 2), epochs=2))
    assert not run.converged


def test_settled_compares_the_last_two_tenths():
    noise = [math.sin(1.7 * n) for n in range(200)]
    assert settled([-5 + 0.01 * e for e in noise])
    assert not settled([-5 + 0.05 * n for n in range(200)])
    assert not settled([-5.0] * 5)


def test_random_parameters_are_refused(x):
    model = FactorAnalysis(5, 2).with_priors(
        loadings=dist.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    )
    with pytest.raises(ParameterError, match="loadings"):
        fit(model, x, SVI(LinearGaussianEncoder(5, 2), epochs=2))


def test_missing_entries_are_refused(x):
    holes = x.clone()
    holes[0, 0] = torch.nan
    with pytest.raises(ParameterError, match="missing"):
        fit(FactorAnalysis(5, 2), holes, SVI(LinearGaussianEncoder(5, 2), epochs=2))


def test_a_non_gaussian_model_gains_on_the_gaussian_bound():
    """Laplace codes on Laplace data: the trained bound of two axes beats the Gaussian likelihood."""
    truth = SparseCoding(6, 2)
    truth.noise_variance = torch.tensor(0.02, dtype=torch.float64)
    x = truth.sample(1500, seed=0)
    gaussian = fit(ProbabilisticPCA(6, 2), x).history[-1]
    run = fit(SparseCoding(6, 2), x, SVI(MLPEncoder(6, 2, hidden=(16,)), epochs=150, batch=300, lr=0.02))
    assert run.history[-10:].mean() > gaussian
    assert isinstance(run.model.prior, Laplace)
    assert not isinstance(run.model.prior, Gaussian)
