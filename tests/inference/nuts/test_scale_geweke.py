"""Geweke's test of the moves of parameters and scales, at a fixed step, with data drawn given both."""

import numpy as np
import pytest
import torch

import probae as pa
from probae.checks import Data
from probae.inference.nuts.metric import Affine
from probae.inference.nuts.scale_laws import coordinates_of, scale_laws
from probae.inference.nuts.scale_mixture import place_of, target_of
from probae.inference.nuts.scales import scale_log_density
from probae.inference.nuts.target import precision_of
from probae.inference.parameter_draws import Problem
from probae.priors import Independent, Laplace, Scaled, StudentT

LAWS = pa.parameter_priors
ROWS, FEATURES, LATENTS = 4, 3, 2

pytestmark = pytest.mark.usefixtures("unchecked")


class Kernel:
    """One move of a chain given its data; the scales may be those of another law than the density takes."""

    def __init__(self, move_once, prior=None, isotropic=False, mean=None, own=None, seed=0):
        kind = "isotropic" if isotropic else "diagonal"
        self.move_once, self.prior, self.isotropic = move_once, prior or Laplace(), isotropic
        self.model = pa.LinearFactorModel(FEATURES, LATENTS, prior=own or self.prior, noise=kind)
        self.noise, self.mean = LAWS.InverseGamma(3.0, 1.0), mean or LAWS.Fixed()
        self.generator = np.random.default_rng(seed)

    def parameters(self, chains):
        """Draw from the priors: W, psi, the mean and w."""
        W = torch.randn(chains, FEATURES, LATENTS, dtype=torch.float64)
        noise = 1.0 / torch._standard_gamma(
            torch.full((chains, 1 if self.isotropic else FEATURES), 3.0).double()
        )
        mean = torch.zeros(chains, FEATURES, dtype=torch.float64)
        if isinstance(self.mean, LAWS.Normal):
            mean = self.mean.scale * torch.randn(mean.shape, dtype=torch.float64)
        shape, power, size = torch.from_numpy(scale_laws(self.prior, LATENTS))
        tau = size * torch._standard_gamma(shape.expand(chains, ROWS, LATENTS).contiguous()) ** power
        return W, noise, mean, tau

    def data(self, theta):
        """Draw x given the scales."""
        W, noise, mean, tau = theta
        z = tau.sqrt() * torch.randn(tau.shape, dtype=torch.float64)
        own = torch.randn(len(W), ROWS, FEATURES, dtype=torch.float64)
        return mean[:, None] + z @ W.mT + noise.sqrt()[:, None] * own

    def move(self, W, noise, mean, tau, x):
        """Move once."""
        unit, zero = torch.ones(FEATURES).double(), torch.zeros(FEATURES).double()
        data = Data(x, None, None, torch.float64, None)
        problem = Problem(self.model, data, LAWS.Normal(1.0), self.noise, self.mean, zero, unit)
        place, laws = place_of(problem), scale_laws(self.model.prior, LATENTS)
        parameters = place.pack(W, noise, mean)
        theta = np.concatenate([parameters, coordinates_of(tau, laws)])[None]
        size = theta.shape[1]
        affine = Affine(np.zeros(size), np.ones(size), np.zeros(0), np.zeros((0, size)))
        precision = precision_of(torch.ones(1, 1, 1).double(), 1, place)
        self.move_once(scale_log_density, theta, affine, precision, target_of(problem), self.generator)
        W, noise, found = (part if part is None else part[0] for part in place.unpack(theta))
        g = np.logaddexp(0.0, theta[0, place.size :].reshape(ROWS, LATENTS))
        tau = torch.from_numpy(laws[2] * g ** laws[1])
        return W, noise.reshape(-1), mean if found is None else found, tau


def functions(theta, x):
    """Functions with moments under heavy tails."""
    W, noise, mean, tau = theta
    logs, size = tau.log(), (x - mean[:, None]).square().mean((1, 2)).log()
    strength = W.square().sum(1).log1p()
    return {
        "mean log psi": noise.log().mean(-1),
        "log(1 + |w_0|^2)": strength[:, 0],
        "log(1 + |w_1|^2)": strength[:, 1],
        "log tau[0,0]": logs[:, 0, 0],
        "mean log tau_0": logs[..., 0].mean(1),
        "mean log tau_1": logs[..., 1].mean(1),
        "spread of log tau_0": logs[..., 0].var(1).log1p(),
        "log tau_0 with |w_0|": logs[..., 0].mean(1) * strength[:, 0],
        "log mean x^2": size,
        "log mean x^2 with log tau": size * logs.mean((1, 2)),
        "tanh of the means": (mean + x.mean(1))[:, 0].tanh(),  # a fixed one alone has no spread
        "tanh W[0,0]": W[:, 0, 0].tanh(),
    }


KERNELS = {
    "Laplace": {},
    "t": {"prior": StudentT(4.0)},
    "laws of their own, isotropic noise": {
        "prior": Independent([Scaled(Laplace(), 0.7), StudentT(5.0)]),
        "isotropic": True,
    },
    "normal mean": {"mean": LAWS.Normal(0.7)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_moves_keep_the_joint_law(name, geweke, move_once):
    """Twenty-four moments: |z| > 4 in one of 650 runs."""
    found = geweke(Kernel(move_once, **KERNELS[name]), functions)
    assert found.passed, str(found)


@pytest.mark.slow
def test_a_law_of_the_scales_that_is_off_is_found(geweke, move_once):
    """Scales 20 percent too large in the density."""
    found = geweke(Kernel(move_once, own=Scaled(Laplace(), 1.2**0.5)), functions, iterations=400)
    assert found.z.abs().max() > 6, str(found)
