"""What the rows say: the noise, the dependence of rows, and the tests T1 to T6 of axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, FitError
from probae.identifiability.curvature import MINIMUM_ROWS as CURVATURE_ROWS
from probae.identifiability.curvature import CurvatureSigns, curvature_signs
from probae.identifiability.data_test import ALPHA
from probae.identifiability.data_tests import rotation_information
from probae.identifiability.directions import NonGaussianDirections
from probae.identifiability.fobi import non_gaussian_directions
from probae.identifiability.frames import FrameComparison
from probae.identifiability.gaussian_test import GaussianTest, gaussian_test
from probae.identifiability.held_out_rotation import HeldOutRotation, held_out_rotation
from probae.identifiability.noise import NoiseCheck, discrete_columns, noise_check
from probae.identifiability.planes import RotationInformation
from probae.identifiability.robust_directions import robust_directions
from probae.identifiability.rows import RowDependence, repeated_rows, row_dependence
from probae.identifiability.split_likelihood import SplitLikelihood, split_likelihood
from probae.matching import match_columns
from probae.models import LinearFactorModel
from probae.models.marginal import Scores
from probae.priors import Prior
from probae.priors.information import is_symmetric

HAAR_ROTATIONS = 199  # of T3, whose p-value cannot be below .005 then
EXACT_ROWS = 30  # from which the exact test runs, also with fewer rows than features
ROBUST_FEATURES = 60  # up to which the scatters without moments are compared: their tests take time N D^3


@dataclass(frozen=True, eq=False)
class DataEvidence:
    """Tests on the rows; what was not run, or could not be, is None.

    Attributes
    ----------
    noise : NoiseCheck
        T0: whether the noise is Gaussian.
    discrete : tuple of str
        Columns of few values.
    rows : RowDependence
    information : RotationInformation
        T1, which decides; ``why_no_information`` where there is none.
    gaussian : GaussianTest
        T2. It, T4 and T5 reject elliptical data too, which have no axes: they never decide alone.
    held_out : HeldOutRotation
        T3.
    directions, robust : NonGaussianDirections
        T4 on the scores by the kurtosis matrix, and on the rows by scatters that need no moments.
    split : SplitLikelihood
        T5, where the model is not Gaussian and T2 rejects.
    curvature : CurvatureSigns
        T6 at the axes of a law fitted to the data, where T1 finds some.
    """

    noise: NoiseCheck | None
    discrete: tuple[str, ...]
    rows: RowDependence | None
    information: RotationInformation | None
    why_no_information: str = ""
    gaussian: GaussianTest | None = None
    held_out: HeldOutRotation | None = None
    directions: NonGaussianDirections | None = None
    robust: NonGaussianDirections | None = None
    split: SplitLikelihood | None = None
    curvature: CurvatureSigns | None = None

    @property
    def shows_axes(self) -> bool:
        """Whether T1 rejects in some plane: without that no other axes are looked for."""
        return self.information is not None and self.information.some_plane(ALPHA)

    @property
    def tails_without_axes(self) -> bool:
        """Whether the scores are not Gaussian (T2) and yet no test of axes (T1) rejects, as of elliptical data."""
        if self.gaussian is None or self.information is None or self.gaussian.p_value >= ALPHA:
            return False
        return not self.information.some_direction(ALPHA)

    @property
    def against_the_law(self) -> tuple[tuple[int, int], ...]:
        """Planes whose axes the data show (T1) and at which the assumed law has no clear maximum (T6)."""
        if self.curvature is None or self.information is None:
            return ()
        shown = set(self.information.rejected(ALPHA))
        return tuple(
            plane.plane for plane in self.curvature.planes if plane.sign < 1 and plane.plane in shown
        )

    def lines(self) -> list[str]:
        """Say the results, one sentence a line."""
        found: list[str] = [] if self.noise is None else [self.noise.describe()]
        if self.discrete:
            columns = ", ".join(self.discrete[:8])
            found.append(f"Columns that are not continuous (few values, a floor or a ceiling): {columns}.")
        if self.rows is not None:
            found.append(self.rows.describe())
        if self.information is not None:
            found += self.information.lines()
        elif self.why_no_information:
            found.append(self.why_no_information)
        return found + [test.describe() for test in self._others().values() if test is not None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "noise_p": None if self.noise is None else self.noise.p_value,
            "discrete_columns": list(self.discrete),
            "rows_p": None if self.rows is None else self.rows.p_value,
            "rows_inflation": None if self.rows is None else self.rows.inflation,
            "rows_repeated": None if self.rows is None else self.rows.repeats,
            "planes": [] if self.information is None else self.information.to_rows(),
            **{name: None if test is None else test.to_dict() for name, test in self._others().items()},
        }

    def _others(self) -> dict[str, Any]:
        return {
            "gaussian": self.gaussian,
            "held_out_rotation": self.held_out,
            "directions": self.directions,
            "robust_directions": self.robust,
            "split_likelihood": self.split,
            "curvature": self.curvature,
        }


def data_evidence(
    model: LinearFactorModel,
    rows: Float[Tensor, "samples features"],
    scores: Scores | None,
    why_no_scores: str,
    names: tuple[str, ...] | None,
    seed: int,
) -> DataEvidence:
    """Run every test that these rows and this model allow, but for that of the curvature.

    ``scores`` are those of the rows under the model, or None and why there are none; ``names`` those of the columns.
    """
    loadings, noise, mean = model._gaussian_parameters()
    labels = names or tuple(str(i) for i in range(model.features))
    discrete = tuple(labels[i] for i in discrete_columns(rows))
    if scores is None:
        return DataEvidence(None, discrete, None, None, why_no_scores)
    checked = None
    covariance = None if model.invertible else scores.covariance
    try:
        if model.noise != "none":
            checked = noise_check(rows - mean, loadings, noise)
        information = rotation_information(scores.values, covariance, seed=seed)
        gaussian = exact_test(model, rows, seed)
        return DataEvidence(
            checked,
            discrete,
            replace(row_dependence(scores.values), repeats=repeated_rows(rows)),
            information,
            gaussian=gaussian,
            held_out=_held_out(model, rows, scores, seed),
            directions=non_gaussian_directions(scores.values),
            robust=_robust(model, rows),
            split=_split(model, rows, gaussian, seed),
        )
    except (DataError, FitError) as error:  # rows that repeat, or columns that follow from the others
        return DataEvidence(checked, discrete, None, None, str(error))


def exact_test(
    model: LinearFactorModel, rows: Float[Tensor, "samples features"], seed: int
) -> GaussianTest | None:
    """Run T2, the one test that also holds for fewer rows than features; None where they are too few even for it."""
    if len(rows) < max(EXACT_ROWS, model.latents + 2) or model.latents > model.features:
        return None
    try:
        return gaussian_test(rows, model.latents, _noise(model), seed=seed)
    except DataError:  # columns that are constant or follow from the others leave no scores
        return None


def _noise(model: LinearFactorModel) -> str:
    """Return the noise of the Gaussian refit: sources fewer than the features live in the principal subspace."""
    if not model.invertible:
        return model.noise
    return "none" if model.latents == model.features else "isotropic"


def _laws(model: LinearFactorModel) -> list[Prior] | None:
    return None if model.gaussian else model.prior.coordinates(model.latents)


def _held_out(model: LinearFactorModel, rows: Tensor, scores: Scores, seed: int) -> HeldOutRotation | None:
    """Run T3 under the model's laws, where they are symmetric and not Gaussian: those would find nothing."""
    laws = _laws(model)
    if laws is None or not all(is_symmetric(law) for law in laws):
        return None
    noise = float(scores.covariance.diagonal().mean())
    try:
        return held_out_rotation(
            rows, model.latents, laws, _noise(model), score_noise=noise, rotations=HAAR_ROTATIONS, seed=seed
        )
    except DataError:  # rows too few for halves of them
        return None


