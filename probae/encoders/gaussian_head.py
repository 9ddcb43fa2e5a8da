"""A network whose head is a Gaussian over z with full, low-rank or diagonal covariance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import ParameterError, check_choice, check_count
from probae.encoders.laws import DiagonalCode, GaussianCode, LowRankCode
from probae.encoders.network import NetworkEncoder, linear

FULL_LIMIT = 32  # latents up to which a full covariance head is the default


class GaussianNetworkEncoder(NetworkEncoder):
    """q(z | x) = N(m(x), S(x)), m and the root of S linear in the last hidden layer; subclasses build the body."""

    lower: Tensor

    def __init__(self, features: int, latents: int, covariance: str, rank: int) -> None:
        super().__init__(features, latents)
        self.covariance = check_choice("covariance", covariance, ("full", "low_rank", "diagonal"))
        if covariance == "full" and latents > FULL_LIMIT:
            raise ParameterError(
                f'covariance="full" has {latents * (latents + 1) // 2} entries per row for {latents} latents: '
                'choose covariance="low_rank" or covariance="diagonal".'
            )
        self.rank = min(check_count("rank", rank), latents)
        if covariance == "diagonal":
            self.warning = (
                "The encoder has a diagonal covariance: it prefers axes on which the posterior is uncorrelated, "
                "whatever the model says, so a preferred rotation may be the guide's."
            )

    def build(self, body: nn.Module, width: int) -> None:
        """Set the body, of ``width`` outputs, and the head on it."""
        k = self.latents
        extra = {"full": k * (k - 1) // 2, "low_rank": k * self.rank, "diagonal": 0}[self.covariance]
        self.body = body
        self.head = linear(width, 2 * k + extra)
        full = self.covariance == "full"
        lower = torch.tril_indices(k, k, -1) if full else torch.zeros(2, 0, dtype=torch.long)
        self.register_buffer("lower", lower, persistent=False)

    def forward(self, x: Float[Tensor, "samples features"]) -> GaussianCode | LowRankCode | DiagonalCode:
        """Return q(z | x)."""
        return self.law(self.head(self.hidden_values(x)))

    def law(self, output: Float[Tensor, "samples outputs"]) -> GaussianCode | LowRankCode | DiagonalCode:
        """Return the Gaussian that the output of the head stands for."""
        k = self.latents
        location, log_scale, extra = output.split([k, k, output.shape[-1] - 2 * k], -1)
        scale = nn.functional.hardtanh(
            log_scale, -12.0, 12.0
        ).exp()  # a clamp with a gradient of one operation
        if self.covariance == "diagonal":
            return DiagonalCode(location, scale)
        if self.covariance == "low_rank":
            return LowRankCode(location, extra.unflatten(-1, (k, self.rank)), scale.square())
        scale_tril = torch.diag_embed(scale)
        scale_tril[..., self.lower[0], self.lower[1]] = extra
        return GaussianCode(location, scale_tril)
