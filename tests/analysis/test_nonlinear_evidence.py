"""log p(x) of models that are not linear: against closed forms of one in disguise, and integrals over a grid."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import probae as pa
from probae.analysis import sandwich
from probae.analysis.path import Path
from probae.inference.nonlinear_reference import reference_of

ESTIMATORS = [None, pa.ImportanceWeighted(200), pa.AnnealedImportance(20, chains=16, leapfrogs=2)]


@pytest.fixture
def disguised(build, hidden):
    """A linear Gaussian model with correlated posteriors, itself and hidden, and rows of it."""
    model = build(5, 3, prior=pa.priors.Gaussian())
    return model, hidden(model), model.sample(20, seed=0)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_a_linear_model_in_disguise_has_the_same_evidence(disguised, estimator):
    """Rows within 5 of their standard errors, without an encoder to start from; 1e-3 is the stop of the search."""
    model, same, x = disguised
    found = pa.log_evidence(same, x, estimator)
    assert found.bound == "lower"
    assert ((found.value - model.log_likelihood(x)).abs() < 5 * found.standard_error + 1e-3).all()
    assert found.standard_error.max() < 0.1
    assert not found.doubtful.any()


@pytest.mark.parametrize("likelihood", [pa.likelihoods.Gaussian(), pa.likelihoods.Bernoulli()], ids=repr)
def test_an_autoencoder_against_an_integral_over_a_grid(likelihood):
    """One latent: the trapezium rule over 4,001 points. Of 20 rows the largest error is below 5 standard errors."""
    model = pa.Autoencoder(6, 1, pa.decoders.MLPDecoder(1, 6, hidden=(8,)), likelihood)
    with torch.no_grad():
        for p in model.decoder.parameters():
            p.mul_(2)
    x = model.sample(20, seed=1)
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    exact = (model.log_joint(x, grid.view(-1, 1, 1).expand(-1, 20, 1)) + math.log(18 / 4000)).logsumexp(0)
    for estimator in ESTIMATORS:
        found = pa.log_evidence(model, x, estimator)
        slack = 5 * found.standard_error + found.standard_error.square() + 1e-4
        assert ((found.value - exact).abs() < slack).all()
        assert found.standard_error.mean() < 0.1


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")  # two epochs
@pytest.mark.filterwarnings("ignore::probae.GuideWarning")  # of independent codes
def test_fits_by_an_encoder_and_by_a_point_mass_have_log_p_by_the_way_that_is_named():
    x = pa.Autoencoder(4, 2).sample(30, seed=0)
    encoder = pa.MLPEncoder(4, 2, covariance="diagonal")
    for method in (pa.SVI(encoder, epochs=2), pa.MAP(encoder=encoder, epochs=2)):
        run = pa.fit(pa.Autoencoder(4, 2), x, method)
        for model in (run, run.model):
            with pytest.raises(pa.NotExactError, match="log_evidence"):
                model.log_likelihood(x)
        started, alone = pa.log_evidence(run, x), pa.log_evidence(run.model, x)
        error = (started.standard_error.square() + alone.standard_error.square()).sqrt()
        assert ((started.value - alone.value).abs() < 5 * error + 1e-4).all()
        assert pa.log_evidence(run, x.float()).value.dtype == torch.float32
    with pytest.raises(pa.ParameterError, match=r"log_evidence\(run, x\)"):
        pa.gaps(run, x)


def test_the_sandwich_closes_around_a_linear_model_in_disguise(disguised, monkeypatch):
    """Its reference is the posterior up to the stop of the search, 1e-5 nats: both sides are then log p(x)."""
    model, same, _ = disguised
    both = pa.evidence_sandwich(same, size=20, estimator=ESTIMATORS[2])
    exact = model.log_likelihood(both.x)
    assert both.upper.bound == "upper"
    assert torch.allclose(both.lower.value, exact, atol=1e-2)
    assert torch.allclose(both.upper.value, exact, atol=1e-2)
    monkeypatch.setattr(sandwich, "WARMUP", 20)  # chains that start at draws of the posterior need none
    given = pa.evidence_sandwich(same, both.x[:3], estimator=pa.AnnealedImportance(4, chains=2))
    assert given.upper.bound == "approximately upper"
    assert torch.allclose(given.upper.value, exact[:3], atol=1e-2)


def test_forward_and_reverse_weights_of_a_nonlinear_model_are_unbiased(curved):
    """E w = p(x) forward and 1 / p(x) in reverse, with temperatures too few to be good; draws of p(z | x) by the grid.

    The law of x = sin(w z) has several modes, and the reference covers one.
    """
    model = curved(2, 1)
    x = model.sample(1, seed=4)
    grid = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    joint = model.log_joint(x, grid.view(-1, 1, 1)).squeeze(1)
    exact = float((joint + math.log(16 / 20_000)).logsumexp(0))
    generator = torch.Generator().manual_seed(0)
    reference = reference_of(model, x)
    path = Path.pilot(reference, 6, 2, generator)
    z = grid[torch.multinomial(joint.softmax(0), 20_000, replacement=True, generator=generator)].view(
        1, -1, 1
    )
    weights = (path.reverse(reference, z, generator) + exact).exp()
    assert float(weights.mean()) == pytest.approx(1, abs=5 * float(weights.std()) / 20_000**0.5)
    assert float(weights.std()) > 0.01  # they do vary


def test_the_sandwich_of_an_autoencoder_closes():
    """Both bounds hold for simulated rows: the mean gap is above 0 but for chance, and small."""
    model = pa.Autoencoder(6, 3, likelihood=pa.likelihoods.Bernoulli())
    with torch.no_grad():
        for p in model.decoder.parameters():
            p.mul_(2)
    both = pa.evidence_sandwich(model, size=30, estimator=pa.AnnealedImportance(20, chains=8))
    assert both.mean_gap > -3 * both.mean_gap_standard_error
    assert both.mean_gap < 0.1


def test_modes_that_a_gaussian_leaves_out_are_drawn_from_an_encoder_that_has_them(encoded, curved):
    """Of x = z^2 + noise: two modes of equal mass. A Gaussian has one and misses log 2, which k-hat cannot know."""
    model = curved(1, 1)
    model.likelihood = lambda z: Independent(Normal(z.square(), 0.2), 1)
    x = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    grid = torch.linspace(-8, 8, 8001, dtype=torch.float64)
    exact = (model.log_joint(x, grid.view(-1, 1, 1).expand(-1, 3, 1)) + math.log(16 / 8000)).logsumexp(0)

    def both(rows):
        mean = torch.stack([rows.sqrt(), -rows.sqrt()], -2)
        parts = Independent(Normal(mean, 0.2), 1)
        even = Categorical(torch.ones(len(rows), 2, dtype=torch.float64))
        return MixtureSameFamily(even, parts)

    run = encoded(model, pa.MLPEncoder(1, 1), both)
    for found in (pa.log_evidence(run, x), pa.gaps(run, x).evidence):
        assert ((found.value - exact).abs() < 5 * found.standard_error).all()
        assert found.standard_error.max() < 0.1
    one = pa.log_evidence(
        encoded(model, pa.MLPEncoder(1, 1), lambda rows: Independent(Normal(rows.sqrt(), 0.1), 1)), x
    )
    assert torch.allclose(one.value, exact - math.log(2), atol=0.2)


def test_a_prior_of_bounded_support_is_integrated(hidden, build):
    """Every Gaussian has mass outside a uniform prior: the search stays at the prior's own width, and draws do."""
    model = build(3, 1, prior=pa.priors.Uniform())
    x = model.sample(10, seed=0)
    found = pa.log_evidence(hidden(model), x, pa.ImportanceWeighted(5000))
    exact = pa.log_evidence(model, x).value
    assert ((found.value - exact).abs() < 5 * found.standard_error).all()


