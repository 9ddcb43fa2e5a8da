"""Convolutions over a square patch, to a Gaussian over z."""

from __future__ import annotations

import math

import torch
from torch import nn

from probae.checks import ParameterError, check_count
from probae.encoders.gaussian_head import GaussianNetworkEncoder


class ConvolutionalEncoder(GaussianNetworkEncoder):
    r"""q(z | x) = N(m(x), S(x)) from strided 3 x 3 convolutions with tanh, for rows that are square patches.

    Each layer halves the side (rounded up): the grids and channels of a convolutional decoder with ``channels`` in the
    opposite order, where the side is a multiple of 2 to the number of layers. Pixels are standardised one by one first.

    Parameters
    ----------
    features : int
        Pixels of a patch, a square number: x holds them row by row.
    latents : int
    channels : tuple of int
        Channels of each layer.
    covariance : {"full", "low_rank", "diagonal"}
        As in `MLPEncoder`.
    rank : int
        Columns of U for ``"low_rank"``.

    Raises
    ------
    ParameterError
        If ``features`` is no square number.

    Examples
    --------
    >>> import torch, probae as pa
    >>> pa.ConvolutionalEncoder(64, 4, channels=(8,))(torch.zeros(3, 64)).event_shape
    torch.Size([4])
    """

    def __init__(
        self,
        features: int,
        latents: int,
        channels: tuple[int, ...] = (16, 32),
        covariance: str = "full",
        rank: int = 4,
    ) -> None:
        super().__init__(features, latents, covariance, rank)
        size = math.isqrt(features)
        if size * size != features:
            raise ParameterError(
                f"A convolutional encoder needs square patches, size * size features, got {features}: "
                "use MLPEncoder for rows that are no patches."
            )
        if not isinstance(channels, tuple | list) or not channels:
            raise ParameterError(f"channels should be a tuple of counts such as (16, 32), got {channels!r}.")
        self.channels = tuple(check_count("channels", channel) for channel in channels)
        layers: list[nn.Module] = [nn.Unflatten(-1, (1, size, size))]
        for before, after in zip((1, *self.channels), self.channels, strict=False):
            with torch.random.fork_rng(devices=[]):
                layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.Tanh()]
            size = (size + 1) // 2
        self.build(nn.Sequential(*layers, nn.Flatten(-3)), self.channels[-1] * size * size)

    def __repr__(self) -> str:
        return (
            f"ConvolutionalEncoder({self.features}, {self.latents}, channels={self.channels}, "
            f"covariance={self.covariance!r}, rank={self.rank})"
        )
