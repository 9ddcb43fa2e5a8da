"""Evidence on the axes of Gaussian factors with known segments: do the variances of each pair change apart?"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, check_data
from probae.identifiability.data_test import DataTest
from probae.identifiability.lie_algebra import NULL
from probae.identifiability.precision import AngleError
from probae.identifiability.proportional_variances import ProportionTest, plane_tests, proportion_test
from probae.identifiability.rows import MINIMUM_ROWS, RowDependence, repeated_rows, row_dependence
from probae.identifiability.segment_checks import segment_checks
from probae.identifiability.segment_information import LARGEST, SegmentFit, segment_angle_errors
from probae.identifiability.structure import Structure, connected
from probae.inference import Fit
from probae.inference.joint_diagonalization import ratios
from probae.inference.segment_posterior import SegmentPosterior

LARGEST_OVERALL = 12  # factors that are tested all at once: its cost is N K^2


@dataclass(frozen=True, eq=False)
class SegmentEvidence:
    """What the segments say: tests of each plane and of all factors at once, and the precision of the angles.

    The planes are those of the fitted axes, which were chosen to be far apart; the test of all factors does not know
    them, so that it guards the planes from that choice where no plane has axes. The checks are of the model itself.
    """

    segments: int
    tests: tuple[ProportionTest, ...]
    precision: tuple[AngleError, ...]
    rows: RowDependence | None
    why_no_tests: str = ""
    overall: ProportionTest | None = None
    checks: dict[str, DataTest] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Say the results in sentences."""
        if not self.tests:
            return [self.why_no_tests]
        weakest = max(self.tests, key=lambda test: test.p_value)
        i, j = weakest.plane
        lines = [
            f"Variances of {self.segments} segments; nearest to proportional in the plane (z[{i}], z[{j}]): "
            f"{weakest.statistic:.1f}, p = {weakest.p_value:.2g} ({weakest.permutations} permuted labels)."
        ]
        if self.overall is not None:
            lines.append(
                f"All {len(self.overall.factors)} at once: p = {self.overall.p_value:.2g} (the same)."
            )
        lines += [] if self.rows is None else [self.rows.describe()]
        return lines + [test.describe() for test in self.checks.values()]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "segments": self.segments,
            "rows_p": None if self.rows is None else self.rows.p_value,
            "rows_inflation": None if self.rows is None else self.rows.inflation,
            "overall_p": None if self.overall is None else self.overall.p_value,
            "checks": {name: test.p_value for name, test in self.checks.items()},
            "planes": [
                {
                    "plane": list(test.plane),
                    "statistic": test.statistic,
                    "permutations": test.permutations,
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


def segment_evidence(fit: Fit, x: Any, seed: int = 0) -> tuple[SegmentEvidence, Structure, int]:
    """Collect the evidence of a fit with segments; x is the rows it was fitted to, the seed that of permutations."""
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
    latents = posterior.model.latents
    all_at_once = 2 < latents <= LARGEST_OVERALL
    evidence = SegmentEvidence(
        count,
        tuple(plane_tests(found, seed)),
        tuple(segment_angle_errors(found)),
        _row_dependence(found),
        overall=proportion_test(found, tuple(range(latents)), seed) if all_at_once else None,
        checks=segment_checks(found),
    )
    return evidence, shape, len(rows)


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
    return replace(row_dependence(scores), repeats=repeated_rows(fit.rows))
