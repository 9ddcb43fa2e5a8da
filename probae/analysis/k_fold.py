"""Cross-validation by fits to a part of the data, for every method: whole rows left out, or entries."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probae.analysis.cross_validation import CrossValidation, few_rows, fingerprint, group_of_rows
from probae.analysis.evidence import log_evidence
from probae.analysis.predictive_density import averaged, draws_blocks, rows_of
from probae.analysis.weighted_draws import draw_weights, draws_of
from probae.checks import NotExactError, ParameterError, check_count
from probae.inference import Fit, Method
from probae.inference.base import Loop
from probae.inference.fit import fit
from probae.models import LatentModel, LinearFactorModel
from probae.models.pyro_context import local_parameters

__all__ = ["k_fold", "k_fold_entries"]


@local_parameters
def k_fold(
    model: LatentModel,
    x: Any,
    method: Method | None = None,
    folds: int | Sequence[Hashable] = 10,
    *,
    seed: int = 0,
) -> CrossValidation:
    r"""Fit to all rows but a fold, predict the rows of the fold, and so for every fold.

    .. math:: \text{elpd}_n = \log \frac1S \sum_s p(x_n \mid \theta_s), \qquad \theta_s \sim p(\theta \mid x_{-F(n)})

    with draws of the parameters, weighted where they come from an approximation; at the fitted parameters without
    (maximum likelihood, EM, SVI, ...), where `log_evidence` estimates what has no closed form. Each fit starts from
    ``model`` and ``method`` as they are given.

    Parameters
    ----------
    model, x, method
        As in `fit`.
    folds : int or sequence (N,)
        How many folds of rows at random, or the group of each row: rows of one group are left out together, as
        repeated measures of one subject should be.
    seed : int
        Of the folds and of the fits.

    Returns
    -------
    CrossValidation

    Raises
    ------
    ParameterError
        ``folds`` is below 2, above the number of rows, or not one group for each row.
    DataError
        As `fit`.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> three, two = (pa.k_fold(pa.ProbabilisticPCA(9, k), x, folds=5) for k in (3, 2))
    >>> three.scheme, three.total > two.total
    ('5 folds of rows, seed 0', True)
    """
    seed = check_count("seed", seed, minimum=0)
    data = rows_of(_checked(model), x)
    labels, count, named = row_folds(folds, len(data.values), seed)
    pointwise = torch.empty(len(labels), dtype=torch.float64)
    error = torch.zeros(len(labels), dtype=torch.float64)
    notes = list(few_rows(len(labels)))
    for fold in _counted("folds", count):
        held = labels == fold
        run = _fit_rest(model, data.values[~held], method, seed)
        pointwise[held], error[held] = predicted(run, data.values[held], seed)
        notes += _weighted(run)
    return CrossValidation(
        pointwise,
        named,
        fingerprint(data.values),
        monte_carlo_error=error if bool(error.any()) else None,
        notes=tuple(dict.fromkeys(notes)),
    )


@local_parameters
def k_fold_entries(
    model: LatentModel, x: Any, method: Method | None = None, folds: int = 5, *, seed: int = 0
) -> CrossValidation:
    r"""Leave out entries of x, fit to the others, and predict them given the rest of their row.

    With H the entries of row n in a fold, whose log densities are summed over the folds,

    .. math:: \log p(x_{nH} \mid x_{-H}) = \log \frac1S \sum_s p(x_{nH} \mid x_{n,-H}, \theta_s)

    This asks whether the factors carry what one column says of another; a model that has only the variances of the
    columns right predicts rows as a whole rather well and entries badly.

    Parameters
    ----------
    model : LinearFactorModel
        With Gaussian latents and noise, which integrates missing entries out.
    x : array, DataFrame or Tensor (N, D)
        NaN entries are in no fold.
    method : Method, optional
        One that takes missing entries, such as EM, the default.
    folds : int
        How many; the entries of a row are spread over them.
    seed : int

    Returns
    -------
    CrossValidation

    Raises
    ------
    NotExactError
        The model cannot integrate missing entries out.
    ParameterError, DataError
        As `fit`, or for fewer than 2 folds.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.k_fold_entries(pa.FactorAnalysis(9, 2), x, folds=3).scheme
    '3 folds of entries, seed 0'
    """
    seed, count = check_count("seed", seed, minimum=0), check_count("folds", folds, minimum=2)
    exact = isinstance(_checked(model), LinearFactorModel) and model.gaussian and model.noise != "none"
    if not exact:
        raise NotExactError(f"k_fold_entries needs Gaussian latents and noise, got {model!r}: use k_fold.")
    x = rows_of(model, x).values
    labels = entry_folds(~x.isnan(), count, seed)
    pointwise = torch.zeros(len(x), dtype=torch.float64)
    notes = list(few_rows(len(x)))
    for fold in _counted("folds", count):
        rest = x.masked_fill(labels == fold, torch.nan)
        run = _fit_rest(model, rest, method, seed)
        pointwise += predicted_entries(run, x, rest)
        notes += _weighted(run)
    scheme = f"{count} folds of entries, seed {seed}"
    return CrossValidation(pointwise, scheme, fingerprint(x), notes=tuple(dict.fromkeys(notes)))


def predicted(run: Fit, x: Float[Tensor, "samples features"], seed: int) -> tuple[Tensor, Tensor]:
    """Return the log predictive density of rows (N,), and its Monte Carlo error where z is sampled."""
    if draws_of(run):
        weights = draw_weights(run).log
        density = torch.cat([averaged(block, weights) for _, block in draws_blocks(run, x)])
        return density, torch.zeros_like(density)
    found = log_evidence(run, x, seed=seed)
    return found.value.double(), found.standard_error.double()


def predicted_entries(run: Fit, x: Tensor, rest: Tensor) -> Float[Tensor, " samples"]:
    """Return the log density of the entries that ``rest`` lacks given those it has, of each row."""
    if not draws_of(run):
        return (run.model.log_likelihood(x) - run.model.log_likelihood(rest)).double()
    walks = zip(draws_blocks(run, x), draws_blocks(run, rest), strict=True)
    weights = draw_weights(run).log
    return torch.cat([averaged(whole - part, weights) for (_, whole), (_, part) in walks])


def _weighted(run: Fit) -> tuple[str, ...]:
    """Return what to know of the weights of draws, where there are some."""
    return draw_weights(run).notes if draws_of(run) else ()


def row_folds(folds: Any, rows: int, seed: int) -> tuple[Int[Tensor, " samples"], int, str]:
    """Return the fold of each row, how many folds there are, and what the scheme is called.

    Examples
    --------
    >>> labels, count, name = row_folds(3, 7, 0)
    >>> labels.bincount().tolist(), count, name
    ([3, 2, 2], 3, '3 folds of rows, seed 0')
    """
    if isinstance(folds, Sequence | Tensor) or hasattr(folds, "tolist"):
        groups, count = group_of_rows(folds.tolist() if hasattr(folds, "tolist") else folds)
        if len(groups) != rows or count < 2:
            raise ParameterError(
                f"folds should be a number, or one of at least 2 groups for each of {rows} rows; got {len(groups)} "
                f"values and {count} groups."
            )
        labels = torch.tensor(groups)
        return labels, count, f"{count} groups of rows, {fingerprint(labels.double().unsqueeze(1))}"
    count = check_count("folds", folds, minimum=2)
    if count > rows:
        raise ParameterError(f"folds should be at most the number of rows, {rows}, got {count}.")
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    labels = torch.empty(rows, dtype=torch.long)
    labels[order] = torch.arange(rows) % count
    return labels, count, f"{count} folds of rows, seed {seed}"


def entry_folds(
    seen: Bool[Tensor, "samples features"], folds: int, seed: int
) -> Int[Tensor, "samples features"]:
    """Return the fold of each entry, -1 where there is none: the entries of a row are spread over the folds.

    Examples
    --------
    >>> entry_folds(torch.tensor([[True, True, False, True]]), 3, 0).sort().values
    tensor([[-1,  0,  1,  2]])
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(seen.shape, generator=generator).masked_fill(~seen, 2.0).argsort(1).argsort(1)
    first = torch.randint(folds, (len(seen), 1), generator=generator)
    return ((order + first) % folds).masked_fill(~seen, -1)


def _fit_rest(model: LatentModel, x: Tensor, method: Method | None, seed: int) -> Fit:
    """Fit to what is left, or stop if that was interrupted: part of the folds is no answer."""
    run = fit(model, x, method, seed=seed)
    if run.interrupted:
        raise KeyboardInterrupt
    return run


def _counted(label: str, count: int) -> Iterator[int]:
    """Count folds, with a bar where there is a terminal."""
    return Loop(label).steps(count)


def _checked(model: Any) -> LatentModel:
    """Return the model, or say that a fit will not do."""
    if isinstance(model, Fit):
        raise ParameterError(
            "k_fold needs the model and the method as they were before the fit, got a Fit, which has seen all rows: "
            "pass k_fold(model, x, method)."
        )
    if not isinstance(model, LatentModel):
        raise ParameterError(
            f"model should be a probae model such as FactorAnalysis(9, 3), got {type(model).__name__}."
        )
    return model
