"""Stochastic variational inference with an amortized encoder."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor

from probae.checks import (
    Data,
    GuideWarning,
    ParameterError,
    check_count,
    check_data,
    check_positive,
)
from probae.encoders import Encoder
from probae.inference.base import Method, Outcome
from probae.inference.checkpoint import Checkpoint
from probae.inference.first_values import begin
from probae.inference.identity import settings_of
from probae.inference.objectives import ELBO, SquaredError
from probae.inference.objectives.units import in_units, is_energy, put_back
from probae.inference.point_codes import check_bound, settle_noise
from probae.inference.refinement import RefinedPosterior, require_gaussian
from probae.inference.regularizers import Regularizer, check_regularizers, regularized
from probae.inference.schedule import Cosine, Schedule
from probae.inference.stopping import HELD_OUT, EarlyStopping, Watch
from probae.inference.training import check_values, settled, train
from probae.inference.units import can_rescale, warn_units
from probae.models import LatentModel, LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.statistics import SufficientStatistics


@dataclass(frozen=True)
class SVI(Method):
    r"""Maximise the evidence lower bound over model and encoder by Adam, in the dtype of x.

    The step evaluates log p(x, z) - log q(z | x) on tensors. A model whose program has other sites than ``z`` and
    ``x`` is trained through Pyro's ``Trace_ELBO`` instead, to the same objective.

    Parameters
    ----------
    encoder : Encoder
        q(z | x); copied, the fitted copy is ``fit.posterior.encoder``.
    epochs : int
        Passes over the data.
    batch : int or None
        Rows in a step; None for all.
    lr : float
        Adam's largest step.
    objective : callable
        Model, encoder and rows to one bound per row.
    regularizers : tuple of Regularizer
        What corrupts the rows that the encoder is shown, or is taken off the bound; none by default.
    schedule : Schedule
        How the step changes; by default it falls to a hundredth along a cosine.
    clip : float or None
        Norm of the gradient per feature, in nats, above which it is shortened; None for never.
    stopping : EarlyStopping, optional
        Rows held out, and when to stop on their bound; parameters of the highest bound are kept.
    checkpoint : Checkpoint, optional
        File from which a killed fit, run again, goes on bit for bit (with as many threads).
    refine : int
        Steps by which the fitted posterior improves the encoder's answer for each row (:class:`RefinedPosterior`).

    Notes
    -----
    Where the bound is not finite after an epoch, training stops with a warning and the parameters kept last are those
    of the fit. The epoch kept by early stopping and its held-out bound per row stand in ``Fit.restarts``.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), x, pa.SVI(pa.LinearGaussianEncoder(9, 3), epochs=300))
    >>> len(run.history)
    300
    """

    encoder: Encoder
    epochs: int = 500
    batch: int | None = None
    lr: float = 0.02
    objective: Any = field(default_factory=ELBO)
    regularizers: tuple[Regularizer, ...] = ()
    schedule: Schedule = field(default_factory=Cosine)
    clip: float | None = 100.0
    stopping: EarlyStopping | None = None
    checkpoint: Checkpoint | None = None
    refine: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.encoder, Encoder):
            raise ParameterError(
                "SVI needs an encoder such as LinearGaussianEncoder(features, latents), "
                f"got {type(self.encoder).__name__}."
            )
        check_count("epochs", self.epochs)
        check_positive("lr", self.lr)
        if self.batch is not None:
            check_count("batch", self.batch)
        if not callable(self.objective) or not hasattr(self.objective, "name"):
            raise ParameterError(
                f"objective should be a value such as ELBO(draws=1), got {self.objective!r}."
            )
        check_regularizers(self.regularizers)
        if self.clip is not None:
            check_positive("clip", self.clip)
        check_values(self.schedule, self.stopping, self.checkpoint)
        check_count("refine", self.refine, minimum=0)

    @property
    def objective_name(self) -> str:  # type: ignore[override]
        """Name of what ``history`` holds."""
        return self.objective.name

    @property
    def unit_free(self) -> bool:
        """Whether the encoder can be put into other units, and nothing else is in those of x."""
        return can_rescale(self.encoder, self.objective, self.regularizers)

    @property
    def common_unit(self) -> bool:
        """Whether all columns need the same unit: an energy weighs them by their size."""
        return is_energy(self.objective)

    def in_units(self, units: Float[Tensor, " features"]) -> SVI:
        """Return the method with an objective for x / units."""
        return replace(self, objective=in_units(self.objective, units))

    def objective_in_units(self, value: float, units: Float[Tensor, " features"]) -> float:
        """Return the objective per row for x, given that for x / units."""
        return put_back(self.objective, value, units)

    @local_parameters
    def fit(self, model: LatentModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Train model and encoder together."""
        data = self.rows(data)
        encoder = self.encoder
        self._check(model, encoder, data)
        check_bound(self.objective, encoder)
        if not self.unit_free:
            warn_units(model, encoder, data.values)
        generator = torch.Generator().manual_seed(seed)
        x, held = data.values.to(data.dtype), None
        if self.stopping is not None:
            x, held = self.stopping.split(x, generator)
        model.requires_grad_(True).to(x.dtype)
        encoder.to(x.dtype)
        begin(model, encoder, x, generator)
        if self.refine:
            require_gaussian(encoder(x[:2]))
        encoder.train()
        watch = Watch(self.stopping)
        history, interrupted = train(
            self._loss(model, encoder, data),
            list(dict.fromkeys([*model.parameters(), *encoder.parameters()])),  # tied ones once
            x,
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            generator=generator,
            usable=lambda: usable(model, encoder),
            label="SVI",
            buffers=list(dict.fromkeys([*model.buffers(), *encoder.buffers()])),
            schedule=self.schedule,
            clip=self.clip,
            watch=watch,
            held=held,
            bound=self._bound(model, encoder, data),
            checkpoint=self.checkpoint,
            settings={} if self.checkpoint is None else settings_of(self, model),
        )
        encoder.eval().double()
        model.double()
        if isinstance(self.objective, SquaredError):
            settle_noise(model, encoder, data)
        posterior = (
            RefinedPosterior(encoder, model, self.refine) if self.refine else EncoderPosterior(encoder)
        )
        return Outcome(
            posterior,
            history,
            not watch.blind and (watch.done or settled(history)),
            interrupted,
            restarts=[{"kept epoch": watch.best + 1, HELD_OUT: max(watch.values)}] if watch.values else [],
        )

    def _check(self, model: LatentModel, encoder: Encoder, data: Data) -> None:
        if model.random_parameters:
            raise ParameterError(
                f"SVI fits fixed parameters, but {', '.join(model.random_parameters)} carry a prior: "
                "use a model without priors on its parameters."
            )
        if isinstance(model, LinearFactorModel) and model.invertible:
            raise ParameterError(
                f'SVI needs a model with noise; with noise="{model.noise}" use MaximumLikelihood().'
            )
        if (encoder.features, encoder.latents) != (model.features, model.latents):
            raise ParameterError(
                f"The encoder maps {encoder.features} features to {encoder.latents} latents, "
                f"the model has {model.features} and {model.latents}: build both with the same sizes."
            )
        if data.missing is not None:
            raise ParameterError(
                "SVI encoders need complete rows, but x has missing values: use EM() or fill them in."
            )
        if encoder.warning and getattr(model.prior, "spherical", False):
            warnings.warn(encoder.warning, GuideWarning, stacklevel=2)

    def _loss(self, model: LatentModel, encoder: Encoder, data: Data) -> Callable[[Tensor], Tensor]:
        if only_z_and_x(model, data.values[:2].to(data.dtype)):
            return regularized(self.objective, self.regularizers, model, encoder)
        if not plain_bound(self.objective) or self.regularizers:
            raise ParameterError(
                "The program has sites besides z and x, for which only objective=ELBO() without regularizers is "
                f"available, got {self.objective!r} and {self.regularizers!r}."
            )
        guide, elbo = encoder.guide(), Trace_ELBO()
        size = len(data.values)  # sites beside the rows count once in all
        return lambda rows: elbo.differentiable_loss(model, guide, rows, size=size) / size

    def _bound(self, model: LatentModel, encoder: Encoder, data: Data) -> Callable[[Tensor], Tensor]:
        """Return the bound of held-out rows: the objective without regularisers, in evaluation mode."""
        tensors = only_z_and_x(model, data.values[:2].to(data.dtype))
        loss = None if tensors else self._loss(model, encoder, data)

        def bound(rows: Tensor) -> Tensor:
            encoder.eval()
            try:
                return self.objective(model, encoder, rows).mean() if loss is None else -loss(rows)
            finally:
                encoder.train()

        return bound


