"""A multi-layer perceptron from x to a Gaussian over z."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import ParameterError, check_choice, check_count
from probae.encoders.base import Encoder
from probae.encoders.laws import DiagonalCode, GaussianCode

FULL_LIMIT = 32  # latents up to which a full covariance head is the default


class MLPEncoder(Encoder):
    r"""q(z | x) = N(m(x), L(x) L(x)') with m and L from a tanh network on standardised x.

    Parameters
    ----------
    features, latents : int
    hidden : tuple of int
        Widths of the hidden layers.
    covariance : {"full", "low_rank", "diagonal"}
        ``"full"`` up to 32 latents. ``"low_rank"`` is diag(s^2) + U U' with ``rank`` columns. ``"diagonal"`` breaks
        the rotation symmetry of a Gaussian model, so its axes are the guide's choice; a Fit says so in ``warnings``.
    rank : int
        Columns of U for ``"low_rank"``.

    Raises
    ------
    ParameterError
        If ``covariance="full"`` with more than 32 latents.

    Examples
    --------
    >>> import torch, probae as pa
    >>> pa.MLPEncoder(5, 2, hidden=(8,))(torch.zeros(3, 5)).event_shape
    torch.Size([2])
    """

    body: nn.Sequential
    centre: Tensor
    spread: Tensor
    lower: Tensor

    def __init__(
        self,
        features: int,
        latents: int,
        hidden: tuple[int, ...] = (128,),
        covariance: str = "full",
        rank: int = 4,
    ) -> None:
        super().__init__(features, latents)
        self.covariance = check_choice("covariance", covariance, ("full", "low_rank", "diagonal"))
        if covariance == "full" and latents > FULL_LIMIT:
            raise ParameterError(
                f'covariance="full" has {latents * (latents + 1) // 2} entries per row for {latents} latents: '
                'choose covariance="low_rank" or covariance="diagonal".'
            )
        self.rank = min(check_count("rank", rank), latents)
        extra = {"full": latents * (latents - 1) // 2, "low_rank": latents * self.rank, "diagonal": 0}[
            covariance
        ]
        if not isinstance(hidden, tuple | list):
            raise ParameterError(f"hidden should be a tuple of layer widths such as (128,), got {hidden!r}.")
        self.hidden = tuple(check_count("hidden", width) for width in hidden)
        widths = [features, *self.hidden]
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 2 * latents + extra)
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        lower = (
            torch.tril_indices(latents, latents, -1)
            if covariance == "full"
            else torch.zeros(2, 0, dtype=torch.long)
        )
        self.register_buffer("lower", lower, persistent=False)
        if covariance == "diagonal":
            self.warning = (
                "The encoder has a diagonal covariance: it prefers axes on which the posterior is uncorrelated, "
                "whatever the model says, so a preferred rotation may be the guide's."
            )

    def __repr__(self) -> str:
        return (
            f"MLPEncoder({self.features}, {self.latents}, hidden={self.hidden}, covariance={self.covariance!r}, "
            f"rank={self.rank})"
        )

    def start(self, x: Float[Tensor, "samples features"], generator: torch.Generator) -> None:
        """Standardise by the columns of x and draw the weights (variance 1 / fan-in; the scale head starts at zero)."""
        if self.started:
            return
        spread = x.std(0)
        self.centre.copy_(x.mean(0))
        self.spread.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))
        with torch.no_grad():
            for layer in (*self.body, self.head):
                if isinstance(layer, nn.Linear):
                    draw = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)
                    layer.weight.copy_((draw / layer.in_features**0.5).to(x.dtype))
                    layer.bias.zero_()
            self.head.weight[self.latents :] *= 0.01

    def rescale(self, units: Float[Tensor, " features"]) -> None:
        """Put an encoder of x / units into the units of x."""
        self.centre.mul_(units)
        self.spread.mul_(units)

    def forward(self, x: Float[Tensor, "samples features"]) -> GaussianCode | DiagonalCode:
        """Return q(z | x)."""
        k = self.latents
        output = self.head(self.body((x - self.centre) / self.spread))
        location, log_scale, extra = output.split([k, k, output.shape[-1] - 2 * k], -1)
        scale = nn.functional.hardtanh(
            log_scale, -12.0, 12.0
        ).exp()  # a clamp whose gradient is one operation
        if self.covariance == "diagonal":
            return DiagonalCode(location, scale)
        if self.covariance == "low_rank":
            return GaussianCode(location, self._low_rank_root(scale, extra))
        scale_tril = torch.diag_embed(scale)
        scale_tril[..., self.lower[0], self.lower[1]] = extra
        return GaussianCode(location, scale_tril)

    def _low_rank_root(self, scale: Tensor, entries: Tensor) -> Float[Tensor, "*batch latents latents"]:
        factor = entries.unflatten(-1, (self.latents, self.rank))
        return torch.linalg.cholesky(torch.diag_embed(scale.square()) + factor @ factor.mT)
