"""The reconstruction through a noisy code: an autoencoder with a channel between encoder and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class SampledReconstruction:
    r"""Density log p(x | z) of each row at a code drawn by the encoder, z ~ q(z | x): the bound without its KL term.

    Noise in q is a channel that the code has to get through, and nothing pays for an input that drowns it. Logistic
    units with noise on their input (:class:`probae.BinaryCodeEncoder`) hence go to 0 and 1 [1]_.

    References
    ----------
    .. [1] Salakhutdinov, R. & Hinton, G. (2009). Semantic hashing. International Journal of Approximate Reasoning 50.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> model, encoder = pa.Autoencoder(9, 4), pa.BinaryCodeEncoder(9, 4).double()
    >>> pa.SampledReconstruction()(model, encoder, x).shape
    torch.Size([301])
    """

    name: ClassVar[str] = "log reconstruction density at a draw"
    energy: ClassVar[bool] = False

    def __call__(
        self,
        model: Any,
        encoder: Any,
        x: Float[Tensor, "samples features"],
        seen: Float[Tensor, "samples features"] | None = None,
    ) -> Float[Tensor, "samples"]:
        """Return log p(x | z) of each row, in nats; the encoder is shown ``seen`` in place of x."""
        z, _ = encoder(x if seen is None else seen).rsample_and_log_prob()
        return model.likelihood(z).log_prob(x)
