"""Which of several models predicts rows it has not seen best, and whether the difference can be told from noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from probae.analysis.cross_validation import FEW_ROWS, CrossValidation
from probae.analysis.loo import loo
from probae.checks import DataError, ParameterError
from probae.inference import Fit

__all__ = ["Comparison", "compare"]

SMALL = 4.0  # nats: differences below have a standard error that cannot be trusted (Sivula et al., 2020)
NOISE = 2.0  # standard errors


@dataclass(frozen=True, eq=False)
class Comparison:
    r"""Predictions of several models, best first, with their differences taken row by row and then summed.

    .. math:: \Delta_{ab} = \sum_n (\text{elpd}_{an} - \text{elpd}_{bn}), \qquad
              \operatorname{se}^2 = N \operatorname{var}_n (\text{elpd}_{an} - \text{elpd}_{bn})

    Attributes
    ----------
    names : tuple of str
        Best first.
    results : tuple of CrossValidation
    difference, difference_error : Tensor (M,)
        From the best, 0 for itself and below 0 for the others, and the standard error.
    weights : Tensor (M,)
        Of stacking: the mixture of the predictive densities that predicts best [1]_. Of two models that predict alike
        one may get all the weight, so it is no probability of a model.
    notes : tuple of str

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> print(pa.compare({f"{k} factors": pa.k_fold(pa.ProbabilisticPCA(9, k), x, folds=3) for k in (1, 2)}))
    Prediction of 301 rows (3 folds of rows, seed 0), in nats
                  elpd  difference  its error  p  weight
    2 factors  -3882.0         0.0        0.0  -    0.88
    1 factors  -3958.2       -76.2       18.0  -    0.12

    References
    ----------
    .. [1] Yao, Y., Vehtari, A., Simpson, D. & Gelman, A. (2018). Using stacking to average Bayesian predictive
       distributions. Bayesian Analysis 13, 917-1007.
    """

    names: tuple[str, ...]
    results: tuple[CrossValidation, ...]
    difference: Float[Tensor, " models"]
    difference_error: Float[Tensor, " models"]
    weights: Float[Tensor, " models"]
    notes: tuple[str, ...]

    def between(self, first: str, second: str) -> tuple[float, float]:
        """Return elpd of the first less that of the second, and the standard error.

        Raises
        ------
        ParameterError
            There is no such name.
        """
        for name in (first, second):
            if name not in self.names:
                raise ParameterError(f"name should be one of {', '.join(self.names)}, got {name!r}.")
        a, b = (self.results[self.names.index(name)] for name in (first, second))
        return paired(a.pointwise, b.pointwise)

    def __str__(self) -> str:
        head = ("", "elpd", "difference", "its error", "p", "weight")
        rows = [
            (
                name,
                f"{one.total:.1f}",
                f"{gap:.1f}",
                f"{error:.1f}",
                "-" if math.isnan(one.effective_parameters) else f"{one.effective_parameters:.1f}",
                f"{weight:.2f}",
            )
            for name, one, gap, error, weight in zip(
                self.names,
                self.results,
                self.difference.tolist(),
                self.difference_error.tolist(),
                self.weights.tolist(),
                strict=True,
            )
        ]
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        lines = [f"Prediction of {len(self.results[0].pointwise)} rows ({self.results[0].scheme}), in nats"]
        for row in (head, *rows):
            cells = zip(row, widths, strict=True)
            aligned = (cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(cells))
            lines.append("  ".join(aligned).rstrip())
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def compare(candidates: Mapping[str, CrossValidation | Fit], x: Any = None) -> Comparison:
    """Rank models by how well they predict rows they have not seen.

    Parameters
    ----------
    candidates : mapping of str to CrossValidation or Fit
        Results of `loo`, of `k_fold` or of `k_fold_entries`, by a name for each; all of one scheme and on the same
        rows. Fits with draws of the parameters stand for their `loo`, and need ``x``.
    x : array, DataFrame or Tensor (N, D), optional
        The rows of the fits.

    Returns
    -------
    Comparison

    Raises
    ------
    ParameterError
        Fewer than two candidates, results of different schemes, or fits without x.
    DataError
        The results are on different rows.

    References
    ----------
    .. [1] Sivula, T., Magnusson, M., Matamoros, A. A. & Vehtari, A. (2020). Uncertainty in Bayesian leave-one-out
       cross-validation based model comparison. arXiv:2008.10296.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> found = pa.compare({f"{k} factors": pa.k_fold(pa.ProbabilisticPCA(9, k), x, folds=5) for k in (1, 2, 3)})
    >>> found.names
    ('3 factors', '2 factors', '1 factors')
    >>> difference, error = found.between("3 factors", "2 factors")
    >>> difference > 2 * error
    True
    """
    results = _results(candidates, x)
    names = tuple(sorted(results, key=lambda name: -results[name].total))
    ranked = tuple(results[name] for name in names)
    pairs = [paired(one.pointwise, ranked[0].pointwise) for one in ranked]
    difference, error = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    weights = stacking_weights(torch.stack([one.pointwise for one in ranked]))
    return Comparison(names, ranked, difference, error, weights, _notes(names, ranked, pairs))


def paired(first: Float[Tensor, " samples"], second: Float[Tensor, " samples"]) -> tuple[float, float]:
    """Return the sum of the differences row by row, and its standard error.

    Examples
    --------
    >>> paired(torch.tensor([2.0, 2.0]), torch.tensor([0.0, 0.0]))
    (4.0, 0.0)
    """
    gap = first - second
    return float(gap.sum()), float(gap.std() * len(gap) ** 0.5) if len(gap) > 1 else math.nan


def stacking_weights(pointwise: Float[Tensor, "models samples"]) -> Float[Tensor, " models"]:
    r"""Return the weights w of the mixture with the largest sum over rows of log sum_m w_m exp(elpd_mn).

    Examples
    --------
    >>> stacking_weights(torch.tensor([[0.0, 0.0], [-1.0, -1.0]], dtype=torch.float64)).round(decimals=6) + 0.0
    tensor([1., 0.], dtype=torch.float64)
    """
    density = (pointwise - pointwise.amax(0)).exp().numpy()
    models = len(density)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        mixture = np.maximum(w @ density, 1e-300)
        return -float(np.log(mixture).mean()), -(density / mixture).mean(1)

    found = minimize(
        loss,
        np.full(models, 1 / models),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * models,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(models)},
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    weights = torch.from_numpy(np.clip(found.x, 0.0, 1.0))
    return weights / weights.sum()


def _results(candidates: Any, x: Any) -> dict[str, CrossValidation]:
    """Return a result for each name, all of them comparable."""
    if not isinstance(candidates, Mapping) or len(candidates) < 2:
        raise ParameterError(
            "candidates should be a mapping of at least two names to results of loo or k_fold, such as "
            f'{{"two": pa.loo(a, x), "three": pa.loo(b, x)}}, got {type(candidates).__name__}.'
        )
    found = {str(name): _result(name, one, x) for name, one in candidates.items()}
    (first, reference), *others = found.items()
    for name, one in others:
        if one.rows != reference.rows:
            raise DataError(
                f"{first!r} and {name!r} are on different rows, so their densities cannot be compared: predict "
                "the same x, in the same units and order."
            )
        if one.scheme != reference.scheme:
            raise ParameterError(
                f"{first!r} and {name!r} leave out different things ({reference.scheme}; {one.scheme}): use one "
                "scheme, with one seed."
            )
    return found


def _result(name: Any, one: Any, x: Any) -> CrossValidation:
    if isinstance(one, CrossValidation):
        return one
    if not isinstance(one, Fit):
        raise ParameterError(
            f"{name!r} should be a result of loo or k_fold, or a Fit, got {type(one).__name__}."
        )
    if x is None:
        raise ParameterError(f"{name!r} is a Fit, so compare needs x, its rows, too.")
    return loo(one, x)


def _notes(
    names: tuple[str, ...], ranked: tuple[CrossValidation, ...], pairs: list[tuple[float, float]]
) -> tuple[str, ...]:
    """Say which differences mean nothing, and why."""
    notes = []
    count = len(ranked[0].pointwise)
    small = [name for name, (gap, _) in zip(names, pairs, strict=True) if abs(gap) < SMALL][1:]
    noise = [
        name for name, (gap, error) in zip(names, pairs, strict=True) if SMALL <= abs(gap) <= NOISE * error
    ]
    if small:
        notes.append(
            f"{', '.join(small)}: less than {SMALL:g} nats from {names[0]}. That is no difference, and its standard "
            "error is too small."
        )
    if noise:
        notes.append(f"{', '.join(noise)}: within {NOISE:g} standard errors of {names[0]}.")
    if count < FEW_ROWS:
        notes.append(f"with {count} rows, fewer than {FEW_ROWS}, the standard errors tend to be too small.")
    bad = [name for name, one in zip(names, ranked, strict=True) if bool(one.doubtful.any())]
    if bad:
        notes.append(f"{', '.join(bad)}: some rows have a Pareto k above the limit (loo with refit=True).")
    return tuple(notes)
