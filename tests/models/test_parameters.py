"""Parameters stay in the module: shapes, stores, copies, ties, priors."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.nn import PyroModule, PyroSample

from probae import DataError, ParameterError
from probae.encoders import LinearGaussianEncoder
from probae.models import FactorAnalysis, ProbabilisticPCA, SparseCoding


def traced(model, *args, **kwargs):
    trace = poutine.trace(model).get_trace(*args, **kwargs)
    trace.compute_log_prob()
    return trace


def sites(trace):
    """Names of the random sites, the subsampling of plates left out."""
    return {name for name in trace.stochastic_nodes if name != "samples"} | set(trace.observation_nodes)


class Watched(FactorAnalysis):
    """Records the shapes that its parameters have while the program runs."""

    def program(self, x, context, *rest):
        self.seen = {name: tuple(getattr(self, name).shape) for name in self.parameter_names}
        return super().program(x, context, *rest)


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
    model, encoder = FactorAnalysis(4, 1), LinearGaussianEncoder(4, 1).double()
    with pyro.settings.context(module_local_params=True):
        guide = encoder.guide()
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
    random = model.with_priors(loadings=dist.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0))
    assert model.random_parameters == []
    assert random.random_parameters == ["loadings"]
    assert sites(traced(random, torch.zeros(5, 4, dtype=torch.float64))) == {"loadings", "z", "x"}
    assert sites(traced(model, torch.zeros(5, 4, dtype=torch.float64))) == {"z", "x"}


def test_a_prior_made_of_plain_numbers_runs():
    """As in the example of `with_priors`: torch makes such a law in float32, the program is in float64."""
    random = FactorAnalysis(4, 2).with_priors(loadings=dist.Normal(0.0, 1.0))
    assert random(size=5).shape == (5, 4)


def test_predictive_draws_parameters_and_rows():
    model = FactorAnalysis(4, 2).with_priors(
        loadings=dist.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0),
        noise_variance=dist.Gamma(torch.tensor(2.0, dtype=torch.float64), 1.0),
    )
    with pyro.settings.context(module_local_params=True):
        draws = Predictive(model, num_samples=3)(size=5)
    assert draws["loadings"].shape == (3, 1, 4, 2)  # Pyro gives a site outside the plate an axis of one
    assert draws["noise_variance"].shape == (3, 1, 4)
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
