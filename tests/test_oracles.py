"""Published and closed-form numbers, each with its source: what other software and other algebra say."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from probae import GuideWarning, SufficientStatistics, collapse, fit, gaps
from probae.datasets import ability_cov, holzinger_swineford
from probae.encoders import LinearGaussianEncoder, MLPEncoder, mirrored
from probae.inference import ELBO, SVI, Denoising, GaussianNoise, SquaredError, WeightDecay
from probae.inference.codes_posterior import CodesPosterior
from probae.inference.importance import ImportancePosterior
from probae.inference.svi import EncoderPosterior
from probae.inference.training import train
from probae.linalg import haar_rotation
from probae.models import FactorAnalysis, LinearFactorModel, ProbabilisticPCA, SparseCoding
from probae.priors import Gaussian, Laplace, MultivariateStudentT


def standardized(x):
    return (x - x.mean(0)) / x.std(0)


def discrepancy(correlation, loadings, uniquenesses):
    """F = log |Sigma| - log |R| + tr Sigma^-1 R - D: minus twice the log-likelihood ratio per row."""
    sigma = loadings @ loadings.T + np.diag(uniquenesses)
    difference = np.linalg.slogdet(sigma)[1] - np.linalg.slogdet(correlation)[1]
    return difference + np.trace(np.linalg.solve(sigma, correlation)) - len(sigma)


def bartlett(discrepancy, count, features, latents):
    """Bartlett's corrected statistic and its degrees of freedom, as in R's factanal (Lawley & Maxwell, 1971)."""
    factor = count - 1 - (2 * features + 5) / 6 - 2 * latents / 3
    return factor * discrepancy, ((features - latents) ** 2 - features - latents) // 2


class TestAbility:
    """Smith & Stanley (1983), the example of R's `?ability.cov`: six tests, 112 people."""

    UNIQUENESSES = {
        1: [0.535, 0.853, 0.748, 0.910, 0.232, 0.280],
        2: [0.455, 0.589, 0.218, 0.769, 0.052, 0.334],
    }
    STATISTICS = {1: (75.18, 9, 1.46e-12), 2: (6.11, 4, 0.191)}

    @pytest.mark.parametrize("latents", [1, 2])
    def test_uniquenesses_and_statistic(self, latents):
        table = ability_cov()
        run = fit(
            FactorAnalysis(6, latents),
            SufficientStatistics.from_covariance(table.covariance, count=table.count),
        )
        sd = table.covariance.diagonal().sqrt().numpy()
        uniquenesses = run.model.uniquenesses.numpy() / sd**2
        np.testing.assert_allclose(uniquenesses, self.UNIQUENESSES[latents], atol=2e-3)
        correlation = table.covariance.numpy() / np.outer(sd, sd)
        F = discrepancy(correlation, run.model.loadings.numpy() / sd[:, None], uniquenesses)
        statistic, freedom = bartlett(F, table.count, 6, latents)
        expected = self.STATISTICS[latents]
        assert statistic == pytest.approx(expected[0], abs=0.01)
        assert freedom == expected[1]
        assert stats.chi2.sf(statistic, freedom) == pytest.approx(expected[2], rel=5e-3)

    def test_more_digits(self):
        """Computed independently: uniquenesses and the statistic of the two-factor model to four digits."""
        table = ability_cov()
        sd = table.covariance.diagonal().sqrt().numpy()
        correlation = table.covariance.numpy() / np.outer(sd, sd)
        run = fit(FactorAnalysis(6, 2), SufficientStatistics.from_covariance(correlation, count=112))
        expected = [0.4552, 0.5893, 0.2182, 0.7694, 0.0525, 0.3336]
        np.testing.assert_allclose(run.model.uniquenesses, expected, atol=1e-4)
        F = discrepancy(correlation, run.model.loadings.numpy(), run.model.uniquenesses.numpy())
        assert F == pytest.approx(0.057160, abs=1e-6)
        assert bartlett(F, 112, 6, 2)[0] == pytest.approx(6.1066, abs=1e-4)


