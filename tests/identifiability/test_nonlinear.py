"""Decoders: a linear one is the factor model it is, any other gets no verdict on its axes."""

import json
from dataclasses import replace

import torch

import probae as pa
from probae.identifiability.given import given_fit
from probae.identifiability.nonlinear import linear_fit

X = pa.datasets.linear_factors(300, 5, 2, prior=pa.priors.Gaussian(), seed=0).x


def decoded(decoder, likelihood=None):
    """A fit that holds an autoencoder, with the weights it starts from."""
    model = pa.Autoencoder(5, 2, decoder=decoder, likelihood=likelihood)
    return replace(given_fit(pa.FactorAnalysis(5, 2), "a test"), model=model, program=model)


def test_a_linear_decoder_is_a_linear_factor_model():
    for noise in ("isotropic", "diagonal"):
        run = decoded(pa.decoders.LinearDecoder(2, 5), pa.likelihoods.Gaussian(noise))
        linear = linear_fit(run)
        z = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        theirs, ours = (model.log_joint(X, z).detach() for model in (run.model, linear.model))
        assert torch.allclose(theirs, ours, atol=1e-9)
        assert linear.model.noise == noise
    assert pa.audit(run, X).group == "O(2)"


def test_no_theorem_says_that_axes_of_another_decoder_are_identified():
    for decoder, likelihood in (
        (pa.decoders.MLPDecoder(2, 5), None),
        (pa.decoders.LinearDecoder(2, 5), pa.likelihoods.Bernoulli()),
    ):
        report = pa.audit(decoded(decoder, likelihood), X)
        assert (report.verdict.name, report.group) == ("NO_THEOREM", "unknown")
        assert "SP(" not in str(report)
        assert f"{type(decoder).__name__}(z) with " in str(report)
        assert json.loads(json.dumps(report.to_dict()))["structure"]["group"] == "unknown"
