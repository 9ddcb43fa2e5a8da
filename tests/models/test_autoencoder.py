"""The autoencoder as a model: its density, its program, its first values, its files."""

import pyro
import pytest
import torch
from pyro import poutine

import probae as pa
from probae.decoders import ConvolutionalDecoder, LinearDecoder, MLPDecoder
from probae.likelihoods import Bernoulli, Gaussian, Multinomial, StudentT

LIKELIHOODS = {
    "gaussian": Gaussian,
    "diagonal": lambda: Gaussian("diagonal"),
    "bernoulli": Bernoulli,
    "multinomial": Multinomial,
    "student": lambda: StudentT(df=4.0, noise="diagonal", learn=True),
}


@pytest.fixture
def x():
    """Zeros and ones suit every likelihood."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, (40, 4), generator=generator).double()


@pytest.fixture
def z():
    return torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(params=LIKELIHOODS)
def model(request, x):
    built = pa.Autoencoder(4, 2, MLPDecoder(2, 4, (5,)), LIKELIHOODS[request.param](), pa.priors.Laplace())
    built.start(x, torch.Generator().manual_seed(2))
    return built


def linear_pair(x):
    """A linear autoencoder with Gaussian noise, and the linear factor model of the same parameters."""
    model = pa.Autoencoder(4, 2, LinearDecoder(2, 4), Gaussian("diagonal"))
    model.start(x, torch.Generator().manual_seed(2))
    same = pa.FactorAnalysis(4, 2)
    same.loadings = model.decoder.loadings.detach()
    same.mean = model.decoder.mean.detach()
    same.noise_variance = model.noise_model.noise_variance.detach()
    return model, same


def test_log_joint_is_prior_plus_likelihood_for_each_draw(model, x, z):
    found = model.log_joint(x, z)
    for draw, values in zip(z, found, strict=True):
        expected = model.prior.distribution(2, like=draw).log_prob(draw) + model.likelihood(draw).log_prob(x)
        assert torch.allclose(values, expected, rtol=1e-12)


def test_the_program_has_the_density_log_joint(model, x, z):
    with pyro.settings.context(module_local_params=True):
        trace = poutine.trace(poutine.condition(model, {"z": z[0]})).get_trace(x)
    assert torch.allclose(trace.log_prob_sum(), model.log_joint(x, z[0]).sum(), rtol=1e-12)


def test_a_minibatch_is_scaled_to_the_whole_data(model, x, z):
    with pyro.settings.context(module_local_params=True):
        trace = poutine.trace(poutine.condition(model, {"z": z[0, :10]})).get_trace(x[:10], size=40)
    assert torch.allclose(trace.log_prob_sum(), 4 * model.log_joint(x[:10], z[0, :10]).sum(), rtol=1e-12)


def test_a_linear_decoder_with_gaussian_noise_is_the_linear_factor_model(x, z):
    model, same = linear_pair(x)
    assert torch.allclose(model.log_joint(x, z), same.log_joint(x, z), rtol=1e-10)


def test_its_log_likelihood_is_log_joint_minus_the_exact_posterior(x, z):
    """Bayes' rule holds at every z: log p(x) = log p(x, z) - log p(z | x)."""
    model, same = linear_pair(x)
    found = model.log_joint(x, z[0]) - same.posterior(x).log_prob(z[0])
    assert torch.allclose(found, same.log_likelihood(x), rtol=1e-9)


def test_gradients_of_log_joint_match_finite_differences(model, x, z):
    point = z[0, :3].clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda value: model.log_joint(x[:3], value), point)


def test_reconstruction_is_the_mean_of_the_likelihood(model, z):
    assert torch.allclose(model.reconstruct(z), model.likelihood(z).mean, rtol=1e-12)


def test_draws_have_the_mean_the_model_says(x):
    model, _ = linear_pair(x)
    draws = model.sample(4000, seed=1)
    error = draws.std(0) / 4000**0.5
    assert bool(((draws.mean(0) - model.decoder.mean).abs() < 5 * error).all())
    assert torch.equal(model.sample(3, seed=1), model.sample(3, seed=1))


