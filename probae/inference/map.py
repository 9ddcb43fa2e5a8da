r"""MAP sparse coding: unit-norm atoms and lasso codes, on the scale of the generative model.

Atoms A have unit norm, loadings are W = c A and codes h = c z, so with unit-variance Laplace z

    -log p(x, z) = (1 / sigma^2) [1/2 |x - A h|^2 + penalty |h|_1] + constant,   penalty = sqrt(2) sigma^2 / c

Only the covariance fixes c: tr S = c^2 K + D sigma^2.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import (
    ConvergenceWarning,
    Data,
    DataError,
    NotExactError,
    ParameterError,
    check_count,
    check_positive,
)
from probae.encoders import Encoder
from probae.inference.base import Method, Outcome
from probae.inference.codes_posterior import CodesPosterior
from probae.inference.dictionary import Dictionary, learn_dictionary
from probae.inference.noise_refinement import refine_noise
from probae.inference.objectives import JointDensity
from probae.inference.objectives.units import in_units, is_energy, put_back
from probae.inference.point_encoder import train_point_encoder
from probae.inference.regularizers import Regularizer, check_regularizers
from probae.inference.schedule import Cosine, Schedule
from probae.inference.training import check_values
from probae.inference.units import can_rescale
from probae.models import LatentModel, LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.priors import Laplace
from probae.statistics import SufficientStatistics

WORK = 3e8  # rows K^2 D of the rows that the noise variance is estimated from, at least 100 of them


@dataclass(frozen=True)
class MAP(Method):
    r"""Codes at the maximum of log p(x, z): certified lasso codes with dictionary steps, or those of a point encoder.

    Given an ``encoder``, it and the model are trained by Adam on log p(x, z) at z = encoder(x).mean. That is a
    classical autoencoder: `Reconstruction` leaves the prior out, `SquaredError` the noise too. Where the prior counts,
    the atoms of a linear decoder are put back to one norm after each step, unless `WeightDecay` or tied weights set it.

    Parameters
    ----------
    penalty : float, optional
        Weight of the codes in 1/2 ||x - A h||^2 + penalty ||h||_1, in units of x; noise variance and scale follow from
        it. By default 1.2 min(1, K / D) times the root mean square of the centred entries of x. For fewer latents than
        features that is a working value to learn the atoms with: the noise variance, and with it the penalty of the
        posterior, is then found by marginal likelihood. For more the default counts as given, for the noise is then
        known only as far as the law of the codes is right, and on photographs its most likely value is 0.
    steps : int
        Most minibatches.
    batch : int or None
        Rows in each; None for all, at every step.
    tol : float
        The fit has converged when one more step on all rows would turn no atom by more than this (radians). Learning
        stops early when a whole pass turns none by half as much.
    encoder : Encoder, optional
        Of its law the mean is used; copied, the fitted copy is ``fit.posterior.encoder``. With it ``penalty``,
        ``steps`` and ``tol`` have no part.
    objective : callable
        With an encoder: model, encoder and rows to one value per row.
    regularizers : tuple of Regularizer
        With an encoder: what corrupts the rows it is shown, or is taken off the objective. It is in the units of x,
        which is then used as it is; without any, training runs on standardised columns.
    epochs : int
        With an encoder: passes over the data.
    lr : float
        With an encoder: Adam's largest step.
    schedule : Schedule
        With an encoder: how the step changes; by default it falls to a hundredth along a cosine. Each weight still
        moves by about the last step, which sets how exactly an optimum is reached.

    Notes
    -----
    The dictionary step is block coordinate descent on moments of the codes with forgetting [1]_ (algorithms 1 and 2);
    codes start where the last visit to their row left them. An atom that saves less energy than a new one in the
    direction of some residual would save is placed there: that takes care of dead atoms, of copies of another, and of
    merged pairs. ``Fit.restarts`` holds the steps at which that happened and the number of atoms. Atoms that no row
    uses at the end are counted in a warning.

    ``history`` is minus the energy per row of each batch, and at its end that of all rows (or of steps x batch / 8 of
    them, if fewer) with codes of relative duality gap 1e-6. The problem is not convex: a converged fit is a stationary
    point.

    References
    ----------
    .. [1] Mairal, J., Bach, F., Ponce, J. & Sapiro, G. (2010). Online learning for matrix factorization and sparse
       coding. Journal of Machine Learning Research 11, 19-60.

    Examples
    --------
    >>> import probae as pa
    >>> patches = pa.datasets.natural_patches(size=4, count=500)
    >>> run = pa.fit(pa.SparseCoding(16, 20), patches.x, pa.MAP(penalty=0.1))
    >>> run.converged, run.posterior(patches.x[:2]).mean.shape
    (True, torch.Size([2, 20]))

    An autoencoder with tanh codes, made to denoise:

    >>> noisy = pa.Denoising(pa.GaussianNoise(0.1))
    >>> method = pa.MAP(
    ...     encoder=pa.OneLayerEncoder(16, 4, "tanh"), objective=pa.SquaredError(), regularizers=(noisy,), epochs=20
    ... )
    >>> pa.fit(pa.ProbabilisticPCA(16, 4), patches.x, method).posterior(patches.x[:2]).mean.shape
    torch.Size([2, 4])
    """

    penalty: float | None = None
    steps: int = 500
    batch: int | None = 512
    tol: float = 0.01
    encoder: Encoder | None = None
    objective: Any = field(default_factory=JointDensity)
    regularizers: tuple[Regularizer, ...] = ()
    epochs: int = 500
    lr: float = 0.02
    schedule: Schedule = field(default_factory=Cosine)

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_positive("tol", self.tol)
        if self.batch is not None:
            check_count("batch", self.batch)
        if self.penalty is not None:
            check_positive("penalty", self.penalty)
        check_count("epochs", self.epochs)
        check_positive("lr", self.lr)
        check_regularizers(self.regularizers)
        check_values(self.schedule, None, None)
        if not callable(self.objective) or not hasattr(self.objective, "name"):
            raise ParameterError(
                f"objective should be a value such as JointDensity(), got {self.objective!r}."
            )
        own = self.regularizers or self.objective != JointDensity() or self.schedule != Cosine()
        if self.encoder is None and own:
            raise ParameterError(
                "objective, regularizers and schedule go with an encoder: pass encoder=... too."
            )
        if self.encoder is None:
            return
        if not isinstance(self.encoder, Encoder):
            raise ParameterError(
                "encoder should be one such as LinearGaussianEncoder(features, latents), "
                f"got {type(self.encoder).__name__}."
            )
        if self.penalty is not None:
            raise ParameterError(
                "penalty goes with lasso codes; with an encoder the prior of the model is the penalty."
            )

    @property
    def objective_name(self) -> str:  # type: ignore[override]
        """Name of what ``history`` holds."""
        return "negative MAP energy" if self.encoder is None else self.objective.name

    @property
    def unit_free(self) -> bool:
        """Whether the data may be rescaled: not where a regulariser, or something in the encoder, is in units of x."""
        if self.encoder is None:
            return True
        return can_rescale(self.encoder, self.objective, self.regularizers)

    @property
    def common_unit(self) -> bool:
        """Whether all columns need the same unit: a squared error weighs them by their size."""
        return self.encoder is not None and is_energy(self.objective)

    def in_units(self, units: Float[Tensor, " features"]) -> MAP:
        """Return the method for x / units: of its penalty, which has the units of x, and of its objective."""
        penalty = None if self.penalty is None else self.penalty / float(units[0])
        return replace(self, penalty=penalty, objective=in_units(self.objective, units))

    def objective_in_units(self, value: float, units: Float[Tensor, " features"]) -> float:
        """Return the energy in squared units of x, or the log density of x."""
        if self.encoder is None:
            return value * float(units[0]) ** 2
        return put_back(self.objective, value, units)

    @local_parameters
    def fit(self, model: LatentModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Learn the model, and the encoder if there is one."""
        data = self.rows(data)
        if self.encoder is None:
            return self._fit_lasso(model, data, seed)
        return train_point_encoder(
            model,
            self.encoder,
            data,
            seed,
            objective=self.objective,
            regularizers=self.regularizers,
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            schedule=self.schedule,
            unit_free=self.unit_free,
        )

    @torch.no_grad()
    def _fit_lasso(self, model: LatentModel, data: Data, seed: int) -> Outcome:
        """Learn the dictionary and put the model on its scale."""
        self._check(model, data)
        mean = data.values.mean(0)
        centred = data.values - mean
        power = float(centred.square().sum(1).mean())
        penalty = self.penalty or default_penalty(power, model.features, model.latents)
        found = learn_dictionary(
            centred,
            model.latents,
            penalty,
            steps=self.steps,
            batch=self.batch,
            tol=self.tol,
            seed=seed,
        )
        scale = match_scale(power, model.features, model.latents, penalty)
        model.mean, model.loadings = mean, found.atoms.double() * scale
        model.noise_variance = torch.tensor(penalty * scale / math.sqrt(2), dtype=torch.float64)
        if self.penalty is None and model.latents < model.features and not found.interrupted:
            refine(model, centred, power, seed)
        warn_unused(found)
        return Outcome(
            CodesPosterior(model),
            found.history,
            found.turn < self.tol,
            found.interrupted,
            restarts=found.relocated,
        )

    def _check(self, model: LatentModel, data: Data) -> None:
        if (
            not isinstance(model, LinearFactorModel)
            or not isinstance(model.prior, Laplace)
            or model.noise != "isotropic"
        ):
            raise NotExactError(
                f"MAP learns Laplace codes with isotropic noise, got {model!r}: use SparseCoding(features, latents), "
                "or another method."
            )
        if data.missing is not None:
            raise DataError("MAP needs complete rows, but x has missing values: fill them in first.")


