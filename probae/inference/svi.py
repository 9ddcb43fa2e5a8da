"""Stochastic variational inference with an amortized encoder."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyro
import pyro.distributions as dist
import torch
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
from probae.inference.objectives import ELBO
from probae.inference.training import settled, train
from probae.models import ConfirmatoryFactorAnalysis, LatentModel, LinearFactorModel
from probae.models.base import local_parameters
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
        Adam's step at the start; it falls to a hundredth along a cosine.
    objective : callable
        Model, encoder and rows to one bound per row.

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

    @property
    def objective_name(self) -> str:  # type: ignore[override]
        """Name of what ``history`` holds."""
        return self.objective.name

    @property
    def unit_free(self) -> bool:
        """Whether the encoder can be put into other units."""
        return type(self.encoder).rescale is not Encoder.rescale

    @local_parameters
    def fit(self, model: LatentModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Train model and encoder together."""
        data = self.rows(data)
        encoder = self.encoder
        self._check(model, encoder, data)
        x = data.values.to(data.dtype)
        generator = torch.Generator().manual_seed(seed)
        model.requires_grad_(True).to(x.dtype)
        encoder.to(x.dtype)
        initialize(model, x, generator)
        encoder.start(x, generator)
        encoder.train()
        loss = self._loss(model, encoder, x)
        history, interrupted = train(
            loss,
            list(dict.fromkeys([*model.parameters(), *encoder.parameters()])),  # tied ones once
            x,
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            generator=generator,
            usable=lambda: usable(model, encoder),
            label="SVI",
        )
        encoder.eval().double()
        model.double()
        return Outcome(EncoderPosterior(encoder), history, settled(history), interrupted)

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

    def _loss(self, model: LatentModel, encoder: Encoder, x: Tensor) -> Callable[[Tensor], Tensor]:
        if only_z_and_x(model, x[:2]):
            return lambda rows: -self.objective(model, encoder, rows).mean()
        if self.objective != ELBO():
            raise ParameterError(
                "The program has sites besides z and x, for which only objective=ELBO() is available, "
                f"got {self.objective!r}."
            )
        guide, elbo = encoder.guide(), Trace_ELBO()
        return lambda rows: elbo.differentiable_loss(model, guide, rows) / len(rows)


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


def initialize(model: LatentModel, x: Tensor, generator: torch.Generator) -> None:
    """Start a linear model at the data's means, half their variance as noise, and seeded random loadings."""
    if not isinstance(model, LinearFactorModel):
        return
    spread = x.std(0)
    spread = torch.where(spread > 0, spread, spread.mean().clamp_min(torch.finfo(x.dtype).tiny))
    draw = torch.randn(model.features, model.latents, generator=generator, dtype=torch.float64).to(x.dtype)
    model.mean = x.mean(0)
    if isinstance(model, ConfirmatoryFactorAnalysis):  # every factor with a positive direction, zeros kept
        draw = draw.abs() * model.pattern
    model.loadings = draw * spread.unsqueeze(1) / (2 * model.latents) ** 0.5
    variance = 0.5 * spread.square()
    model.noise_variance = variance if model.noise == "diagonal" else variance.mean()


def usable(model: LatentModel, encoder: Encoder) -> bool:
    """Whether all parameters are finite, and positive where they should be, also after their constraints."""
    values = [getattr(model, name) for name in model.parameter_names]
    noise = getattr(model, "noise_variance", None)
    finite = all(bool(value.isfinite().all()) for value in (*values, *encoder.parameters()))
    return finite and (noise is None or bool((noise > 0).all()))
