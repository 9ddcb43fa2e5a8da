"""A shape parameter of a law: fixed, or learnt above a lower bound."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import ParameterError

__all__ = ["Shape", "check_shape"]


class Shape(nn.Module):
    """A number above `bound`; fixed, it is the float64 buffer `value`, learnt, bound + exp(`log_excess`).

    Parameters
    ----------
    name, value, bound, reason
        As in `check_shape`.
    learn : bool
        Whether `log_excess` is a parameter that an optimiser may move.

    Examples
    --------
    >>> Shape("df", 5, bound=2, reason="the variance is infinite otherwise")()
    tensor(5., dtype=torch.float64)
    >>> [name for name, _ in Shape("df", 5, bound=2, reason="", learn=True).named_parameters()]
    ['log_excess']
    """

    value: Tensor

    def __init__(self, name: str, value: float, bound: float, reason: str, learn: bool = False) -> None:
        super().__init__()
        number = torch.tensor(check_shape(name, value, bound, reason=reason), dtype=torch.float64)
        self.bound = bound
        self.learn = learn
        if learn:
            self.log_excess = nn.Parameter((number - bound).log())
        else:
            self.register_buffer("value", number)

    def forward(self) -> Float[Tensor, ""]:
        """The number, differentiable in `log_excess` where it is learnt."""
        return self.bound + self.log_excess.exp() if self.learn else self.value

    def describe(self, name: str) -> str:
        """The constructor's arguments, for a repr."""
        return f"{name}={float(self().detach()):.6g}" + (", learn=True" if self.learn else "")


def check_shape(name: str, value: float, low: float, high: float = math.inf, *, reason: str = "") -> float:
    """Return `value` as a float strictly between `low` and `high`.

    Raises
    ------
    ParameterError
        It is no number, not finite, or not inside.

    Examples
    --------
    >>> check_shape("df", 5, 2)
    5.0
    >>> check_shape("spike", 2, 0, 1)
    Traceback (most recent call last):
    ...
    probae.errors.ParameterError: spike should be a finite number between 0 and 1, got 2.
    """
    span = f"above {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    message = f"{name} should be a finite number {span}{f' ({reason})' if reason else ''}, got {value!r}."
    if isinstance(value, (bool, str, bytes)):
        raise ParameterError(message)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor of several elements
        raise ParameterError(message) from None
    if not (math.isfinite(number) and low < number < high):
        raise ParameterError(message)
    return number