@dataclass(frozen=True, eq=False)
class EncoderPosterior:
    """The posterior an encoder gives: x to q(z | x)."""

    encoder: Encoder

    def __call__(self, x: Any) -> dist.TorchDistribution:
        """Return q(z | x), in the dtype of x."""
        data = check_data(
            x, features=self.encoder.features, names=getattr(self.encoder, "feature_names", None)
        )
        encoder = self.encoder
        if next(encoder.parameters()).dtype != data.dtype:
            encoder = copy.deepcopy(encoder).to(data.dtype)
        with torch.no_grad():
            return encoder(data.values.to(data.dtype))


def only_z_and_x(model: LatentModel, x: Tensor) -> bool:
    """Whether the program's random sites are exactly z and x, so that ``log_joint`` is all of it."""
    with torch.no_grad(), torch.random.fork_rng(), pyro.settings.context(module_local_params=True):
        trace = poutine.trace(model).get_trace(x)
    sites = {
        name
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample"
    }
    return sites == {"z", "x"}


def plain_bound(objective: Any) -> bool:
    """Whether Pyro's ``Trace_ELBO`` has the expectation of the objective and its number of draws."""
    return type(objective) is ELBO and objective.draws == 1


def usable(model: LatentModel, encoder: Encoder) -> bool:
    """Whether all parameters are finite, and positive where they should be, also after their constraints."""
    values = [getattr(model, name) for name in model.parameter_names]
    noise = getattr(model, "noise_variance", None)
    finite = all(
        bool(value.isfinite().all()) for value in (*values, *model.parameters(), *encoder.parameters())
    )
    return finite and (noise is None or bool((noise > 0).all()))
