"""The errors and warnings this package gives on purpose; catching `ProbaeError` catches every error."""

from __future__ import annotations

import inspect
import warnings


class ProbaeError(Exception):
    """Base of every error this package raises on purpose."""


class DataError(ProbaeError, ValueError):
    """The data cannot be used as they are."""


class ParameterError(ProbaeError, ValueError):
    """A setting is outside its allowed range."""


class NotExactError(ProbaeError, NotImplementedError):
    """No exact answer exists for this combination; the message names the alternative."""


class FitError(ProbaeError, RuntimeError):
    """A fit could not be finished."""


class FileError(ProbaeError, OSError):
    """A file could not be read or written."""


class ProbaeWarning(UserWarning):
    """Base of every warning this package gives."""


class HeywoodWarning(ProbaeWarning):
    """A noise variance has reached its floor."""


class BoundaryWarning(ProbaeWarning):
    """The correlations of the factors have become singular."""


class UnderidentifiedWarning(ProbaeWarning):
    """The data cannot determine every parameter."""


class ConstantColumnWarning(ProbaeWarning):
    """A column does not vary."""


class CollinearWarning(ProbaeWarning):
    """Two columns are copies of each other up to shift and scale."""


class IntegerDataWarning(ProbaeWarning):
    """A column holds truth values or small counts, for which Gaussian noise is a rough description."""


class MissingRowWarning(ProbaeWarning):
    """A row has no observed value."""


class ConvergenceWarning(ProbaeWarning):
    """An iteration stopped before it converged."""


class DivergenceWarning(ProbaeWarning):
    """Moves of a Hamiltonian sampler lost their energy: it cannot follow the curvature somewhere."""


class EnergyWarning(ProbaeWarning):
    """The energy of a Hamiltonian sampler moves slowly from draw to draw (E-BFMI)."""


class GuideWarning(ProbaeWarning):
    """The variational family shapes the answer."""


class TreeDepthWarning(ProbaeWarning):
    """Moves of the no-U-turn sampler were cut off at their largest length."""


def warn(message: str, category: type[ProbaeWarning]) -> None:
    """Give a warning that points at the first line outside this package, the user's own.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn("The noise variance of column 2 is at its floor.", HeywoodWarning)
    >>> caught[0].category.__name__
    'HeywoodWarning'
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
