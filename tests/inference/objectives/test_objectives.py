"""Objectives: each value is its formula, each gradient the one promised, each bound on its side of log p(x)."""

import math
import warnings
from itertools import pairwise

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO

from probae import IWAE, GuideWarning, ParameterError, Renyi, ReweightedWakeSleep, fit
from probae.encoders import BinaryCodeEncoder, LinearGaussianEncoder, MLPEncoder
from probae.inference import SVI
from probae.inference.objectives import JointDensity, Reconstruction, SquaredError
from probae.inference.objectives.importance_weighted import power_mean
from probae.models import FactorAnalysis, LinearFactorModel, ProbabilisticPCA, SparseCoding
from probae.priors import Laplace, Uniform


def started(encoder, x):
    encoder = encoder.double()
    encoder.start(x, torch.Generator().manual_seed(1))
    return encoder


@pytest.fixture(scope="module")
def rows():
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def pair(rows):
    """A linear-Gaussian model and an encoder that is not its posterior: a gap of about a nat."""
    return FactorAnalysis(5, 2), started(MLPEncoder(5, 2, hidden=(4,), covariance="diagonal"), rows)


def log_weights(model, encoder, x, draws, seed):
    """The same draws as an objective makes them, and their weights by the laws themselves."""
    torch.manual_seed(seed)
    law = encoder(x)
    z = law.rsample((draws,))
    return model.log_joint(x, z) - law.log_prob(z)


def gradients(value, parameters):
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, parameters, strict=True)]
    )


