"""An encoder trained for a given model: nearer the lasso than the solver with as many steps; the limits of PSD."""

import math
import warnings

import pytest
import torch

from probae import NotExactError, ParameterError
from probae.checks import ConvergenceWarning
from probae.codes import sparse_codes
from probae.encoders import LinearGaussianEncoder, LISTAEncoder
from probae.inference import Amortization, LassoEnergy, PredictiveSparseDecomposition
from probae.inference.fit import fit
from probae.io import load, save
from probae.models import FactorAnalysis, SparseCoding


@pytest.fixture(scope="module")
def model():
    generator = torch.Generator().manual_seed(0)
    made = SparseCoding(10, 16)
    atoms = torch.randn(10, 16, generator=generator, dtype=torch.float64)
    made.loadings = atoms / atoms.norm(dim=0)
    made.noise_variance = torch.tensor(0.1, dtype=torch.float64)
    return made


@pytest.fixture(scope="module")
def x(model):
    """2,000 rows of the model with three active codes each, half of them held out."""
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(2000, 16, generator=generator, dtype=torch.float64)
    z *= torch.rand(2000, 16, generator=generator) < 3 / 16
    noise = torch.randn(2000, 10, generator=generator, dtype=torch.float64)
    return 2 * z @ model.loadings.detach().T + 0.1 * noise


def amortized(model, x, encoder, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a short training will do
        return fit(model, x, Amortization(encoder, **settings))


@pytest.fixture(scope="module", params=["fista", "coordinate"])
def run(model, x, request):
    encoder = LISTAEncoder(10, 16, layers=6, coupling="analytic", solver=request.param)
    return amortized(model, x[:1000], encoder, epochs=25, batch=100, lr=0.02)


def excess(model, x, z):
    """Return by what share the mean energy exceeds that of the lasso codes."""
    a, penalty = model.loadings.detach(), math.sqrt(2) * model.noise_variance.item()
    best = sparse_codes(x, a, penalty, tolerance=1e-10).z
    energy = [0.5 * (x - c @ a.T).square().sum(1) + penalty * c.abs().sum(1) for c in (z, best)]
    return float(energy[0].mean() / energy[1].mean() - 1)


def test_a_trained_encoder_is_nearer_the_lasso_than_fista_with_as_many_steps(run, model, x):
    held_out = x[1000:]
    fista = LISTAEncoder(10, 16, layers=6, coupling="analytic", solver="fista").double()
    fista.attach(model)
    assert excess(model, held_out, run.posterior(held_out).mean) < 0.5 * excess(
        model, held_out, fista(held_out).mean.detach()
    )


def test_a_trained_encoder_finds_more_of_the_support_than_fista(run, model, x):
    held_out = x[1000:]
    a, penalty = model.loadings.detach(), math.sqrt(2) * model.noise_variance.item()
    truth = sparse_codes(held_out, a, penalty).z != 0
    fista = LISTAEncoder(10, 16, layers=6, coupling="analytic", solver="fista").double()
    fista.attach(model)

    def f1(z):
        found = z != 0
        return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())

    assert f1(run.posterior(held_out).mean) > f1(fista(held_out).mean)


def test_a_trained_encoder_is_nearer_the_lasso_than_its_own_start(run, model, x):
    held_out, solver = x[1000:], run.posterior.encoder.solver
    start = LISTAEncoder(10, 16, layers=6, coupling="analytic", solver=solver, least_move=0.0).double()
    start.attach(model)
    assert excess(model, held_out, run.posterior(held_out).mean) < 0.5 * excess(
        model, held_out, start(held_out).mean.detach()
    )


def test_the_model_stays_as_it_was(run, model):
    for name in ("loadings", "mean", "noise_variance"):
        assert torch.equal(getattr(run.model, name).double(), getattr(model, name).double())


def test_training_on_float32_rows_does_not_round_the_model(model, x):
    again = amortized(model, x[:100].float(), LISTAEncoder(10, 16, layers=2), epochs=1)
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in again.model.state_dict().items())


