"""The likelihood of an unmixing matrix: against the laws it comes from, and against its own derivatives."""

import math
from dataclasses import replace

import pytest
import torch

from probae.inference.relative_newton import ascend, precondition, slope_inside
from probae.inference.source_laws import Block, has_kink, source_law
from probae.inference.unmixing import UnmixingLikelihood
from probae.priors import (
    Gaussian,
    GeneralizedNormal,
    Laplace,
    Logistic,
    Scaled,
    SpikeSlab,
    StudentT,
)

LAWS = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "logistic": Logistic,
    "student": lambda: StudentT(3.5),
    "student-learnt": lambda: StudentT(5, learn=True),
    "power": lambda: GeneralizedNormal(0.7),
    "power-light": lambda: GeneralizedNormal(4.0),
    "power-learnt": lambda: GeneralizedNormal(1.5, learn=True),
    "scaled": lambda: Scaled(Laplace(), 2.0),
    "spike-slab": SpikeSlab,
}


@pytest.fixture(params=LAWS)
def law(request):
    """Each law there is a way to evaluate."""
    return LAWS[request.param]()


def block_of(sources, width=0.0):
    room = torch.empty(2, *sources.shape, dtype=torch.float64)
    return Block(sources, room[0], room[1], width, True)


def white_rows(count=700, latents=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, latents, generator=generator, dtype=torch.float64)
    return rows * rows[:, :1].abs().sqrt()  # dependent and heavy tailed: no gradient is near 0


def test_pieces_are_those_of_the_prior(law):
    """Sums over 1,000 entries up to 40 in size, in another order and by products before logarithms: 1e-12 of them."""
    sources = torch.cat([torch.linspace(-40, 40, 999, dtype=torch.float64), torch.tensor([1e-3])])[None]
    block = block_of(sources)
    sums = source_law(law)(block)
    expected = law.log_prob(sources).detach()
    assert sums[0] == pytest.approx(expected.sum().item(), rel=1e-12)
    assert torch.allclose(block.score, law.score(sources).detach(), rtol=1e-12, atol=1e-14)


def test_slope_is_the_derivative_of_the_score(law):
    """Central differences of step 1e-5 err by 1e-10 times a third derivative, away from kinks; AnySource uses 1e-3."""
    sources = torch.tensor([[-3.0, -0.7, 0.4, 1.9, 6.0]], dtype=torch.float64)
    block = block_of(sources)
    source_law(law)(block)
    step = 1e-5
    slope = (law.score(sources + step) - law.score(sources - step)).detach() / (2 * step)
    rough = 1e-3 if isinstance(law, SpikeSlab) else 1e-7
    assert torch.allclose(block.slope, slope, rtol=rough, atol=rough)


def test_rounded_laws_are_bounds_with_matching_derivatives(law):
    """r >= |s|: a rounded density is no larger, and its score and slope are its own derivatives."""
    if not has_kink(law):
        pytest.skip("this law has no kink")
    sources = torch.tensor([[-2.0, -0.05, 0.0, 0.02, 0.5]], dtype=torch.float64)
    width, step = 0.1, 1e-6

    def at(shift):
        block = block_of(sources + shift, width)
        values = [source_law(law)(block_of(s.view(1, 1) + shift, width))[0] for s in sources[0]]
        return torch.tensor(values, dtype=torch.float64), block

    values, block = at(0.0)
    exact = torch.tensor([source_law(law)(block_of(s.view(1, 1)))[0] for s in sources[0]])
    assert (values <= exact + 1e-12).all()
    source_law(law)(block)
    (above, high), (below, low) = at(step), at(-step)
    assert torch.allclose(block.score[0], (below - above) / (2 * step), rtol=1e-6, atol=1e-8)
    source_law(law)(high), source_law(law)(low)
    assert torch.allclose(block.slope, (high.score - low.score) / (2 * step), rtol=1e-6, atol=1e-6)


