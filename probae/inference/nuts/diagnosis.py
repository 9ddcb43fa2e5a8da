"""What went wrong on the way of a Hamiltonian sampler."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from probae.checks import DivergenceWarning, EnergyWarning, TreeDepthWarning, warn

__all__ = ["energy_fraction", "warn_of_moves"]

MOST_SATURATED = 0.01
LEAST_ENERGY_FRACTION = 0.3  # Betancourt (2016), arXiv:1604.00695


def energy_fraction(energy: Float[Tensor, "chains draws"]) -> Float[Tensor, " chains"]:
    r"""Return the estimated Bayesian fraction of missing information of each chain.

    .. math:: \frac{\sum_t (E_t - E_{t-1})^2}{\sum_t (E_t - \bar E)^2}

    Examples
    --------
    >>> import torch
    >>> energy_fraction(torch.tensor([[1.0, -1.0, 1.0, -1.0]]))
    tensor([3.])
    """
    return energy.diff(dim=1).square().sum(1) / (energy - energy.mean(1, keepdim=True)).square().sum(1)


def warn_of_moves(statistics: dict[str, Tensor], depths: int) -> None:
    """Warn of divergent moves, of trees cut off at their largest depth, and of energies that move too slowly.

    Warns
    -----
    DivergenceWarning, TreeDepthWarning, EnergyWarning
    """
    divergent = int(statistics["diverging"].sum())
    if divergent:
        warn(
            f"{divergent} of {statistics['diverging'].numel()} moves diverged: regions of high curvature are left out, "
            "and means may be off; raise target_acceptance, or use a prior that keeps noise variances off 0.",
            DivergenceWarning,
        )
    if "tree_depth" not in statistics:  # Pyro tells neither it nor the energy
        return
    saturated = float((statistics["tree_depth"] >= depths).double().mean())
    if saturated > MOST_SATURATED:
        warn(
            f"{saturated:.0%} of the trees reached their largest depth {depths}: moves are too short; "
            "raise tree_depth.",
            TreeDepthWarning,
        )
    if statistics["energy"].shape[1] > 1:
        least = float(energy_fraction(statistics["energy"]).min())
        if least < LEAST_ENERGY_FRACTION:
            warn(
                f"The energy of a chain moves slowly (E-BFMI {least:.2f}, below {LEAST_ENERGY_FRACTION}): tails are "
                "explored badly; use more draws, or a prior with lighter tails.",
                EnergyWarning,
            )