def test_iwae_is_the_log_of_the_mean_weight_of_each_row(pair, rows):
    weights = log_weights(*pair, rows, 7, seed=3)
    torch.manual_seed(3)
    torch.testing.assert_close(IWAE(7)(*pair, rows), weights.exp().mean(0).log(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("alpha", [-1.0, 0.3, 0.9, 2.0])
def test_renyi_is_its_formula(pair, rows, alpha):
    weights = log_weights(*pair, rows, 7, seed=3)
    torch.manual_seed(3)
    expected = ((1 - alpha) * weights).exp().mean(0).log() / (1 - alpha)
    torch.testing.assert_close(Renyi(alpha, 7)(*pair, rows), expected, rtol=1e-10, atol=0)


def test_renyi_joins_iwae_and_elbo(pair, rows):
    """alpha = 0 is IWAE and alpha = 1 the ELBO, on the same draws; close to 1 nothing cancels."""
    weights = log_weights(*pair, rows, 7, seed=3)
    values = {}
    for alpha in (0.0, 1.0, 1 - 1e-9):
        torch.manual_seed(3)
        values[alpha] = Renyi(alpha, 7)(*pair, rows)
    torch.testing.assert_close(values[0.0], power_mean(weights, 0.0))
    torch.testing.assert_close(values[1.0], weights.mean(0))
    # the distance is (1 - alpha) var / 2, below 1e-8 here, and rounding 1e-16 / (1 - alpha) = 1e-7 of a sum near 1
    torch.testing.assert_close(values[1 - 1e-9], values[1.0], atol=1e-6, rtol=0)


def test_the_bound_falls_as_alpha_rises(pair, rows):
    """A power mean grows with its power 1 - alpha: so on any draws, without error bars."""
    weights = log_weights(*pair, rows, 7, seed=3)
    values = torch.stack([power_mean(weights, alpha) for alpha in (-2.0, 0.0, 0.5, 1.0, 3.0)])
    assert (values.diff(dim=0) < 0).all()


@pytest.mark.parametrize("objective", [IWAE(5), Renyi(0.5, 5), ReweightedWakeSleep(5)], ids=repr)
def test_the_value_is_the_same_without_gradients(objective, pair, rows):
    torch.manual_seed(2)
    value = objective(*pair, rows)
    with torch.no_grad():
        torch.manual_seed(2)
        torch.testing.assert_close(objective(*pair, rows), value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_doubly_reparametrised_gradients_agree_with_plain_ones_on_average(pair, rows, alpha):
    """Unbiased: 4 standard errors of 300 gradients each, every parameter; and with less variance in the encoder."""
    model, encoder = pair
    parameters = [*model.parameters(), *encoder.parameters()]
    plain, double = [], []
    for seed in range(300):
        plain.append(
            gradients(power_mean_with_gradient(log_weights(model, encoder, rows, 8, seed), alpha), parameters)
        )
        torch.manual_seed(10_000 + seed)
        double.append(gradients(Renyi(alpha, 8)(model, encoder, rows).sum(), parameters))
    plain, double = torch.stack(plain), torch.stack(double)
    error = ((plain.var(0) + double.var(0)) / 300).sqrt()
    # about 100 parameters: the largest of as many normal errors is beyond 4.5 in one run of 1,500
    assert ((plain.mean(0) - double.mean(0)).abs() <= 4.5 * error + 1e-12).all()
    count = sum(p.numel() for p in model.parameters())
    if alpha < 1:
        assert double[:, count:].var(0).sum() < 0.8 * plain[:, count:].var(0).sum()


def power_mean_with_gradient(weights, alpha):
    if alpha == 1:
        return weights.mean(0).sum()
    return ((((1 - alpha) * weights).logsumexp(0) - math.log(len(weights))) / (1 - alpha)).sum()


def test_the_models_gradient_is_the_plain_one_on_the_same_draws(pair, rows):
    model, encoder = pair
    parameters = list(model.parameters())
    plain = gradients(power_mean_with_gradient(log_weights(model, encoder, rows, 8, seed=4), 0.0), parameters)
    torch.manual_seed(4)
    torch.testing.assert_close(
        gradients(IWAE(8)(model, encoder, rows).sum(), parameters), plain, rtol=1e-10, atol=1e-12
    )


def test_at_the_exact_posterior_the_encoders_gradient_is_zero(rows):
    """Every weight is p(x), so no draw asks for a change: plain IWAE gradients are zero on average alone."""
    model = FactorAnalysis(5, 2)
    encoder = LinearGaussianEncoder(5, 2).double()
    law = model.posterior(rows)
    precision = torch.eye(2, dtype=torch.float64) + model.loadings.mT @ model.loadings  # noise variance is 1
    with torch.no_grad():
        encoder.weight.copy_(torch.linalg.solve(precision, model.loadings.mT))
        encoder.lower.copy_(law.scale_tril[0].tril(-1))
        encoder.log_scale.copy_(law.scale_tril[0].diagonal().log())
    value = IWAE(4)(model, encoder, rows)
    torch.testing.assert_close(value, model.log_likelihood(rows), rtol=1e-10, atol=0)
    assert gradients(value.sum(), list(encoder.parameters())).abs().max() < 1e-10


def test_wake_sleep_gradients_are_the_self_normalised_ones(pair, rows):
    model, encoder = pair
    torch.manual_seed(6)
    law = encoder(rows)
    z = law.sample((9,))
    log_joint, log_q = model.log_joint(rows, z), law.log_prob(z)
    ratio = (log_joint - log_q).detach().exp()
    weights = ratio / ratio.sum(0)
    theta, phi = list(model.parameters()), list(encoder.parameters())
    torch.manual_seed(6)
    value = ReweightedWakeSleep(9)(model, encoder, rows)
    torch.testing.assert_close(value, ratio.mean(0).log(), rtol=1e-12, atol=0)
    for parameters, term in ((theta, log_joint), (phi, log_q)):
        expected = gradients((weights * term).sum(), parameters)
        torch.testing.assert_close(gradients(value.sum(), parameters), expected, rtol=1e-10, atol=1e-12)


def test_the_sleep_phase_fits_rows_of_the_model(pair, rows):
    """All sleep: the gradient is that of log q(z | x) on simulated pairs, none of it from the data."""
    model, encoder = pair
    phi = list(encoder.parameters())
    found = []
    for x in (rows, 100 + rows):
        torch.manual_seed(6)
        found.append(gradients(ReweightedWakeSleep(3, sleep=1.0)(model, encoder, x).sum(), phi))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)
    assert found[0].abs().max() > 0


class Replayed:
    """An encoder of a law whose standard normal numbers are given: bounds on common draws."""

    def __init__(self, law, noise):
        self.law, self.noise = law, noise

    def __call__(self, x):
        return self

    def rsample_and_log_prob(self, shape):
        assert shape == self.noise.shape[:1]
        z = self.law.mean + self.law.stddev * self.noise
        return z, self.law.log_prob(z)


@pytest.fixture(scope="module")
def iwae_gaps():
    """IWAE less log p(x) at 1, 10, 100 and 1000 draws: {K: (repeats, rows, blocks)}, of the same 20,000 draws a row.

    A linear-Gaussian model, whose log p(x) is exact, and a trained encoder of another family than its posterior.
    """
    x = FactorAnalysis(5, 2).sample(100, seed=1)
    encoder = started(MLPEncoder(5, 2, hidden=(4,), covariance="diagonal"), x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuideWarning)  # of the diagonal covariance, wanted here
        run = fit(FactorAnalysis(5, 2), x, SVI(encoder, epochs=40, lr=0.05))
    exact = run.model.log_likelihood(x)
    generator = torch.Generator().manual_seed(0)
    found = {draws: [] for draws in (1, 10, 100, 1000)}
    with torch.no_grad():
        for _ in range(20):
            noise = torch.randn(1000, 100, 2, generator=generator, dtype=torch.float64)
            for draws, repeats in found.items():
                blocks = 1000 // draws  # each a row of its own for the objective
                rows = x.repeat(blocks, 1)
                numbers = noise.view(blocks, draws, 100, 2).transpose(0, 1).reshape(draws, -1, 2)
                bound = IWAE(draws)(run.model, Replayed(run.posterior(rows), numbers), rows)
                repeats.append((bound.view(blocks, 100) - exact).mT)
    return {draws: torch.stack(repeats) for draws, repeats in found.items()}


def mean_and_error(rows):
    """Mean of the repeats of a mean over rows, and its standard error: repeats are independent."""
    repeats = rows.flatten(1).mean(1)
    return repeats.mean().item(), repeats.std().item() / len(repeats) ** 0.5


def test_iwae_is_monotone_in_its_draws_never_above_log_p_and_within_a_hundredth_of_a_nat_at_1000(iwae_gaps):
    """Oracle `iwae_exact`: each step up, and each distance to log p(x), is more than 3 standard errors from 0.

    Steps are differences on common draws. With u = exp(L_K) / p(x), whose mean is 1, log u + 1 - u has the mean of
    L_K - log p(x), is below 0 at every draw, and varies as (u - 1)^2 where log u varies as u - 1.
    """
    figures = {}
    for draws, gap in iwae_gaps.items():
        weight, weight_error = mean_and_error(gap.exp())
        assert abs(weight - 1) < 4 * weight_error  # or log u + 1 - u would say nothing of the bound
        figures[draws] = mean_and_error(gap + 1 - gap.exp())
    print("draws", "bound - log p(x)", "standard error")
    for draws, (mean, error) in figures.items():
        print(f"{draws:5d} {mean:+.6f} {error:.6f}")
        assert mean + 3 * error < 0
    for few, many in pairwise(iwae_gaps):
        step, error = mean_and_error(iwae_gaps[many].mean(-1) - iwae_gaps[few].mean(-1))
        print(f"L_{many} - L_{few}: {step:+.6f} {error:.6f}")
        assert step > 3 * error
    assert figures[1][0] < -0.01  # the encoder is not exact, or nothing would be tested
    mean, error = figures[1000]
    assert abs(mean) + 3 * error < 0.01


def test_on_common_draws_every_rows_bound_rises(iwae_gaps):
    """The log of a mean is above the mean of logs (Jensen): for each row and repeat, not only on average."""
    means = torch.stack([gap.mean(-1) for gap in iwae_gaps.values()])
    assert (means.diff(dim=0) > 0).all()


class PriorOnLoadings(FactorAnalysis):
    """A factor model whose program has a global site: a prior on W, at its fitted value in the guide."""

    def forward(self, x):
        loadings = pyro.sample("W", dist.Normal(torch.zeros_like(self.loadings), 1.0).to_event(2))
        with pyro.plate("samples", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).to(x), 1.0).expand([2]).to_event(1))
            where = self.mean + (z.unsqueeze(-2) @ loadings.mT).squeeze(-2)
            return pyro.sample("x", dist.Normal(where, self.noise_variance.sqrt()).to_event(1), obs=x)


