r"""What a non-Gaussian fit gains, and how much of it speaks for its axes: three numbers instead of one.

.. math:: \log p - \log p_{\text{Gaussian}}, \qquad \log p - E_R \log p_R, \qquad \log p - \log p_{\text{elliptical}}

p_R has the loadings W R for a uniform (Haar) rotation R of the fitted factors: the same covariance W W' + Psi, the same
laws, other axes. The elliptical model has `MultivariateStudentT` factors, heavy tails without axes. A gain over the
Gaussian model that random axes keep, or that the elliptical model beats, is no evidence of independent factors.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import BoundaryWarning, DataError, ParameterError, check_count, check_data
from probae.identifiability.likelihood_ratio import row_changes
from probae.inference import EM, Fit, MaximumLikelihood
from probae.inference.fit import fit as fit_model
from probae.inference.segment_posterior import SegmentPosterior
from probae.linalg import haar_rotation
from probae.models import LinearFactorModel
from probae.priors import MultivariateStudentT

START = 5.0  # degrees of freedom from which the elliptical model learns its own


@dataclass(frozen=True)
class Gain:
    """Mean gain in nats per row, and its standard error from the differences of the rows."""

    nats: float
    error: float

    def __str__(self) -> str:
        return f"{self.nats:+.4f} +- {self.error:.4f}"


@dataclass(frozen=True)
class LikelihoodGains:
    """Gains of a fit in nats per held-out row.

    Attributes
    ----------
    gaussian : Gain
        Over Gaussian factors with the same noise, fitted to the same rows.
    rotation : Gain
        Over the mean of its own log-likelihood under Haar rotations of its factors: what speaks for the axes.
    elliptical : Gain
        Over `MultivariateStudentT` factors with the same noise, fitted to the same rows: below 0 where a law without
        axes fits better.
    level : float
        The fit's own log-likelihood per row.
    df : float
        Degrees of freedom of the elliptical model.
    features, samples, rotations : int
        Columns of x, held-out rows, and rotations averaged over.

    Examples
    --------
    >>> print(LikelihoodGains(Gain(0.4, 0.01), Gain(0.1, 0.01), Gain(-0.2, 0.02), -5.0, 3.0, 4, 100, 50))
    Log-likelihood of 100 held-out rows: -5.0000 nats per row
      gain over Gaussian factors                             +0.4000 +- 0.0100 nats per row (+0.1000 per column)
      gain over its own axes turned at random                +0.1000 +- 0.0100 nats per row (+0.0250 per column)
      gain over elliptical factors (t, 3 degrees of freedom) -0.2000 +- 0.0200 nats per row (-0.0500 per column)
      Random axes keep 75 % of the gain over Gaussian factors, and a law without axes fits better than these independent
      factors.
    """

    gaussian: Gain
    rotation: Gain
    elliptical: Gain
    level: float
    df: float
    features: int
    samples: int
    rotations: int

    @property
    def share(self) -> float:
        """The part of the gain over the Gaussian model that random axes lose; NaN where there is no gain."""
        return self.rotation.nats / self.gaussian.nats if self.gaussian.nats > 0 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self) | {"share": self.share if math.isfinite(self.share) else None}

    def __str__(self) -> str:
        named = (
            ("over Gaussian factors", self.gaussian),
            ("over its own axes turned at random", self.rotation),
            (f"over elliptical factors (t, {self.df:.3g} degrees of freedom)", self.elliptical),
        )
        width = max(len(name) for name, _ in named)
        lines = [f"Log-likelihood of {self.samples} held-out rows: {self.level:.4f} nats per row"]
        lines += [
            f"  gain {name:<{width}}  {gain} nats per row ({gain.nats / self.features:+.4f} per column)"
            for name, gain in named
        ]
        return "\n".join([*lines, f"  {self._reading()}"])

    def _reading(self) -> str:
        if self.gaussian.nats < 2 * self.gaussian.error:
            return "Gaussian factors fit as well: there is no gain to explain."
        axes = f"Random axes keep {100 * (1 - self.share):.0f} % of the gain over Gaussian factors"
        if self.share > 1:
            axes = "With random axes these factors fit worse than Gaussian ones"
        if self.elliptical.nats < -2 * self.elliptical.error:
            return f"{axes}, and a law without axes fits better than these independent factors."
        return f"{axes}."


def likelihood_gains(
    fit: Fit, x: Any, held_out: Any, *, rotations: int = 50, seed: int = 0
) -> LikelihoodGains:
    """Compare a fit with Gaussian factors, with its own axes turned at random, and with elliptical factors.

    All models see `x` alone and are compared on the same rows of `held_out`, so errors come from differences of rows.
    Likelihoods are exact for fits without noise; with noise they are those of ``fit.log_likelihood``, and the rotations
    share its draws. The error of the mean over rotations has two parts, rows and rotations, added as variances.

    Parameters
    ----------
    fit : Fit
        Of a linear factor model with at least two factors.
    x : array, DataFrame or Tensor (N, D)
        The rows it was fitted to.
    held_out : array, DataFrame or Tensor (M, D)
        Other rows.
    rotations : int
        Haar rotations averaged over.
    seed : int
        Of the rotations.

    Returns
    -------
    LikelihoodGains

    Raises
    ------
    ParameterError
        If `fit` is no fit of a linear factor model of two factors or more, or one with segments.
    NotExactError
        If the fit has no likelihood, as overcomplete codes.

    References
    ----------
    Lyu, S. & Simoncelli, E. P. (2009). Nonlinear extraction of independent components of natural images using radial
    Gaussianization. Neural Computation 21, 1485-1519.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.natural_patches(size=4, count=2000, whiten=6).x
    >>> run = pa.fit(pa.IndependentComponents(6, 6), x[:1000])
    >>> gains = pa.likelihood_gains(run, x[:1000], x[1000:])
    >>> gains.gaussian.nats > gains.rotation.nats > 0 > gains.elliptical.nats
    True
    """
    model = _check(fit)
    train = check_data(x, features=model.features, names=model.feature_names, minimum_rows=2).values
    test = check_data(held_out, features=model.features, names=model.feature_names, minimum_rows=2).values
    own = fit.log_likelihood(test)
    shape = (model.features, model.latents)
    noise = "isotropic" if model.noise == "complement" else model.noise  # the covariances are the same
    gaussian = fit_model(LinearFactorModel(*shape, noise=noise), train, MaximumLikelihood(), seed=seed)
    law = MultivariateStudentT(START, learn=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)  # the degrees of freedom are in the report
        elliptical = fit_model(LinearFactorModel(*shape, law, noise=noise), train, EM(), seed=seed)
    return LikelihoodGains(
        gaussian=_gain(own - gaussian.log_likelihood(test)),
        rotation=_rotation_gain(model, test, check_count("rotations", rotations, 2), seed),
        elliptical=_gain(own - elliptical.log_likelihood(test)),
        level=float(own.mean()),
        df=float(elliptical.model.prior.df),
        features=model.features,
        samples=len(test),
        rotations=rotations,
    )


def _check(fit: Any) -> LinearFactorModel:
    if not isinstance(fit, Fit) or not isinstance(fit.model, LinearFactorModel):
        kind = type(getattr(fit, "model", fit)).__name__
        raise ParameterError(f"likelihood_gains needs a Fit of a linear factor model, got {kind}.")
    if isinstance(fit.posterior, SegmentPosterior):
        raise ParameterError(
            "likelihood_gains compares laws of the factors, and those of a fit with segments are Gaussian: read "
            "pa.audit(fit, x)."
        )
    if fit.model.latents < 2:
        raise ParameterError("likelihood_gains needs at least two factors: one has no axes to turn.")
    return fit.model


def _gain(difference: Float[Tensor, " samples"]) -> Gain:
    if not bool(difference.isfinite().all()):
        raise DataError("A held-out row has no likelihood under one of the models: check it for outliers.")
    return Gain(float(difference.mean()), float(difference.std() / math.sqrt(len(difference))))


def _rotation_gain(model: LinearFactorModel, x: Tensor, count: int, seed: int) -> Gain:
    """Average log p(x) - log p(x; W R) over rows and Haar rotations."""
    generator = torch.Generator().manual_seed(seed)
    total, means = torch.zeros(len(x), dtype=torch.float64), []
    for rotation in haar_rotation(model.latents, generator, count=count):
        lost = -row_changes(model, x, rotation, seed)
        total += lost
        means.append(float(lost.mean()))
    rows, turns = _gain(total / count), _gain(torch.tensor(means, dtype=torch.float64))
    return Gain(rows.nats, math.hypot(rows.error, turns.error))
