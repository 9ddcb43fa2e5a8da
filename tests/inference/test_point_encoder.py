"""MAP with an encoder: classical autoencoders, their denoisers and scores, beside what theory says of them."""

import math

import pytest
import torch
from sklearn.datasets import load_digits

from probae import (
    MAP,
    ContractiveReconstruction,
    Cosine,
    DataError,
    Denoising,
    GaussianNoise,
    JointDensity,
    ParameterError,
    Reconstruction,
    SquaredError,
    WeightDecay,
    denoising_score,
    fit,
    load,
    save,
    tangents,
)
from probae.datasets import holzinger_swineford
from probae.encoders import LinearGaussianEncoder, MLPEncoder, OneLayerEncoder
from probae.models import FactorAnalysis, ProbabilisticPCA, SparseCoding

pytestmark = pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")


@pytest.fixture(scope="module")
def x():
    return holzinger_swineford().x


def test_the_posterior_is_a_point_mass_at_the_encoders_mean(x):
    run = fit(FactorAnalysis(9, 2), x, MAP(encoder=MLPEncoder(9, 2, hidden=(4,)), epochs=5))
    law = run.posterior(x)
    assert type(law).__name__ == "Delta"
    torch.testing.assert_close(law.mean, run.posterior.encoder(x).mean.detach())
    assert run.posterior(x.float()).mean.dtype == torch.float32
    assert run.method.objective_name == "log joint density"
    assert len(run.history) == 5


def test_the_joint_density_has_map_codes_as_its_optimum(x):
    """With W and the noise held, the best linear code of PPCA is its posterior mean: the mode of a Gaussian."""
    model = fit(ProbabilisticPCA(9, 2), x).model
    code = model.posterior(x).mean
    best = model.log_joint(x, code)
    for step in (0.9, 1.1):
        assert (model.log_joint(x, step * code) < best).all()
    assert JointDensity()(model, lambda rows: model.posterior(rows), x).mean().item() == pytest.approx(
        best.mean().item(), rel=1e-12
    )


def test_one_seed_one_result_and_a_saved_run_is_the_same(x, tmp_path):
    method = MAP(
        encoder=OneLayerEncoder(9, 2, "tanh"),
        objective=SquaredError(),
        regularizers=(Denoising(GaussianNoise(0.3)), WeightDecay(0.01)),
        epochs=3,
        batch=50,
    )
    one, two = (fit(ProbabilisticPCA(9, 2), x, method, seed=4) for _ in range(2))
    assert torch.equal(one.posterior(x).mean, two.posterior(x).mean)
    assert not torch.equal(one.history, fit(ProbabilisticPCA(9, 2), x, method, seed=5).history)
    save(one, tmp_path / "run")
    again = load(tmp_path / "run")
    assert torch.equal(again.posterior(x).mean, one.posterior(x).mean)
    assert repr(again.method) == repr(one.method)


def test_the_lasso_path_is_as_it_was(x):
    run = fit(SparseCoding(9, 3), x, MAP(steps=4))
    assert run.method.objective_name == "negative MAP energy"
    assert type(run.posterior).__name__ == "CodesPosterior"


def test_settings_that_do_not_go_together_are_refused(x):
    with pytest.raises(ParameterError, match="go with an encoder"):
        MAP(objective=Reconstruction())
    with pytest.raises(ParameterError, match="go with an encoder"):
        MAP(regularizers=(WeightDecay(0.1),))
    with pytest.raises(ParameterError, match="go with an encoder"):
        MAP(schedule=Cosine(final=0.1))
    with pytest.raises(ParameterError, match="schedule should be a value such as"):
        MAP(encoder=LinearGaussianEncoder(9, 2), schedule=0.1)
    with pytest.raises(ParameterError, match="penalty goes with lasso codes"):
        MAP(encoder=LinearGaussianEncoder(9, 2), penalty=0.1)
    with pytest.raises(ParameterError, match="encoder should be one such as"):
        MAP(encoder=torch.nn.Linear(9, 2))
    with pytest.raises(ParameterError, match="build both with the same sizes"):
        fit(FactorAnalysis(9, 2), x, MAP(encoder=LinearGaussianEncoder(9, 3)))
    missing = x.clone()
    missing[0, 0] = math.nan
    with pytest.raises((ParameterError, DataError), match="needs complete rows"):
        fit(FactorAnalysis(9, 2), missing, MAP(encoder=LinearGaussianEncoder(9, 2)))
    with pytest.raises(ParameterError, match="denoising_score needs a fit with"):
        denoising_score(fit(FactorAnalysis(9, 2), x), x)
    with pytest.raises(ParameterError, match="tangents needs a fit with an encoder"):
        tangents(fit(FactorAnalysis(9, 2), x), x, 1)


@pytest.fixture(scope="module")
def digits():
    values = torch.from_numpy(load_digits().data) / 16
    return values[:, values.std(0) > 0]  # three pixels are always empty


DIGITS = {(10, 0.05): 1.64908, (10, 0.1): 1.96026, (10, 0.25): 2.56970}
DIGITS |= {(61, 0.05): 1.05447, (61, 0.1): 1.54861, (61, 0.25): 2.35213}


