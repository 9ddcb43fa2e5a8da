"""T5: the ratio by its definition; valid on Gaussian rows, decisive on Laplace ones."""

import json
import math

import pytest
import torch

import probae as pa
from probae import priors
from probae.checks import ParameterError
from probae.identifiability.split_likelihood import SplitLikelihood, split_likelihood
from probae.models import FactorAnalysis, IndependentComponents, LinearFactorModel


def test_ratio_is_its_definition(draw):
    """Without noise the Gaussian maximum is -n (log det 2 pi S + D) / 2; the sources come from the other half."""
    x = draw("laplace", 400, 2) @ torch.tensor([[2.0, 0.3], [0.5, 1.0]], dtype=torch.float64)
    model = IndependentComponents(2, 2)
    found = split_likelihood(model, x, seed=4)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(4))
    first, second = (x[half] for half in order.chunk(2))
    for (train, test), value in zip(((first, second), (second, first)), found.log_e_values, strict=True):
        own = pa.fit(model, train, seed=4).log_likelihood(test).sum()
        S = torch.cov(test.T, correction=0)
        best = -0.5 * 200 * (torch.logdet(2 * math.pi * S) + 2)
        assert value == pytest.approx(float(own - best), abs=1e-6)
    mean = sum(math.exp(value - max(found.log_e_values)) for value in found.log_e_values) / 2
    assert found.log_e_value == pytest.approx(max(found.log_e_values) + math.log(mean))
    assert found.exact


def test_p_value_is_a_bound_from_the_mean():
    both = SplitLikelihood((math.log(30.0), math.log(10.0)), 100, True)
    assert both.p_value == pytest.approx(1 / 20)
    assert SplitLikelihood((-5.0, -900.0), 100, True).p_value == 1.0
    assert SplitLikelihood((1e4, -1e4), 100, True).p_value == 0.0
    impossible = SplitLikelihood((-math.inf, -math.inf), 100, True)  # rows where the model has no density
    assert (impossible.log_e_value, impossible.p_value) == (-math.inf, 1.0)


def test_laplace_rows_reject_and_gaussian_rows_do_not(draw):
    W = torch.randn(6, 2, dtype=torch.float64)
    model = LinearFactorModel(6, 2, priors.Laplace())
    for law, rejects in (("laplace", True), ("gaussian", False)):
        x = draw(law, 800, 2) @ W.T + 0.3 * torch.randn(800, 6, dtype=torch.float64)
        found = split_likelihood(model, x)
        assert (found.p_value < 0.01) is rejects
        assert (found.power in found.describe()) is not rejects
        assert not found.exact
    assert "importance-sampled" in found.describe()
    assert json.loads(json.dumps(found.to_dict()))["p"] == 1.0


def test_state_and_model_are_left_alone(draw):
    x, model = draw("laplace", 100, 2), IndependentComponents(2, 2)
    state, loadings = torch.get_rng_state(), model.loadings.clone()
    assert pa.split_likelihood(model, x) == pa.split_likelihood(model, x)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(loadings, model.loadings)


def test_gaussian_models_are_refused(draw):
    with pytest.raises(ParameterError, match="non-Gaussian factors with Gaussian ones"):
        split_likelihood(FactorAnalysis(4, 1), draw("gaussian", 100, 4))


@pytest.mark.slow
@pytest.mark.parametrize("learn", [False, True])
def test_long_validity(learn, draw, rejections):
    """Gaussian rows: at most a share alpha of e-values reaches 1 / alpha, also where the shape is learnt."""
    model = IndependentComponents(2, 2, priors.StudentT(5.0, learn=True) if learn else priors.Laplace())
    runs = 200
    count = rejections(
        lambda seed: split_likelihood(model, draw("gaussian", 100, 2), seed=seed).p_value, runs, level=0.1
    )
    assert count <= 36  # binomial(200, .1): beyond with probability 3e-4


@pytest.mark.slow
def test_long_power(draw, rejections, interval):
    """Two Laplace sources, 300 rows."""
    model = IndependentComponents(2, 2)
    count = rejections(lambda seed: split_likelihood(model, draw("laplace", 300, 2), seed=seed).p_value, 50)
    assert interval(count, 50)[1] >= 0.95


def test_as_many_noisy_factors_as_features_have_no_likelihood_to_split():
    """Refused before a fit of minutes, and an audit goes on without it."""
    x = pa.datasets.linear_factors(200, 3, 3, seed=0).x
    with pytest.raises(pa.errors.DataError, match="fewer noisy factors than features"):
        split_likelihood(LinearFactorModel(3, 3, priors.Laplace(), noise="isotropic"), x)
