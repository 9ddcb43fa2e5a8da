"""Pyro's parameters kept in the module: never in the global store, where models would mix their values."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import pyro
from pyro.nn import PyroModule
from torch import nn

from probae.checks import ParameterError

P = ParamSpec("P")
R = TypeVar("R")


def local_parameters(method: Callable[P, R]) -> Callable[P, R]:
    """Run a method with Pyro's parameters kept in the module, never in the global store."""

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with pyro.settings.context(module_local_params=True):
            return method(*args, **kwargs)

    return wrapper


def ensure_local_context(module: PyroModule) -> None:
    """Give a module made, or made part of another, without local parameters the context that they need."""
    context = module._pyro_context
    if not hasattr(context, "param_state"):
        context.param_state = {"params": {}, "constraints": {}}


class Unconstrained:
    """What stock SVI asks each parameter for, itself: Pyro gives it to a PyroParam, not to the parameters of a law."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = weakref.ref(parameter)

    def __call__(self) -> nn.Parameter | None:
        """Return the parameter."""
        return self.parameter()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # made anew at the next call


def point_query(method: Callable[P, R]) -> Callable[P, R]:
    """Refuse a closed form when a parameter is random: its value would be a fresh draw at each read."""

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        model: Any = args[0]
        if model.random_parameters:
            raise ParameterError(
                f"{method.__name__} needs a model with fixed parameters, but {', '.join(model.random_parameters)} "
                "carry a prior: ask the model of a Fit, or call the Pyro program itself."
            )
        return method(*args, **kwargs)

    return local_parameters(wrapper)  # type: ignore[arg-type]
