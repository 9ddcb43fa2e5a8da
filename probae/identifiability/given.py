"""Models that were fitted elsewhere, in the form an audit reads, and laws for factors that came without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import Data, ParameterError
from probae.identifiability.frames import best_laws, candidate_laws, law_of, law_tables
from probae.identifiability.likelihood_ratio import sample_rows
from probae.inference import Fit, ImportancePosterior
from probae.inference.base import ExactPosterior, Method, Outcome
from probae.models import LinearFactorModel
from probae.priors import MultivariateStudentT, Prior
from probae.statistics import SufficientStatistics

__all__ = ["Given", "Subject", "fitted_law", "given_fit"]

ROWS = 5000  # rows that choose a law


@dataclass(frozen=True)
class Given(Method):
    """What stands for the method of a model that was fitted elsewhere.

    Attributes
    ----------
    source : str
        Where it is from.
    """

    source: str

    def fit(self, model: Any, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Refuse: how the model was fitted is not known here.

        Raises
        ------
        ParameterError
            Always.
        """
        raise ParameterError(f"{self.source} was fitted elsewhere and cannot be fitted again here.")


@dataclass(frozen=True, eq=False)
class Subject:
    """What an audit is about: a fit, where it is from, and what was assumed to read it.

    ``laws_chosen`` says that each factor's law was chosen from its scores, so that it goes wherever the factor goes.
    """

    fit: Fit
    name: str
    notes: tuple[str, ...] = ()
    rotation_unfinished: bool = False
    laws_chosen: bool = False


def given_fit(
    model: LinearFactorModel,
    source: str,
    *,
    converged: bool = True,
    names: tuple[str, ...] | None = None,
    draws: dict[str, Tensor] | None = None,
) -> Fit:
    """Return a Fit around a model with given parameters; its posterior is that of the model itself."""
    model.requires_grad_(False)
    exact = model.gaussian or model.invertible or isinstance(model.prior, MultivariateStudentT)
    return Fit(
        model=model,
        program=model,
        posterior=ExactPosterior(model) if exact else ImportancePosterior(model),
        method=Given(source),
        seed=0,
        names=names,
        history=torch.zeros(0, dtype=torch.float64),
        converged=converged,
        seconds=0.0,
        draws=draws,
    )


def fitted_law(
    scores: Float[Tensor, "samples latents"], covariance: Float[Tensor, "latents latents"], seed: int = 0
) -> Prior:
    """Return for each score the law that fits it best, of the candidates that are not Gaussian.

    Examples
    --------
    >>> import torch
    >>> from probae import priors
    >>> _ = torch.manual_seed(0)
    >>> laws = [priors.Laplace(), priors.Uniform()]
    >>> fitted_law(priors.Independent(laws).sample(2000).double(), torch.zeros(2, 2).double())
    Independent([Laplace(), GeneralizedNormal(shape=8)])
    """
    rows = sample_rows(scores, ROWS, seed)
    return law_of(best_laws(law_tables(rows, covariance, candidate_laws()), rows, covariance))