@pytest.mark.parametrize(("latents", "variance"), DIGITS)
def test_the_linear_denoiser_of_digits_is_stationary_at_the_tables_value(digits, latents, variance):
    """`oracles.md` 1, #9: at B = U_k diag(l / (l + s2)) U_k' the objective has the table's value and no gradient."""
    model, encoder = ProbabilisticPCA(61, latents), LinearGaussianEncoder(61, latents).double()
    values, axes = torch.linalg.eigh(torch.cov(digits.mT, correction=0))
    values, axes = values.flip(0)[:latents], axes.flip(1)[:, :latents]
    model.mean, model.loadings = digits.mean(0), axes
    with torch.no_grad():
        encoder.weight.copy_((values / (values + variance)).unsqueeze(1) * axes.mT)
        encoder.offset.copy_(digits.mean(0))
    loss = -SquaredError()(model, encoder, digits)
    loss = (loss + ContractiveReconstruction(variance / 2).penalty(model, encoder, digits)).mean()
    assert 2 * loss.item() == pytest.approx(DIGITS[latents, variance], rel=1e-5)
    parameters = [encoder.weight, *(one for one in model.parameters() if one.ndim == 2)]
    for slope in torch.autograd.grad(loss, parameters):
        assert slope.abs().max() < 1e-12


@pytest.mark.parametrize(("latents", "variance"), DIGITS)
def test_training_reaches_the_linear_denoiser_of_digits(digits, latents, variance):
    """`oracles.md` dae_linear_digits, rel 1e-3: by the mean over the noise, with pixels of spread .0015 to .41."""
    method = MAP(
        encoder=LinearGaussianEncoder(61, latents),
        objective=SquaredError(),
        regularizers=(Denoising(GaussianNoise(variance**0.5)),),
        epochs=150,
        batch=None,
        lr=0.05,
    )
    run = fit(ProbabilisticPCA(61, latents), digits, method)
    assert linear_denoising_error(run, digits, variance) == pytest.approx(DIGITS[latents, variance], rel=1e-3)


@pytest.mark.slow
def test_drawn_noise_reaches_it_too(digits):
    """Defaults, with noise that training knows nothing of: the mean over the noise is not what the fit needs to end."""

    def noise(rows):
        return rows + 0.05**0.5 * torch.randn_like(rows)

    method = MAP(
        encoder=LinearGaussianEncoder(61, 10), objective=SquaredError(), regularizers=(Denoising(noise),)
    )
    run = fit(ProbabilisticPCA(61, 10), digits, method)
    assert linear_denoising_error(run, digits, 0.05) == pytest.approx(DIGITS[10, 0.05], rel=1e-3)


def linear_denoising_error(run, x, variance):
    """Mean of |x - r(x + e)|^2 over e of this variance: |x - r(x)|^2 + s2 |B|^2."""
    rebuilt = run.model.likelihood(run.posterior(x).mean).mean
    matrix = run.model.loadings @ run.posterior.encoder.weight.detach()
    return float((x - rebuilt).square().sum(1).mean() + variance * matrix.square().sum())


def test_the_score_of_a_linear_denoiser_is_that_of_the_gaussian(x):
    """Full rank and ridge: (r(x) - x) / s2 = -(S + s2)^-1 (x - mean), for B = S (S + s2)^-1 exactly."""
    model, encoder = ProbabilisticPCA(9, 9), LinearGaussianEncoder(9, 9).double()
    covariance = torch.cov(x.mT, correction=0)
    gain = covariance @ torch.linalg.inv(covariance + 0.25 * torch.eye(9, dtype=torch.float64))
    method = MAP(
        encoder=encoder, objective=SquaredError(), regularizers=(Denoising(GaussianNoise(0.5)),), epochs=1
    )
    run = fit(model, x, method)
    with torch.no_grad():
        run.posterior.encoder.weight.copy_(gain)
        run.posterior.encoder.offset.copy_(x.mean(0))
    run.model.loadings, run.model.mean = torch.eye(9, dtype=torch.float64), x.mean(0)
    marginal = torch.distributions.MultivariateNormal(x.mean(0), covariance + 0.25 * torch.eye(9))
    rows = x[:5].clone().requires_grad_()
    (score,) = torch.autograd.grad(marginal.log_prob(rows).sum(), rows)
    torch.testing.assert_close(denoising_score(run, x[:5]), score, rtol=1e-8, atol=1e-10)


def test_tangents_of_a_plane_lie_in_it():
    """Rows near a plane in five dimensions: the code's tangent space is that plane, by both Jacobians."""
    generator = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(5, 2, generator=generator, dtype=torch.float64)).Q
    z = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    x = z @ plane.mT + 1e-3 * torch.randn(300, 5, generator=generator, dtype=torch.float64)
    method = MAP(
        encoder=LinearGaussianEncoder(5, 2),
        objective=SquaredError(),
        regularizers=(
            ContractiveReconstruction(0.1),
        ),  # without it nothing says what the code does off the plane
        epochs=250,
        lr=0.05,
        batch=None,
    )
    run = fit(ProbabilisticPCA(5, 2), x, method)
    found = tangents(run, x[:4], 2, reconstruction=True)
    assert found.basis.shape == (4, 5, 2)
    variances = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0)).flip(0)[:2]
    ridge = (variances / (variances + 0.2)).expand(4, 2)
    torch.testing.assert_close(found.spectrum, ridge, atol=1e-3, rtol=0)
    cosines = torch.linalg.svdvals(plane.mT @ found.basis)
    assert (cosines > math.cos(math.radians(5))).all()
    with pytest.raises(ParameterError, match="k should be at most 2"):
        tangents(run, x, 3)