@pytest.mark.parametrize("likelihood", [Gaussian("diagonal"), StudentT(noise="diagonal")])
def test_start_is_equivariant_to_units_and_origin(likelihood, x, z):
    generator = torch.Generator()
    units = torch.tensor([1e-3, 1.0, 10.0, 1e4], dtype=torch.float64)
    one, other = (pa.Autoencoder(4, 2, likelihood=likelihood) for _ in range(2))
    one.start(x, generator.manual_seed(5))
    other.start(units * x + 3 * units, generator.manual_seed(5))
    found = other.log_joint(units * x + 3 * units, z)
    # x is of order 1 in its units and the shift 3: 1e-15 of rounding, and as much in each of 40 terms
    assert torch.allclose(found, one.log_joint(x, z) - units.log().sum(), rtol=1e-9)


def test_the_arguments_are_copied():
    decoder, likelihood = LinearDecoder(2, 4), Gaussian()
    model = pa.Autoencoder(4, 2, decoder, likelihood)
    model.start(torch.eye(4, dtype=torch.float64), torch.Generator().manual_seed(1))
    assert float(decoder.spread.sum()) == 4.0
    assert float(likelihood.unit) == 1.0


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(
    "decoder",
    [LinearDecoder(2, 4), MLPDecoder(2, 4, (6, 5)), ConvolutionalDecoder(2, 2, (3,))],
    ids=["linear", "mlp", "convolutional"],
)
@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning", "ignore::probae.IntegerDataWarning")
def test_a_fit_comes_back_from_its_file_as_it_was(decoder, likelihood, x, z, tmp_path):
    model = pa.Autoencoder(4, 2, decoder, LIKELIHOODS[likelihood](), pa.priors.StudentT(6.0))
    run = pa.fit(model, x, pa.SVI(pa.MLPEncoder(4, 2, hidden=(6,)), epochs=3))
    pa.save(run, tmp_path / "fit")
    back = pa.load(tmp_path / "fit")
    assert repr(back.model) == repr(run.model)
    assert torch.equal(back.model.log_joint(x, z), run.model.log_joint(x, z))
    assert torch.equal(back.posterior(x).mean, run.posterior(x).mean)


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_svi_explains_a_curve_better_than_a_line_can():
    """Rows on a parabola: one linear factor leaves the variance of t^2 - E t^2 to the noise; a curve does not."""
    t = torch.linspace(-2, 2, 200, dtype=torch.float64)
    noise = 0.05 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.stack([t, t.square()], 1) + noise
    model = pa.Autoencoder(2, 1, MLPDecoder(1, 2, (16,)))
    run = pa.fit(model, rows, pa.SVI(pa.MLPEncoder(2, 1, hidden=(16,)), epochs=300))
    linear = pa.fit(pa.ProbabilisticPCA(2, 1), rows).log_likelihood(rows).mean()
    assert float(run.history[-1]) > float(linear)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoder": LinearDecoder(3, 4)}, "maps 3 latents to 4 outputs"),
        ({"decoder": torch.nn.Linear(2, 4)}, "decoder should be one from probae.decoders"),
        ({"likelihood": "gaussian"}, "likelihood should be one from probae.likelihoods"),
        ({"prior": "gaussian"}, "prior should be a law"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_wrong_arguments_are_refused(arguments, message, monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(pa.ParameterError, match=message):
        pa.Autoencoder(4, 2, **arguments)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Multinomial()])
def test_a_fit_to_data_without_a_density_is_refused(likelihood, x):
    method = pa.SVI(pa.MLPEncoder(4, 2, hidden=(6,)), epochs=1)
    with pytest.raises(pa.DataError, match="should"):
        pa.fit(pa.Autoencoder(4, 2, likelihood=likelihood), x - 0.25, method)


def test_missing_values_are_refused(x):
    x = x.clone()
    x[0, 0] = float("nan")
    with pytest.raises(pa.DataError, match="NaN at row 0"):
        pa.fit(pa.Autoencoder(4, 2), x, pa.SVI(pa.MLPEncoder(4, 2)))
    with pytest.raises(pa.DataError, match="complete rows"):
        pa.Autoencoder(4, 2)(x)