def warn_unused(found: Dictionary) -> None:
    """Warn of atoms that are of no use."""
    if found.unused == 0:
        return
    replaced = sum(one["atoms"] for one in found.relocated)
    warnings.warn(
        f"At the end no row used {found.unused} of the {found.atoms.shape[1]} atoms ({replaced} times one had been "
        "placed anew): fewer latents may do.",
        ConvergenceWarning,
        stacklevel=3,
    )


def default_penalty(power: float, features: int, latents: int) -> float:
    """Return a penalty for rows of this mean square norm; few latents have large, dense codes, which need little."""
    return 1.2 * min(1.0, latents / features) * math.sqrt(power / features)


def refine(
    model: LinearFactorModel, centred: Float[Tensor, "samples features"], power: float, seed: int
) -> None:
    """Set the noise variance by marginal likelihood, and the scale so that tr S = c^2 K + D sigma^2 on all rows."""
    rows = int(min(max(WORK / (model.latents**2 * model.features), 100), len(centred)))
    chosen = torch.randperm(len(centred), generator=torch.Generator().manual_seed(seed))[:rows]
    refine_noise(model, model.mean + centred[chosen], seed)
    share = power - model.features * float(model.noise_variance)
    if share > 0:
        model.loadings = model.loadings * math.sqrt(share) / model.loadings.norm()


def match_scale(power: float, features: int, latents: int, penalty: float) -> float:
    """Solve tr S = c^2 K + D penalty c / sqrt 2 for the scale c of the codes."""
    slope = features * penalty / math.sqrt(2)
    return (math.sqrt(slope**2 + 4 * latents * power) - slope) / (2 * latents)
