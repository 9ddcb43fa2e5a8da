"""T6: alpha of known laws against closed forms, the signs they give, and how often a sign is wrong."""

import json
import math

import pytest
import torch

from probae import priors
from probae.checks import DataError
from probae.identifiability.curvature import curvature_signs, signs_of
from probae.identifiability.precision import ContrastMoments
from probae.linalg import haar_rotation
from probae.models.marginal import Scores


def scores(y, noise=0.0):
    latents = y.shape[1]
    y = y + math.sqrt(noise) * torch.randn(y.shape, dtype=torch.float64)
    return Scores(
        y, noise * torch.eye(latents, dtype=torch.float64), torch.zeros(len(y), dtype=torch.float64)
    )


def cubic(law, y, variance):
    """Moments of psi(s) = s^3, for which alpha = 3 - E s^4 in closed form."""
    s = y / y.std(correction=0)
    return ContrastMoments(float(s.pow(6).mean()), float(s.pow(4).mean()), 3.0)


def test_alpha_and_its_error_are_those_of_a_mean(draw):
    """psi = s^3: alpha is 3 minus a sample kurtosis, and the jackknife that of its influence function."""
    y = draw("uniform", 20_000, 2)
    found = curvature_signs(scores(y), [priors.Laplace()] * 2, moments=cubic)
    s = y / y.std(0, correction=0)
    assert found.alphas == pytest.approx((3 - s.pow(4).mean(0)).tolist(), rel=1e-9)
    influence = s.pow(4) - 2 * s.pow(4).mean(0) * s.square()
    # the s.e. of an s.e. from 20 groups is 1 / sqrt(38) = .16 of it; four of them
    assert found.errors == pytest.approx((influence.std(0) / math.sqrt(20_000)).tolist(), rel=0.65)


@pytest.mark.parametrize(
    ("law", "expected"),
    [("t5", 0.347), ("logistic", 0.202), ("uniform", -0.408), ("gaussian", 0.0), ("exponential", 0.0)],
)
def test_alpha_of_a_laplace_model_is_as_stated(law, expected, draw):
    """2 sqrt 2 p(0) - sqrt 2 E |s| of each law, the density by a kernel with a bias of some .05 at most."""
    found = curvature_signs(scores(draw(law, 20_000, 3)), [priors.Laplace()] * 3)
    for alpha, error in zip(found.alphas, found.errors, strict=True):
        assert alpha == pytest.approx(expected, abs=5 * error + 0.05)


def test_signs_say_what_the_law_does_with_the_axes(draw):
    laws = [priors.Laplace()] * 3
    heavy, light, flat = (
        curvature_signs(scores(draw(law, 4000, 3), 0.1), laws) for law in ("laplace", "uniform", "gaussian")
    )
    assert (heavy.reversed, heavy.unclear) == ((), ())
    assert light.reversed == ((0, 1), (0, 2), (1, 2))
    assert flat.reversed == ()
    assert flat.unclear
    assert "a maximum in every plane" in heavy.describe()
    assert "a minimum" in light.describe()
    assert "no clear sign" in flat.describe()


def test_signs_are_those_of_sums_over_planes():
    found = signs_of([1.0, -0.4, -0.4, 0.35], [0.05] * 4, "Laplace()")
    assert [plane.sign for plane in found.planes] == [1, 1, 1, -1, 0, 0]
    assert found.planes[0].error == pytest.approx(0.05 * math.sqrt(2))
    assert found.worst.plane == (1, 2)
    assert found.unclear == ((1, 3), (2, 3))
    assert json.loads(json.dumps(found.to_dict()))["planes"][3]["sign"] == -1


def test_rotation_looks_at_turned_axes(draw):
    y, laws, R = draw("laplace", 500, 3), [priors.Laplace()] * 3, haar_rotation(3)
    plain = scores(y, 0.2)
    turned = Scores(plain.values @ R.T, R @ plain.covariance @ R.T, plain.remainder)
    assert curvature_signs(turned, laws, R).alphas == pytest.approx(
        curvature_signs(plain, laws).alphas, rel=1e-6
    )


def test_random_state_is_left_alone(draw):
    given = scores(draw("laplace", 300, 2))
    state = torch.get_rng_state()
    assert curvature_signs(given, [priors.Laplace()] * 2) == curvature_signs(given, [priors.Laplace()] * 2)
    assert torch.equal(state, torch.get_rng_state())


def test_few_rows_are_refused(draw):
    with pytest.raises(DataError, match="200 rows"):
        curvature_signs(scores(draw("laplace", 100, 2)), [priors.Laplace()] * 2)


@pytest.mark.slow
@pytest.mark.parametrize(("law", "expected"), [("laplace", 1), ("uniform", -1), ("gaussian", 0)])
def test_long_rate_of_signs(law, expected, draw, rejections):
    """Two noisy scores, n = 1,000: the right sign, and hardly ever a sign of Gaussian ones (3 jackknife errors)."""
    runs, laws = 200, [priors.Laplace()] * 2

    def wrong(seed):
        return float(curvature_signs(scores(draw(law, 1000, 2), 0.1), laws, seed=seed).worst.sign == expected)

    # two-sided at 3 errors from 20 groups: t(19) gives .0074; binomial(200, .0074) passes 6 with probability 5e-4
    assert rejections(wrong, runs, level=0.5) <= 6
