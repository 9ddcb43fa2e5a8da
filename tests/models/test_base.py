"""The models as Pyro programs: sites, plates, scaling, parameters that stay in the module."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.nn import PyroModule, PyroSample

from probae import DataError, NotExactError, ParameterError
from probae.encoders import LinearGaussianEncoder
from probae.models import FactorAnalysis, LatentModel, LinearFactorModel, ProbabilisticPCA, SparseCoding
from probae.priors import Gaussian, Laplace, MultivariateStudentT


def traced(model, *args, **kwargs):
    trace = poutine.trace(model).get_trace(*args, **kwargs)
    trace.compute_log_prob()
    return trace


def sites(trace):
    """Names of the random sites, the subsampling of plates left out."""
    return {name for name in trace.stochastic_nodes if name != "samples"} | set(trace.observation_nodes)


# -- The trace --------------------------------------------------------------------------------------------------


def test_sites_and_shapes_of_the_trace(model):
    x = model.sample(7, seed=0)
    trace = traced(model, x)
    free = {"z"} if model.noise != "none" else set()
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


def test_likelihood_is_the_trace_without_noise(noiseless_model):
    x = noiseless_model.sample(7, seed=0)
    trace = traced(noiseless_model, x)
    assert torch.allclose(trace.nodes["x"]["log_prob"], noiseless_model.log_likelihood(x), rtol=1e-12)
    assert torch.allclose(trace.nodes["z"]["value"], noiseless_model.posterior(x).mean, rtol=1e-12)


def test_a_simulated_noiseless_trace_maps_z_to_x(noiseless_model):
    trace = traced(noiseless_model, size=6)
    z, x = trace.nodes["z"]["value"], trace.nodes["x"]["value"]
    assert torch.allclose(noiseless_model.mean + z @ noiseless_model.loadings.mT, x, rtol=1e-9, atol=1e-9)


def test_missing_rows_are_not_silently_nan_without_noise(noiseless_model):
    x = noiseless_model.sample(3, seed=0)
    x[1, 0] = torch.nan
    with pytest.raises((DataError, ParameterError)):
        traced(noiseless_model, x)


def test_a_minibatch_is_scaled_to_the_whole_data(model):
    x = model.sample(5, seed=0)
    z = traced(model, x).nodes["z"]["value"].detach()
    fixed = poutine.condition(model, {"z": z}) if model.noise != "none" else model
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


# -- Parameters stay in the module ------------------------------------------------------------------------------


class Watched(FactorAnalysis):
    """Records the shapes that its parameters have while the program runs."""

    def program(self, x, context):
        self.seen = {name: tuple(getattr(self, name).shape) for name in self.parameter_names}
        return super().program(x, context)


def test_parameters_keep_their_shape_inside_the_plate():
    model = Watched(4, 2)
    model(torch.zeros(7, 4, dtype=torch.float64))
    assert model.seen == {"loadings": (4, 2), "noise_variance": (4,), "mean": (4,)}


def test_random_parameters_keep_their_shape_inside_the_plate():
    model = Watched(4, 2).with_priors(
        loadings=dist.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0),
        noise_variance=dist.Gamma(torch.tensor(2.0, dtype=torch.float64), 1.0),
        mean=dist.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0),
    )
    trace = traced(model, torch.zeros(7, 4, dtype=torch.float64))
    assert model.seen == {"loadings": (4, 2), "noise_variance": (4,), "mean": (4,)}
    assert sites(trace) == {"loadings", "noise_variance", "mean", "z", "x"}
    for name, shape in model.seen.items():
        assert trace.nodes[name]["log_prob"].shape == ()
        assert trace.nodes[name]["value"].shape == shape
        assert trace.nodes[name]["cond_indep_stack"] == ()


def test_two_models_queried_in_turn_agree_with_each_alone(random_state):
    """Pyro's global store would let the second model read the parameters of the first."""
    first, second = FactorAnalysis(4, 2), FactorAnalysis(4, 2)
    second.loadings = 3 * torch.ones(4, 2, dtype=torch.float64)
    second.uniquenesses = torch.full((4,), 0.01, dtype=torch.float64)
    x = torch.randn(5, 4, dtype=torch.float64)
    alone = [copy.deepcopy(m).posterior(x).mean for m in (first, second)]
    for _ in range(2):
        for model, expected in zip((first, second), alone, strict=True):
            model(x)
            assert torch.equal(model.posterior(x).mean, expected)
            model.sample(2, seed=0)
            model.marginal().log_prob(x)
    assert len(pyro.get_param_store()) == 0