class TestHolzingerSwineford:
    """Exploratory factor analysis of nine tests: statsmodels and scikit-learn agree on these to four digits."""

    @pytest.mark.parametrize(("latents", "value"), [(1, -12.794765), (3, -12.314088)])
    def test_log_likelihood(self, latents, value):
        run = fit(FactorAnalysis(9, latents), holzinger_swineford().x)
        assert run.history[-1].item() == pytest.approx(value, abs=1e-6)

    def test_uniquenesses(self):
        x = holzinger_swineford().x
        run = fit(FactorAnalysis(9, 3), x)
        expected = [0.5125, 0.7487, 0.5428, 0.2792, 0.2429, 0.3052, 0.5022, 0.4685, 0.5432]
        np.testing.assert_allclose(run.model.uniquenesses / x.var(0, correction=0), expected, atol=1e-4)

    def test_one_factor_statistic(self):
        x = holzinger_swineford().x
        run = fit(FactorAnalysis(9, 1), x)
        sd = x.std(0, correction=0).numpy()
        F = discrepancy(
            np.corrcoef(x.numpy().T),
            run.model.loadings.numpy() / sd[:, None],
            run.model.uniquenesses.numpy() / sd**2,
        )
        statistic, freedom = bartlett(F, 301, 9, 1)
        assert pytest.approx(1.037422, abs=1e-6) == F
        assert statistic == pytest.approx(306.558, abs=1e-3)
        assert freedom == 27


def test_factor_analysis_of_wine():
    """Two factors: Bartlett's statistic 279.683 on 53 degrees of freedom, in the units of the data."""
    x = torch.from_numpy(load_wine().data)
    run = fit(FactorAnalysis(13, 2), x)
    assert run.history[-1].item() == pytest.approx(-19.533947, abs=1e-6)
    sd = x.std(0, correction=0).numpy()
    F = discrepancy(
        np.corrcoef(x.numpy().T),
        run.model.loadings.numpy() / sd[:, None],
        run.model.uniquenesses.numpy() / sd**2,
    )
    assert bartlett(F, 178, 13, 2) == (pytest.approx(279.683, abs=0.05), 53)


PPCA = {
    "iris": (lambda: load_iris().data, {1: (0.114139, -3.137796), 2: (0.050682, -2.699752)}),
    "wine": (
        lambda: standardized(load_wine().data),
        {2: (0.527016, -16.155260), 3: (0.435110, -15.701792), 5: (0.322363, -15.212645)},
    ),
    "diabetes": (
        lambda: standardized(load_diabetes(scaled=False).data),
        {2: (0.560434, -12.769538), 3: (0.468215, -12.523457), 5: (0.331969, -12.193692)},
    ),
    "digits": (
        lambda: load_digits().data / 16,
        {
            2: (0.054117, 0.005707),
            5: (0.036197, 8.907637),
            10: (0.022751, 17.451947),
            20: (0.011274, 27.277300),
        },
    ),
}


@pytest.mark.parametrize(("name", "latents"), [(name, k) for name, (_, rows) in PPCA.items() for k in rows])
@pytest.mark.filterwarnings("ignore::probae.ConstantColumnWarning", "ignore::probae.IntegerDataWarning")
def test_probabilistic_pca_closed_form(name, latents):
    """Tipping & Bishop (1999), eqs. 7, 8 and the maximum of their likelihood, on data that ships with scikit-learn."""
    load, table = PPCA[name]
    x = load()
    variance, value = table[latents]
    run = fit(ProbabilisticPCA(x.shape[1], latents), x)
    assert run.model.noise_variance.item() == pytest.approx(variance, abs=1e-6)
    assert run.history[-1].item() == pytest.approx(value, abs=1e-6)
    assert run.log_likelihood(x).mean().item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("latents", [1, 2])
def test_probabilistic_pca_against_scikit_learn_with_its_divisor_undone(latents):
    """scikit-learn divides by n - 1: its noise variance is ours times n / (n - 1)."""
    x = load_iris().data
    other = PCA(latents).fit(x)
    run = fit(ProbabilisticPCA(4, latents), x)
    assert run.model.noise_variance.item() * 150 / 149 == pytest.approx(other.noise_variance_, rel=1e-10)
    assert run.log_likelihood(x).mean().item() > other.score(x)


