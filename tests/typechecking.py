"""Run-time checks of array shapes and kinds against the hints: beartype, through jaxtyping's import hook.

Only hints of arrays are checked. The others are mypy's business, and many name what a public function accepts while
its own message for anything else is what a test asks for.

The outcome of a check depends on kinds and sizes alone, most calls look like one before them, and a check takes longer
than many a function. So a check that has passed is not made again, and a function without arrays is left as it is.
"""

import dataclasses
import functools
import inspect
import random
import sys
import threading
import typing
import warnings

import jaxtyping
import torch
from beartype import BeartypeConf, beartype

SETTINGS = BeartypeConf(is_pep484_tower=True)  # an int will do for a float

# beartype looks at one random item of a list. It must not advance Python's generator, which tests watch.
own_bits = random.Random(0).getrandbits
for module in [m for name, m in sys.modules.items() if name.startswith("beartype.")]:
    if getattr(module, "getrandbits", None) is random.getrandbits:
        module.getrandbits = own_bits

OMITTED = inspect.Parameter.empty  # an argument that was left to its default, or a hint that is not there


def of_arrays(hint):
    """Whether a hint, after names in it are looked up, says something of an array."""
    return "[Tensor, " in str(hint)


def checked(function):
    """Check the arrays among the arguments and results of a function at every call."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if of_arrays(hint)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of Pyro's classes have hints in an old style
        wrapper = beartype(conf=SETTINGS)(function)
    function.__annotations__ = hints
    return wrapper


def looked_up(hint, names):
    """Return what a hint stands for, as jaxtyping finds it."""
    holder = type("Holder", (), {"__annotations__": {"hint": hint}})
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["hint"]
    except Exception:  # noqa: BLE001 - whatever evaluating a hint may raise
        return typing.Any


class UnknownKindError(Exception):
    """A value that may hold arrays in a way of its own."""


def kind_of(value):
    """Return what a check of a value looks at: kinds and sizes, never entries."""
    if isinstance(value, torch.Tensor):
        return type(value), value.dtype, value.shape
    if isinstance(value, (tuple, list)):
        return type(value), *map(kind_of, value)
    if value is None or value is OMITTED or isinstance(value, (int, float, str)):
        return type(value), value is OMITTED
    raise UnknownKindError


class Passed:
    """The kinds of values whose check has passed; values of unknown kinds are always new."""

    def __init__(self):
        self.kinds = set()

    def new(self, values):
        """Return the kinds to keep if the check passes, or None where it has passed before."""
        try:
            found = tuple(map(kind_of, values))
        except UnknownKindError:
            return ()
        return None if found in self.kinds else (found,)


def remembering(jaxtyped, function):
    """Return a function whose arrays are checked wherever their kinds and sizes are new; as it is, if it has none."""
    parameters = list(inspect.signature(function).parameters.values())
    hints = {name: looked_up(hint, function.__globals__) for name, hint in function.__annotations__.items()}
    if not any(map(of_arrays, hints.values())):
        return function
    if any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters):
        return jaxtyped(function)
    places = [(i, one.name) for i, one in enumerate(parameters) if of_arrays(hints.get(one.name))]
    returns, own, passed = of_arrays(hints.get("return")), threading.local(), Passed()

    @functools.wraps(function)
    def known_or_called(*arguments, **named):
        return own.results.pop() if getattr(own, "results", None) else function(*arguments, **named)

    # its names are looked up where they were written, not here
    resolved = [one.replace(annotation=hints.get(one.name, OMITTED)) for one in parameters]
    known_or_called.__signature__ = inspect.Signature(
        resolved, return_annotation=hints.get("return", OMITTED)
    )
    check = jaxtyped(known_or_called)

    @functools.wraps(function)
    def wrapper(*arguments, **named):
        if jaxtyping.config.jaxtyping_disable:
            return function(*arguments, **named)
        count = len(arguments)
        values = [arguments[i] if i < count else named.get(name, OMITTED) for i, name in places]
        kept = passed.new(values)
        if kept is not None:
            result = check(*arguments, **named)
            passed.kinds.update(kept)
            return result
        result = function(*arguments, **named)
        kept = passed.new([*values, "gives", result]) if returns else None
        if kept is not None:
            own.results = [result]
            try:
                check(*arguments, **named)
            finally:
                own.results = []
            passed.kinds.update(kept)
        return result

    return wrapper


def sparing(jaxtyped):
    """Return the decorator that the import hook puts on functions and classes, without checks made before."""

    @functools.wraps(jaxtyped)
    def decorator(*arguments, **settings):
        if arguments or settings.keys() != {"typechecker"}:
            return jaxtyped(*arguments, **settings)
        return functools.partial(decorate, jaxtyped(**settings))

    def decorate(jaxtyped, one):
        if inspect.isfunction(one):
            return remembering(jaxtyped, one)
        if dataclasses.is_dataclass(one):
            made = one.__init__
            if inspect.isfunction(made) and not hasattr(made, "__wrapped__"):
                one.__init__ = remembering(jaxtyped, made)
            return one
        return one if inspect.isclass(one) else jaxtyped(one)

    return decorator
