"""The axes under resampling: the sandwich error where that holds, chance where there are no axes."""

import math

import pytest
import torch

from probae import priors
from probae.checks import ParameterError
from probae.identifiability.axes_bootstrap import axes_bootstrap
from probae.identifiability.frames import nearest_axes
from probae.linalg import givens
from probae.matching import plane_angles
from probae.models.marginal import Scores


def scores_of(law, samples, latents, seed, noise=0.0):
    torch.manual_seed(seed)
    values = law.sample(samples, latents).double()
    values = values + math.sqrt(noise) * torch.randn(samples, latents, dtype=torch.float64)
    covariance = noise * torch.eye(latents, dtype=torch.float64)
    return Scores(values, covariance, torch.zeros(samples, dtype=torch.float64))


@pytest.mark.parametrize(("law", "noise"), [(priors.StudentT(5.0), 0.0), (priors.Laplace(), 0.3)])
def test_bootstrap_is_the_sandwich_error_for_smooth_densities(law, noise):
    """40 resamples know a deviation to 11 %, the sandwich at 2,000 rows its own to 10 % or so: 3 of both together."""
    found = axes_bootstrap(scores_of(law, 2000, 2, 0, noise), [law] * 2, 40)
    assert 1 / 1.6 < found.worst.ratio < 1.6
    assert found.worst.error == pytest.approx(found.worst.degrees / math.sqrt(80))


def test_more_rows_than_a_resample_holds_are_scaled():
    """12,000 rows: 5/12 of the variance of 5,000; the sandwich of all rows is the yardstick."""
    found = axes_bootstrap(scores_of(priors.StudentT(5.0), 12_000, 2, 1), [priors.StudentT(5.0)] * 2, 25)
    assert found.samples == 12_000
    assert 1 / 1.7 < found.worst.ratio < 1.7


def test_resampling_repeats_the_accident_of_gaussian_rows_and_is_no_evidence_of_axes():
    """Another sample puts the axes elsewhere (26 degrees on average); resamples of this one stay nearer."""
    found = axes_bootstrap(scores_of(priors.Gaussian(), 1000, 2, 2), [priors.Laplace()] * 2, 30)
    assert 3 < found.worst.degrees < 26


def test_planes_of_three_factors_are_told_apart():
    """Two Gaussian factors share the loosest plane; those with the Laplace factor are tight."""
    scores = scores_of(priors.Laplace(), 700, 3, 3)
    scores.values[:, 1:] = torch.randn(
        700, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )
    found = axes_bootstrap(scores, [priors.Laplace()] * 3, 10)
    assert found.worst.plane == (1, 2)
    degrees = {plane.plane: plane.degrees for plane in found.planes}
    assert len(degrees) == 3
    assert "resamples" in found.describe()
    assert len(found.to_dict()["planes"]) == 3


def test_angles_forget_signs_and_order():
    turned = givens(2, 0, 1, 0.3)[:, [1, 0]] * torch.tensor([1.0, -1.0])
    assert abs(float(plane_angles(nearest_axes(turned))[1, 0])) == pytest.approx(math.degrees(0.3))


def test_one_seed_is_one_result_and_one_factor_is_refused():
    scores = scores_of(priors.Laplace(), 300, 2, 5)
    laws = [priors.Laplace()] * 2
    assert axes_bootstrap(scores, laws, 5, seed=3) == axes_bootstrap(scores, laws, 5, seed=3)
    with pytest.raises(ParameterError, match="factors to turn"):
        axes_bootstrap(scores_of(priors.Laplace(), 300, 1, 6), laws[:1], 5)
