"""A network from x to independent Laplace laws of z."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from probae.encoders.laws import LaplaceCode
from probae.encoders.network import NetworkEncoder, check_hidden, linear, perceptron


class LaplaceEncoder(NetworkEncoder):
    r"""Independent Laplace laws with location and scale from a tanh network on standardised x.

    .. math:: q(z \mid x) = \prod_k \frac{1}{2 b_k(x)} \exp\big(-|z_k - m_k(x)| / b_k(x)\big)

    The family holds the Laplace prior, so coordinates that a row says nothing about cost nothing; it holds no
    posterior correlation.

    Parameters
    ----------
    features, latents : int
    hidden : tuple of int
        Widths of the hidden layers; none for a linear map.

    Examples
    --------
    >>> import torch, probae as pa
    >>> q = pa.LaplaceEncoder(5, 2, hidden=(8,))(torch.zeros(3, 5))
    >>> q.batch_shape, q.event_shape
    (torch.Size([3]), torch.Size([2]))
    """

    warning = (
        "The encoder has independent Laplace coordinates: it prefers axes on which the posterior is uncorrelated and "
        "peaked, whatever the model says, so a preferred rotation may be the guide's."
    )

    def __init__(self, features: int, latents: int, hidden: tuple[int, ...] = (128,)) -> None:
        super().__init__(features, latents)
        self.hidden = check_hidden(hidden)
        self.body = perceptron(features, self.hidden)
        self.head = linear((features, *self.hidden)[-1], 2 * latents)

    def __repr__(self) -> str:
        return f"LaplaceEncoder({self.features}, {self.latents}, hidden={self.hidden})"

    def forward(self, x: Float[Tensor, "samples features"]) -> LaplaceCode:
        """Return q(z | x)."""
        location, log_scale = self.head(self.hidden_values(x)).chunk(2, -1)
        return LaplaceCode(location, log_scale.clamp(-12.0, 12.0).exp())
