"""Training of a point encoder, z = encoder(x).mean: what MAP does when it is given one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch

from probae.checks import ConvergenceWarning, Data, ParameterError
from probae.encoders import Encoder, LinearGaussianEncoder, TiedEncoder
from probae.inference.base import Outcome
from probae.inference.first_values import begin
from probae.inference.objectives import SquaredError
from probae.inference.objectives.units import is_energy
from probae.inference.point_codes import atoms_of, check_lasso, held_atoms, prior_at_code, settle_noise
from probae.inference.regularizers import (
    ContractiveEncoder,
    ContractiveReconstruction,
    HigherOrderContraction,
    Regularizer,
    WeightDecay,
    regularized,
)
from probae.inference.schedule import Schedule
from probae.inference.svi import EncoderPosterior, usable
from probae.inference.training import settled, train
from probae.inference.units import ALIKE, spread_of, warn_units
from probae.models import LatentModel, LinearFactorModel


@dataclass(frozen=True, eq=False)
class PointEncoderPosterior:
    """The posterior a point encoder stands for: a point mass at its code.

    Parameters
    ----------
    encoder : Encoder
        Of its law the mean alone is used.

    Examples
    --------
    >>> import torch, probae as pa
    >>> PointEncoderPosterior(pa.LinearGaussianEncoder(3, 2))(torch.ones(1, 3)).mean
    tensor([[0., 0.]])
    """

    encoder: Encoder

    def __call__(self, x: Any) -> dist.Delta:
        """Return the point mass at the code of each row, in the dtype of x."""
        return dist.Delta(EncoderPosterior(self.encoder)(x).mean, event_dim=1)


def train_point_encoder(
    model: LatentModel,
    encoder: Encoder,
    data: Data,
    seed: int,
    *,
    objective: Callable[..., torch.Tensor],
    regularizers: tuple[Regularizer, ...],
    epochs: int,
    batch: int | None,
    lr: float,
    schedule: Schedule,
    unit_free: bool,
) -> Outcome:
    """Train model and encoder, both changed in place, on an objective at the codes."""
    check_pair(model, encoder, data)
    check_lasso(objective, model)
    warn_scale_free(model, objective, encoder, regularizers)
    if not unit_free:
        warn_units(model, encoder, data.values)
    x = data.values.to(data.dtype)
    spread = float(spread_of(data.values).max())
    power = spread**2 if is_energy(objective) and not 1 / ALIKE < spread < ALIKE else 1.0
    loss = regularized(objective, regularizers, model, encoder)
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(True).to(x.dtype)
    encoder.to(x.dtype)
    begin(model, encoder, x, generator)
    encoder.train()
    free = free_scale(objective, encoder, regularizers)
    with held_atoms(model, x) if free else nullcontext() as hold:

        def scaled_loss(rows: torch.Tensor) -> torch.Tensor:
            if hold is not None:
                hold()  # after each step, that is
            return loss(rows) / power  # Adam's own constants are for gradients near 1

        history, interrupted = train(
            scaled_loss,
            list(dict.fromkeys([*model.parameters(), *encoder.parameters()])),  # tied ones once
            x,
            epochs=epochs,
            batch=batch,
            lr=lr,
            schedule=schedule,
            generator=generator,
            usable=lambda: usable(model, encoder),
            label="MAP",
        )
    encoder.eval().double()
    model.double()
    if isinstance(objective, SquaredError):
        settle_noise(model, encoder, data)
    whole = [value * power for value in history]
    return Outcome(PointEncoderPosterior(encoder), whole, settled(history), interrupted)


def check_pair(model: LatentModel, encoder: Encoder, data: Data) -> None:
    """Refuse a model, an encoder and data that do not go together."""
    if isinstance(model, LinearFactorModel) and model.invertible:
        raise ParameterError(
            f'MAP with an encoder needs a model with noise; with noise="{model.noise}" use MaximumLikelihood().'
        )
    if (encoder.features, encoder.latents) != (model.features, model.latents):
        raise ParameterError(
            f"The encoder maps {encoder.features} features to {encoder.latents} latents, "
            f"the model has {model.features} and {model.latents}: build both with the same sizes."
        )
    if data.missing is not None:
        raise ParameterError(
            "MAP with an encoder needs complete rows, but x has missing values: fill them in."
        )


def free_scale(objective: Any, encoder: Encoder, regularizers: tuple[Regularizer, ...]) -> bool:
    """Whether small codes and a large decoder lessen what the prior costs, with nothing against it."""
    decays = any(isinstance(one, WeightDecay) for one in regularizers)
    return prior_at_code(objective) and not (decays or isinstance(encoder, TiedEncoder))


def warn_scale_free(
    model: LatentModel, objective: Any, encoder: Encoder, regularizers: tuple[Regularizer, ...]
) -> None:
    """Warn where the penalty on codes can be had for nothing, by small codes and a large decoder."""
    kinds = tuple(type(one) for one in regularizers)
    contracts = any(issubclass(kind, ContractiveEncoder | HigherOrderContraction) for kind in kinds)
    bounded = any(issubclass(kind, ContractiveReconstruction | WeightDecay) for kind in kinds)
    tied = type(encoder).attach not in (Encoder.attach, LinearGaussianEncoder.attach)
    if free_scale(objective, encoder, regularizers):
        if atoms_of(model) is None:
            warnings.warn(
                f"{type(objective).__name__} has no maximiser here: codes shrink while the decoder grows, and the "
                "prior costs ever less. Add WeightDecay, or use a linear decoder, whose atoms keep their norm.",
                ConvergenceWarning,
                stacklevel=2,
            )
    elif contracts and not (bounded or tied):
        warnings.warn(
            "A contractive penalty on the code has no minimiser here: codes shrink while the decoder grows, and the "
            "penalty goes to 0. Tie the weights, add WeightDecay, or use ContractiveReconstruction.",
            ConvergenceWarning,
            stacklevel=2,
        )
