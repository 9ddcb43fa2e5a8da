"""Alignment of draws: what it leaves unchanged, what it brings back, and that each optimum is one."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probae.inference import aligned as al
from probae.inference.alignment_frame import Sample
from probae.inference.assignment import Columns, assign_columns, signed_permutation
from probae.linalg import haar_rotation
from probae.matching import match_columns
from probae.rotation.orthomax import orthomax_gradient, orthomax_value

ROTATING = [al.OrthogonalProcrustes(), al.OrthogonalProcrustes(weighted=False)]
VARIMAX = [al.VarimaxPermutations(), al.VarimaxPermutations(normalize=False), al.PivotMatch()]
PERMUTING = [al.SignedPermutations()]
ALIGNERS = [*ROTATING, *VARIMAX, *PERMUTING]
every = pytest.mark.parametrize("aligner", ALIGNERS, ids=repr)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def haar(latents, *batch, seed=0):
    count = int(np.prod(batch))
    return haar_rotation(latents, torch.Generator().manual_seed(seed), count).view(*batch, latents, latents)


def permutations(latents, *batch, seed=0):
    random = np.random.default_rng(seed)
    shape = (*batch, latents)
    order = random.permuted(np.broadcast_to(np.arange(latents), shape), axis=-1)
    signs = random.choice([-1.0, 1.0], shape)
    return signed_permutation(torch.from_numpy(order.copy()), torch.from_numpy(signs))


def simple(features=9, latents=3):
    """Loadings of simple structure, columns of different sizes."""
    W = torch.zeros(features, latents, dtype=torch.float64)
    for d in range(features):
        W[d, d % latents] = 1.0 + 0.5 * (d % latents) + 0.1 * d
    return W


def posterior(chains=4, draws=60, features=9, latents=3, spread=0.1, seed=0):
    """Draws about simple loadings, all in one frame."""
    return simple(features, latents) + spread * normal(chains, draws, features, latents, seed=seed)


def turned(loadings, aligner, seed=0):
    """Put each draw into a frame of its own, of the group the aligner is for."""
    chains, draws, _, latents = loadings.shape
    change = permutations if isinstance(aligner, al.SignedPermutations) else haar
    return loadings @ change(latents, chains, draws, seed=seed)


@every
def test_covariance_and_fitted_values_do_not_change(aligner):
    W, z = turned(posterior(), aligner), normal(4, 60, 5, 3, seed=1)
    R = aligner.rotations(W)
    assert R.shape == (4, 60, 3, 3)
    A = W @ R
    # sums of 3 products of numbers up to 10: rounding about 1e-14
    assert torch.allclose(A @ A.mT, W @ W.mT, rtol=0, atol=1e-12)
    assert torch.allclose(z @ R @ A.mT, z @ W.mT, rtol=0, atol=1e-12)


def copies(seed, latents, more, aligner):
    """Return a random matrix, and 18 copies of it in three chains, each in a frame of its own."""
    W = normal(latents + more, latents, seed=seed)
    return W, turned(W.expand(3, 6, *W.shape), aligner, seed)


SIZES = {"seed": st.integers(0, 10**6), "latents": st.integers(1, 5), "more": st.integers(0, 6)}


@pytest.mark.parametrize("aligner", [*ROTATING, *PERMUTING], ids=repr)
@settings(max_examples=100, deadline=None)
@given(**SIZES)
def test_copies_in_other_frames_come_back_to_one(aligner, seed, latents, more):
    W, found = copies(seed, latents, more, aligner)
    found = found @ aligner.rotations(found)
    distance = (found - found[0, 0]).square().sum((-2, -1)).sqrt() / W.norm()
    # the polar factor is exact to 1e-16 times the condition of W' Omega T, the square of that of W; what it gets
    # wrong are directions in which W is small, so one power of the condition remains
    assert float(distance.max()) < 1e-12 * max(1.0, float(torch.linalg.cond(W)) / 100)


@pytest.mark.parametrize("aligner", VARIMAX, ids=repr)
@settings(max_examples=5, deadline=None)
@given(**SIZES)
def test_copies_come_back_to_one_varimax_frame(aligner, seed, latents, more):
    W, found = copies(seed, latents, more, aligner)
    found = found @ aligner.rotations(found)
    distance = (found - found[0, 0]).square().sum((-2, -1)).sqrt() / W.norm()
    # each stops at a slope of 1e-12; the curvature of a maximum may be 1e-4 of the criterion
    assert float(distance.max()) < 1e-8


@every
def test_aligning_again_changes_nothing(aligner):
    W = turned(posterior(), aligner)
    A = W @ aligner.rotations(W)
    # the reference settles to 1e-11, and each step leaves a hundredth or so of what the one before did
    assert torch.allclose(aligner.rotations(A), torch.eye(3).double().expand(4, 60, 3, 3), atol=1e-9)


@every
def test_the_answer_does_not_depend_on_the_frames_of_the_draws(aligner):
    W = posterior()
    one, two = turned(W, aligner, seed=1), turned(W, aligner, seed=2)
    assert torch.allclose(one @ aligner.rotations(one), two @ aligner.rotations(two), rtol=0, atol=1e-8)


@every
def test_the_answer_does_not_depend_on_the_units_of_x(aligner):
    if not getattr(aligner, "normalize", True):
        pytest.skip("asked to take the rows as they are")
    W, units = turned(posterior(), aligner), torch.logspace(-100, 100, 9, dtype=torch.float64).unsqueeze(1)
    assert torch.allclose(aligner.rotations(W * units), aligner.rotations(W), rtol=0, atol=1e-8)


@every
def test_chains_of_other_frames_are_one_chain_after_alignment(aligner):
    """Each chain has a frame of its own: aligned, the chain means differ by their standard errors alone."""
    W = posterior(draws=200)
    change = permutations(3, 4, seed=3) if isinstance(aligner, al.SignedPermutations) else haar(3, 4, seed=3)
    W = W @ change.unsqueeze(1)
    A = W @ aligner.rotations(W)
    means = A.mean(1)
    error = A.std(1) / 200**0.5
    # 27 loadings, 4 chains: the largest of 108 normal deviates is below 5 with probability 1 - 6e-5
    assert float(((means - means.mean(0)) / error).abs().max()) < 5
    assert float(W.mean((0, 1)).norm()) < 0.9 * float(A.mean((0, 1)).norm())


@pytest.mark.parametrize("aligner", [*VARIMAX, *PERMUTING], ids=repr)
def test_simple_structure_comes_back_up_to_signs_and_order(aligner):
    W = turned(posterior(spread=0.05, draws=400), aligner)
    mean = (W @ aligner.rotations(W)).mean((0, 1))
    found = match_columns(simple(), mean).matched
    # the frame varimax finds in a noisy draw is off by angles of .05 / 3 or so, whose mean over draws is of the
    # second order; the error of 1600 draws is .05 / 40
    assert torch.allclose(found, simple(), rtol=0, atol=0.02)
    assert bool((mean.sum(0) > 0).all())


def test_procrustes_is_at_its_optimum():
    """For each draw T' Omega W R is symmetric and positive semi-definite."""
    W = turned(posterior(spread=0.5), ROTATING[0])
    sample = Sample.of(W)
    target, weights = ROTATING[0].reference(sample)
    R = ROTATING[0].rotations(W).flatten(0, 1)
    product = target.mT @ (weights.unsqueeze(-1) * (sample.rows @ R))
    size = float(product.abs().max())
    assert torch.allclose(product, product.mT, rtol=0, atol=1e-13 * size)
    assert float(torch.linalg.eigvalsh(product).min()) > -1e-13 * size