def evidence(x, b, s):
    """log of the density of Laplace(0, b) + N(0, s^2)."""
    left, right = special.log_ndtr(x / s - s / b) - x / b, special.log_ndtr(-x / s - s / b) + x / b
    return s**2 / (2 * b**2) - math.log(2 * b) + np.logaddexp(left, right)


def scalar_sparse_coding(b, s):
    """x = h + N(0, s^2) with h Laplace of scale b: loadings sqrt(2) b, for the code has unit variance."""
    model = SparseCoding(1, 1)
    model.dictionary = torch.tensor([[math.sqrt(2) * b]], dtype=torch.float64)
    model.noise_variance = torch.tensor(s**2, dtype=torch.float64)
    return model


class TestScalarSparseCoding:
    """One Laplace code of scale b = 1 under noise s = 1/2: everything is one integral."""

    def test_evidence(self):
        value = scalar_sparse_coding(1.0, 0.5).log_likelihood([[1.3]]).item()
        assert value == pytest.approx(-1.8729957804, abs=1e-10)
        assert value == pytest.approx(evidence(1.3, 1.0, 0.5), abs=1e-12)

        def density(h):
            return stats.laplace.pdf(h) * stats.norm.pdf(1.3, h, 0.5)

        integral = sum(
            integrate.quad(density, *ends, epsabs=1e-14)[0] for ends in ((-30, 0), (0, 1.3), (1.3, 30))
        )
        assert value == pytest.approx(math.log(integral), abs=1e-10)

    @pytest.mark.parametrize(("b", "s"), [(1.0, 0.5), (0.3, 1.0), (2.0, 0.05)])
    def test_evidence_over_a_range(self, b, s):
        x = np.linspace(-6, 6, 41)
        found = scalar_sparse_coding(b, s).log_likelihood(x[:, None])
        np.testing.assert_allclose(found, evidence(x, b, s), rtol=1e-10)

    def test_mean_shrinks_less_than_the_mode(self):
        """At x = 1: posterior mean .773432, lasso code 1 - s^2 / b = .75."""
        model = scalar_sparse_coding(1.0, 0.5)
        draws = ImportancePosterior(model, count=200_000)([[1.0]])
        sd = (draws.variance / draws.effective_sample_size[:, None]).sqrt() * math.sqrt(2)
        assert abs(draws.mean.item() * math.sqrt(2) - 0.773432) < 5 * sd.item()
        assert CodesPosterior(model)([[1.0]]).mean.item() * math.sqrt(2) == pytest.approx(0.75, abs=1e-4)


@pytest.fixture(scope="module")
def split():
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, test_size=0.25, random_state=0, stratify=y)
    return [torch.tensor(part, dtype=torch.float32) for part in parts]


class TestDeepAutoencoder:
    """Digits over 16, a quarter for testing (seed 0, stratified): summed squared error per image.

    PCA leaves 3.3932 and 1.2632 with 2 and 10 components; scikit-learn's MLP as an autoencoder 64-128-64-k, tanh, 250
    epochs, left 2.35 and .73. Settings were chosen on a quarter of the training rows; the test rows saw one fit.
    """

    PCA = {2: 3.3932, 10: 1.2632}

    def error(self, split, latents, hidden, epochs):
        encoder, model = mirrored(64, latents, hidden)
        method = SVI(
            encoder,
            objective=SquaredError(),
            regularizers=(Denoising(GaussianNoise(0.1)), WeightDecay(2e-4)),
            epochs=epochs,
            batch=128,
            lr=0.003,
        )
        run = fit(model, split[0], method)
        with torch.no_grad():
            rebuilt = run.model.reconstruct(run.posterior(split[1]).mean.double())
        return (rebuilt - split[1]).square().sum(1).mean().item()

    @pytest.mark.parametrize("latents", PCA)
    def test_pca(self, split, latents):
        train, test = (part.double().numpy() for part in split)
        pca = PCA(latents).fit(train)
        rest = test - pca.inverse_transform(pca.transform(test))
        assert (rest**2).sum(1).mean() == pytest.approx(self.PCA[latents], abs=5e-5)

    @pytest.mark.filterwarnings("ignore::probae.ProbaeWarning")
    def test_a_short_training_is_well_below_pca(self, split):
        """A bound between what the stock network reached and PCA."""
        assert self.error(split, 2, (128, 64), 80) < 2.6

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore::probae.ProbaeWarning")
    @pytest.mark.parametrize(("latents", "bound"), [(2, 2.3), (10, 0.72)])
    def test_it_is_better_than_the_stock_network(self, split, latents, bound):
        assert self.error(split, latents, (256, 128), 250) < bound


