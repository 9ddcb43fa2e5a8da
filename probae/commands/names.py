"""Models, laws and methods by the names the command line gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from probae import encoders, inference, models, priors
from probae.checks import ParameterError

PRIORS: dict[str, Callable[..., priors.Prior]] = {
    "gaussian": priors.Gaussian,
    "laplace": priors.Laplace,
    "logistic": priors.Logistic,
    "uniform": priors.Uniform,
    "student-t": lambda df=5.0: priors.StudentT(df),
    "multivariate-student-t": lambda df=5.0: priors.MultivariateStudentT(df),
    "generalized-normal": lambda shape=1.5: priors.GeneralizedNormal(shape),
    "spike-slab": priors.SpikeSlab,
}
DEFAULT_PRIORS = {"linear": "gaussian", "laplace": "laplace", "sparse": "laplace", "ica": "laplace"}


def make_prior(text: str) -> priors.Prior:
    """Return the law of a name, with its numbers after a colon.

    Examples
    --------
    >>> make_prior("student-t:4")
    StudentT(df=4)
    """
    name, _, numbers = text.partition(":")
    if name not in PRIORS:
        raise ParameterError(f"--prior should be one of {', '.join(PRIORS)}, got {name[:40]!r}.")
    try:
        return PRIORS[name](*(float(part) for part in numbers.split(",") if numbers))
    except ParameterError:
        raise
    except (TypeError, ValueError):
        raise ParameterError(
            f"--prior takes numbers after a colon, as in student-t:4 or spike-slab:0.2,0.1, got {text[:40]!r}."
        ) from None


def make_model(name: str, features: int, latents: int | None, prior: str | None) -> models.LinearFactorModel:
    """Return the model of a name, for data with so many features.

    Raises
    ------
    ParameterError
        If the number of latents is missing, or the model's law of z is fixed and another one was asked for.

    Examples
    --------
    >>> make_model("linear", 9, 3, "logistic")
    LinearFactorModel(9, 3, prior=Logistic())
    """
    if latents is None and name != "ica":
        raise ParameterError(f"--model {name} needs --latents, the number of factors.")
    size = features if latents is None else latents
    if name in ("fa", "ppca"):
        if prior not in (None, "gaussian"):
            raise ParameterError(f"--model {name} has Gaussian factors: use --model linear --prior {prior}.")
        return (models.FactorAnalysis if name == "fa" else models.ProbabilisticPCA)(features, size)
    if name == "laplace" and prior not in (None, "laplace"):
        raise ParameterError(f"--model laplace has Laplace factors: use --model linear --prior {prior}.")
    law = make_prior(prior or DEFAULT_PRIORS[name])
    if name in ("linear", "laplace"):
        return models.LinearFactorModel(features, size, prior=law)
    return (models.SparseCoding if name == "sparse" else models.IndependentComponents)(
        features, size, prior=law
    )


def make_method(name: str, model: models.LinearFactorModel, steps: int | None) -> inference.Method | None:
    """Return the method of a name, or None for the one that suits the model.

    Raises
    ------
    ParameterError
        If steps are given to a method that takes none.

    Examples
    --------
    >>> make_method("em", models.FactorAnalysis(9, 3), 10)
    EM(steps=10, tol=1e-10)
    """
    if steps is not None and name in ("auto", "ml"):
        raise ParameterError("--steps goes with --method em, stochastic-em, variational-em, map or svi.")
    chosen: dict[str, Any] = {} if steps is None else {"epochs" if name == "svi" else "steps": steps}
    if name == "svi":
        return inference.SVI(_encoder(model), **chosen)
    makers: dict[str, Callable[..., inference.Method]] = {
        "ml": inference.MaximumLikelihood,
        "em": inference.EM,
        "stochastic-em": inference.StochasticEM,
        "variational-em": inference.VariationalEM,
        "map": inference.MAP,
    }
    return makers[name](**chosen) if name in makers else None


def _encoder(model: models.LinearFactorModel) -> encoders.Encoder:
    """Return the encoder that holds the exact posterior, or else the most flexible one that is affordable."""
    if model.gaussian:
        return encoders.LinearGaussianEncoder(model.features, model.latents)
    head = "full" if model.latents <= 32 else "low_rank"
    return encoders.MLPEncoder(model.features, model.latents, covariance=head)
