"""What a regulariser is: a change of the rows the encoder is shown, a penalty per row, or both."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError


class Regularizer:
    """Part of a training objective beside the bound; subclasses are small frozen dataclasses.

    Training maximises the mean over rows of ``objective(model, encoder, x, seen=corrupt(x)) - penalty(model,
    encoder, x)``, so a penalty is in nats per row.

    Examples
    --------
    >>> class SmallCodes(Regularizer):
    ...     def penalty(self, model, encoder, x):
    ...         return 0.1 * encoder(x).mean.square().sum(-1)
    >>> import probae as pa, torch
    >>> SmallCodes().penalty(None, pa.MLPEncoder(3, 2), torch.zeros(4, 3)).shape
    torch.Size([4])
    """

    def corrupt(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples features"]:
        """Return the rows that the encoder is shown in place of x; random ones from torch's global generator."""
        return x

    def penalty(
        self, model: Any, encoder: Any, x: Float[Tensor, "samples features"]
    ) -> Float[Tensor, "*samples"] | float:
        """Return what is taken off the objective: one number per row, or one for all."""
        return 0.0


def check_regularizers(values: Any) -> None:
    """Refuse what is not a tuple of regularisers.

    Examples
    --------
    >>> check_regularizers((Regularizer(),))
    """
    if not isinstance(values, tuple | list) or not all(isinstance(one, Regularizer) for one in values):
        raise ParameterError(
            f"regularizers should be a tuple of values such as WeightDecay(0.1), got {values!r}."
        )