def test_a_prior_on_the_loadings_turns_pyros_renyi_bound_into_one_of_the_whole_batch():
    """The trap: with a global site RenyiELBO averages the product of all rows' weights. IWAE stays with each row.

    Without it the two are the same number on the same draws.
    """
    x = 2 * FactorAnalysis(5, 2).sample(40, seed=2)
    model = PriorOnLoadings(5, 2)
    encoder = started(LinearGaussianEncoder(5, 2), x)

    def guide(rows):
        pyro.sample("W", dist.Delta(model.loadings.detach(), event_dim=2))
        with pyro.plate("samples", len(rows)):
            pyro.sample("z", encoder(rows))

    bound = RenyiELBO(alpha=0, num_particles=50, vectorize_particles=True, max_plate_nesting=1)
    with torch.no_grad(), pyro.settings.context(module_local_params=True):
        torch.manual_seed(0)
        prior = dist.Normal(0.0, 1.0).log_prob(model.loadings).sum()
        batch = torch.stack([torch.tensor(-bound.loss(model, guide, x)) - prior for _ in range(30)])
        local = torch.stack([IWAE(50)(model, encoder, x).sum() for _ in range(30)])
        torch.manual_seed(1)
        weights = log_weights(model, encoder, x, 50, seed=1)
        plain = FactorAnalysis(5, 2)
        torch.manual_seed(1)
        theirs = -bound.loss(plain, encoder.guide(), x)
    exact = model.log_likelihood(x).sum()
    error = (batch.var() / 30 + local.var() / 30).sqrt()
    assert local.mean() - batch.mean() > 10 * error  # rows lend their weights to each other: nats are lost
    assert (exact - local.mean()) < 0.2 * (exact - batch.mean())
    assert theirs == pytest.approx(power_mean(weights, 0.0).sum().item(), rel=1e-9)


