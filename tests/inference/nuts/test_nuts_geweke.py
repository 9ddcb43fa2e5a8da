"""Geweke's test of the moves of NUTS, at a fixed step: parameters, their gauge and back, and data of their own.

One chain after the other: a move with everything around it takes about a millisecond.
"""

import numpy as np
import pytest
import torch

import probae as pa
from probae.inference.nuts.collapsed import collapsed_log_density
from probae.inference.nuts.coordinates import Coordinates
from probae.inference.nuts.metric import Affine, inverse, whiten
from probae.inference.nuts.target import precision_of, target_of
from probae.inference.parameter_draws import Problem
from probae.statistics import SufficientStatistics

LAWS = pa.parameter_priors
ROWS, FEATURES, LATENTS = 6, 3, 2
SCALES = torch.tensor([[0.5, 1.5], [1.0, 1.0], [2.0, 0.7]]).double()

pytestmark = pytest.mark.usefixtures("unchecked")


class Kernel:
    """One move of a chain given its data."""

    def __init__(self, move_once, loadings=None, noise=None, mean=None, isotropic=False, own=None, seed=0):
        self.move_once, self.own = move_once, own
        self.loadings = loadings or LAWS.Normal(1.0)
        self.noise, self.mean = noise or LAWS.InverseGamma(2.0, 0.5), mean or LAWS.Fixed()
        kind = pa.ProbabilisticPCA if isotropic else pa.FactorAnalysis
        self.model, self.isotropic = kind(FEATURES, LATENTS), isotropic
        if self.loadings.rotation_invariant:
            first = torch.arange(6.0).reshape(FEATURES, LATENTS).double()
            self.place = Coordinates.gauged(first, isotropic=isotropic)
        else:
            self.place = Coordinates.raw(FEATURES, LATENTS, isotropic=isotropic)
        size = self.place.size
        self.affine = Affine(np.zeros(size), np.ones(size), np.zeros(0), np.zeros((0, size)))
        self.generator, self.haar = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def parameters(self, chains):
        """Draw from the priors."""
        scale = self.loadings.variance({}).sqrt()
        W = scale * torch.randn(chains, FEATURES, LATENTS, dtype=torch.float64)
        [(_, law)] = self.noise.sites(
            "noise_variance", torch.Size([chains, 1 if self.isotropic else FEATURES])
        ).items()
        mean = torch.zeros(chains, FEATURES, dtype=torch.float64)
        if isinstance(self.mean, LAWS.Normal):
            mean = self.mean.scale * torch.randn(mean.shape, dtype=torch.float64)
        return W, law.sample().double(), mean

    def data(self, theta):
        """Draw x."""
        W, noise, mean = theta
        z, own = (torch.randn(len(W), ROWS, k, dtype=torch.float64) for k in (LATENTS, FEATURES))
        return mean[:, None] + z @ W.mT + noise.sqrt()[:, None] * own

    def move(self, W, noise, mean, x):
        """Move once."""
        unit, zero = torch.ones(FEATURES).double(), torch.zeros(FEATURES).double()
        prior = self.own or self.loadings
        laws = [law.in_units(unit) for law in (prior, self.noise, self.mean)]
        problem = Problem(self.model, SufficientStatistics.from_data(x), *laws, zero, unit)
        xi = whiten(self.affine, self.place.pack(W, noise))[None]
        precision = precision_of(laws[0].variance({}), 1, self.place)
        target = target_of(problem, self.place)
        self.move_once(collapsed_log_density, xi, self.affine, precision, target, self.generator)
        W, noise, _ = self.place.unpack(inverse(self.affine, xi))
        return (
            self.place.turned(W, self.haar)[0],
            noise.reshape(-1),
            self._mean(W[0], noise.reshape(-1), x, mean),
        )

    def _mean(self, W, noise, x, mean):
        """The mean is integrated out of the moves; where it is random it is drawn given the rest."""
        if not isinstance(self.mean, LAWS.Normal):
            return mean
        covariance = (W @ W.mT + noise.expand(FEATURES).diag()) / len(x)
        gain = torch.linalg.inv(
            torch.linalg.inv(covariance) + torch.eye(FEATURES).double() / self.mean.scale**2
        )
        centre = gain @ torch.linalg.solve(covariance, x.mean(0))
        return centre + torch.linalg.cholesky(gain) @ torch.randn(FEATURES, dtype=torch.float64)


def functions(theta, x):
    """Ten functions with moments under heavy tails, none of which depends on the place of x."""
    W, noise, x = theta[0], theta[1].log(), x - x.mean(1, keepdim=True)
    cross = (W[:, 0] * W[:, 1]).sum(-1).tanh()
    size, lengths = x.square().mean((1, 2)).log(), W.square()
    return {
        "log psi[0]": noise[:, 0],
        "mean log psi": noise.mean(-1),
        "log(1 + mean W^2)": lengths.mean((1, 2)).log1p(),
        "log(1 + |w_0|^2)": lengths[:, 0].sum(-1).log1p(),
        "tanh (WW')[0,1]": cross,
        "log |I + W'W|": torch.logdet(torch.eye(LATENTS).double() + W.mT @ W),
        "tanh W[0,0]": W[:, 0, 0].tanh(),  # the rotation is put back
        "log mean x^2": size,
        "log mean x^2 - mean log psi": size - noise.mean(-1),
        "sign of x0 x1 and of (WW')[0,1]": (x[..., 0] * x[..., 1]).sum(1).tanh() * cross,
    }


KERNELS = {
    "gauged loadings": {},
    "a scale of its own for each loading": {"loadings": LAWS.Normal(SCALES)},
    "isotropic noise": {"isotropic": True},
    "half-normal noise": {"noise": LAWS.HalfNormal(0.8)},
    "flat mean": {"mean": LAWS.Flat()},
    "normal mean": {"mean": LAWS.Normal(0.7)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_moves_keep_the_joint_law(name, geweke, move_once):
    """Twenty moments: |z| > 4 in one of 800 runs."""
    found = geweke(Kernel(move_once, **KERNELS[name]), functions)
    assert found.passed, str(found)


@pytest.mark.slow
def test_a_scale_of_the_prior_that_is_10_percent_off_gives_z_above_6(geweke, move_once):
    found = geweke(Kernel(move_once, own=LAWS.Normal(1.1)), functions, iterations=800)
    assert found.z.abs().max() > 6, str(found)
