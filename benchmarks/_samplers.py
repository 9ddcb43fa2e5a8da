r"""Samplers of one posterior, each run in a process of its own: `python -m benchmarks._samplers <job in JSON>`.

The model of every one, at a known mean of zero:

.. math:: W_{dk} \sim N(0, 1), \quad \psi_d \sim IG(2, 1/2), \quad z_n \sim N(0, I), \quad x_n \sim N(W z_n, diag \psi)

The clock starts when data and libraries are there and stops when the draws are: compilation, adaptation and warm-up are
inside. What is saved are the draws of the uniquenesses and of the entries of W W' on and above the diagonal.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SHAPE, SCALE = 2.0, 0.5  # of the inverse gamma prior of the uniquenesses
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


@dataclass(frozen=True)
class Job:
    """One run of one sampler."""

    sampler: str
    rows: int
    features: int
    latents: int
    chains: int
    warmup: int
    draws: int
    seed: int = 0
    data_seed: int = 0
    output: str = "draws.npz"


@dataclass(frozen=True)
class Drawn:
    """Loadings (chain, draw, D, K) and uniquenesses (chain, draw, D), with what the sampler says of itself."""

    loadings: np.ndarray
    uniquenesses: np.ndarray
    notes: dict[str, Any]


def simulate(job: Job) -> np.ndarray:
    """Draw parameters from the priors and rows from the model."""
    generator = np.random.default_rng(job.data_seed)
    W = generator.standard_normal((job.features, job.latents))
    psi = SCALE / generator.gamma(SHAPE, size=job.features)
    z, noise = (generator.standard_normal((job.rows, width)) for width in (job.latents, job.features))
    return z @ W.T + noise * np.sqrt(psi)


def invariants(drawn: Drawn) -> np.ndarray:
    """Return uniquenesses and the upper triangle of W W' (chain, draw, D + D (D + 1) / 2)."""
    W = np.asarray(drawn.loadings, dtype=np.float64)
    rows, columns = np.triu_indices(W.shape[-2])
    products = (W[..., rows, :] * W[..., columns, :]).sum(-1)
    return np.concatenate([np.asarray(drawn.uniquenesses, dtype=np.float64), products], -1)


def gibbs(job: Job, x: np.ndarray) -> Callable[[], Drawn]:
    """Draw by `pa.Gibbs`."""
    import probae as pa

    return _by_probae(job, x, pa.Gibbs(draws=job.draws, warmup=job.warmup, chains=job.chains))


def nuts(job: Job, x: np.ndarray) -> Callable[[], Drawn]:
    """Draw by `pa.NUTS`."""
    import probae as pa

    return _by_probae(job, x, pa.NUTS(draws=job.draws, warmup=job.warmup, chains=job.chains))


def _by_probae(job: Job, x: np.ndarray, method: Any) -> Callable[[], Drawn]:
    import probae as pa

    model = pa.FactorAnalysis(job.features, job.latents).with_priors(
        loadings=pa.parameter_priors.Normal(1.0),
        noise_variance=pa.parameter_priors.InverseGamma(SHAPE, SCALE),
        mean=pa.parameter_priors.Fixed(),
    )

    def run() -> Drawn:
        found = pa.fit(model, x, method, seed=job.seed)
        assert found.draws is not None
        return Drawn(found.draws["loadings"].numpy(), found.draws["noise_variance"].numpy(), {})

    return run


def numpyro_collapsed(job: Job, x: np.ndarray) -> Callable[[], Drawn]:
    """Draw by NumPyro's NUTS on the density with z integrated out, which needs the moments only."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    def program(scatter: Any) -> None:
        W = numpyro.sample("W", dist.Normal(0.0, 1.0).expand((job.features, job.latents)).to_event(2))
        psi = numpyro.sample("psi", dist.InverseGamma(SHAPE, SCALE).expand((job.features,)).to_event(1))
        A = W.T / psi
        L = jnp.linalg.cholesky(jnp.eye(job.latents) + A @ W)
        B = jnp.linalg.solve(L, A)
        log_det = jnp.log(psi).sum() + 2 * jnp.log(jnp.diagonal(L)).sum()
        quadratic = (jnp.diagonal(scatter) / psi).sum() - ((B @ scatter) * B).sum()
        numpyro.factor("x", -0.5 * (job.rows * log_det + quadratic))

    return _by_numpyro(job, program, x.T @ x)


def numpyro_joint(job: Job, x: np.ndarray) -> Callable[[], Drawn]:
    """Draw by NumPyro's NUTS on the density of parameters and z."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    def program(x: Any) -> None:
        W = numpyro.sample("W", dist.Normal(0.0, 1.0).expand((job.features, job.latents)).to_event(2))
        psi = numpyro.sample("psi", dist.InverseGamma(SHAPE, SCALE).expand((job.features,)).to_event(1))
        with numpyro.plate("samples", job.rows):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand((job.latents,)).to_event(1))
            numpyro.sample("x", dist.Normal(z @ W.T, jnp.sqrt(psi)).to_event(1), obs=x)

    return _by_numpyro(job, program, x)


