"""One chain of Pyro's own no-U-turn sampler, and what it tells of its moves."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro.infer import MCMC
from pyro.infer import NUTS as PyroNUTS
from torch import Tensor

from probae.inference.nuts.settings import Settings

__all__ = ["FULL", "run_chain"]

FULL = 200  # coordinates up to which Pyro may adapt a dense metric


def run_chain(
    kernel: PyroNUTS, method: Settings, first: dict[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return draws by site, (T, ...), and statistics, (T,); ``lp`` is in the coordinates of the sampler.

    Pyro tells no tree depth and no energy; ``acceptance_rate`` is its running mean.
    """
    found: dict[str, list[float]] = {"lp": [], "step_size": [], "acceptance_rate": [], "diverging": []}

    def look(kernel: Any, values: Any, stage: str, step: int) -> None:
        if stage == "Sample":
            found["lp"].append(-float(kernel._potential_energy_last))
            found["step_size"].append(float(kernel.step_size))
            found["acceptance_rate"].append(float(kernel._mean_accept_prob))
            # diagnostics of the run would do, but for R-hat, which fails on fewer than four draws
            diverged = len(kernel.diagnostics()["divergences"])
            found["diverging"].append(float(diverged - sum(found["diverging"])))

    run = MCMC(
        kernel,
        method.draws,
        warmup_steps=method.warmup,
        initial_params=first,
        hook_fn=look,
        disable_progbar=True,
    )
    with torch.enable_grad(), pyro.validation_enabled(False):
        run.run()
    statistics = {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}
    return {name: value.detach() for name, value in run.get_samples().items()}, statistics