def test_the_reference_is_the_mean_of_half_of_the_aligned_draws():
    W = turned(posterior(spread=0.5), ROTATING[0])
    sample = Sample.of(W)
    target, weights = ROTATING[0].reference(sample)
    A = sample.rows.view(W.shape) @ ROTATING[0].rotations(W)
    assert torch.allclose(A[:, ::2].mean((0, 1)), target, rtol=0, atol=1e-9)
    changed = W.clone()
    changed[:, 1::2] = normal(
        4, 30, 9, 3, seed=9
    )  # the other half, of the same rms or nearly, has no say in it
    units = W.square().mean((0, 1, 3)).sqrt() / changed.square().mean((0, 1, 3)).sqrt()
    other, _ = ROTATING[0].reference(Sample.of(changed))
    assert torch.allclose(other / units.unsqueeze(1), target, rtol=0, atol=1e-8)


def test_weights_are_one_over_the_variance_about_the_mean():
    W = posterior(spread=0.3)
    W[:, :, 4] += normal(4, 60, 3, seed=5)  # a row that is much noisier
    sample = Sample.of(turned(W, ROTATING[0]))
    target, weights = ROTATING[0].reference(sample)
    A = sample.half @ al.procrustes(sample.half, target, weights)
    variance = (A - target).square().mean((0, 2))
    assert torch.allclose(weights * variance, (weights * variance).mean().expand(9), rtol=1e-6)
    assert float(weights[4]) < 0.5 * float(weights.median())


