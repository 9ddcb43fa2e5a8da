"""Kinds of noise of a linear factor model, and how many latents each allows."""

from __future__ import annotations

from probae.checks import ParameterError

NOISES = ("diagonal", "isotropic", "complement", "none")


def check_noise(noise: str, features: int, latents: int, gaussian: bool) -> None:
    """Refuse sizes and laws that a kind of noise does not determine.

    Raises
    ------
    ParameterError
        For ``"none"`` with ``latents != features``, or ``"complement"`` with ``latents >= features`` or Gaussian
        latents.
    """
    if noise == "none" and latents != features:
        raise ParameterError(
            f'noise="none" needs as many latents as features, got {latents} latents and {features} features: '
            'for fewer latents use noise="complement" or let all of the model have noise; more are not '
            "determined by x without noise, so fit fewer or use SparseCoding."
        )
    if noise == "complement" and latents >= features:
        raise ParameterError(
            f'noise="complement" needs fewer latents than features, got {latents} latents and '
            f'{features} features: use noise="none" for as many, SparseCoding for more.'
        )
    if noise == "complement" and gaussian:
        raise ParameterError(
            'Gaussian latents with noise="complement" are probabilistic PCA in other parameters: use '
            "ProbabilisticPCA, or a non-Gaussian prior."
        )