class TestRotations:
    """Two readers' cases: a covariance W W' that is diagonal, and one that is not."""

    @pytest.mark.parametrize("diagonal", [True, False])
    def test_gaussian_likelihood_is_flat_over_a_hundred_rotations(self, diagonal):
        model = FactorAnalysis(5, 3)
        if diagonal:
            model.loadings = torch.eye(5, 3, dtype=torch.float64) * torch.tensor(
                [3.0, 2.0, 1.0], dtype=torch.float64
            )
        x = model.sample(20, seed=0)
        before, loadings = model.log_likelihood(x), model.loadings.detach().clone()
        for rotation in haar_rotation(3, count=100):
            model.loadings = loadings @ rotation
            assert (model.log_likelihood(x) - before).abs().max() < 1e-9

    def test_spherical_tails_are_flat_and_independent_tails_are_not(self):
        """log p(x, z) at (W R, R' z): equal for every row under the multivariate t, not under Laplace."""
        rotation = haar_rotation(3)
        z = torch.randn(50, 3, dtype=torch.float64)
        for prior, flat in ((MultivariateStudentT(5), True), (Gaussian(), True), (Laplace(), False)):
            model = LinearFactorModel(5, 3, prior=prior)
            x = model.sample(50, seed=1)
            before = model.log_joint(x, z)
            model.loadings = model.loadings.detach() @ rotation
            change = (model.log_joint(x, z @ rotation) - before).abs()
            assert (change.max() < 1e-12 * before.abs().max()) if flat else (change.mean() > 0.01)