def test_seeds_decide_and_the_callers_state_does_not(curved, random_state):
    model = curved(3, 2)
    x, before = model.sample(4, seed=0), random_state()
    for estimator in ESTIMATORS[1:]:
        first = pa.log_evidence(model, x, estimator, seed=1).value
        assert torch.equal(first, pa.log_evidence(model, x, estimator, seed=1).value)
        assert not torch.equal(first, pa.log_evidence(model, x, estimator, seed=2).value)
    assert random_state() == before


BAD = {"Bernoulli()": 7.5, "Multinomial()": 0.5}


@pytest.mark.parametrize("likelihood", [pa.likelihoods.Bernoulli(), pa.likelihoods.Multinomial()], ids=repr)
@pytest.mark.parametrize(
    "ask",
    [
        pa.gaps,
        pa.pareto_k,
        pa.collapse,
        pa.log_evidence,
        lambda run, x: pa.log_evidence(run, x, pa.AnnealedImportance(2, chains=2)),
        pa.evidence_sandwich,
    ],
    ids=["gaps", "pareto_k", "collapse", "log_evidence", "annealed", "sandwich"],
)
def test_rows_without_a_density_are_refused(encoded, likelihood, ask):
    model = pa.Autoencoder(4, 2, likelihood=likelihood)
    run = encoded(model, pa.MLPEncoder(4, 2))
    x = torch.ones(3, 4, dtype=torch.float64)
    x[1, 2] = BAD[repr(likelihood)]
    with pytest.raises(pa.DataError, match=f"{repr(likelihood)[:-2]} data should"):
        ask(run, x)