def _robust(model: LinearFactorModel, rows: Tensor) -> NonGaussianDirections | None:
    """Run T4 on the rows, where they have enough directions for the Gaussian ones to be the largest set."""
    if not 2 * model.latents < model.features <= ROBUST_FEATURES:
        return None
    try:
        return robust_directions(rows)
    except (DataError, FitError):  # columns that follow from the others, or rows that repeat, have no shape
        return None


def _split(
    model: LinearFactorModel, rows: Tensor, gaussian: GaussianTest | None, seed: int
) -> SplitLikelihood | None:
    """Run T5, which fits the model twice, only where it has something to add."""
    if _laws(model) is None or gaussian is None or gaussian.p_value >= ALPHA:
        return None
    try:
        return split_likelihood(model, rows, seed=seed)
    except DataError:  # halves too few for the Gaussian model
        return None


def curvature(
    model: LinearFactorModel, scores: Scores, adaptive: FrameComparison, seed: int
) -> CurvatureSigns | None:
    """Run T6 at the axes of a law fitted to the scores, each matched to the score it is closest to."""
    laws = _laws(model)
    if laws is None or adaptive.rotation is None or len(scores.values) < CURVATURE_ROWS:
        return None
    own = torch.eye(model.latents, dtype=torch.float64)
    return curvature_signs(scores, laws, match_columns(own, adaptive.rotation).matched, seed=seed)