def test_history_is_the_objective(run):
    assert run.history[-1] > run.history[0]
    assert run.method.objective_name == "negative lasso energy"


@pytest.mark.parametrize("gamma", [1e-8, 1e8])
def test_limits_of_psd(model, x, gamma):
    """For gamma near 0 the best codes are lasso codes; for a large one they are the encoder's.

    The pull moves h by at most about gamma |h - f| over the least curvature, and h - f by |dE/dh| / (2 gamma): both of
    order 1e-7 here, whatever the encoder.
    """
    encoder = LISTAEncoder(10, 16, layers=2).double()
    encoder.attach(model)
    rows = x[:50]
    psd = PredictiveSparseDecomposition(gamma)
    h, code = psd.codes(model, encoder, rows), encoder(rows).mean.detach()
    a, penalty = model.loadings.detach(), math.sqrt(2) * model.noise_variance.item()
    if gamma < 1:
        best = sparse_codes(rows, a, penalty, tolerance=1e-10).z
        assert torch.corrcoef(torch.stack([h.flatten(), best.flatten()]))[0, 1] > 0.999
        assert (h - code).abs().max() > 0.01  # the encoder alone is not there
    else:
        assert torch.allclose(h, code, atol=1e-6)
        value, limit = psd(model, encoder, rows), LassoEnergy()(model, encoder, rows)
        assert torch.allclose(value, limit, rtol=1e-5)


def test_gradient_of_psd_is_that_of_the_minimum(model, x):
    """Envelope theorem, against central differences in the step of a layer; their error is of order 1e-8 / 1e-4."""
    encoder = LISTAEncoder(10, 16, layers=2, coupling="analytic").double()
    encoder.attach(model)
    psd = PredictiveSparseDecomposition(0.3)
    psd(model, encoder, x[:20]).sum().backward()
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            encoder.step[0] += sign * 1e-4
            values.append(float(psd(model, encoder, x[:20]).sum()))
            encoder.step[0] -= sign * 1e-4
    assert encoder.step.grad[0].item() == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-2)


def test_psd_trains_an_encoder_to_predict_the_best_codes(model, x):
    objective = PredictiveSparseDecomposition(0.1)
    encoder = LISTAEncoder(10, 16, layers=2, coupling="analytic")
    trained = amortized(model, x[:300], encoder, epochs=10, batch=100, lr=0.03, objective=objective)
    assert trained.history[-1] > trained.history[0]


def test_a_fit_comes_back_from_disk(run, x, tmp_path):
    save(run, tmp_path / "run")
    again = load(tmp_path / "run")
    assert torch.equal(again.posterior(x[:5]).mean, run.posterior(x[:5]).mean)
    assert again.method.objective == LassoEnergy()


def test_any_encoder_can_be_trained(model, x):
    trained = amortized(model, x[:200], LinearGaussianEncoder(10, 16), epochs=5)
    assert trained.history[-1] > trained.history[0]


def test_one_seed_gives_one_answer(model, x):
    runs = [amortized(model, x[:200], LISTAEncoder(10, 16, layers=2), epochs=2, batch=50) for _ in range(2)]
    assert torch.equal(runs[0].posterior(x[:9]).mean, runs[1].posterior(x[:9]).mean)


def test_wrong_settings_end_in_one_sentence(model, x):
    with pytest.raises(ParameterError, match="build both with the same sizes"):
        fit(model, x, Amortization(LISTAEncoder(10, 15)))
    with pytest.raises(NotExactError, match="Laplace codes with isotropic noise"):
        fit(FactorAnalysis(10, 2), x, Amortization(LinearGaussianEncoder(10, 2)))
    with pytest.raises(ParameterError, match="objective should be a value such as"):
        Amortization(LISTAEncoder(10, 16), objective=3)
    with pytest.raises(ParameterError, match="gamma"):
        PredictiveSparseDecomposition(gamma=0.0)
