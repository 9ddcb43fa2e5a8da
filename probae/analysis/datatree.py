"""A fit as an `xarray.DataTree` for ArviZ: the one place where ArviZ's containers are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import arviz_base
import numpy as np
import torch
import xarray

from probae import __version__
from probae.analysis.evidence import check_estimator
from probae.analysis.result import Estimator
from probae.analysis.tree_groups import (
    Group,
    Source,
    constants,
    observed,
    posterior,
    predictive,
    prior,
    prior_predictive,
    stats,
)
from probae.analysis.tree_likelihood import RowValues, row_likelihood
from probae.checks import (
    Data,
    NotExactError,
    ParameterError,
    ProbaeError,
    ProbaeWarning,
    check_choice,
    check_count,
    check_data,
    warn,
)
from probae.inference import Fit
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.statistics import SufficientStatistics

__all__ = ["GROUPS", "to_datatree"]

MAKERS: dict[str, Callable[[Source], Group]] = {
    "posterior": posterior,
    "posterior_predictive": predictive,
    "sample_stats": stats,
    "prior": prior,
    "prior_predictive": prior_predictive,
    "observed_data": observed,
}
GROUPS = (*MAKERS, "log_likelihood", "constant_data")
NEED_ROWS = ("posterior_predictive", "prior_predictive", "observed_data")


@local_parameters
def to_datatree(
    run: Fit,
    x: Any = None,
    *,
    groups: Sequence[str] | None = None,
    draws: int = 200,
    latents: bool = False,
    estimator: Estimator | None = None,
    seed: int = 0,
) -> xarray.DataTree:
    r"""Turn a fit into what ArviZ reads: named draws, replicates, and the likelihood of each row with z integrated out.

    Parameters
    ----------
    run : Fit
        Of any method. A sampler's parameters keep their chains and draws; a point fit (maximum likelihood, MAP, an
        encoder) has draws of ``z`` given each row in one chain, and its parameters are constants.
    x : array, DataFrame or Tensor (N, D), optional
        The rows; without them only what needs none is there.
    groups : sequence of str, optional
        Some of ``posterior``, ``posterior_predictive``, ``sample_stats``, ``prior``, ``prior_predictive``,
        ``observed_data``, ``log_likelihood`` and ``constant_data``; by default all that there are.
    draws : int
        How many replicates of the data, draws from the prior, and draws of z of a point fit. Those of the posterior of
        parameters are all kept.
    latents : bool
        Whether to draw z given each row and each draw of the parameters too, for Gaussian latents.
    estimator : Estimator, optional
        How log p(x) is estimated where it has no closed form: by default `Quadrature` for one or two latents of a
        point fit, else `ImportanceWeighted` with 1,000 draws, 100 for each draw of the parameters.
    seed : int
        Of everything drawn here; the caller's random state is left as it was.

    Returns
    -------
    xarray.DataTree
        Variables have the names of Pyro's sites and dimensions ``chain, draw``, then ``obs`` (rows), ``feature`` and
        ``factor``, with the names of the data as coordinates. Exact log-likelihoods, replicates and draws of z are
        lazy: computed when first asked for, and then only the draws and rows that are.

    Raises
    ------
    ParameterError
        An unknown group, or an argument of the wrong kind.
    DataError
        For rows that the model cannot take.

    Warns
    -----
    ProbaeWarning
        There is no log-likelihood, or an estimate of it is not to be trusted. The root's attribute
        ``log_likelihood_missing`` says why; estimates have their number of importance draws and standard errors in
        the attributes of the group.

    Notes
    -----
    Rows are the dimension ``obs``, since ``sample`` is ArviZ's own name for chains and draws stacked into one.

    Examples
    --------
    >>> import probae as pa
    >>> data = pa.datasets.holzinger_swineford()
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), data.x)
    >>> tree = to_datatree(run, data.x, draws=50)
    >>> tree["posterior"]["z"].sizes["obs"], tree["log_likelihood"]["x"].dims
    (301, ('chain', 'draw', 'obs'))
    """
    if not isinstance(run, Fit):
        raise ParameterError(f"run should be the result of fit, got {type(run).__name__}.")
    chosen = GROUPS if groups is None else tuple(check_choice("each group", one, GROUPS) for one in groups)
    check_estimator(estimator)
    data = _rows(run, x)
    source = Source(
        run=run,
        x=None if data is None else data.values,
        dtype=torch.float64 if data is None else data.dtype,
        count=check_count("draws", draws),
        latents=bool(latents),
        seed=check_count("seed", seed, minimum=0),
    )
    if source.latents and source.parameters and not run.model.gaussian:
        raise NotExactError("z has no closed form given the parameters of this model: use latents=False.")
    made = {
        name: maker(source) for name, maker in MAKERS.items() if name in chosen and _possible(name, source)
    }
    root = _root(run)
    likelihood = _likelihood(source, estimator, root) if "log_likelihood" in chosen else None
    if likelihood is not None:
        made["log_likelihood"] = Group({"x": likelihood.values}, {"x": ["obs"]}, likelihood.attributes)
    if "constant_data" in chosen:
        made["constant_data"] = constants(source)
        if likelihood is not None and likelihood.standard_error is not None:
            made["constant_data"].put("log_likelihood_standard_error", likelihood.standard_error, ["obs"])
    return _tree(made, _coordinates(run, data), root)


def _rows(run: Fit, x: Any) -> Data | None:
    if x is None or isinstance(x, SufficientStatistics):
        return None
    model = run.model
    allowed = isinstance(model, LinearFactorModel) and model.gaussian and model.noise != "none"
    data = check_data(
        x, features=model.features, names=model.feature_names, missing="allow" if allowed else "refuse"
    )
    model.check(data.values)
    return data


def _possible(name: str, source: Source) -> bool:
    return source.x is not None or name not in NEED_ROWS


def _likelihood(source: Source, estimator: Estimator | None, root: dict[str, Any]) -> RowValues | None:
    """Return the likelihood, or write down and warn why there is none."""
    try:
        if source.x is None:
            raise ParameterError("it needs the rows: pass x.")
        found = row_likelihood(
            source.run, source.parameters, source.x.to(source.dtype), source.shape, estimator, source.seed
        )
    except (ProbaeError, NotImplementedError) as error:
        root["log_likelihood_missing"] = str(error)
        warn(f"The tree has no log-likelihood, so no leave-one-out cross-validation: {error}", ProbaeWarning)
        return None
    if found.doubtful:
        warn(
            f"The log-likelihood of {found.doubtful} of {source.rows} rows is estimated too roughly to be trusted: "
            "pass another estimator, such as AnnealedImportance().",
            ProbaeWarning,
        )
    return found


def _root(run: Fit) -> dict[str, Any]:
    """Say what was fitted and how, in what a netCDF file can hold."""
    return {
        "inference_library": "probae",
        "inference_library_version": __version__,
        "model": repr(run.model),
        "method": repr(run.method),
        "fit_seed": run.seed,
        "sampling_time": run.seconds,
        "converged": int(run.converged),
        "interrupted": int(run.interrupted),
        "fit_warnings": "\n".join(run.warnings),
    }


def _coordinates(run: Fit, data: Data | None) -> dict[str, Any]:
    """Give each dimension the user's names, where there are any."""
    names = {
        "feature": run.names or (None if data is None else data.names),
        "factor": getattr(run.model, "factor_names", None),
        "obs": None if data is None else data.rows,
    }
    return {name: np.asarray(values) for name, values in names.items() if values is not None}


def _tree(made: dict[str, Group], coordinates: dict[str, Any], root: dict[str, Any]) -> xarray.DataTree:
    """Join the groups, each with the numbers of its own draws."""
    library = {name: root[name] for name in ("inference_library", "inference_library_version")}
    found = {}
    for name, group in made.items():
        if group.values:
            found[name] = arviz_base.from_dict(
                {name: group.values},
                coords=coordinates if group.draws is None else coordinates | {"draw": group.draws},
                dims=group.dims,
                check_conventions=False,  # which would warn of more chains than replicates in each
                attrs={name: library | group.attributes},
            )[name].to_dataset()
    tree = xarray.DataTree.from_dict(found)
    tree.attrs = root
    return tree