def _by_numpyro(job: Job, program: Callable[[Any], None], data: np.ndarray) -> Callable[[], Drawn]:
    import jax
    from numpyro.infer import MCMC, NUTS

    jax.config.update("jax_enable_x64", True)

    def run() -> Drawn:
        sampler = MCMC(
            NUTS(program), num_warmup=job.warmup, num_samples=job.draws, num_chains=job.chains,
            chain_method="vectorized", progress_bar=False,
        )  # fmt: skip
        sampler.run(
            jax.random.key(job.seed), jax.numpy.asarray(data), extra_fields=("num_steps", "diverging")
        )
        found, extra = sampler.get_samples(group_by_chain=True), sampler.get_extra_fields(group_by_chain=True)
        steps, diverging = np.asarray(extra["num_steps"]), np.asarray(extra["diverging"])
        notes = {"steps a draw": float(steps.mean()), "divergences": int(diverging.sum())}
        return Drawn(np.asarray(found["W"]), np.asarray(found["psi"]), notes)

    return run


def pyro_joint(job: Job, x: np.ndarray) -> Callable[[], Drawn]:
    """Take steps of Pyro's NUTS, its potential compiled, on the density of parameters and z.

    The step is so small that every tree grows to its full depth: 31 steps for each draw, whose time is what is asked.
    The time before the end of the first draw, compilation, is not counted.
    """
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer import MCMC, NUTS

    torch.set_default_dtype(torch.float64)
    pyro.enable_validation(False)

    def program(x: Any) -> None:
        W = pyro.sample("W", dist.Normal(0.0, 1.0).expand((job.features, job.latents)).to_event(2))
        psi = pyro.sample("psi", dist.InverseGamma(SHAPE, SCALE).expand((job.features,)).to_event(1))
        with pyro.plate("samples", job.rows):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand((job.latents,)).to_event(1))
            pyro.sample("x", dist.Normal(z @ W.mT, psi.sqrt()).to_event(1), obs=x)

    def run() -> Drawn:
        pyro.set_rng_seed(job.seed)
        ends: list[float] = []
        kernel = NUTS(
            program, step_size=1e-5, adapt_step_size=False, adapt_mass_matrix=False, max_tree_depth=5,
            jit_compile=True, ignore_jit_warnings=True,
        )  # fmt: skip
        sampler = MCMC(
            kernel, job.draws, 1, disable_progbar=True, hook_fn=lambda *_: ends.append(time.process_time())
        )
        sampler.run(torch.as_tensor(x))
        found = sampler.get_samples(group_by_chain=True)
        steps = (len(ends) - 1) * (2**5 - 1)
        return Drawn(
            found["W"].numpy(), found["psi"].numpy(), {"seconds a step": (ends[-1] - ends[0]) / steps}
        )

    return run


SAMPLERS = {
    "Gibbs": gibbs,
    "NUTS": nuts,
    "NumPyro collapsed": numpyro_collapsed,
    "NumPyro joint": numpyro_joint,
    "Pyro joint": pyro_joint,
}


def in_process_of_its_own(
    job: Job, environment: dict[str, str] | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Run a job in a fresh interpreter with one thread; return its invariants and its notes."""
    import subprocess

    command = [sys.executable, "-m", "benchmarks._samplers", json.dumps(asdict(job))]
    subprocess.run(command, check=True, env=os.environ | ONE_THREAD | (environment or {}))
    with np.load(job.output) as saved:
        return saved["invariants"], json.loads(str(saved["notes"]))


def main(job: Job) -> None:
    """Run one job and save what it found."""
    if job.sampler.startswith(("Gibbs", "NUTS", "Pyro")):
        import torch

        torch.set_num_threads(1)
    x = simulate(job)
    run = SAMPLERS[job.sampler](job, x)  # what is imported or built here is outside the clock
    begin = time.perf_counter(), time.process_time()
    drawn = run()
    notes = {
        "seconds": time.perf_counter() - begin[0],
        "processor": time.process_time() - begin[1],
        **drawn.notes,
    }
    np.savez(Path(job.output), invariants=invariants(drawn), notes=np.asarray(json.dumps(notes)))


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
