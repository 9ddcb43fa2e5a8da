"""Run-time checks of the package's type hints and array shapes: beartype, through jaxtyping's import hook."""

import random
import sys
import typing
import warnings

from beartype import BeartypeConf, FrozenDict, beartype
from pyro.distributions import TorchDistribution
from torch import Size
from torch.distributions import Distribution

# beartype looks at one random item of a list. It must not advance Python's generator, which tests watch.
own_bits = random.Random(0).getrandbits
for module in [m for name, m in sys.modules.items() if name.startswith("beartype.")]:
    if getattr(module, "getrandbits", None) is random.getrandbits:
        module.getrandbits = own_bits

SETTINGS = BeartypeConf(
    is_pep484_tower=True,  # an int will do for a float
    hint_overrides=FrozenDict(
        {
            typing.Self: typing.Any,  # the hook decorates methods one by one, so nothing says what Self is
            TorchDistribution: Distribution,  # Pyro's own laws are torch's with a mixin
            Size: tuple | list,  # torch takes these wherever it says Size
        }
    ),
)


def checked(function):
    """Check the arguments and the result of a function against its hints at every call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of Pyro's classes have hints in an old style
        return beartype(conf=SETTINGS)(function)
