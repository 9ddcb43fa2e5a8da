"""Priors of parameters: their densities are those of the program's sites, their draws are exact, units cancel."""

import pyro
import pyro.poutine as poutine
import pytest
import torch
from scipy import stats

import probae as pa
from probae.parameter_priors import InverseGamma, Normal


def trace_of(model):
    with pyro.settings.context(module_local_params=True):
        return poutine.trace(model).get_trace(size=3)


def test_the_density_of_the_loadings_is_that_of_the_programs_site():
    prior = Normal(torch.tensor([1.0, 2.0, 0.5, 3.0]))
    site = trace_of(pa.FactorAnalysis(4, 2).with_priors(loadings=prior)).nodes["loadings"]
    expected = site["fn"].log_prob(site["value"])
    torch.testing.assert_close(prior.log_prob({}, site["value"][None])[0], expected)


def test_the_density_of_the_noise_is_that_of_the_programs_site():
    prior = InverseGamma(3.0, torch.tensor([1.0, 2.0, 0.5, 3.0]))
    site = trace_of(pa.FactorAnalysis(4, 2).with_priors(noise_variance=prior)).nodes["noise_variance"]
    torch.testing.assert_close(prior.log_prob(site["value"]).sum(), site["fn"].log_prob(site["value"]))


def test_a_variance_is_drawn_from_the_conjugate_law():
    torch.manual_seed(0)
    draws = InverseGamma(2.0, 0.5).draw(torch.full((4000,), 3.0), 7)
    # IG(2 + 7/2, .5 + 3/2); the test is of level 1e-4
    assert stats.kstest(draws.numpy(), stats.invgamma(5.5, scale=2.0).cdf).pvalue > 1e-4


@pytest.mark.parametrize("scale", [2.0, torch.tensor([1.0, 2.0, 4.0])])
def test_a_prior_in_units_is_that_of_the_rescaled_parameter(scale):
    units = torch.tensor([0.5, 3.0, 10.0], dtype=torch.float64)
    loadings = torch.randn(1, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prior = Normal(scale)
    inner = prior.in_units(units).log_prob({}, loadings / units[:, None])
    # change of variables: 2 loadings for each unit
    torch.testing.assert_close(inner - 2 * units.log().sum(), prior.log_prob({}, loadings))
    noise = InverseGamma(2.0, scale)
    variance = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)
    inner = noise.in_units(units).log_prob(variance / units.square())
    torch.testing.assert_close(inner - 2 * units.log(), noise.log_prob(variance))


def test_only_one_scale_for_all_factors_is_rotation_invariant():
    assert Normal(torch.ones(5)).rotation_invariant
    assert not Normal(torch.tensor([[1.0, 2.0]]).expand(5, 2)).rotation_invariant


def test_a_point_model_has_its_values_back():
    model = pa.FactorAnalysis(4, 2)
    random = model.with_priors(loadings=Normal(), noise_variance=InverseGamma()).with_priors(mean=Normal())
    point = random.point()
    assert random.random_parameters == ["loadings", "noise_variance", "mean"]
    assert point.random_parameters == []
    assert set(point.parameter_priors) == {"loadings", "noise_variance", "mean"}
    for name in model.parameter_names:
        assert torch.equal(getattr(point, name), getattr(model, name))


@pytest.mark.parametrize("law", [pa.parameter_priors.Flat(), pa.parameter_priors.Fixed()])
def test_a_prior_without_a_site_gives_the_mean_its_value_back(law):
    model = pa.FactorAnalysis(4, 2)
    model.mean = torch.arange(4.0, dtype=torch.float64)
    again = model.with_priors(mean=Normal()).with_priors(mean=law)
    assert again.random_parameters == []
    assert again.parameter_priors == {"mean": law}
    assert torch.equal(again.mean, model.mean)
    assert again.sample(2, seed=0).shape == (2, 4)


def test_a_method_that_estimates_the_mean_refuses_a_fixed_one():
    model = pa.FactorAnalysis(4, 1).with_priors(mean=pa.parameter_priors.Fixed())
    x = model.sample(50, seed=0)
    for method in (pa.MaximumLikelihood(), None):
        with pytest.raises(pa.ParameterError, match=r"estimates the mean.*Fixed\(\)"):
            pa.fit(model, x, method)


@pytest.mark.parametrize(
    "law", [Normal(torch.ones(3)), Normal(1.0, torch.ones(3)), InverseGamma(2.0, torch.ones(3))]
)
def test_numbers_for_another_number_of_features_are_refused(law):
    name = "mean" if isinstance(law, Normal) else "noise_variance"
    with pytest.raises(pa.ParameterError, match=r"shape \(4,\) should .* got shape \(3,\)"):
        pa.FactorAnalysis(4, 1).with_priors(**{name: law})


def test_one_noise_variance_has_one_scale():
    with pytest.raises(pa.ParameterError, match=r"shape \(\) should .* got shape \(4,\)"):
        pa.ProbabilisticPCA(4, 1).with_priors(noise_variance=InverseGamma(2.0, torch.ones(4)))


def test_a_location_is_finite_and_of_the_mean_alone():
    with pytest.raises(pa.ParameterError, match="loc should be finite"):
        Normal(1.0, loc=float("nan"))
    with pytest.raises(pa.ParameterError, match="loc is of the mean alone"):
        pa.FactorAnalysis(4, 1).with_priors(loadings=Normal(1.0, loc=2.0))


@pytest.mark.parametrize(
    "scale", [0.0, -1.0, float("nan"), torch.tensor([1.0, 0.0]), "wide", None, [[1.0], [1.0, 2.0]]]
)
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(pa.ParameterError, match="finite numbers above 0"):
        Normal(scale)
    with pytest.raises(pa.ParameterError, match="finite numbers above 0"):
        InverseGamma(2.0, scale)
