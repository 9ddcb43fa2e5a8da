"""Models with a decoder: those that are linear after all, and those for which no theorem says what is identified."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from probae.checks import ParameterError
from probae.decoders import LinearDecoder
from probae.identifiability.evidence import Evidence
from probae.identifiability.guide import InferenceEvidence
from probae.identifiability.structure import LoadingsCheck, Structure
from probae.inference import Fit
from probae.likelihoods import Gaussian
from probae.models import Autoencoder, LinearFactorModel
from probae.statistics import SufficientStatistics

__all__ = ["linear_fit", "nonlinear_evidence"]


def linear_fit(fit: Fit) -> Fit:
    """Return the fit of an autoencoder with a linear decoder and Gaussian noise as that of the linear model it is.

    Examples
    --------
    >>> import probae as pa
    >>> from probae.identifiability.given import given_fit
    >>> vae = pa.Autoencoder(5, 2, decoder=pa.decoders.LinearDecoder(2, 5))
    >>> run = given_fit(pa.FactorAnalysis(5, 2), "a test")
    >>> linear_fit(run) is run, linear_fit(replace(run, model=vae)).model
    (True, LinearFactorModel(5, 2, prior=Gaussian()))
    """
    model = fit.model
    if not isinstance(model, Autoencoder) or type(model.decoder) is not LinearDecoder:
        return fit
    if type(model.noise_model) is not Gaussian:
        return fit
    variance = model.noise_model.noise_variance.detach().double()
    noise = "isotropic" if variance.numel() == 1 else "diagonal"
    linear = LinearFactorModel(model.features, model.latents, model.prior, noise=noise)
    linear.loadings = model.decoder.loadings.detach().double().clone()
    linear.mean = model.decoder.mean.detach().double().clone()
    linear.noise_variance = variance.clone().reshape(linear.noise_variance.shape)
    linear.requires_grad_(False)
    return replace(fit, model=linear, program=linear)


def nonlinear_evidence(fit: Fit, x: Any) -> Evidence:
    """Return what little is known of a model that is not linear: its sizes, and why nothing follows.

    Raises
    ------
    ParameterError
        The model has neither loadings nor a decoder.
    """
    model = fit.model
    if not isinstance(model, Autoencoder):
        raise ParameterError(f"audit reads linear factor models, got {type(model).__name__}.")
    why = (
        f"x = {type(model.decoder).__name__}(z) with {type(model.noise_model).__name__} likelihood: without a further "
        "variable that changes the law of z, or zeros of its slopes, a flexible map of z can be undone by the decoder."
    )
    unknown = Structure((tuple(range(model.latents)),), 0, 0.0, exact=False, family="")
    return Evidence(
        features=model.features,
        factors=model.latents,
        samples=0 if x is None else x.count if isinstance(x, SufficientStatistics) else len(x),
        gaussian=False,
        noise="none",
        converged=fit.converged,
        inference=InferenceEvidence(restricted=True),
        structure=unknown,
        loadings=LoadingsCheck(0, False, 0.0, ()),
        why_no_data="The tests ask for scores, and a decoder that is not linear has none.",
        nonlinear=why,
    )
