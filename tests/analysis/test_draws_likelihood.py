"""The likelihood under each draw of the parameters is that of the model with these parameters."""

import pytest
import torch

import probae as pa
from probae.analysis import draws_likelihood
from probae.analysis.draws_likelihood import log_likelihood_of_draws

CHAINS, DRAWS, ROWS = 2, 3, 40


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(model):
    """Draws of every parameter of a model, in any order of size."""
    shape = (CHAINS, DRAWS)
    draws = {
        "loadings": normal(*shape, model.features, model.latents, seed=1),
        "mean": normal(*shape, model.features, seed=2),
    }
    if model.noise != "none":
        draws["noise_variance"] = normal(*shape, *model.noise_variance.shape, seed=3).exp()
    return draws


def one_by_one(model, draws, x):
    """The model's own answer for each draw."""
    values = torch.empty(CHAINS, DRAWS, len(x), dtype=torch.float64)
    for chain in range(CHAINS):
        for draw in range(DRAWS):
            for name, value in draws.items():
                setattr(model, name, value[chain, draw])
            values[chain, draw] = model.log_likelihood(x)
    return values


def correlated():
    correlation = torch.tensor([[1.0, 0.4], [0.4, 1.0]])
    return pa.LinearFactorModel(5, 2, prior=pa.priors.CorrelatedGaussian(correlation))


MODELS = {
    "factor analysis": lambda: pa.FactorAnalysis(5, 2),
    "one common variance": lambda: pa.ProbabilisticPCA(5, 2),
    "correlated factors": correlated,
    "more factors than features": lambda: pa.FactorAnalysis(3, 4),
    "spherical Student-t": lambda: pa.LinearFactorModel(4, 2, prior=pa.priors.MultivariateStudentT(5.0)),
    "one Laplace factor": lambda: pa.LinearFactorModel(4, 1, prior=pa.priors.Laplace()),
    "no noise": lambda: pa.IndependentComponents(3, 3),
}


@pytest.mark.parametrize("name", MODELS)
def test_each_draw_has_the_likelihood_of_its_model(name):
    model = MODELS[name]()
    draws, x = drawn(model), 2 * normal(ROWS, model.features, seed=4)
    found = log_likelihood_of_draws(model, draws, x)
    # both are sums of squares of a few hundred nats at most: 1e3 eps is 2e-13
    torch.testing.assert_close(found, one_by_one(model, draws, x), rtol=1e-10, atol=1e-10)


def test_missing_entries_are_integrated_out():
    model = pa.FactorAnalysis(5, 2)
    draws, x = drawn(model), normal(ROWS, 5, seed=4)
    x[normal(ROWS, 5, seed=5) > 0.5] = torch.nan
    x[3] = torch.nan
    with pytest.warns(pa.MissingRowWarning):
        found = log_likelihood_of_draws(model, draws, x)
    with pytest.warns(pa.MissingRowWarning):
        expected = one_by_one(model, draws, x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert bool((found[:, :, 3] == 0).all())  # a row without values says nothing


@pytest.mark.parametrize("block", [1, 37, 200])
def test_the_size_of_the_blocks_changes_nothing(block, monkeypatch):
    model = pa.FactorAnalysis(5, 2)
    draws, x = drawn(model), normal(ROWS, 5, seed=4)
    whole = log_likelihood_of_draws(model, draws, x)
    monkeypatch.setattr(draws_likelihood, "BLOCK", block)
    # products of other sizes may round differently: 1e3 eps of a hundred nats
    torch.testing.assert_close(log_likelihood_of_draws(model, draws, x), whole, rtol=0, atol=1e-11)


def test_a_rotation_of_the_loadings_changes_nothing():
    model = pa.FactorAnalysis(5, 2)
    draws, x = drawn(model), normal(ROWS, 5, seed=4)
    turned = draws | {"loadings": draws["loadings"] @ pa.linalg.haar_rotation(2, count=DRAWS)}
    torch.testing.assert_close(
        log_likelihood_of_draws(model, turned, x),
        log_likelihood_of_draws(model, draws, x),
        rtol=0,
        atol=1e-11,
    )


def test_a_parameter_without_draws_is_that_of_the_model():
    model = pa.FactorAnalysis(4, 1)
    model.mean = torch.arange(4.0, dtype=torch.float64)
    draws, x = drawn(model), normal(ROWS, 4, seed=4)
    full = draws | {"mean": model.mean.expand(CHAINS, DRAWS, 4)}
    del draws["mean"]
    found = log_likelihood_of_draws(model, draws | {"loadings_precision": normal(CHAINS, DRAWS, 1)}, x)
    assert torch.equal(found, log_likelihood_of_draws(model, full, x))


def test_single_precision_rows_give_double_precision_answers():
    model = pa.FactorAnalysis(4, 1)
    x = normal(ROWS, 4, seed=4).float()
    found = log_likelihood_of_draws(model, drawn(model), x)
    assert found.dtype == torch.float64
    assert torch.equal(found, log_likelihood_of_draws(model, drawn(model), x.double()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loadings": normal(2, 3, 4, 2)}, r"draws\['loadings'\] should have shape \(chain, draw, 4, 1\)"),
        ({"loadings": normal(4, 1)}, r"should have shape \(chain, draw, 4, 1\), got \(4, 1\)"),
        ({"mean": normal(2, 2, 4)}, r"draws\['mean'\] should have shape"),
    ],
)
def test_draws_of_another_model_are_refused(change, message):
    model = pa.FactorAnalysis(4, 1)
    with pytest.raises(pa.ParameterError, match=message):
        log_likelihood_of_draws(model, drawn(model) | change, normal(ROWS, 4))


def test_what_has_no_closed_form_says_so():
    model = pa.SparseCoding(4, 6)
    with pytest.raises(pa.NotExactError, match="no closed form"):
        log_likelihood_of_draws(model, drawn(model), normal(ROWS, 4))
    network = pa.Autoencoder(4, 2, decoder=pa.decoders.MLPDecoder(2, 4))
    with pytest.raises(pa.NotExactError, match="log_evidence"):
        log_likelihood_of_draws(network, {}, normal(ROWS, 4))


def test_rows_and_names_without_use_are_refused():
    with pytest.raises(pa.ParameterError, match="should hold some of loadings, noise_variance, mean, got z"):
        log_likelihood_of_draws(pa.FactorAnalysis(4, 1), {"z": normal(1, 1, 2)}, normal(ROWS, 4))
    with pytest.raises(pa.DataError):
        log_likelihood_of_draws(pa.FactorAnalysis(4, 1), drawn(pa.FactorAnalysis(4, 1)), normal(ROWS, 3))
