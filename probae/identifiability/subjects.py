"""What `audit` takes: a fit of probae, a fitted estimator of scikit-learn, bare loadings, or draws of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probae.analysis.mixing import mixing
from probae.checks import DataError, ParameterError
from probae.identifiability.bare import draws_subject, loadings_subject
from probae.identifiability.given import Subject
from probae.identifiability.nonlinear import linear_fit
from probae.identifiability.scikit import sklearn_subject
from probae.inference import Fit, LaplaceApproximation, VariationalBayes
from probae.models import LatentModel
from probae.priors import Prior

__all__ = ["read_subject"]

TAKES = (
    "the result of probae.fit, a fitted FactorAnalysis, PCA or FastICA of scikit-learn, loadings (features, factors) "
    "or draws of them (chain, draw, features, factors)"
)
SITES = ("loadings", "noise_variance", "mean")


def read_subject(subject: Any, x: Any, prior: Prior | None = None) -> Subject:
    """Bring whatever is to be audited into one form.

    Raises
    ------
    ParameterError
        It is nothing that can be audited, or comes with its own law beside ``prior``.
    DataError
        Loadings, draws or rows that do not go together.
    """
    if prior is not None and not isinstance(prior, Prior):
        raise ParameterError(f"prior should be a law of probae.priors, such as Laplace(), got {prior!r}.")
    found = _with_law(subject, x)
    if found is not None:
        if prior is not None:
            raise ParameterError("prior is for bare loadings and draws: a fit has the law of its factors.")
        return found
    draws = _draws(subject)
    if draws is not None:
        return draws_subject(draws, x, prior)
    if getattr(subject, "ndim", 0) == 2 or _nested(subject) == 2:
        return loadings_subject(subject, x, prior)
    raise ParameterError(f"audit needs {TAKES}, got {type(subject).__name__}{_advice(subject)}.")


def _with_law(subject: Any, x: Any) -> Subject | None:
    if isinstance(subject, Fit):
        return Subject(linear_fit(subject), repr(subject.model), _chains(subject))
    return sklearn_subject(subject, x)


def _chains(run: Fit) -> tuple[str, ...]:
    """Say how the loadings of a sampler's chains have mixed."""
    independent = isinstance(
        run.method, LaplaceApproximation | VariationalBayes
    )  # draws of a known law, no chains
    if independent or run.draws is None or "loadings" not in run.draws:
        return ()
    try:
        found = mixing(run)
    except DataError:  # too few draws to say
        return ()
    return (f"Chains: {found.pattern.value}; {found.meaning}",)


def _draws(subject: Any) -> Any:
    """Return draws by site or as an array, None for what holds none."""
    if isinstance(subject, Mapping) and "loadings" in subject:
        return subject
    posterior = (
        None if isinstance(subject, Mapping) and not hasattr(subject, "children") else _posterior(subject)
    )
    if posterior is not None and "loadings" in posterior:
        return {name: posterior[name].values for name in SITES if name in posterior}
    deep = getattr(subject, "ndim", 0) in (3, 4) or _nested(subject) in (3, 4)
    return subject if deep else None


def _posterior(subject: Any) -> Any:
    """Return the posterior group of a DataTree or InferenceData."""
    return (
        getattr(subject, "posterior", None)
        if type(subject).__module__.startswith(("xarray", "arviz"))
        else None
    )


def _nested(value: Any) -> int:
    """Return how deep lists are nested, by their first entries."""
    depth = 0
    while isinstance(value, list | tuple) and value:
        value, depth = value[0], depth + 1
    return depth


def _advice(subject: Any) -> str:
    if isinstance(subject, LatentModel):
        return ", a model: fit it to data first"
    if type(subject).__module__.startswith("sklearn"):
        return ": of a pipeline pass the last step, with the rows that reach it"
    return ""
