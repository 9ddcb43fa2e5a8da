"""The compiled sweep leaves the joint law of parameters and rows alone (Geweke, 2004). One data set a chain: slow."""

import numpy as np
import pytest
import torch

from probae.inference.gibbs.compiled_chains import draw_numbers, given_of
from probae.inference.gibbs.compiled_sweep import Kept, sweep_chains
from probae.inference.gibbs.rows import Rows
from probae.parameter_priors import InverseGamma

CHAINS, SWEEPS = 1500, 5
NOISE = InverseGamma(3.0, 1.0)


def sweep(generator, loadings, noise, rows, isotropic, scale=1.0):
    """Draw rows given W' and psi, and sweep once given them, in place."""
    latents, features = loadings.shape[1:]
    error = np.sqrt(noise[0]) * generator.standard_normal((rows, features))
    x = generator.standard_normal((rows, latents)) @ loadings[0] + error
    root = np.linalg.cholesky(x.T @ x).T.copy() if rows > features else x
    seen = Rows(torch.from_numpy(root), torch.from_numpy((root**2).sum(0)), rows)
    given = given_of(seen, torch.full((1, 1), scale**2, dtype=torch.float64), NOISE, isotropic)
    width = float(np.hypot(rows - features - latents - 1, 2 * (rows * features) ** 0.5))
    kept = Kept(np.empty((1, *loadings.shape)), np.empty((1, *noise.shape)), *np.empty((3, 1, 1)))
    sweep_chains(given, loadings, noise, width, draw_numbers(generator, given, (1, 1), latents, width), kept)


def functions(loadings, noise):
    square = loadings[0].T @ loadings[0]
    size, log = np.log(np.diag(square)), np.log(noise[0])
    values = [log.mean(), log[0], size.mean(), size[0], np.tanh(square[0, -1]), (size * log).mean()]
    values += [np.tanh(size - log).mean(), np.log(np.trace(square))]
    return [*values, *np.square(values)]


def largest_z(rows, features, latents, isotropic=False, scale=1.0):
    """Largest change of a mean over sweeps and new rows, in standard errors; chains start at draws from the prior."""
    generator = np.random.Generator(np.random.SFC64(1))
    apart = []
    for _ in range(CHAINS):
        loadings = generator.standard_normal((1, latents, features))
        noise = (
            1.0 / generator.standard_gamma(3.0, (1, 1 if isotropic else features)) * np.ones((1, features))
        )
        before = functions(loadings, noise)
        for _ in range(SWEEPS):
            sweep(generator, loadings, noise, rows, isotropic, scale)
        apart.append(np.subtract(functions(loadings, noise), before))
    apart = np.array(apart)
    return float(np.abs(apart.mean(0) / (apart.std(0) / CHAINS**0.5)).max())


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "features", "isotropic"), [(8, 4, False), (3, 5, False), (6, 4, True)])
def test_compiled_sweeps_and_new_rows_leave_the_prior_as_it_is(rows, features, isotropic):
    """Sixteen functions in three cases: |z| > 4.5 has probability 3e-4."""
    assert largest_z(rows, features, 2, isotropic) < 4.5


@pytest.mark.slow
def test_a_prior_scale_off_by_a_tenth_is_caught_in_compiled_sweeps():
    assert largest_z(8, 4, 2, scale=1.1) > 6
