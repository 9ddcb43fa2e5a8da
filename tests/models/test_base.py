"""What the abstract model asks of a subclass."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from probae import NotExactError
from probae.models import FactorAnalysis, LatentModel, SparseCoding
from probae.priors import Gaussian


def traced(model, *args, **kwargs):
    trace = poutine.trace(model).get_trace(*args, **kwargs)
    trace.compute_log_prob()
    return trace


def sites(trace):
    """Names of the random sites, the subsampling of plates left out."""
    return {name for name in trace.stochastic_nodes if name != "samples"} | set(trace.observation_nodes)


class Doubling(LatentModel):
    """x = 2 z + N(0, 1), with the default joint."""

    def likelihood(self, z):
        return dist.Normal(2 * z, torch.ones((), dtype=z.dtype)).to_event(1)

    def program(self, x, context, *rest):
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
