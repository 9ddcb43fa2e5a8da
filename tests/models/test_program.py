"""The models as Pyro programs: sites, plates, scaling to the whole data, known variances."""

import pytest
import torch
from pyro import poutine

from probae import DataError, ParameterError
from probae.models import FactorAnalysis, LinearFactorModel
from probae.priors import Gaussian, Laplace, MultivariateStudentT


def traced(model, *args, **kwargs):
    trace = poutine.trace(model).get_trace(*args, **kwargs)
    trace.compute_log_prob()
    return trace


def sites(trace):
    """Names of the random sites, the subsampling of plates left out."""
    return {name for name in trace.stochastic_nodes if name != "samples"} | set(trace.observation_nodes)


def test_sites_and_shapes_of_the_trace(model):
    x = model.sample(7, seed=0)
    trace = traced(model, x)
    free = set() if model.invertible else {"z"}
    assert sites(trace) - {"z"} == {"x"}
    assert set(trace.observation_nodes) >= {"x"}
    assert free <= set(trace.stochastic_nodes)
    assert trace.nodes["z"]["value"].shape == (7, model.latents)
    assert trace.nodes["x"]["value"].shape == (7, model.features)
    assert trace.nodes["x"]["log_prob"].shape == (7,)
    assert [frame.name for frame in trace.nodes["x"]["cond_indep_stack"]] == ["samples"]
    assert trace.nodes["x"]["cond_indep_stack"][0].dim == -1


def test_a_simulated_trace_has_the_same_sites(model):
    trace = traced(model, size=6)
    assert trace.nodes["z"]["value"].shape == (6, model.latents)
    assert trace.nodes["x"]["value"].shape == (6, model.features)
    assert not trace.nodes["x"]["is_observed"]


def test_joint_is_the_trace_per_row(noisy_model):
    x = noisy_model.sample(7, seed=0)
    x[0, 0] = x[3, 1] = torch.nan
    trace = traced(noisy_model, x)
    total = trace.nodes["z"]["log_prob"] + trace.nodes["x"]["log_prob"]
    expected = noisy_model.log_joint(x, trace.nodes["z"]["value"])
    assert torch.allclose(total, expected, rtol=1e-12, atol=1e-12)


def test_likelihood_is_the_trace_where_x_determines_z(invertible_model):
    x = invertible_model.sample(7, seed=0)
    trace = traced(invertible_model, x)
    assert torch.allclose(trace.nodes["x"]["log_prob"], invertible_model.log_likelihood(x), rtol=1e-12)
    assert torch.allclose(trace.nodes["z"]["value"], invertible_model.posterior(x).mean, rtol=1e-12)


def test_a_simulated_noiseless_trace_maps_z_to_x(noiseless_model):
    trace = traced(noiseless_model, size=6)
    z, x = trace.nodes["z"]["value"], trace.nodes["x"]["value"]
    assert torch.allclose(noiseless_model.mean + z @ noiseless_model.loadings.mT, x, rtol=1e-9, atol=1e-9)


def test_missing_rows_are_not_silently_nan_without_noise(invertible_model):
    x = invertible_model.sample(3, seed=0)
    x[1, 0] = torch.nan
    with pytest.raises((DataError, ParameterError)):
        traced(invertible_model, x)


def test_a_minibatch_is_scaled_to_the_whole_data(model):
    x = model.sample(5, seed=0)
    z = traced(model, x).nodes["z"]["value"].detach()
    fixed = model if model.invertible else poutine.condition(model, {"z": z})
    plain, scaled = (traced(fixed, x, size=size).log_prob_sum() for size in (None, 40))
    assert scaled.item() == pytest.approx(8 * plain.item(), rel=1e-12)


def test_minibatches_add_up_to_the_whole_data(noisy_model):
    """Averaged over the batches of one pass, the scaled log-probability is that of all rows."""
    x = noisy_model.sample(12, seed=0)
    z = 0.3 * torch.randn(12, noisy_model.latents, dtype=torch.float64)
    whole = traced(poutine.condition(noisy_model, {"z": z}), x).log_prob_sum()
    parts = [
        traced(poutine.condition(noisy_model, {"z": c}), r, size=12).log_prob_sum()
        for r, c in zip(x.split(4), z.split(4), strict=True)
    ]
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), rel=1e-12)


def test_a_program_needs_rows_or_a_size():
    with pytest.raises(DataError, match="needs x, or size"):
        FactorAnalysis(3, 1)()


def test_size_counts_at_least_the_rows_given():
    """`size` is the number of rows of the whole data, of which x is a part."""
    model = FactorAnalysis(3, 1)
    x = model.sample(5, seed=0)
    for size in (4, 0, -3):
        with pytest.raises((DataError, ParameterError), match="size"):
            model(x, size=size)


@pytest.mark.parametrize("prior", [Gaussian(), Laplace(), MultivariateStudentT(8)], ids=repr)
def test_context_scales_the_law_of_each_latent(prior):
    """log p(z; v) = log p(z / sd) - sum log sd."""
    model = LinearFactorModel(4, 2, prior=prior)
    variance = torch.tensor([[0.25, 4.0], [1.0, 9.0], [2.0, 0.5]], dtype=torch.float64)
    x = torch.zeros(3, 4, dtype=torch.float64)
    site = traced(model, x, context=variance).nodes["z"]
    assert site["value"].shape == (3, 2)
    expected = prior.joint_log_prob(site["value"] / variance.sqrt()) - 0.5 * variance.log().sum(1)
    assert torch.allclose(site["log_prob"], expected, rtol=1e-12)


def test_context_gives_the_variance_it_says():
    """The sample variance of n Gaussian draws has standard error v sqrt(2 / n)."""
    n = 20_000
    variance = torch.tensor([0.25, 4.0], dtype=torch.float64).expand(n, 2)
    z = traced(FactorAnalysis(3, 2), size=n, context=variance).nodes["z"]["value"]
    assert ((z.var(0) / variance[0] - 1).abs() < 5 * (2 / n) ** 0.5).all()


def test_context_of_ones_changes_nothing(noisy_model):
    x = noisy_model.sample(4, seed=0)
    ones = torch.ones(4, noisy_model.latents, dtype=torch.float64)
    trace = traced(noisy_model, x)
    fixed = poutine.condition(lambda x: noisy_model(x, context=ones), {"z": trace.nodes["z"]["value"]})
    assert traced(fixed, x).log_prob_sum().item() == pytest.approx(trace.log_prob_sum().item(), rel=1e-12)


def test_context_passes_through_pyros_handlers():
    """Handlers and `SVI` hand the arguments of the program on; a keyword of their own would be in the way."""
    model = FactorAnalysis(3, 2)
    ones = torch.ones(4, 2, dtype=torch.float64)
    x = torch.zeros(4, 3, dtype=torch.float64)
    fixed = poutine.condition(model, {"z": torch.zeros(4, 2, dtype=torch.float64)})
    assert fixed(x, ones).shape == (4, 3)


def test_context_needs_noise(invertible_model):
    with pytest.raises(ParameterError, match="context"):
        invertible_model(size=2, context=torch.ones(2, invertible_model.latents, dtype=torch.float64))
