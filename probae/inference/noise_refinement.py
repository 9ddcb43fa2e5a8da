r"""The noise variance and the scale of the codes by marginal likelihood, for a dictionary whose atoms stay as they are.

MAP residuals underestimate the noise, for the codes bend to it. Here the codes are sampled instead. With loadings c A,
A fixed, and c tied to the noise by the trace of the covariance, E |x - mean|^2 = c^2 |A|^2 + D sigma^2, one number is
left, and each step of stochastic EM finds the sigma^2 that maximises

    -D/2 log sigma^2 - E |x - mean - c A z|^2 / (2 sigma^2),   c = c(sigma^2)
"""

from __future__ import annotations

import math

import scipy.optimize
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.base import few_threads
from probae.inference.code_statistics import LEAST_NOISE
from probae.inference.gibbs_posterior import require_scale_mixture, start_chains, sweep
from probae.inference.scale_conditional import ScaleConditional
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters

ROWS = 2000  # more say little more of one number
STEPS = 150
SETTLED = 75  # steps before the averaging
GROWTH, LONGEST = 1.2, 30.0  # of a step, in steps of EM, which are short where the noise is a small part
SHARES = (LEAST_NOISE, 0.999)  # of the variance of a row that may be noise


@local_parameters
@torch.no_grad()
def refine_noise(model: LinearFactorModel, x: Float[Tensor, "samples features"], seed: int = 0) -> None:
    """Set ``noise_variance`` and the common scale of the loadings by marginal likelihood; atoms and mean stay.

    Parameters
    ----------
    model : LinearFactorModel
        Isotropic noise, a scale mixture as prior, loadings that are right up to one factor.
    x : Tensor (N, D)
        At most 2,000 rows of it are used.
    seed : int
        The caller's random state is left as it was.

    Raises
    ------
    NotExactError
        For a prior that is no scale mixture.

    Examples
    --------
    >>> import probae as pa, torch
    >>> truth = pa.SparseCoding(8, 4)
    >>> truth.noise_variance = torch.tensor(0.1, dtype=torch.float64)
    >>> model = pa.SparseCoding(8, 4)                    # the same atoms, another noise variance and scale
    >>> model.loadings = 3 * truth.loadings.detach()
    >>> refine_noise(model, truth.sample(500, seed=0))
    >>> 0.08 < model.noise_variance.item() < 0.12
    True
    """
    require_scale_mixture(model, "refine_noise")
    with torch.random.fork_rng(devices=[]), few_threads(ROWS * model.latents * model.features):
        torch.default_generator.manual_seed(seed)
        centred = x.double() - model.mean.detach().double()
        power = float(centred.square().sum(1).mean())  # of all rows, so that the trace is exact
        atoms = model.loadings.detach().double()
        atoms = atoms / atoms.norm()
        noise = _maximize(model, centred[torch.randperm(len(x))[:ROWS]], atoms, power)
    model.noise_variance = torch.tensor(noise, dtype=torch.float64)
    model.loadings = _scale(noise, power, model.features) * atoms


def _scale(noise: float, power: float, features: int) -> float:
    """Return the norm of the loadings that leaves ``noise`` of the power to each feature."""
    return math.sqrt(max(power - features * noise, 0.0))


def _maximize(model: LinearFactorModel, centred: Tensor, atoms: Tensor, power: float) -> float:
    """Run stochastic EM on the log noise variance, with longer steps while they agree, and average its second half."""
    features = model.features
    own = float(centred.square().sum(1).mean())
    least, most = (math.log(share * power / features) for share in SHARES)
    log_noise = math.log(0.2 * power / features)
    z = start_chains(model.prior, centred, model.latents)
    stretch, before, visited = 1.0, 0.0, []
    for step in range(STEPS):
        noise = math.exp(log_noise)
        law = ScaleConditional(
            _scale(noise, power, features) * atoms, torch.tensor(noise, dtype=torch.float64)
        )
        y = law.whiten(centred)
        for rows in law.blocks(len(centred)):
            z[rows] = sweep(model.prior, law, z[rows], y[rows]).z
        fitted = z @ atoms.mT
        along, explained = float((centred * fitted).sum(1).mean()), float(fitted.square().sum(1).mean())

        def loss(candidate: float, along: float = along, explained: float = explained) -> float:
            scale = _scale(math.exp(candidate), power, features)
            return features * candidate + (own - 2 * scale * along + scale**2 * explained) / math.exp(
                candidate
            )

        change = scipy.optimize.minimize_scalar(loss, bounds=(least, most), method="bounded").x - log_noise
        stretch = min(stretch * GROWTH, LONGEST) if change * before > 0 else max(stretch / 2, 1.0)
        before = change
        log_noise = min(max(log_noise + max(min(stretch * change, 1.0), -1.0), least), most)
        if step >= SETTLED:
            visited.append(log_noise)
    return math.exp(sum(visited) / len(visited))
