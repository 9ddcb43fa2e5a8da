"""A fit in a rotated frame: the same likelihood, other axes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch

from probae.checks import NotExactError, ParameterError
from probae.inference import Fit
from probae.inference.base import ExactPosterior
from probae.models import LinearFactorModel
from probae.priors import CorrelatedGaussian, Gaussian
from probae.rotation import Rotation

__all__ = ["rotated"]

SAME = 1e-6  # relative to the largest loading


def rotated(run: Fit, rotation: Rotation) -> Fit:
    r"""Return the same fit in the frame of a rotation.

    .. math:: x = \mu + \Lambda f + \varepsilon, \qquad \Lambda = W M, \quad f = M^{-1} z \sim N(0, \Phi)

    The likelihood of every row is unchanged; posterior means and covariances are those of the rotated factors. After
    an orthogonal rotation the model is of the same class. After an oblique one it is a ``LinearFactorModel`` with
    the prior ``CorrelatedGaussian(Phi)``.

    Parameters
    ----------
    run : Fit
        An exact fit with standard normal factors.
    rotation : Rotation
        What `rotate` gave for this fit.

    Returns
    -------
    Fit
        With the history and the method of the one given.

    Raises
    ------
    NotExactError
        If the factors are not Gaussian, or the posterior is not the exact one.
    ParameterError
        If the rotation is of other loadings, or the zeros of the model fix its axes.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), x)
    >>> turned = pa.rotated(run, pa.rotate(run, pa.rotation.Quartimin(), oblique=True))
    >>> turned.model
    LinearFactorModel(9, 3, prior=CorrelatedGaussian(3 factors, largest correlation 0.326))
    >>> bool((turned.log_likelihood(x) - run.log_likelihood(x)).abs().max() < 1e-10)
    True
    """
    _check(run, rotation)
    loadings = run.model.loadings.detach().double() @ rotation.matrix
    if rotation.oblique and run.model.latents > 1:
        prior = CorrelatedGaussian(rotation.factor_correlation)
        model = LinearFactorModel(run.model.features, run.model.latents, prior=prior, noise=run.model.noise)
        model.mean = run.model.mean.detach().clone()
        if run.model.noise != "none":
            model.noise_variance = run.model.noise_variance.detach().clone()
    else:
        model = copy.deepcopy(run.model)
    with torch.no_grad():
        model.loadings = loadings
    return replace(run, model=model, program=model, posterior=ExactPosterior(model))


def _check(run: Any, rotation: Any) -> None:
    """Refuse what has no rotated form."""
    if not isinstance(rotation, Rotation):
        raise ParameterError(
            f"rotation should be what rotate(run, ...) gives, got a {type(rotation).__name__}: "
            "for a criterion use rotated(run, rotate(run, criterion))."
        )
    model = getattr(run, "model", None)
    if not isinstance(run, Fit) or not isinstance(model, LinearFactorModel):
        raise ParameterError(f"run should be a fit of a linear factor model, got {run!r}.")
    if not isinstance(model.prior, Gaussian) or run.draws is not None:
        raise NotExactError(
            f"rotated is exact for fits of uncorrelated Gaussian factors only, got {model!r}: with other factors a "
            "rotation changes the likelihood."
        )
    if not isinstance(run.posterior, ExactPosterior):
        raise NotExactError(
            "rotated needs the exact posterior, got that of an encoder or of codes: use MaximumLikelihood() or EM()."
        )
    if hasattr(model, "pattern"):
        raise ParameterError(
            "The zeros of this model fix its axes: a rotation would fill them, so it has none."
        )
    loadings = model.loadings.detach().double()
    fits = rotation.matrix.shape[0] == loadings.shape[1] and rotation.loadings.shape == loadings.shape
    if not fits or (loadings @ rotation.matrix - rotation.loadings).abs().max() > SAME * loadings.abs().max():
        raise ParameterError(
            "rotation should be that of this fit, got one of other loadings: run rotate(run) again."
        )
