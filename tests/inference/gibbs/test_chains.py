"""A sweep leaves the joint law of parameters and rows alone (Geweke, 2004), and a wrong one does not."""

import numpy as np
import pytest
import torch

from probae.inference.gibbs import chains as chains_module
from probae.inference.gibbs.group_move import move_frame, random_frames, scale_columns
from probae.inference.gibbs.scores import remainder
from probae.parameter_priors import Flat, Normal

# not rotation invariant: factors are stretched one by one
COLUMNS = Normal(torch.tensor([[1.0, 0.5]]).double())
CASES = {
    "more rows than features": {"rows": 8, "features": 4, "latents": 2},
    "many rows": {"rows": 40, "features": 3, "latents": 2},
    "fewer rows than features": {"rows": 3, "features": 5, "latents": 2},
    "as many rows as features": {"rows": 4, "features": 4, "latents": 2},
    "fewer rows than factors": {"rows": 2, "features": 4, "latents": 3},
    "more factors than features": {"rows": 5, "features": 2, "latents": 3},
    "isotropic noise": {"rows": 6, "features": 4, "latents": 2, "isotropic": True},
    "flat mean": {"rows": 6, "features": 4, "latents": 2, "mean": Flat()},
    "flat mean, fewer rows than features": {"rows": 3, "features": 5, "latents": 2, "mean": Flat()},
    "normal mean": {"rows": 6, "features": 4, "latents": 2, "mean": Normal(0.7, 0.5)},
    "normal mean, fewer rows than features": {
        "rows": 3,
        "features": 5,
        "latents": 2,
        "mean": Normal(0.7, 0.5),
    },
    "no random frame": {"rows": 6, "features": 4, "latents": 2, "turn": False},
    "factors of different scale": {"rows": 6, "features": 4, "latents": 2, "loadings": COLUMNS},
}


@pytest.mark.parametrize("name", CASES)
def test_sweeps_and_new_rows_leave_the_prior_as_it_is(name, joint_test, Setting):
    """Twenty functions in thirteen cases: |z| > 4.5 has probability 2e-3 in all, and the seeds are fixed."""
    assert joint_test(Setting(**CASES[name])) < 4.5


def wrong_exponent(loadings, square, variance, count, generator, *, turn=True):
    return move_frame(loadings, square, variance, count + loadings.shape[-2], generator, turn=turn)


def wrong_column_exponent(loadings, square, variance, count):
    return scale_columns(loadings, square, variance, count + loadings.shape[-2])


def wrong_freedom(generator, lead, latents, freedom):
    return remainder(generator, lead, latents, freedom + 4)


@pytest.mark.parametrize(
    ("part", "planted", "case"),
    [
        ("move_frame", wrong_exponent, "more rows than features"),
        ("scale_columns", wrong_column_exponent, "factors of different scale"),
        ("remainder", wrong_freedom, "more rows than features"),
    ],
)
def test_planted_errors_are_caught(part, planted, case, joint_test, Setting, monkeypatch):
    """|A|^n in place of |A|^(n - D), and n in place of n - D degrees of freedom, at n = 8 or 6."""
    monkeypatch.setattr(chains_module, part, planted)
    assert joint_test(Setting(**CASES[case])) > 6


def test_a_prior_scale_off_by_a_tenth_is_caught(joint_test, Setting):
    """At n = 8, on averages over features."""

    def change(chains):
        chains.prior = Normal(1.1)

    assert joint_test(Setting(**CASES["more rows than features"]), change=change) > 6


def test_frames_are_orthogonal_and_have_the_moments_of_haar_measure():
    """E R = 0, E R_ij^2 = 1/k, E R_ij^4 = 3 / (k (k + 2)), each within five standard errors."""
    frames = random_frames(np.random.default_rng(0), (20_000,), 3)
    torch.testing.assert_close(
        frames.mT @ frames, torch.eye(3).double().expand_as(frames), rtol=0, atol=1e-12
    )
    assert frames.mean(0).abs().max() < 5 * (1 / 3 / 20_000) ** 0.5
    assert (frames.square().mean(0) - 1 / 3).abs().max() < 5 * (1 / 5 / 20_000) ** 0.5
    assert (frames.pow(4).mean(0) - 1 / 5).abs().max() < 5 * (1 / 9 / 20_000) ** 0.5
