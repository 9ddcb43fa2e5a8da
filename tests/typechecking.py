"""Run-time checks of array shapes and kinds against the hints: beartype, through jaxtyping's import hook.

Only hints of arrays are checked. The others are mypy's business, and many name what a public function accepts while
its own message for anything else is what a test asks for. A function without hints of arrays is left as it is, since a
check of nothing would still cost more than many a short function.
"""

import functools
import inspect
import random
import sys
import typing
import warnings

import torch
from beartype import BeartypeConf, beartype

SETTINGS = BeartypeConf(is_pep484_tower=True)  # an int will do for a float

# beartype looks at one random item of a list. It must not advance Python's generator, which tests watch.
own_bits = random.Random(0).getrandbits
for module in [m for name, m in sys.modules.items() if name.startswith("beartype.")]:
    if getattr(module, "getrandbits", None) is random.getrandbits:
        module.getrandbits = own_bits


def of_arrays(hint):
    """Whether a hint, after names in it are looked up, says something of an array."""
    return "[Tensor, " in str(hint)


OMITTED = inspect.Parameter.empty  # an argument that was left to its default


class NotAnArrayError(Exception):
    """A value that may hold arrays in a way of its own."""


def kind_of(value):
    """Return what a check of a value looks at: kinds and sizes, never entries."""
    if isinstance(value, torch.Tensor):
        return type(value), value.dtype, value.shape
    if isinstance(value, (tuple, list)):
        return type(value), *map(kind_of, value)
    if value is None or value is OMITTED or isinstance(value, (int, float, str)):
        return type(value), value is OMITTED
    raise NotAnArrayError


def checked(function):
    """Check the arrays among the arguments and results of a function at every call.

    The outcome depends on kinds and sizes alone, and most calls look like one before them: those have passed.
    """
    hints = function.__annotations__
    kept = {name: hint for name, hint in hints.items() if of_arrays(hint)}
    function.__annotations__ = kept
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of Pyro's classes have hints in an old style
        check = beartype(conf=SETTINGS)(function)
    function.__annotations__ = hints
    parameters = inspect.signature(function).parameters
    if not kept or any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters.values()):
        return check
    last = list(parameters)[-1:] if "return" in kept else []  # as jaxtyping hands over a result to be checked
    places = [(place, name) for place, name in enumerate(parameters) if name in kept or name in last]
    return remembering(check, places)


def remembering(check, places):
    """Return a check that is made once for the kinds and sizes found at some places of the arguments."""
    passed = set()

    @functools.wraps(check)
    def wrapper(*arguments, **named):
        count = len(arguments)
        try:
            seen = tuple(
                [kind_of(arguments[i] if i < count else named.get(name, OMITTED)) for i, name in places]
            )
        except NotAnArrayError:
            seen = None
        if seen is None or seen not in passed:
            check(*arguments, **named)
            passed.add(seen)

    return wrapper


def has_hints_of_arrays(function):
    """Whether any hint of a function does; one that cannot be looked up says nothing, as for jaxtyping."""
    return any(of_arrays(looked_up(hint, function.__globals__)) for hint in function.__annotations__.values())


def looked_up(hint, names):
    """Return what a hint stands for, as jaxtyping finds it."""
    holder = type("Holder", (), {"__annotations__": {"hint": hint}})
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["hint"]
    except Exception:  # noqa: BLE001 - whatever evaluating a hint may raise
        return typing.Any


def only_functions_of_arrays(jaxtyped):
    """Return the decorator of the import hook, leaving functions alone that have no hint of an array."""

    @functools.wraps(jaxtyped)
    def sparing(*arguments, **settings):
        if arguments or settings.keys() != {"typechecker"}:
            return jaxtyped(*arguments, **settings)
        decorate = jaxtyped(**settings)
        return lambda one: decorate(one) if not inspect.isfunction(one) or has_hints_of_arrays(one) else one

    return sparing