def test_the_frame_of_procrustes_is_principal():
    sample = Sample.of(turned(posterior(), ROTATING[0]))
    target, weights = ROTATING[0].reference(sample)
    product = target.mT @ (weights.unsqueeze(-1) * target)
    size = product.diagonal()
    assert torch.allclose(product, torch.diag(size), rtol=0, atol=1e-12 * float(size.max()))
    assert bool((size[:-1] > size[1:]).all())
    largest = target.abs().argmax(0, keepdim=True)
    assert bool((target.gather(0, largest) > 0).all())


@pytest.mark.parametrize("aligner", ROTATING, ids=repr)
def test_axes_of_equal_size_stay_where_they_are(aligner):
    """Loadings with W'W = I have no principal directions: a second alignment must not turn them."""
    W = haar(3, 1, seed=4)[0].repeat(3, 1) + 0
    copies = turned(W.expand(2, 8, 9, 3), aligner)
    A = copies @ aligner.rotations(copies)
    assert torch.allclose(aligner.rotations(A), torch.eye(3).double().expand(2, 8, 3, 3), atol=1e-7)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), latents=st.integers(1, 4), mixed=st.booleans())
def test_assignment_is_the_best_of_all_signed_permutations(seed, latents, mixed):
    random = np.random.default_rng(seed)
    classes = tuple(random.integers(0, 2, latents).tolist()) if mixed else (0,) * latents
    flips = tuple(random.choice([True, False], latents).tolist()) if mixed else (True,) * latents
    # classes share whether they flip, as laws that are equal do
    flips = tuple(flips[classes.index(label)] for label in classes)
    similarity = torch.from_numpy(random.standard_normal((1, latents, latents)))
    order, signs = assign_columns(similarity, Columns(classes, flips))

    def total(order, signs):
        return sum(signs[k] * float(similarity[0, k, order[k]]) for k in range(latents))

    best = max(
        total(order, signs)
        for order in itertools.permutations(range(latents))
        if all(classes[k] == classes[order[k]] for k in range(latents))
        for signs in itertools.product((1.0, -1.0), repeat=latents)
        if all(flips[k] or signs[k] == 1.0 for k in range(latents))
    )
    assert all(classes[k] == classes[int(order[0, k])] for k in range(latents))
    assert total(order[0].tolist(), signs[0].tolist()) == pytest.approx(best, abs=1e-12)


def test_a_batch_is_its_members_one_by_one():
    similarity = normal(300, 6, 6)
    order, signs = assign_columns(similarity, Columns.alike(6))
    for k in range(300):
        one, sign = assign_columns(similarity[k : k + 1], Columns.alike(6))
        assert torch.equal(one[0], order[k])
        assert torch.equal(sign[0], signs[k])


