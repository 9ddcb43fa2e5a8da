"""Run-time checks of array shapes and kinds against the hints: beartype, through jaxtyping's import hook.

Only hints of arrays are checked. The others are mypy's business, and many name what a public function accepts while
its own message for anything else is what a test asks for.
"""

import random
import sys
import warnings

from beartype import BeartypeConf, beartype

SETTINGS = BeartypeConf(is_pep484_tower=True)  # an int will do for a float

# beartype looks at one random item of a list. It must not advance Python's generator, which tests watch.
own_bits = random.Random(0).getrandbits
for module in [m for name, m in sys.modules.items() if name.startswith("beartype.")]:
    if getattr(module, "getrandbits", None) is random.getrandbits:
        module.getrandbits = own_bits


def checked(function):
    """Check the arrays among the arguments and results of a function at every call."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if "[Tensor, " in str(hint)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of Pyro's classes have hints in an old style
        wrapper = beartype(conf=SETTINGS)(function)
    function.__annotations__ = hints
    return wrapper
