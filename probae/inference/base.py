"""What a method is, and the one result every method returns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import Data, DataError, NotExactError
from probae.inference.draws_posterior import DrawsPosterior
from probae.inference.importance import ImportancePosterior
from probae.models import LatentModel, LinearFactorModel
from probae.statistics import SufficientStatistics

if TYPE_CHECKING:
    import pyro.distributions as dist


@dataclass(frozen=True)
class Method:
    """How a model is found; subclasses are small frozen dataclasses with a ``fit``.

    ``fit(model, data, seed)`` changes ``model``, its own private copy, and returns an :class:`Outcome`.
    ``accepts_statistics`` says whether :class:`SufficientStatistics` serve in place of the rows, ``random`` whether the
    parameters have a posterior: the model then comes with fixed parameters and lists its ``parameter_priors``.
    """

    objective_name: ClassVar[str] = "objective"
    accepts_statistics: ClassVar[bool] = False
    random: ClassVar[bool] = False

    def fit(self, model: Any, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Fit the model in place and say how it went."""
        raise NotImplementedError

    def in_units(self, units: Float[Tensor, " features"]) -> Self:
        """Return the method with settings that carry the units of x divided by them."""
        return self

    @property
    def unit_free(self) -> bool:
        """Whether the data may be rescaled before the fit and the answer after it.

        Not where parameters have a posterior: such a method puts data and priors in units near 1 itself.
        """
        return not self.random

    @property
    def common_unit(self) -> bool:
        """Whether the objective weighs columns by their size, so that all need the same unit."""
        return False

    def objective_in_units(self, value: float, units: Float[Tensor, " features"]) -> float:
        """Return the objective per row for x, given that for x / units: a density in nats."""
        return value - float(units.log().sum())

    def rows(self, data: Data | SufficientStatistics) -> Data:
        """Return the rows of the data, or say that a summary is not enough."""
        if isinstance(data, SufficientStatistics):
            raise DataError(
                f"{type(self).__name__} needs the rows of x, got SufficientStatistics: pass x itself."
            )
        return data


@dataclass(eq=False)
class Outcome:
    """What a method reports to ``fit``: the posterior, the objective per row at each step, and how it ended."""

    posterior: Callable[[Any], dist.TorchDistribution]
    history: list[float]
    converged: bool
    interrupted: bool = False
    draws: dict[str, Tensor] | None = None
    sample_stats: dict[str, Tensor] | None = None
    restarts: list[dict[str, Any]] = field(default_factory=list)
    program: LatentModel | None = None


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted model with the posterior of its latents.

    Attributes
    ----------
    model : LatentModel
        The fitted copy, with fixed parameters.
    program : LatentModel
        The Pyro program with its parameter priors, if any.
    posterior : callable
        x (N, D) to a distribution over z with event shape (K,).
    method : Method
        What was run, with its settings.
    seed : int
    names : tuple of str, or None
        Feature names of the data.
    history : Tensor (steps,)
        ``method.objective_name`` per row in nats; larger is better.
    converged : bool
    seconds : float
    warnings : tuple of str
        Every warning given while fitting.
    interrupted : bool
        Whether Ctrl-C ended the fit early; the model is then the last complete step.
    draws, sample_stats : dict or None
        Of samplers only: tensors (chains, draws, ...) by the name of the site, as they were drawn.
    restarts : tuple of dict
        Every restart with its final objective, when the method had several.
    """

    model: Any
    program: Any
    posterior: Callable[[Any], dist.TorchDistribution]
    method: Method
    seed: int
    names: tuple[str, ...] | None
    history: Float[Tensor, "steps"]
    converged: bool
    seconds: float
    warnings: tuple[str, ...] = ()
    interrupted: bool = False
    draws: dict[str, Tensor] | None = None
    sample_stats: dict[str, Tensor] | None = None
    restarts: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        averaged: Any = self.posterior if isinstance(self.posterior, DrawsPosterior) else None
        for part in (self.model, getattr(self.posterior, "encoder", None), averaged):
            if part is not None:
                part.feature_names = self.names

    def log_likelihood(self, x: Any) -> Float[Tensor, "samples"]:
        """Return log p(x) per row in nats: exact where the model allows, else estimated by importance sampling.

        The estimate log (1/S) sum p(x, z_s) / q(z_s | x) is a lower bound on average.

        Raises
        ------
        NotExactError
            For more non-Gaussian latents than features, and for models that are not linear: use `log_evidence`.
        """
        if hasattr(self.posterior, "log_likelihood"):
            return self.posterior.log_likelihood(x)
        try:
            return self.model.log_likelihood(x)
        except NotExactError:
            if not isinstance(self.model, LinearFactorModel):
                raise
            if self.model.latents >= self.model.features:
                raise NotExactError(
                    f"The likelihood of {self.model.latents} non-Gaussian latents for {self.model.features} features "
                    "has no estimate here: use log_evidence(run, x)."
                ) from None
        return ImportancePosterior(self.model, seed=self.seed).log_likelihood(x)

    def __repr__(self) -> str:
        state = "interrupted" if self.interrupted else "converged" if self.converged else "not converged"
        last = f"{self.history[-1]:.6f}" if len(self.history) else "none"
        return (
            f"Fit({self.model!r} by {self.method!r}: {state}, {self.method.objective_name} {last} per row, "
            f"{self.seconds:.2f} s)"
        )


@dataclass(frozen=True, eq=False)
class ExactPosterior:
    """The posterior of a model that has one in closed form."""

    model: LatentModel

    def __call__(self, x: Any) -> dist.TorchDistribution:
        """Return p(z | x)."""
        return self.model.posterior(x)


class Loop:
    """Steps of an iterative method: shows progress in a terminal and turns Ctrl-C into a marked early end.

    Examples
    --------
    >>> with Loop("counting") as loop:
    ...     for step in loop.steps(3):
    ...         done = step
    >>> done, loop.interrupted
    (2, False)
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.interrupted = False
        self.value: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.interrupted = kind is KeyboardInterrupt
        return self.interrupted

    def steps(self, total: int) -> Iterator[int]:
        """Count to ``total``; a bar appears after a second of work when standard error is a terminal."""
        if not sys.stderr.isatty():
            yield from range(total)
            return
        from rich.console import Console
        from rich.progress import Progress

        start = time.monotonic()
        with Progress(console=Console(stderr=True), transient=True, disable=False) as bar:
            task = bar.add_task(self.label, total=total, visible=False)
            for step in range(total):
                yield step
                objective = "" if self.value is None else f"  {self.value:.4f}"
                visible = time.monotonic() - start > 1.0
                bar.update(task, advance=1, description=self.label + objective, visible=visible)


@contextmanager
def few_threads(size: int, limit: int = 200_000) -> Iterator[None]:
    """Run work on small matrices (``size`` numbers a step) with one thread: more of them cost time there."""
    before = torch.get_num_threads()
    if size < limit:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
