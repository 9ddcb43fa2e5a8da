"""The reasons GUIDE_DRIVEN and PRIOR_DRIVEN: when they are given, and when a range in nats is not enough."""

import dataclasses
import math

import pyro.distributions as dist
import pytest
import torch

import probae as pa
from probae.identifiability.frames import FrameComparison
from probae.identifiability.guide import InferenceEvidence, guide_reason, inference_evidence, prior_reason
from probae.identifiability.hadamard import guide_gap
from probae.identifiability.prior_orbit import prior_orbit
from probae.linalg import givens

FAR = FrameComparison(degrees=30.0, gain=0.02, error=0.004, law="Laplace()")
NEAR = dataclasses.replace(FAR, degrees=4.0)
CHANCE = dataclasses.replace(FAR, gain=0.004)


def columns_at(degrees, prior=None):
    angle = math.radians(degrees)
    model = pa.LinearFactorModel(2, 2, prior or pa.priors.Gaussian(), noise="isotropic")
    columns = [[1.0, math.cos(angle)], [0.0, math.sin(angle)]]
    model.loadings = 1.5 * torch.tensor(columns, dtype=torch.float64)
    model.noise_variance = torch.tensor(1.0, dtype=torch.float64)
    return model


@pytest.mark.parametrize(
    ("restricted", "frame", "error", "driven"),
    [
        (True, FAR, 2.0, True),
        (True, FAR, 14.0, True),  # an error counts as 13 degrees at most
        (True, FAR, math.inf, True),
        (True, dataclasses.replace(FAR, degrees=20.0), 12.0, False),  # within 2 standard errors
        (True, NEAR, 0.1, False),  # below 5 degrees
        (True, CHANCE, 2.0, False),  # 1 standard error better
        (True, None, 2.0, False),
        (False, FAR, 2.0, False),  # an exact posterior has no guide to blame
    ],
)
def test_axes_of_an_identified_model_are_the_guides_only_if_the_exact_optimum_is_elsewhere(
    restricted, frame, error, driven
):
    reason = guide_reason(InferenceEvidence(restricted), frame, error, identified=True)
    assert (reason is not None) is driven


def test_a_large_gap_alone_blames_no_guide_of_an_identified_model():
    """Columns at 35 degrees: the gap of 58 nats exceeds any likelihood range of a Laplace pair, and says nothing."""
    gap = guide_gap(columns_at(35.0, pa.priors.Laplace()), samples=300)
    assert gap.artefact > 58
    assert guide_reason(InferenceEvidence(True, gap), NEAR, 1.0, identified=True) is None


def test_gaussian_axes_are_the_guides_where_it_puts_them_and_nowhere_else():
    """Case 17: 58 nats at 300 rows, best 45 degrees from the columns."""
    model = columns_at(35.0)
    assert (
        guide_reason(InferenceEvidence(True, guide_gap(model, 300)), None, math.inf, identified=False) is None
    )
    model.loadings = model.loadings.detach() @ givens(2, 0, 1, math.radians(45.0))
    evidence = InferenceEvidence(True, guide_gap(model, 300))
    reason = guide_reason(evidence, None, math.inf, identified=False)
    assert reason is not None
    assert "58.2 nats" in reason
    assert guide_reason(dataclasses.replace(evidence, restricted=False), None, 1.0, identified=False) is None
    few = InferenceEvidence(True, guide_gap(model, 5))
    assert guide_reason(few, None, math.inf, identified=False) is None  # 1 nat is no preference


def test_gaussian_axes_are_the_priors_where_it_puts_them():
    """Case 18: the likelihood is flat and a Laplace prior of scale .1 is not."""
    simple = torch.tensor([[0.9, 0.0], [0.7, 0.1], [0.8, 0.0], [0.0, 0.6], [0.05, 0.9], [0.0, 0.7]]).double()
    x = pa.datasets.linear_factors(100, 6, 2, prior=pa.priors.Gaussian(), noise=0.3, seed=0).x
    run = pa.fit(pa.FactorAnalysis(6, 2), x)
    for turn, driven in ((0.0, True), (40.0, False)):
        model = pa.FactorAnalysis(6, 2)
        model.loadings = simple @ givens(2, 0, 1, math.radians(turn))
        fit = dataclasses.replace(
            run, model=model, program=model.with_priors(loadings=dist.Laplace(0.0, 0.1))
        )
        evidence = InferenceEvidence(False, orbit=prior_orbit(fit, x))
        reason = prior_reason(evidence, None, math.inf, identified=False)
        assert (reason is not None) is driven
        # where the likelihood has axes of its own, they must be elsewhere
        assert prior_reason(evidence, NEAR, 1.0, identified=True) is None
        assert (prior_reason(evidence, FAR, 1.0, identified=True) is not None) is driven
    assert prior_reason(InferenceEvidence(False), None, math.inf, identified=False) is None


def test_cheap_evidence_of_every_kind_of_model_is_gathered():
    x = pa.datasets.holzinger_swineford().x
    found = inference_evidence(pa.fit(pa.FactorAnalysis(9, 3), x), x, samples=len(x), restricted=False)
    assert found.gap.turn < 1e-3  # maximum likelihood answers on principal axes, the guide's own
    assert found.orbit is None
    assert [line.split(":")[0] for line in found.lines()] == [
        "simple-structure evidence"
    ]  # no guide was used
    restricted = inference_evidence(pa.fit(pa.FactorAnalysis(9, 3), x), x, samples=len(x), restricted=True)
    assert len(restricted.lines()) == 2
    plain = found.to_dict()
    assert plain["mean_field_gap"]["samples"] == 301
    assert plain["restarts"] is None
    few = pa.datasets.linear_factors(200, 2, 2, noise=0.0, seed=0).x
    square = inference_evidence(
        pa.fit(pa.IndependentComponents(2, 2), few), few, samples=200, restricted=False
    )
    assert square.gap is None
    assert (
        inference_evidence(pa.fit(pa.FactorAnalysis(9, 1), x), x, samples=301, restricted=False).lines() == []
    )
    none = inference_evidence(pa.fit(pa.FactorAnalysis(9, 3), x), samples=0, restricted=False)
    assert none.gap is None
