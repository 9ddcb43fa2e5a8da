"""A deep encoder and the autoencoder whose decoder mirrors it."""

from __future__ import annotations

from probae.decoders import MLPDecoder
from probae.encoders.mlp import MLPEncoder
from probae.likelihoods import Likelihood
from probae.models.autoencoder import Autoencoder
from probae.priors import Prior


def mirrored(
    features: int,
    latents: int,
    hidden: tuple[int, ...] = (256, 64),
    likelihood: Likelihood | None = None,
    prior: Prior | None = None,
    covariance: str = "diagonal",
    activation: str = "tanh",
) -> tuple[MLPEncoder, Autoencoder]:
    """Return an encoder with these hidden widths and an autoencoder whose decoder has them in reverse.

    Parameters
    ----------
    features, latents : int
    hidden : tuple of int
        Widths from x to z.
    likelihood, prior : optional
        As for `Autoencoder`.
    covariance, activation : str
        As for `MLPEncoder`.

    Returns
    -------
    encoder : MLPEncoder
    model : Autoencoder

    Examples
    --------
    >>> import probae as pa
    >>> encoder, model = pa.mirrored(64, 2, hidden=(32, 16))
    >>> encoder.hidden, model.decoder.hidden
    ((32, 16), (16, 32))
    """
    encoder = MLPEncoder(features, latents, hidden, covariance, activation=activation)
    decoder = MLPDecoder(latents, features, encoder.hidden[::-1], activation)
    return encoder, Autoencoder(features, latents, decoder, likelihood, prior)