def test_stock_svi_trains_in_the_documented_context():
    """The loss falls and no parameter reaches the global store."""
    x = FactorAnalysis(4, 1).sample(200, seed=0) * 2
    model, guide = FactorAnalysis(4, 1), LinearGaussianEncoder(4, 1).double().guide()
    with pyro.settings.context(module_local_params=True):
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
        losses = [svi.step(x) for _ in range(150)]
        assert len(pyro.get_param_store()) == 0
    assert sum(losses[-10:]) < sum(losses[:10])
    assert all(p.grad is not None for p in [*model.parameters(), *guide.parameters()])


def test_the_setting_is_not_left_on():
    assert not pyro.settings.get("module_local_params")
    FactorAnalysis(3, 1).sample(2, seed=0)
    assert not pyro.settings.get("module_local_params")
    with pytest.raises(DataError):
        FactorAnalysis(3, 1)()
    assert not pyro.settings.get("module_local_params")


def test_a_deep_copy_is_independent_and_keeps_ties(model):
    x = model.sample(3, seed=0)
    pair = copy.deepcopy((model, [model]))
    assert pair[0] is pair[1][0]
    before = [p.detach().clone() for p in model.parameters()]
    pair[0].loadings = torch.zeros_like(model.loadings.detach())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert model(x).shape == x.shape


def test_assigning_a_parameter_keeps_the_tensor_others_share():
    """An encoder tied to the loadings stays tied when a method writes new loadings."""
    model = FactorAnalysis(4, 2)
    shared = dict(model.named_parameters())["loadings_unconstrained"]
    model.loadings = torch.ones(4, 2, dtype=torch.float64)
    assert dict(model.named_parameters())["loadings_unconstrained"] is shared
    assert torch.equal(shared, torch.ones(4, 2, dtype=torch.float64))


def test_aliases_are_the_same_tensor():
    fa, sparse = FactorAnalysis(4, 2), SparseCoding(4, 6)
    psi = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    fa.uniquenesses = psi
    assert torch.allclose(fa.noise_variance, psi, rtol=1e-14)
    sparse.dictionary = torch.ones(4, 6, dtype=torch.float64)
    assert torch.equal(sparse.loadings, sparse.dictionary)
    assert torch.equal(sparse.loadings, torch.ones(4, 6, dtype=torch.float64))
    with pytest.raises(AttributeError):
        _ = ProbabilisticPCA(4, 2).uniquenesses


def test_a_prior_put_on_an_alias_is_honoured():
    model = FactorAnalysis(4, 2)
    law = dist.InverseGamma(torch.tensor(3.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64))
    model.uniquenesses = PyroSample(law.expand([4]).to_event(1))
    trace = traced(model, torch.zeros(5, 4, dtype=torch.float64))
    assert "noise_variance" in sites(trace)
    drawn = trace.nodes["noise_variance"]["value"]
    assert torch.equal(trace.nodes["x"]["fn"].base_dist.scale[0], drawn.sqrt())
    assert model.random_parameters == ["noise_variance"]


def test_queries_refuse_random_parameters():
    model = FactorAnalysis(4, 2).with_priors(loadings=dist.Normal(0.0, 1.0))
    x = torch.zeros(3, 4, dtype=torch.float64)
    for query in (
        lambda: model.log_likelihood(x),
        lambda: model.posterior(x),
        model.marginal,
        lambda: model.log_joint(x, torch.zeros(3, 2, dtype=torch.float64)),
        lambda: model.sufficient_scores(x),
    ):
        with pytest.raises(ParameterError, match="loadings"):
            query()