@pytest.mark.parametrize("objective", [IWAE(5), Renyi(0.5, 5), ReweightedWakeSleep(5, sleep=0.2)], ids=repr)
def test_training_reaches_the_exact_likelihood(objective):
    """The family holds the posterior, so each has its optimum at maximum likelihood; Adam ends within .02 nats."""
    x = FactorAnalysis(5, 2).sample(200, seed=1)
    best = fit(ProbabilisticPCA(5, 2), x).log_likelihood(x).mean()
    method = SVI(LinearGaussianEncoder(5, 2), epochs=200, lr=0.05, objective=objective)
    run = fit(ProbabilisticPCA(5, 2), x, method)
    assert best - 0.02 < run.log_likelihood(x).mean() < best + 1e-6
    assert run.method.objective_name == objective.name


@pytest.mark.parametrize("objective", [IWAE(20), Renyi(0.5, 20), ReweightedWakeSleep(20)], ids=repr)
def test_draws_outside_the_support_of_the_prior_weigh_nothing(objective, rows):
    """A uniform prior: some draws of a Gaussian have weight 0. The others make value and gradients, all finite."""
    model = LinearFactorModel(5, 2, prior=Uniform())
    encoder = started(MLPEncoder(5, 2, hidden=(4,)), rows)
    torch.manual_seed(0)
    z, log_q = encoder(rows).rsample_and_log_prob((20,))
    weights = model.log_joint(rows, z) - log_q
    inside = weights.isfinite()
    assert not inside.all()
    assert inside.any(0).all()
    power = 1 - getattr(objective, "alpha", 0.0)
    expected = (power * weights.nan_to_num(neginf=-1e9)).exp().mean(0).log() / power
    torch.manual_seed(0)
    value = objective(model, encoder, rows)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=0)
    assert gradients(value.sum(), [*model.parameters(), *encoder.parameters()]).isfinite().all()


