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


def checked(function):
    """Check the arrays among the arguments and results of a function at every call.

    jaxtyping asks twice: for the arguments, and, the sizes found there at hand, for arguments and result. The
    arguments need no second look.
    """
    hints = function.__annotations__
    kept = {name: hint for name, hint in hints.items() if of_arrays(hint)}
    function.__annotations__ = {"return": kept["return"]} if "return" in kept else kept
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of Pyro's classes have hints in an old style
        wrapper = beartype(conf=SETTINGS)(function)
    function.__annotations__ = hints
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