def test_with_priors_leaves_the_model_alone():
    model = FactorAnalysis(4, 2)
    random = model.with_priors(loadings=dist.Normal(0.0, 1.0))
    assert model.random_parameters == []
    assert random.random_parameters == ["loadings"]
    assert {"loadings", "z", "x"} == sites(traced(random, torch.zeros(5, 4, dtype=torch.float64)))


def test_predictive_draws_parameters_and_rows():
    model = FactorAnalysis(4, 2).with_priors(
        loadings=dist.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0),
        noise_variance=dist.Gamma(torch.tensor(2.0, dtype=torch.float64), 1.0),
    )
    with pyro.settings.context(module_local_params=True):
        draws = Predictive(model, num_samples=3)(size=5)
    assert draws["loadings"].shape == (3, 4, 2)
    assert draws["noise_variance"].shape == (3, 4)
    assert draws["z"].shape == (3, 5, 2)
    assert draws["x"].shape == (3, 5, 4)


def test_predictive_of_every_model(model):
    with pyro.settings.context(module_local_params=True):
        draws = Predictive(model, num_samples=3, return_sites=("x", "z"))(size=5)
    assert draws["x"].shape == (3, 5, model.features)
    assert draws["z"].shape == (3, 5, model.latents)


def test_a_model_can_be_part_of_a_larger_module():
    class Study(PyroModule):
        def __init__(self):
            super().__init__()
            self.first, self.second = FactorAnalysis(3, 1), FactorAnalysis(3, 1)

    study = Study()
    assert len(dict(study.named_parameters())) == 6
    assert study.first(torch.zeros(2, 3, dtype=torch.float64)).shape == (2, 3)


# -- Known variances of the latents -----------------------------------------------------------------------------


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
    fixed = poutine.condition(noisy_model, {"z": trace.nodes["z"]["value"]})
    assert traced(fixed, x, context=ones).log_prob_sum().item() == pytest.approx(trace.log_prob_sum().item(), rel=1e-12)


def test_context_needs_noise(noiseless_model):
    with pytest.raises(ParameterError, match="context"):
        noiseless_model(size=2, context=torch.ones(2, noiseless_model.latents, dtype=torch.float64))


# -- The abstract model -----------------------------------------------------------------------------------------


class Doubling(LatentModel):
    """x = 2 z + N(0, 1), with the default joint."""

    def likelihood(self, z):
        return dist.Normal(2 * z, torch.ones((), dtype=z.dtype)).to_event(1)

    def program(self, x, context):
        from probae.models.base import observe

        return observe(self.likelihood(pyro.sample("z", self.prior.distribution(self.latents))), x)


def test_a_models_own_likelihood_is_enough():
    model = Doubling(2, 2, Gaussian())
    x = model.sample(5, seed=0)
    trace = traced(model, x)
    total = trace.nodes["z"]["log_prob"] + trace.nodes["x"]["log_prob"]
    assert torch.allclose(model.log_joint(x, trace.nodes["z"]["value"]), total, rtol=1e-12)


def test_a_model_without_parameters_runs():
    """`LatentModel` asks nothing of a subclass but its likelihood."""

    class Fixed(LatentModel):
        def likelihood(self, z):
            return dist.Normal(2 * z, torch.ones((), dtype=z.dtype)).to_event(1)

    model = Fixed(2, 2, Gaussian())
    assert model(size=3).shape == (3, 2)


def test_the_abstract_model_says_what_is_missing():
    with pytest.raises(NotImplementedError):
        LatentModel(2, 2, Gaussian()).likelihood(torch.zeros(1, 2))


def test_repr_names_the_law():
    assert repr(FactorAnalysis(4, 2)) == "FactorAnalysis(4, 2, prior=Gaussian())"
    assert repr(SparseCoding(4, 8)) == "SparseCoding(4, 8, prior=Laplace())"
    assert issubclass(NotExactError, NotImplementedError)
