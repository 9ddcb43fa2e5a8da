r"""Evidence on the axes of Gaussian factors with known segments: do the variances of each pair change apart?

In the plane of two scores y = z + N(0, N) the hypothesis of proportional variances is C_s = v_s T T' + N, against
C_s = T diag(v_si, v_sj) T' + N. Under the first no angle is identified, and twice the gain of the second is at most
that of free C_s, which is chi-square with 2 (S - 1) degrees of freedom (Flury, 1986): a conservative reference, exact
for two segments. The statistic is divided by the fourth moments of rows standardised under the hypothesis, 1 for
normal ones.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.checks import DataError, check_data
from probae.identifiability.lie_algebra import NULL
from probae.identifiability.precision import AngleError
from probae.identifiability.rows import MINIMUM_ROWS, RowDependence, row_dependence
from probae.identifiability.segment_information import LARGEST, SegmentFit, segment_angle_errors
from probae.identifiability.structure import Structure, connected
from probae.inference import Fit
from probae.inference.joint_diagonalization import ratios
from probae.inference.segment_posterior import SegmentPosterior


@dataclass(frozen=True)
class ProfileTest:
    """The likelihood-ratio test of proportional variances in one plane."""

    plane: tuple[int, int]
    statistic: float
    degrees_of_freedom: int
    p_value: float


@dataclass(frozen=True, eq=False)
class SegmentEvidence:
    """What the segments say of each plane: tests, and the precision of the angles."""

    segments: int
    tests: tuple[ProfileTest, ...]
    precision: tuple[AngleError, ...]
    rows: RowDependence | None
    why_no_tests: str = ""

    def lines(self) -> list[str]:
        """Say the results in sentences."""
        if not self.tests:
            return [self.why_no_tests]
        weakest = max(self.tests, key=lambda test: test.p_value)
        i, j = weakest.plane
        lines = [
            f"Variances of {self.segments} segments; least different in the plane (z[{i}], z[{j}]): likelihood ratio "
            f"{weakest.statistic:.1f} on {weakest.degrees_of_freedom} degrees of freedom, p = {weakest.p_value:.2g}."
        ]
        return lines + ([] if self.rows is None else [self.rows.describe()])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "segments": self.segments,
            "rows_p": None if self.rows is None else self.rows.p_value,
            "planes": [
                {
                    "plane": list(test.plane),
                    "statistic": test.statistic,
                    "degrees_of_freedom": test.degrees_of_freedom,
                    "p": test.p_value,
                }
                for test in self.tests
            ],
        }


def segment_structure(posterior: SegmentPosterior, shares: Float[Tensor, " segments"]) -> Structure:
    """Return the group that the fitted variances leave: planes of proportional variances may be turned."""
    latents = posterior.model.latents
    one = ratios(posterior.variances, shares)
    information = 1 - (one * one.mT).clamp_min(1.0).rsqrt()
    planes = list(itertools.combinations(range(latents), 2))
    null = {plane for plane in planes if float(information[plane]) < NULL}
    rest = [float(information[plane]) for plane in planes if plane not in null]
    return Structure(connected(latents, null), len(null), min(rest, default=0.0), exact=True)


def segment_evidence(fit: Fit, x: Any) -> tuple[SegmentEvidence, Structure, int]:
    """Collect the evidence of a fit with segments; x is the rows it was fitted to."""
    posterior, labels = fit.posterior, fit.method.segments  # type: ignore[attr-defined]
    assert isinstance(posterior, SegmentPosterior)
    place = posterior.levels.positions(labels, len(labels))
    count = len(posterior.variances)
    shares = torch.bincount(place, minlength=count).double() / len(place)
    shape = segment_structure(posterior, shares)
    if x is None or posterior.model.latents == 1:
        why = "No data were given: pass x to test whether the variances of the segments tell the axes apart."
        return SegmentEvidence(count, (), (), None, why), shape, 0
    rows = check_data(x, features=posterior.model.features).values
    if len(rows) != len(labels):
        raise DataError(
            f"The fit knows the segments of its own {len(labels)} rows, and x has {len(rows)}: pass the rows it was "
            "fitted to."
        )
    found = _fit_of(posterior, rows, place)
    if count == 1:
        return (
            SegmentEvidence(1, (), (), None, "One segment alone says nothing of the axes."),
            shape,
            len(rows),
        )
    if found.parameters > LARGEST:
        why = f"{found.parameters} parameters are too many to say how precisely the angles are known."
        return SegmentEvidence(count, (), (), None, why), shape, len(rows)
    tests = tuple(profile_tests(found))
    precision = tuple(segment_angle_errors(found))
    return SegmentEvidence(count, tests, precision, _row_dependence(found)), shape, len(rows)


def _fit_of(posterior: SegmentPosterior, rows: Tensor, place: Tensor) -> SegmentFit:
    model = posterior.model
    loadings, noise, mean = model._gaussian_parameters()
    return SegmentFit(
        loadings,
        None if model.noise == "none" else noise,
        model.noise == "isotropic",
        posterior.variances,
        rows - mean,
        place,
    )


def _row_dependence(fit: SegmentFit) -> RowDependence | None:
    """Look for serial dependence of the scores, each brought to variance 1 in its segment."""
    if len(fit.rows) < MINIMUM_ROWS:
        return None
    scores = fit.rows @ fit.pseudo_inverse.mT
    for level in range(len(fit.variances)):
        here = fit.place == level
        scores[here] = scores[here] / scores[here].square().mean(0).sqrt().clamp_min(1e-300)
    return row_dependence(scores)


def profile_tests(fit: SegmentFit) -> list[ProfileTest]:
    """Test every plane for proportional variances."""
    inverse = fit.pseudo_inverse
    scores = fit.rows @ inverse.mT
    if fit.noise is None:
        noise = torch.zeros(len(inverse), len(inverse), dtype=torch.float64)
    else:
        noise = (inverse * fit.noise) @ inverse.mT
    planes = itertools.combinations(range(len(inverse)), 2)
    return [_profile_test(fit, scores, noise, plane) for plane in planes]


def _profile_test(fit: SegmentFit, scores: Tensor, noise: Tensor, plane: tuple[int, int]) -> ProfileTest:
    index, counts = list(plane), fit.shares * len(fit.rows)
    y, error = scores[:, index], noise[index][:, index]
    moments = torch.stack([_second(y[fit.place == level]) for level in range(len(counts))])
    apart, _ = _plane_fit(moments, error, counts, fit.variances[:, index].log())
    alike, covariances = _plane_fit(
        moments, error, counts, fit.variances[:, index].log().mean(1, keepdim=True)
    )
    degrees = 2 * (len(counts) - 1)
    statistic = max(2 * (apart - alike) / _fourth_moments(y, fit.place, covariances), 0.0)
    return ProfileTest(plane, statistic, degrees, float(stats.chi2.sf(statistic, degrees)))


def _second(y: Tensor) -> Tensor:
    return y.mT @ y / len(y)


def _fourth_moments(y: Tensor, place: Tensor, covariances: Tensor) -> float:
    """Return the mean of the variances of a b and (a^2 - b^2) / 2 for rows (a, b) standardised: 1 if normal."""
    roots = torch.linalg.cholesky(covariances)
    a, b = torch.linalg.solve_triangular(roots[place], y.unsqueeze(2), upper=False).squeeze(2).unbind(1)
    return float(0.5 * ((a * b).square().mean() + (0.5 * (a.square() - b.square())).square().mean()))


def _plane_fit(
    moments: Float[Tensor, "segments 2 2"],
    noise: Float[Tensor, "2 2"],
    counts: Float[Tensor, " segments"],
    log_variances: Float[Tensor, "segments columns"],
) -> tuple[float, Float[Tensor, "segments 2 2"]]:
    """Maximise the likelihood over T and the variances, one or two for each segment; return it and the C_s."""
    shape = log_variances.shape
    jitter = 1e-12 * torch.eye(2, dtype=torch.float64)  # T may become singular on the way, never at the end

    def covariances(point: Tensor) -> Tensor:
        mixing = point[:4].view(2, 2)
        variances = point[4:].view(shape).exp().expand(-1, 2)
        return mixing * variances.unsqueeze(1) @ mixing.mT + noise + jitter

    def negative(vector: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(vector).requires_grad_()
        c = covariances(point)
        det = c[:, 0, 0] * c[:, 1, 1] - c[:, 0, 1].square()
        trace = (
            c[:, 1, 1] * moments[:, 0, 0] + c[:, 0, 0] * moments[:, 1, 1] - 2 * c[:, 0, 1] * moments[:, 0, 1]
        )
        value = 0.5 * counts @ (det.log() + trace / det) / counts.sum()
        (gradient,) = torch.autograd.grad(value, point)
        return value.item(), gradient.numpy()

    start = torch.cat([torch.eye(2, dtype=torch.float64).flatten(), log_variances.flatten()])
    answer = scipy.optimize.minimize(
        negative,
        start.numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None)] * 4 + [(math.log(1e-8), None)] * log_variances.numel(),
        options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9},
    )
    found = covariances(torch.from_numpy(answer.x)).detach()
    return -float(answer.fun) * float(counts.sum()), found
