"""Training by pythae's trainer: one draw of the likelihood of unit noise, and the closed divergence."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import probae as pa


def by_pythae(start: Any, settings: Any) -> float:
    """Train by pythae's trainer, whose noise has variance 1, and return the final bound."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    model, encoder, _ = start.modules(settings.seed)

    class Theirs(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.own = encoder

        def forward(self, x: Tensor) -> Any:
            location, log_scale = self.own.head(self.own.body((x - self.own.centre) / self.own.spread)).chunk(
                2, -1
            )
            return ModelOutput(embedding=location, log_covariance=2 * log_scale)

    class Linear(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.loadings = nn.Parameter(model.loadings.detach().clone())
            self.mean = nn.Parameter(model.mean.detach().clone())

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=functional.linear(z, self.loadings, self.mean))

    logging.disable(logging.WARNING)
    vae = VAE(
        VAEConfig(input_dim=(settings.features,), latent_dim=settings.latents, reconstruction_loss="mse"),
        Theirs(), Linear(),
    )  # fmt: skip
    x = start.scaled * start.unit  # the noise of the data has variance 1 in the units of x
    with torch.no_grad():
        vae.encoder.own.centre.mul_(start.unit)
        vae.encoder.own.spread.mul_(start.unit)
        vae.decoder.loadings.mul_(start.unit)
        vae.decoder.mean.mul_(start.unit)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, num_epochs=settings.epochs, learning_rate=settings.lr, no_cuda=True,
            per_device_train_batch_size=settings.batch, optimizer_cls="Adam",
        )  # fmt: skip
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars
            TrainingPipeline(model=vae, training_config=config)(train_data=x)
    with torch.no_grad():
        one = torch.tensor(1.0, dtype=torch.float64)
        model.double()
        model.loadings, model.mean, model.noise_variance = (
            vae.decoder.loadings.double(), vae.decoder.mean.double(), one
        )  # fmt: skip
        return float(pa.ELBO()(model, vae.encoder.own.double(), x.double()).mean())
