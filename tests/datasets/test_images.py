"""Patches and digits: shapes, what each option promises, and the known heavy tails."""

import math

import pytest
import torch

from probae.checks import ParameterError
from probae.datasets import digits, natural_patches
from probae.linalg import haar_rotation


def test_patches_are_centred_seeded_and_named():
    data = natural_patches(size=6, count=500, seed=3)
    assert data.x.shape == (500, 36)
    assert data.x.dtype == torch.float64
    assert data.feature_names[:7] == ("r0c0", "r0c1", "r0c2", "r0c3", "r0c4", "r0c5", "r1c0")
    assert data.x.mean(1).abs().max() < 1e-14
    assert torch.equal(data.x, natural_patches(size=6, count=500, seed=3).x)
    assert not torch.equal(data.x, natural_patches(size=6, count=500, seed=4).x)


def test_neighbouring_pixels_are_where_the_names_say():
    """Correlation falls with distance in the image: a transposed or shuffled patch would not pass."""
    data = natural_patches(size=8, count=4000, remove_dc=False)
    correlation = torch.corrcoef(data.x.T)
    at = {name: i for i, name in enumerate(data.feature_names)}
    near = [correlation[at["r3c3"], at[name]].item() for name in ("r3c4", "r4c3")]
    far = [correlation[at["r3c3"], at[name]].item() for name in ("r3c7", "r7c3")]
    assert min(near) > max(far)
    assert data.x.min() >= 0
    assert data.x.max() <= math.log(2)  # log(1 + grey), grey in [0, 1]


def test_flat_patches_are_dropped():
    every = natural_patches(size=8, count=1000, drop_flat=0).x.std(1)
    kept = natural_patches(size=8, count=900, drop_flat=0.1).x.std(1)  # the same 1000 places
    assert kept.min() == every.sort().values[100]
    assert torch.equal(kept, every[every >= kept.min()])


def test_contrast_is_equalized():
    both = natural_patches(size=8, count=300, equalize_contrast=True).x
    assert torch.allclose(both.var(1, correction=0), torch.ones(300, dtype=torch.float64))
    level = natural_patches(size=8, count=300, remove_dc=False).x.mean(1)
    kept = natural_patches(size=8, count=300, remove_dc=False, equalize_contrast=True).x
    assert torch.allclose(kept.mean(1), level)
    assert torch.allclose(kept.var(1, correction=0), torch.ones(300, dtype=torch.float64))


def test_whitening():
    plain = natural_patches(size=8, count=2000)
    white = natural_patches(size=8, count=2000, whiten=40)
    second = white.x.T @ white.x / 2000
    assert torch.allclose(second, torch.eye(40, dtype=torch.float64), atol=1e-9)
    assert torch.allclose((plain.x - white.extra["centre"]) @ white.extra["whitening"], white.x, atol=1e-9)
    assert white.feature_names[-1] == "pc39"
    total = torch.linalg.eigvalsh(torch.cov(plain.x.T))
    assert white.extra["explained"] == pytest.approx((total[-40:].sum() / total.sum()).item(), rel=1e-9)


def test_patches_are_heavy_tailed_mostly_whatever_the_axes():
    """Nats per dimension of a unit-variance Laplace density, 40 whitened dimensions of 27,000 patches.

    Known for this recipe: 91.75 % of the variance kept, PCA axes -1.0417, random axes -1.0747, and -1.4390
    for a Gaussian on held-out patches (in sample -log(2 pi e) / 2). Two photographs: .03 nats.
    """
    white = natural_patches(size=8, count=27_000, whiten=40)
    assert white.extra["explained"] == pytest.approx(0.9175, abs=0.01)
    rotation = haar_rotation(40, torch.Generator().manual_seed(0))

    def laplace(x):
        return (-0.5 * math.log(2) - math.sqrt(2) * x.abs()).mean().item()

    gaussian = (-0.5 * math.log(2 * math.pi) - 0.5 * white.x.square()).mean().item()
    assert laplace(white.x) == pytest.approx(-1.0417, abs=0.03)
    assert laplace(white.x @ rotation) == pytest.approx(-1.0747, abs=0.03)
    assert gaussian < laplace(white.x @ rotation) < laplace(white.x)


def test_digits():
    """1797 images, 178 zeros among them; the trace of the covariance of x / 16 (divisor N) is 4.69328."""
    data = digits()
    assert data.x.shape == (1797, 64)
    assert data.labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert torch.equal((data.x * 16).round() / 16, data.x)
    assert data.x.var(0, correction=0).sum().item() == pytest.approx(4.69328, abs=1e-5)
    assert len(data.feature_names) == 64


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"size": 1}, "size should be a whole number of at least 2"),
        ({"size": 428}, "size should be at most 427, the height of the photographs"),
        ({"drop_flat": 1.0}, "drop_flat should be a share from 0 to below 1"),
        ({"whiten": 64}, "whiten should be at most 63, the rank of the patches"),
        ({"count": 0}, "count should be a whole number"),
        ({"seed": -1}, "seed should be a whole number"),
    ],
)
def test_settings_out_of_range_are_refused(setting, sentence):
    with pytest.raises(ParameterError, match=sentence):
        natural_patches(**{"count": 200, **setting})


def test_callers_random_state_is_untouched(random_state):
    before = random_state()
    natural_patches(count=50)
    digits()
    assert random_state() == before
