"""Train an encoder alone, for a model that stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from probae.checks import Data, DataError, ParameterError, check_count, check_positive
from probae.encoders import Encoder
from probae.inference.base import Method, Outcome
from probae.inference.objectives import LassoEnergy
from probae.inference.point_codes import check_lasso
from probae.inference.svi import EncoderPosterior
from probae.inference.training import settled, train
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.statistics import SufficientStatistics


@dataclass(frozen=True)
class Amortization(Method):
    r"""Train an encoder for the codes of a given model, by Adam in the dtype of x; the model is left as it is.

    Parameters
    ----------
    encoder : Encoder
        Copied, and attached to the model; the fitted copy is ``fit.posterior.encoder``.
    epochs : int
        Passes over the data.
    batch : int or None
        Rows in a step; None for all.
    lr : float
        Adam's step at the start; it falls to a hundredth along a cosine.
    objective : callable
        Model, encoder and rows to one value per row: `LassoEnergy()` of the encoder's code by default, or
        `PredictiveSparseDecomposition(gamma)`, or a bound such as `ELBO()`, which trains the scales too.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.natural_patches(size=4, count=500).x
    >>> model = pa.fit(pa.SparseCoding(16, 20), x, pa.MAP(penalty=0.1)).model
    >>> run = pa.fit(model, x, pa.Amortization(pa.LISTAEncoder(16, 20, layers=4, coupling="analytic")))
    >>> run.posterior(x[:2]).mean.shape
    torch.Size([2, 20])
    """

    encoder: Encoder
    epochs: int = 40
    batch: int | None = 250
    lr: float = 0.01
    objective: Any = field(default_factory=LassoEnergy)

    def __post_init__(self) -> None:
        if not isinstance(self.encoder, Encoder):
            raise ParameterError(
                "Amortization needs an encoder such as LISTAEncoder(features, latents), "
                f"got {type(self.encoder).__name__}."
            )
        check_count("epochs", self.epochs)
        check_positive("lr", self.lr)
        if self.batch is not None:
            check_count("batch", self.batch)
        if not callable(self.objective) or not hasattr(self.objective, "name"):
            raise ParameterError(
                f"objective should be a value such as LassoEnergy(), got {self.objective!r}."
            )

    @property
    def objective_name(self) -> str:  # type: ignore[override]
        """Name of what ``history`` holds."""
        return self.objective.name

    @property
    def unit_free(self) -> bool:
        """The model is given, in the units of x."""
        return False

    @local_parameters
    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Train the encoder."""
        data = self.rows(data)
        self._check(model, data)
        encoder, x = self.encoder, data.values.to(data.dtype)
        generator = torch.Generator().manual_seed(seed)
        given = {name: one.clone() for name, one in model.state_dict().items()}
        encoder.to(x.dtype).attach(model)
        encoder.start(x, generator)
        model.requires_grad_(False).to(x.dtype)
        encoder.train()
        history, interrupted = train(
            lambda rows: -self.objective(model, encoder, rows).mean(),
            list(encoder.parameters()),
            x,
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            generator=generator,
            usable=lambda: all(bool(value.isfinite().all()) for value in encoder.parameters()),
            label="amortization",
        )
        encoder.eval().double()
        model.double().load_state_dict(given)  # float32 has rounded it
        return Outcome(EncoderPosterior(encoder), history, settled(history), interrupted)

    def _check(self, model: Any, data: Data) -> None:
        encoder = self.encoder
        if (encoder.features, encoder.latents) != (model.features, model.latents):
            raise ParameterError(
                f"The encoder maps {encoder.features} features to {encoder.latents} latents, "
                f"the model has {model.features} and {model.latents}: build both with the same sizes."
            )
        check_lasso(self.objective, model)
        if data.missing is not None:
            raise DataError("Encoders need complete rows, but x has missing values: fill them in first.")
