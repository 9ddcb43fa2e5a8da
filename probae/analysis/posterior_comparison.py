"""How far approximate posteriors of the parameters are from a reference, in quantities that do not rotate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from arviz_stats.base import array_stats
from jaxtyping import Float
from torch import Tensor

from probae.analysis.result import FEWEST, tail_shape
from probae.checks import ParameterError, check_choice
from probae.factors.printing import grid, number
from probae.inference import Fit

__all__ = ["PosteriorComparison", "PosteriorDifference", "compare_posteriors"]

LEVEL = 0.9  # of the intervals


@dataclass(frozen=True, eq=False)
class PosteriorDifference:
    """One posterior against the reference, quantity by quantity.

    Attributes
    ----------
    shift : Tensor (Q,)
        Difference of the means, in standard deviations of the reference.
    shift_error : Tensor (Q,)
        Monte Carlo standard error of ``shift``.
    spread : Tensor (Q,)
        Ratio of the standard deviations.
    coverage : Tensor (Q,)
        Probability under the reference of the central interval of 90 % of this posterior.
    k_hat : float or None
        Pareto shape of the weights of its draws against the exact density; None for a sampler.

    Examples
    --------
    >>> shift, error, spread, coverage = torch.tensor([[0.1, 0.3], [0.02, 0.02], [0.8, 0.6], [0.82, 0.7]])
    >>> PosteriorDifference(shift, error, spread, coverage, k_hat=0.9).spread
    tensor([0.8000, 0.6000])
    """

    shift: Float[Tensor, " q"]
    shift_error: Float[Tensor, " q"]
    spread: Float[Tensor, " q"]
    coverage: Float[Tensor, " q"]
    k_hat: float | None


@dataclass(frozen=True, eq=False)
class PosteriorComparison:
    """Posteriors of the parameters of one model against a reference among them.

    Attributes
    ----------
    reference : str
    quantities : tuple of str
    differences : dict of str to PosteriorDifference
        Of every posterior but the reference.

    Examples
    --------
    >>> shift, error, spread, coverage = torch.tensor([[0.1, 0.3], [0.02, 0.02], [0.8, 0.6], [0.82, 0.7]])
    >>> narrow = PosteriorDifference(shift, error, spread, coverage, k_hat=0.9)
    >>> names = ("noise_variance[x1]", "communality[x1]")
    >>> print(PosteriorComparison("Gibbs", names, {"mean field": narrow}))
    2 quantities against Gibbs
                largest shift  sd ratio  (from   to)  90 % interval holds  k-hat
    mean field           0.30      0.60   0.60  0.80                 76 %   0.90
    """

    reference: str
    quantities: tuple[str, ...]
    differences: dict[str, PosteriorDifference]

    def to_dict(self) -> dict[str, list[object]]:
        """One row for each posterior and quantity, as columns that a data frame takes."""
        columns: dict[str, list[object]] = {"posterior": [], "quantity": []}
        for name, found in self.differences.items():
            columns["posterior"] += [name] * len(self.quantities)
            columns["quantity"] += list(self.quantities)
            for field in ("shift", "shift_error", "spread", "coverage"):
                columns.setdefault(field, []).extend(getattr(found, field).tolist())
        return columns

    def __str__(self) -> str:
        head = ["", "largest shift", "sd ratio", "(from", "to)", f"{100 * LEVEL:g} % interval holds", "k-hat"]
        rows = []
        for name, found in self.differences.items():
            spread = found.spread
            cells = [found.shift.abs().max(), spread.median(), spread.min(), spread.max()]
            rows.append(
                [
                    name,
                    *(number(float(cell), 2) for cell in cells),
                    f"{100 * float(found.coverage.mean()):.0f} %",
                    "" if found.k_hat is None else number(found.k_hat, 2),
                ]
            )
        return f"{len(self.quantities)} quantities against {self.reference}\n{grid(head, rows)}"


def compare_posteriors(
    runs: Mapping[str, Fit], *, reference: str | None = None, pairs: bool = False
) -> PosteriorComparison:
    r"""Compare posteriors of the parameters in what does not depend on the rotation of the loadings.

    The quantities are the noise variances and the communalities, the diagonal of W W'. Raw loadings, which may rotate
    from draw to draw, are not compared.

    Parameters
    ----------
    runs : mapping of str to Fit
        Fits of one model to the same rows by `Gibbs`, `NUTS`, `LaplaceApproximation` or `VariationalBayes`, by the name
        they should have in the table.
    reference : str, optional
        Name of the posterior that the others are held against; the first by default.
    pairs : bool
        Whether the covariances (W W')_ij of pairs of features are compared as well.

    Returns
    -------
    PosteriorComparison

    Raises
    ------
    ParameterError
        Fewer than two fits, fits without draws of the parameters, or of different features; a reference that is none
        of them.

    Notes
    -----
    k-hat above 0.7 says that the posterior misses so much that weighting its draws cannot repair it (Yao et al., 2018);
    a small one is no promise for each quantity.

    References
    ----------
    .. [1] Yao, Y., Vehtari, A., Simpson, D. & Gelman, A. (2018). Yes, but did it work?: Evaluating variational
       inference. ICML.

    Examples
    --------
    >>> import probae as pa
    >>> x, model = pa.datasets.holzinger_swineford().x, pa.FactorAnalysis(9, 1)
    >>> full = pa.fit(model, x, pa.VariationalBayes("full", steps=100))
    >>> fields = pa.fit(model, x, pa.VariationalBayes("mean_field", steps=100))
    >>> found = pa.compare_posteriors({"full": full, "mean field": fields})
    >>> bool((found.differences["mean field"].spread < 1.05).all())
    True
    """
    if not isinstance(runs, Mapping):
        raise ParameterError(
            'compare_posteriors needs fits by name, such as {"Gibbs": run, "Laplace": other}, got '
            f"{type(runs).__name__}."
        )
    names = list(runs)
    if len(names) < 2:
        raise ParameterError(f"compare_posteriors needs two fits or more by name, got {len(names)}.")
    for name, run in runs.items():
        if not isinstance(run, Fit) or not run.draws or "noise_variance" not in run.draws:
            raise ParameterError(
                f"{name} has no draws of the parameters: fit with Gibbs(), NUTS(), LaplaceApproximation() or "
                "VariationalBayes()."
            )
    labels = [_labels(run, pairs) for run in runs.values()]
    if any(label != labels[0] for label in labels):
        raise ParameterError(
            "compare_posteriors needs fits of the same features with the same kind of noise."
        )
    chosen = check_choice("reference", reference or names[0], names)
    values = {name: _values(run, pairs) for name, run in runs.items()}
    others = {
        name: _difference(value, values[chosen], _k_hat(runs[name]))
        for name, value in values.items()
        if name != chosen
    }
    return PosteriorComparison(chosen, tuple(labels[0]), others)


def _labels(run: Fit, pairs: bool) -> list[str]:
    """Name the quantities."""
    assert run.draws is not None
    names = run.names or tuple(f"x[{i}]" for i in range(run.draws["loadings"].shape[2]))
    common = run.draws["noise_variance"].dim() == 2
    labels = ["noise variance"] if common else [f"noise variance of {name}" for name in names]
    labels += [f"communality of {name}" for name in names]
    if pairs:
        labels += [
            f"covariance of {one} and {other}" for i, one in enumerate(names) for other in names[i + 1 :]
        ]
    return labels


def _values(run: Fit, pairs: bool) -> Float[Tensor, "chains draws q"]:
    """Return the draws of the quantities."""
    assert run.draws is not None
    loadings, noise = run.draws["loadings"], run.draws["noise_variance"]
    parts = [noise.unsqueeze(-1) if noise.dim() == 2 else noise, loadings.square().sum(-1)]
    if pairs:
        first, second = torch.triu_indices(loadings.shape[2], loadings.shape[2], 1)
        parts.append((loadings @ loadings.mT)[..., first, second])
    return torch.cat(parts, -1)


def _k_hat(run: Fit) -> float | None:
    """Pareto shape of the weights of a normal law."""
    weights = (run.sample_stats or {}).get("log_weight")
    if weights is None or weights.numel() < FEWEST:
        return None
    return float(tail_shape(weights.reshape(1, -1)))


def _difference(
    values: Float[Tensor, "chains draws q"], reference: Float[Tensor, "c s q"], k_hat: float | None
) -> PosteriorDifference:
    """Compare the draws of each quantity."""
    here, there = values.flatten(0, 1), reference.flatten(0, 1)
    sd = there.std(0)
    spread = here.std(0) / sd
    low, high = torch.from_numpy(np.quantile(here.numpy(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))
    return PosteriorDifference(
        shift=(here.mean(0) - there.mean(0)) / sd,
        shift_error=(1 / _effective(reference) + spread.square() / _effective(values)).sqrt(),
        spread=spread,
        coverage=((there >= low) & (there <= high)).double().mean(0),
        k_hat=k_hat,
    )


def _effective(values: Float[Tensor, "chains draws q"]) -> Float[Tensor, " q"]:
    """Effective number of draws of each quantity."""
    return torch.from_numpy(np.asarray(array_stats.ess(values.numpy(), chain_axis=0, draw_axis=1)))