def test_gradient_is_the_derivative_along_relative_steps(law):
    """Against central differences of the likelihood in a random direction, shapes included."""
    white = white_rows()
    likelihood = UnmixingLikelihood(white, [law] * 3)
    generator = torch.Generator().manual_seed(1)
    unmixing = torch.eye(3, dtype=torch.float64) + 0.3 * torch.randn(
        3, 3, generator=generator, dtype=torch.float64
    )
    relative = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    point = likelihood.evaluate(unmixing, width=0.1)
    change = torch.ones_like(point.shapes)
    step, one = 1e-5, torch.eye(3, dtype=torch.float64)
    values = [
        likelihood.evaluate(
            (one + sign * step * relative) @ unmixing, point.shapes + sign * step * change, 0.1
        ).value
        for sign in (1, -1)
    ]
    slope = float((point.gradient * relative).sum() + point.shape_gradient @ change)
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_blocks_of_rows_change_nothing(monkeypatch):
    white = white_rows(1000)
    law = Logistic()
    whole = UnmixingLikelihood(white, [law] * 3).evaluate(torch.eye(3, dtype=torch.float64))
    monkeypatch.setattr("probae.inference.unmixing.BLOCK", 192)
    monkeypatch.setattr("probae.inference.unmixing.CURVATURE", 1000)  # every block but one is large enough
    parts = UnmixingLikelihood(white, [law] * 3).evaluate(torch.eye(3, dtype=torch.float64))
    assert parts.value == pytest.approx(whole.value, rel=1e-13)
    assert torch.allclose(parts.gradient, whole.gradient, atol=1e-13)
    assert torch.allclose(parts.curvature, whole.curvature, rtol=1e-12)


def test_unequal_laws_have_the_likelihood_of_their_columns():
    white = white_rows()
    laws = [Laplace(), Logistic(), StudentT(4)]
    point = UnmixingLikelihood(white, laws).evaluate(torch.eye(3, dtype=torch.float64))
    expected = sum(law.log_prob(column).mean() for law, column in zip(laws, white.T, strict=True))
    assert point.value == pytest.approx(float(expected), rel=1e-12)


def test_the_preconditioner_inverts_the_pairs():
    """h_ij E_ij + E_ji = G_ij for each pair, (1 + h_ii) E_ii = G_ii, where every pair is concave."""
    h = 1.1 + torch.rand(3, 3, dtype=torch.float64)
    point = UnmixingLikelihood(white_rows(), [Logistic()] * 3).evaluate(torch.eye(3, dtype=torch.float64))
    point = replace(point, curvature=h)
    right = torch.randn(3, 3, dtype=torch.float64)
    step = precondition(point, right.flatten()).view(3, 3)
    back = h * step + step.T
    assert torch.allclose(back, right, rtol=1e-9)


def test_ascent_never_falls_and_ends_without_a_slope():
    law = StudentT(4)
    likelihood = UnmixingLikelihood(white_rows(3000), [law] * 3)
    start = likelihood.evaluate(torch.eye(3, dtype=torch.float64))
    path = [start, *ascend(likelihood, start, 0.0, 1e-9, 200)]
    values = [point.value for point in path]
    assert slope_inside(path[-1]) < 1e-9
    # a mean of 3,000 x 3 terms of size 4 is known to a few times 1e-16 of itself
    assert all(later >= earlier - 1e-12 for earlier, later in zip(values, values[1:], strict=False))


def test_a_singular_matrix_has_no_likelihood():
    likelihood = UnmixingLikelihood(white_rows(), [Laplace()] * 3)
    assert likelihood.evaluate(torch.zeros(3, 3, dtype=torch.float64)).value == -math.inf


def test_far_rows_do_not_overflow():
    """|s| = 1e30 in a product of eight factors would be infinite: the logarithms are then taken one by one."""
    sources = torch.full((1, 16), 1e30, dtype=torch.float64)
    for law in (StudentT(5), Logistic(), Laplace()):
        sums = source_law(law)(block_of(sources))
        assert sums[0] == pytest.approx(float(law.log_prob(sources).sum()), rel=1e-12)


def test_a_source_of_zeros_has_no_score(law):
    block = block_of(torch.zeros(1, 4, dtype=torch.float64))
    assert math.isfinite(source_law(law)(block)[0])
    assert torch.equal(block.score, torch.zeros_like(block.score))
