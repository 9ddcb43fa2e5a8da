"""The table of R-hat: each constructed pattern of chains is called by its name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats

import probae as pa
from probae import priors
from probae.analysis.mixing import Pattern
from probae.errors import DataError
from probae.inference.assignment import signed_permutation
from probae.linalg import haar_rotation

CHAINS, DRAWS = 4, 300


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def haar(latents, *batch, seed=0):
    count = torch.Size(batch).numel()
    return haar_rotation(latents, torch.Generator().manual_seed(seed), count).view(*batch, latents, latents)


def independent(seed=0):
    """Independent draws about loadings of three factors of six features, all in one frame."""
    return normal(6, 3, seed=5) + 0.1 * normal(CHAINS, DRAWS, 6, 3, seed=seed)


def signs(*batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(*batch, 3, generator=generator).argsort(-1)
    return signed_permutation(order, torch.randint(0, 2, (*batch, 3), generator=generator).double() * 2 - 1)


def test_a_frame_for_each_chain(sampled):
    found = pa.mixing(sampled(independent() @ haar(3, CHAINS).unsqueeze(1)))
    assert found.pattern is Pattern.FRAMES_OF_CHAINS
    assert found.raw.worst_r_hat > 1.5
    # independent draws: R-hat - 1 is chi-square with 3 or so degrees over twice their number, 1200
    assert max(found.covariance.worst_r_hat, found.rotated.worst_r_hat) < 1.01
    assert found.permuted.worst_r_hat > 1.5
    assert "The axes are a convention" in found.meaning


def test_a_frame_for_each_draw_is_a_flat_orbit(sampled):
    found = pa.mixing(sampled(independent() @ haar(3, CHAINS, DRAWS)))
    assert found.pattern is Pattern.FLAT_ORBIT
    assert found.raw.worst_r_hat < 1.01
    # the mean of 1200 random rotations is of length 1 / sqrt(1200)
    assert found.raw_mean < 0.1
    assert found.aligned_mean > 0.9
    assert "no estimate" in found.meaning


def test_signs_and_order_for_each_draw_of_an_identified_model_are_no_orbit(sampled):
    """Raw loadings mix over signs and order, which is all that Laplace factors leave free: not over rotations."""
    found = pa.mixing(sampled(independent() @ signs(CHAINS, DRAWS, seed=2), codes=priors.Laplace()))
    assert found.raw.mixed
    assert found.raw_mean < 0.1
    assert found.pattern is Pattern.SIGNED_PERMUTATIONS
    assert "average draws after signs and order are matched" in found.meaning


def test_draws_in_many_frames_that_no_rotation_brings_together_are_not_in_one_frame():
    """Raw loadings mix and their mean is small, but rotated ones do not agree: there is no frame to speak of."""
    orbit = pa.mixing(independent() @ haar(3, CHAINS, DRAWS))
    apart = pa.mixing(independent() @ haar(3, CHAINS).unsqueeze(1)).raw
    found = replace(orbit, rotated=apart)
    assert found.raw.mixed
    assert not found.rotated.mixed
    assert found.pattern is Pattern.UNCLEAR


def test_signs_and_order_for_each_chain(sampled):
    run = sampled(independent() @ signs(CHAINS, seed=2).unsqueeze(1), codes=priors.Laplace())
    found = pa.mixing(run)
    assert found.pattern is Pattern.SIGNED_PERMUTATIONS
    assert found.raw.worst_r_hat > 1.5
    assert found.permuted.worst_r_hat < 1.01
    assert "prior or the sampler" not in found.meaning
    gaussian = pa.mixing(sampled(run.draws["loadings"]))
    assert gaussian.pattern is Pattern.SIGNED_PERMUTATIONS
    assert "the prior or the sampler holds them" in gaussian.meaning


def test_frames_of_an_identified_model_are_modes(sampled):
    found = pa.mixing(sampled(independent() @ haar(3, CHAINS).unsqueeze(1), codes=priors.Laplace()))
    assert found.pattern is Pattern.FRAME_SWITCH
    assert "several modes" in found.meaning


def test_one_frame(sampled):
    assert pa.mixing(sampled(independent())).pattern is Pattern.ONE_FRAME
    assert "no alignment is needed" in pa.mixing(sampled(independent(), codes=priors.Laplace())).meaning


def test_no_verdict_where_invariants_have_not_converged(sampled):
    apart = independent()
    apart[0] *= 1.5  # another scale: W W' differs
    found = pa.mixing(sampled(apart @ haar(3, CHAINS).unsqueeze(1)))
    assert found.pattern is Pattern.NOT_CONVERGED
    assert "no verdict" in found.meaning
    few = pa.mixing(sampled(independent()[:, :80]))  # 320 draws are not worth 400
    assert few.pattern is Pattern.NOT_CONVERGED


def test_bare_draws_have_no_group_and_no_noise():
    found = pa.mixing(independent())
    assert found.group is None
    assert found.noise is None
    assert found.pattern is Pattern.ONE_FRAME


def test_the_numbers_are_those_of_arviz(sampled):
    run = sampled(independent() @ haar(3, CHAINS).unsqueeze(1))
    found = pa.mixing(run)
    values = run.draws["loadings"].numpy()[:, :, 4, 1]
    place = found.raw.labels.index("4 on z[1]")
    assert float(found.raw.r_hat[place]) == pytest.approx(float(array_stats.rhat(values)), rel=1e-12)
    assert float(found.raw.bulk[place]) == pytest.approx(float(array_stats.ess(values)), rel=1e-12)
    tail = float(array_stats.ess(values, method="tail", prob=(0.05, 0.95)))
    assert float(found.raw.tail[place]) == pytest.approx(tail, rel=1e-12)
    W = run.draws["loadings"]
    pair = found.covariance.labels.index("4, 2")
    product = (W @ W.mT)[:, :, 4, 2]
    assert torch.allclose(found.covariance.draws[..., pair], product, atol=1e-13)


def test_what_never_varies_has_no_say(sampled):
    W = independent()
    W[..., 2, :] = 0.0
    found = pa.mixing(sampled(W))
    assert bool(found.noise.r_hat.isnan().all())  # the noise of these draws is 1 throughout
    assert found.noise.worst_r_hat == 1.0
    assert found.pattern is Pattern.ONE_FRAME
    assert bool(found.raw.r_hat[6:9].isnan().all())


def test_many_numbers_are_thinned():
    W = 1 + 0.1 * normal(2, 20, 40, 2)
    found = pa.mixing(W)
    assert (found.covariance.total, len(found.covariance.labels)) == (820, 200)
    pairs = [label.split(", ") for label in found.covariance.labels]
    for column in (0, 77, 199):
        i, j = map(int, pairs[column])
        product = (W[:, :, i] * W[:, :, j]).sum(-1)
        assert torch.allclose(found.covariance.draws[..., column], product, atol=1e-13)


def test_print_has_the_rows_side_by_side(sampled):
    names = tuple("abcdef")
    text = str(pa.mixing(sampled(independent() @ haar(3, CHAINS).unsqueeze(1), names=names)))
    lines = text.splitlines()
    assert lines[0] == "Mixing of 4 chains of 300 draws; Gaussian factors: O(3) is free"
    assert [line[2:25].strip() for line in lines[2:7]] == [
        "W as drawn",
        "W W'",
        "noise variances",
        "W, signs and order matc",
        "W, rotated (Procrustes)",
    ]
    assert lines[-1].startswith("Each chain in a frame of its own: ")
    assert np.all([len(line) < 120 for line in lines[:-1]])


def test_isotropic_noise_is_one_number(sampled):
    run = sampled(independent(), noise_variance=1 + 0.1 * normal(CHAINS, DRAWS, seed=8))
    assert pa.mixing(run).noise.labels == ("all features",)


def test_too_few_draws_are_refused():
    with pytest.raises(DataError, match="at least 4 draws of each chain, got 3"):
        pa.mixing(normal(4, 3, 5, 2))


def test_a_single_chain_is_judged_by_its_halves():
    still = independent()[:1]
    drifting = still.clone()
    drifting[:, 150:] *= 1.5
    assert pa.mixing(torch.cat([still, still], 1)).covariance.worst_r_hat < 1.02
    found = pa.mixing(drifting)
    assert found.covariance.worst_r_hat > 1.5
    assert found.pattern is Pattern.NOT_CONVERGED
    with pytest.raises(DataError, match="at least 8 draws of each chain, got 7"):
        pa.mixing(still[:, :7])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probae.errors.ConvergenceWarning")
def test_chains_of_pupils_in_frames_of_their_own_are_one_after_alignment():
    """Three factors of Holzinger and Swineford's nine tests, sampled without the orthogonal move."""
    x = pa.datasets.holzinger_swineford().x
    run = pa.fit(pa.FactorAnalysis(9, 3), x, pa.Gibbs(draws=6000, warmup=500, rotate=False))
    found = pa.mixing({name: run.draws[name][:, ::6] for name in ("loadings", "noise_variance")})
    assert found.raw.worst_r_hat > 1.5
    # the invariants are worth 600 independent draws: R-hat - 1 is about half of (chains - 1) / 600 for typical numbers,
    # and less than 3 times as much for the worst of some eighty
    assert found.rotated.worst_r_hat < 1.01
    assert found.covariance.worst_r_hat < 1.01
    assert found.pattern is Pattern.FRAMES_OF_CHAINS
    aligned, W = pa.align(run), run.draws["loadings"]
    z = normal(4, 6000, 5, 3)
    assert torch.allclose(aligned.loadings @ aligned.loadings.mT, W @ W.mT, rtol=0, atol=1e-10)
    fitted = aligned.scores(z) @ aligned.loadings.mT
    assert torch.allclose(fitted, z @ W.mT, rtol=0, atol=1e-10)
