"""A network from x to a spike-and-slab law of z."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import check_positive
from probae.encoders.network import NetworkEncoder, check_hidden, linear, perceptron
from probae.encoders.spike_slab_law import SpikeSlabCode


class SpikeSlabEncoder(NetworkEncoder):
    r"""Independent mixtures of a narrow and a wide normal law, from a tanh network on standardised x.

    .. math:: q(z \mid x) = \prod_k \big[\pi_k N(z_k; m_{1k}, s_{1k}^2) + (1 - \pi_k) N(z_k; m_{0k}, s_{0k}^2)\big]

    All five are functions of x. With the prior `SpikeSlab` and one latent, the posterior of a linear model has this
    form exactly; with more, the family leaves out the correlations. ``slab_probability`` of the law says how likely
    each coordinate is active.

    Parameters
    ----------
    features, latents : int
    hidden : tuple of int
        Widths of the hidden layers.
    spike : float
        Standard deviation of the spike at the start; that of the prior is a good one.

    Notes
    -----
    Gradients pass through draws by implicit reparametrisation (see `SpikeSlabCode`): unbiased, but noisy for pi where
    spike and slab have a gap of many standard deviations between them.

    Examples
    --------
    >>> import torch, probae as pa
    >>> q = pa.SpikeSlabEncoder(5, 2, hidden=(8,))(torch.zeros(3, 5))
    >>> q.slab_probability.shape
    torch.Size([3, 2])
    """

    warning = (
        "The encoder has independent spike-and-slab coordinates: it prefers axes on which the posterior is "
        "uncorrelated, whatever the model says, so a preferred rotation may be the guide's."
    )

    def __init__(
        self, features: int, latents: int, hidden: tuple[int, ...] = (128,), spike: float = 0.1
    ) -> None:
        super().__init__(features, latents)
        self.hidden = check_hidden(hidden)
        check_positive("spike", spike)
        self.spike = float(spike)
        self.body = perceptron(features, self.hidden)
        self.head = linear((features, *self.hidden)[-1], 5 * latents)

    def __repr__(self) -> str:
        return (
            f"SpikeSlabEncoder({self.features}, {self.latents}, hidden={self.hidden}, spike={self.spike:g})"
        )

    def forward(self, x: Float[Tensor, "samples features"]) -> SpikeSlabCode:
        """Return q(z | x)."""
        slab, logits, log_slab, near, log_spike = self.head(self.hidden_values(x)).chunk(5, -1)
        scale = torch.stack([log_spike, log_slab], -1).clamp(-12.0, 12.0).exp()
        scale = torch.stack([self.spike * scale[..., 0], scale[..., 1]], -1)
        return SpikeSlabCode(logits.clamp(-30.0, 30.0), torch.stack([self.spike * near, slab], -1), scale)
