"""Geweke's test of every kernel of Gibbs: sweeps and new rows, in turn, keep the joint law of parameters and rows.

Chains of one engine carry simulations of their own: chain c has data of its own.
"""

import pytest
import torch

import probae as pa

LAWS = pa.parameter_priors


SCALES = torch.tensor([[0.5, 1.5], [1.0, 1.0], [2.0, 0.7], [1.0, 0.3]]).double()
KERNELS = {
    "one normal law": {},
    "a remainder of full rank": {"rows": 10},
    "fewer rows than features": {"rows": 3, "features": 5},
    "more factors than features": {"features": 2, "latents": 3},
    "a scale of its own for each loading": {"loadings": LAWS.Normal(SCALES)},
    "isotropic noise": {"isotropic": True},
    "no orthogonal move": {"turn": False},
    "flat mean": {"mean": LAWS.Flat()},
    "normal mean": {"mean": LAWS.Normal(0.7)},
    "missing entries": {"missing": True},
    "missing entries, normal mean": {"missing": True, "mean": LAWS.Normal(0.7), "rows": 5},
    "ARD": {"loadings": LAWS.ARD()},
    "multiplicative gamma": {"loadings": LAWS.MultiplicativeGamma()},
    "horseshoe": {"loadings": LAWS.Horseshoe()},
    "spike and slab": {"loadings": LAWS.SpikeSlab()},
    "half-normal noise": {"noise": LAWS.HalfNormal(0.8)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_keeps_the_joint_law(name, geweke, Case):
    """Twenty moments: |z| > 4 in one of 800 runs."""
    found = geweke(Case(**KERNELS[name]))
    assert found.passed, str(found)


def test_the_common_kernel_keeps_the_joint_law(geweke, Case):
    assert geweke(Case(**KERNELS["one normal law"]), iterations=60, chains=100).passed


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_a_scale_of_the_prior_that_is_10_percent_off_gives_z_above_6(scale, geweke, Case):
    """At six rows the prior has a say; of the averaged functions |I + W'W| sees it best."""
    found = geweke(Case(**KERNELS["one normal law"]), wrong_loadings=LAWS.Normal(scale))
    assert found.z.abs().max() > 6, str(found)