class TestBounds:
    """What a guide loses against the exact likelihood, where the loss is a formula."""

    @pytest.mark.parametrize(("degrees", "gap"), [(0, 0.0), (15, 0.050322), (30, 0.137924), (45, 0.176570)])
    def test_mean_field_gap(self, degrees, gap):
        """1/2 [sum_k log M_kk - log |M|]: W = U diag(sqrt 8, sqrt 2) R, noise 1/2, a diagonal guide at its best."""
        angle = math.radians(degrees)
        R = torch.tensor(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
        )
        U = torch.linalg.qr(torch.randn(4, 2, dtype=torch.float64))[0]
        model = ProbabilisticPCA(4, 2)
        model.loadings = U * torch.tensor([8.0, 2.0], dtype=torch.float64).sqrt() @ R
        model.noise_variance = torch.tensor(0.5, dtype=torch.float64)
        x = model.sample(7, seed=0)
        posterior = model.posterior(x)
        precision = torch.linalg.inv(posterior.covariance_matrix[0]).detach()
        formula = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
        assert formula.item() == pytest.approx(gap, abs=1e-6)
        best = MLPEncoder(4, 2, hidden=(), covariance="diagonal").double()
        with torch.no_grad():
            best.head.weight.zero_()
            best.head.weight[:2] = posterior.covariance_matrix[0] @ model.loadings.T / 0.5
            best.head.bias.zero_()
            best.head.bias[2:] = -0.5 * precision.diagonal().log()
            bounds = torch.stack([ELBO(draws=4000)(model, best, x) for _ in range(10)])
        loss = model.log_likelihood(x) - bounds.mean(0)
        error = bounds.std(0) / 10**0.5
        assert ((loss - gap).abs() < 6 * error + 5e-7).all()  # the oracle has six digits
        found = gaps(replace(fit(model, x), model=model, posterior=EncoderPosterior(best)), x)
        assert (found.approximation.rows - gap).abs().max() < 1e-6  # the six digits above
        assert found.amortization.rows.abs().max() < 1e-9

    def test_linear_guide_has_no_gap(self):
        """Its family holds the posterior of a Gaussian model: after training, under a thousandth of a nat per row."""
        x = fit(ProbabilisticPCA(4, 1), load_iris().data).model.sample(300, seed=0)
        run = fit(ProbabilisticPCA(4, 1), x, SVI(LinearGaussianEncoder(4, 1), epochs=900, lr=0.03))
        with torch.no_grad():
            bound = ELBO(draws=300)(run.model, run.posterior.encoder, x).mean()
        exact = run.model.log_likelihood(x).mean()
        assert 0 <= (exact - bound).item() + 1e-4 < 1.1e-3
        found = gaps(run, x)
        assert abs(found.approximation.mean) < 1e-9
        assert 0 <= found.amortization.mean < 1e-3

    def test_a_diagonal_guide_turns_the_columns_to_the_principal_axes(self):
        """vae_axes: log p(x) is the same for any rotation of W; the bound is not. Columns by U: MCC > .99."""
        model = ProbabilisticPCA(6, 3)
        U = haar_rotation(6)[:, :3]
        model.loadings = U * torch.tensor([9.0, 4.0, 1.0]).double().sqrt() @ haar_rotation(3)
        model.noise_variance = torch.tensor(0.5, dtype=torch.float64)
        x = model.sample(300, seed=0)
        encoder = MLPEncoder(6, 3, hidden=(), covariance="diagonal")
        with pytest.warns(GuideWarning, match="diagonal covariance"):
            run = fit(ProbabilisticPCA(6, 3), x, SVI(encoder, epochs=700, lr=0.05))
        axes = torch.linalg.eigh(torch.cov(x.mT)).eigenvectors[:, -3:]
        unit = run.model.loadings / run.model.loadings.norm(dim=0)
        cosines = (unit.mT @ axes).abs()
        assert cosines.amax(1).mean() > 0.99
        assert sorted(cosines.argmax(1).tolist()) == [0, 1, 2]
        before = run.log_likelihood(x)
        run.model.loadings = run.model.loadings @ haar_rotation(3)
        assert (run.log_likelihood(x) - before).abs().max() < 1e-9

    @pytest.mark.filterwarnings("ignore::probae.GuideWarning", "ignore::probae.ConvergenceWarning")
    @pytest.mark.parametrize(("noise", "collapsed"), [(0.5, 0), (1.4, 1), (2.8, 2)])
    def test_a_column_collapses_where_the_noise_exceeds_its_eigenvalue(self, noise, collapsed):
        """vae_axes: eigenvalues 4, 2, 1 of the covariance, and the noise variance held fixed: l_j < s2 goes."""
        x = torch.randn(200, 5, dtype=torch.float64)
        x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.mT, correction=0))).mT
        x = x * torch.tensor([4.0, 2.0, 1.0, 0.3, 0.3], dtype=torch.float64).sqrt() @ haar_rotation(5)
        encoder = MLPEncoder(5, 3, hidden=(), covariance="diagonal")
        run = fit(ProbabilisticPCA(5, 3), x, SVI(encoder, epochs=1))
        model, encoder = run.model, run.posterior.encoder
        model.noise_variance = torch.tensor(noise, dtype=torch.float64)
        parameters = [model.loadings_unconstrained, *encoder.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        train(
            lambda rows: -ELBO(draws=2)(model, encoder, rows).mean(),
            parameters,
            x,
            epochs=700,
            batch=None,
            lr=0.05,
            generator=torch.Generator(),
            usable=lambda: True,
            label="",
        )
        found = collapse(run, x)
        assert int(found.collapsed.sum()) == collapsed
        assert int(found.dead.sum()) == collapsed
        kept = torch.tensor([4.0, 2.0, 1.0][: 3 - collapsed], dtype=torch.float64)
        columns = model.loadings.square().sum(0).sort(descending=True).values[: 3 - collapsed]
        assert torch.allclose(columns, kept - noise, rtol=0.05)  # length^2 = l_j - s2, as in PPCA

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore::probae.ConstantColumnWarning", "ignore::probae.ConvergenceWarning")
    def test_svi_reaches_the_closed_form_on_digits(self):
        """Ten components: 17.451947 nats per image, within 5e-3."""
        x = load_digits().data / 16
        run = fit(ProbabilisticPCA(64, 10), x, SVI(LinearGaussianEncoder(64, 10), epochs=3000, lr=0.01))
        assert run.model.log_likelihood(x).mean().item() == pytest.approx(17.451947, abs=5e-3)