def test_no_weight_at_all_is_minus_infinity():
    for alpha in (0.0, 0.5, 2.0):
        assert power_mean(torch.full((3, 1), -math.inf), alpha).item() == -math.inf


@pytest.mark.parametrize("power", [1e-3, 1e-6, 1e-12])
def test_near_the_elbo_float32_is_as_exact_as_its_numbers(power):
    """Mean + power var / 2 + O(power^2): below 1e-5 of it here; weights near 50 are rounded to 4e-6."""
    weights = 3 * torch.randn(10, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 50
    expected = weights.mean(0) + power * weights.var(0, correction=0) / 2
    found = power_mean(weights.float(), 1 - power).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-5 + 200 * power**2)


@pytest.mark.parametrize("objective", [IWAE(1), ReweightedWakeSleep(1)], ids=repr)
def test_one_draw_of_saturated_bits_has_the_density_it_was_drawn_with(objective, rows):
    """float32 has no numbers between 1 - 6e-8 and 1: from z alone log q is off by nats where logits are 14."""
    encoder, model = BinaryCodeEncoder(5, 8, hidden=()), FactorAnalysis(5, 8).float()
    with torch.no_grad():
        encoder.head.weight.zero_()
        encoder.head.bias.fill_(14.0)
    torch.manual_seed(0)
    z, log_q = encoder(rows.float()).rsample_and_log_prob((1,))
    torch.manual_seed(0)
    value = objective(model, encoder, rows.float())
    torch.testing.assert_close(value, (model.log_joint(rows.float(), z) - log_q)[0], rtol=1e-6, atol=0)


class TestPointObjectives:
    """At one code per row each is the classical loss."""

    def test_the_sparse_penalty_is_the_prior(self, rows):
        """log p(x, z) = -|x - Wz|^2 / (2 s2) - sqrt 2 |z|_1 and constants: oracle inventory rows 10 and 24."""
        model = SparseCoding(5, 7)
        encoder = started(LinearGaussianEncoder(5, 7), rows)
        z = encoder(rows).mean
        energy = 0.5 * (rows - z @ model.loadings.mT).square().sum(1) + math.sqrt(2) * z.abs().sum(
            1
        )  # s2 = 1
        expected = (
            -energy - 2.5 * math.log(2 * math.pi) + 7 * (0.5 * math.log(2) - math.log(2)) + 7 * math.log(1.0)
        )
        torch.testing.assert_close(JointDensity()(model, encoder, rows), expected, rtol=1e-12, atol=1e-12)

    def test_the_prior_is_the_difference_to_the_reconstruction(self, rows):
        model = LinearFactorModel(5, 2, prior=Laplace())
        encoder = started(LinearGaussianEncoder(5, 2), rows)
        difference = JointDensity()(model, encoder, rows) - Reconstruction()(model, encoder, rows)
        torch.testing.assert_close(difference, model.prior.joint_log_prob(encoder(rows).mean))

    def test_squared_error_is_the_reconstruction_with_unit_noise(self, rows):
        model, encoder = ProbabilisticPCA(5, 2), started(LinearGaussianEncoder(5, 2), rows)
        difference = SquaredError()(model, encoder, rows) - Reconstruction()(model, encoder, rows)
        torch.testing.assert_close(
            difference, torch.full((6,), 2.5 * math.log(2 * math.pi), dtype=torch.float64)
        )

    @pytest.mark.parametrize(
        "objective", [JointDensity(), Reconstruction(), SquaredError(), IWAE(3)], ids=repr
    )
    def test_the_encoder_is_shown_other_rows(self, objective, pair, rows):
        torch.manual_seed(0)
        one = objective(*pair, rows, rows + 1)
        torch.manual_seed(0)
        assert not torch.allclose(one, objective(*pair, rows))


def test_settings_are_checked():
    for wrong in (float("nan"), float("inf"), True):
        with pytest.raises(ParameterError, match="alpha should be a finite number"):
            Renyi(wrong)
    with pytest.raises(ParameterError, match="sleep is a share between 0 and 1"):
        ReweightedWakeSleep(sleep=1.5)
    with pytest.raises(ParameterError, match="draws should be a whole number"):
        IWAE(0)