def test_signed_permutations_are_nearest_among_all_of_them():
    """For two columns, each draw is compared in all 8 frames with the mean of half of the aligned draws."""
    W = turned(posterior(chains=1, draws=40, features=5, latents=2, spread=0.6), al.SignedPermutations())
    A = W @ al.SignedPermutations().rotations(W)
    sample = Sample.of(A)
    target = sample.half.mean(0)
    weights = al.precisions((sample.half - target).square().mean((0, 2)))
    frames = torch.stack(
        [
            signed_permutation(torch.tensor(order), torch.tensor(signs, dtype=torch.float64))
            for order in itertools.permutations(range(2))
            for signs in itertools.product((1.0, -1.0), repeat=2)
        ]
    )
    others = sample.rows.unsqueeze(1) @ frames
    distance = ((others - target).square() * weights.unsqueeze(-1)).sum((-2, -1))
    assert torch.equal(distance.argmin(1), torch.zeros(40, dtype=torch.long))


def test_columns_of_other_laws_keep_their_places_and_signs():
    """Columns 0 and 1 are of one symmetric law, 2 is of another that is not symmetric."""
    columns = Columns((0, 0, 1), (True, True, False))
    W = posterior()
    change = torch.eye(3).double()[[1, 0, 2]] * torch.tensor([-1.0, 1.0, 1.0])
    W[:, ::3] = W[:, ::3] @ change
    R = al.SignedPermutations(columns).rotations(W)
    assert torch.equal(R[..., 2, 2], torch.ones(4, 60).double())
    A = W @ R
    assert float((A - A.mean((0, 1))).abs().max()) < 0.1 * 6  # six standard deviations of the draws
    flipped = W.clone()
    flipped[..., 2] *= -1
    assert torch.equal(
        al.SignedPermutations(columns).rotations(flipped)[..., 2, 2], torch.ones(4, 60).double()
    )


def test_every_draw_is_at_a_maximum_of_varimax():
    W = turned(posterior(spread=0.2), ROTATING[0])
    sample = Sample.of(W)
    turn = al.varimax_frames(W, True)
    rows = sample.rows @ turn.flatten(0, 1)
    slope = rows.mT @ orthomax_gradient(rows, 1.0)
    slope = slope - slope.mT
    size = float(sample.rows.square().sum((-2, -1)).square().mean())
    assert float(slope.abs().max()) < 4e-12 * size  # descent stops at 1e-12
    for seed in range(20):
        other = torch.linalg.matrix_exp(0.05 * (lambda s: s - s.mT)(normal(3, 3, seed=seed)))
        assert bool((orthomax_value(rows @ other, 1.0) > orthomax_value(rows, 1.0)).all())


@every
@pytest.mark.parametrize("shape", [(1, 1, 4, 2), (3, 1, 4, 1), (1, 7, 2, 3), (2, 5, 1, 1)])
def test_few_draws_one_factor_and_more_factors_than_features(aligner, shape):
    W = normal(*shape)
    R = aligner.rotations(W)
    eye = torch.eye(shape[-1]).double().expand_as(R)
    assert torch.allclose(R @ R.mT, eye, rtol=0, atol=1e-12)


@every
def test_zero_loadings_and_zero_columns_do_no_harm(aligner):
    W = turned(posterior(), aligner)
    W[..., 3, :] = 0.0
    zeros = torch.zeros(2, 4, 5, 3, dtype=torch.float64)
    empty = torch.cat([posterior(latents=2), torch.zeros(4, 60, 9, 1).double()], -1)
    for loadings in (W, zeros, empty):
        R = aligner.rotations(loadings)
        eye = torch.eye(3).double().expand_as(R)
        assert torch.allclose(R @ R.mT, eye, rtol=0, atol=1e-12)
