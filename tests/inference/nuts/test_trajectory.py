"""The compiled no-U-turn sampler on laws that are known."""

import math

import numba
import numpy as np
import pytest
from scipy import stats

from probae.inference.nuts import NUTS, sampler
from probae.inference.nuts.kernel import DENSITY, Target
from probae.inference.nuts.metric import affine_of, inverse, shrunk, whiten
from probae.inference.nuts.sampler import Chains, run
from probae.inference.nuts.trajectory import Affine, advance

SIZE = 5


@numba.njit([DENSITY], error_model="numpy")
def normal(theta, gradient, precision, target):
    """Log density of N(0, P^{-1}), P in the place of the scatter."""
    value = 0.0
    for i in range(len(theta)):
        gradient[i] = 0.0
        for j in range(len(theta)):
            gradient[i] -= target.scatter[i, j] * theta[j]
        value += 0.5 * gradient[i] * theta[i]
    return value


@numba.njit([DENSITY], error_model="numpy")
def log_gamma(theta, gradient, precision, target):
    """Log density of the logarithm of gamma variables, their shapes in the place of the counts."""
    value = 0.0
    for i in range(len(theta)):
        gradient[i] = target.counts[i] - math.exp(theta[i])
        value += target.counts[i] * theta[i] - math.exp(theta[i])
    return value


def target(counts=None, scatter=None):
    empty, none = np.zeros((0, 0)), np.zeros(0, dtype=np.int64)
    counts = np.zeros(0) if counts is None else counts
    scatter = empty if scatter is None else scatter
    return Target(none, empty, empty, counts, empty, empty, empty, none, empty, scatter, empty)


def covariance():
    root = np.random.default_rng(1).standard_normal((SIZE, SIZE))
    return root @ root.T + 0.05 * np.eye(SIZE)


def chains_of(count=4, seed=0, guess=None):
    known = covariance()
    given = target(scatter=np.linalg.inv(known))
    guess = np.eye(SIZE) if guess is None else guess
    generator = np.random.default_rng(seed)
    theta = generator.standard_normal((count, SIZE))
    return Chains(normal, given, theta, np.ones((count, 1, 1)), guess, generator)


def test_moments_of_a_normal_law():
    found = run(chains_of(), NUTS(4000, 300, 4, 0.8, 10))
    draws, known = found.theta.reshape(-1, SIZE), covariance()
    # N draws of the no-U-turn sampler on a law made round are worth at least N / 2
    worth = len(draws) / 2
    assert np.all(np.abs(draws.mean(0)) < 4 * np.sqrt(known.diagonal() / worth))
    np.testing.assert_allclose(draws.std(0), np.sqrt(known.diagonal()), rtol=4 / np.sqrt(2 * worth))
    correlation = np.corrcoef(draws.T)
    expected = known / np.sqrt(np.outer(known.diagonal(), known.diagonal()))
    np.testing.assert_allclose(correlation, expected, rtol=0, atol=4 / np.sqrt(worth))
    assert not found.statistics["diverging"].any()
    assert found.statistics["acceptance_rate"].mean() == pytest.approx(0.8, abs=0.08)


SHAPES = np.array([0.7, 1.0, 3.0])
MANY = 20_000


def moved(step, depths, target_shapes=SHAPES, moves=3):
    """Chains that start in the law of SHAPES, after a few moves."""
    generator = np.random.default_rng(4)
    xi = np.log(generator.gamma(SHAPES, size=(MANY, 3)))
    draws, told = np.empty((moves, MANY, 3)), np.empty((moves, MANY, 7))
    averages = np.array([0.0, math.log(step), 0.0, 0.0, 0.0])
    affine = Affine(np.zeros(3), np.ones(3), np.zeros(0), np.zeros((0, 3)))
    precision, given = np.ones((MANY, 1, 1)), target(counts=np.asarray(target_shapes, dtype=float))
    advance(log_gamma, xi, depths, False, 0.8, averages, affine, precision, given, generator, draws, told)
    return xi, told


def levels(xi):
    """Level of a Kolmogorov-Smirnov test of each coordinate against the law of SHAPES."""
    return [
        stats.kstest(np.exp(column), stats.gamma(shape).cdf).pvalue
        for column, shape in zip(xi.T, SHAPES, strict=True)
    ]


@pytest.mark.parametrize(("step", "depths"), [(0.3, 10), (1.2, 10), (0.9, 2)])
def test_every_move_leaves_the_law_as_it_is(step, depths):
    """Chains that start in a skewed law stay in it, with short and long steps and with trees cut off."""
    xi, told = moved(step, depths)
    assert told[..., 2].mean() < 0.98 or step < 0.5  # steps long enough for energies to matter
    assert told[..., 3].max() == depths or depths > 2
    assert min(levels(xi)) > 1e-4


def test_a_law_off_by_a_tenth_would_be_seen():
    """The test above has power: a kernel for shapes larger by a tenth moves the chains away from the law."""
    xi, _ = moved(0.9, 10, target_shapes=1.1 * SHAPES, moves=5)
    assert min(levels(xi)) < 1e-8


def test_results_do_not_depend_on_how_many_moves_a_call_makes(monkeypatch):
    settings = NUTS(40, 30, 3, 0.8, 8)
    whole = run(chains_of(3), settings)
    monkeypatch.setattr(sampler, "SLICE", 1e-9)  # one move a call
    parts = run(chains_of(3), settings)
    assert (whole.theta == parts.theta).all()


def test_control_c_keeps_the_draws_so_far(monkeypatch):
    calls = []

    def once(*arguments):
        calls.append(arguments)
        if len(calls) > 26:
            raise KeyboardInterrupt
        advance(*arguments)

    monkeypatch.setattr(sampler, "SLICE", 1e-9)
    monkeypatch.setattr(sampler, "advance", once)
    found = run(chains_of(2), NUTS(50, 20, 2, 0.8, 8))
    assert found.interrupted
    assert found.theta.shape == (2, 6, SIZE)
    calls[:] = [None] * 10
    with pytest.raises(KeyboardInterrupt):
        run(chains_of(2), NUTS(50, 40, 2, 0.8, 8))


def test_control_c_before_the_first_draw_is_passed_on(monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(sampler, "advance", stop)
    with pytest.raises(KeyboardInterrupt):
        run(chains_of(2), NUTS(5, 5, 2, 0.8, 8))


def test_a_wall_is_a_divergence():
    given = target(counts=np.full(2, 1.0))
    xi, draws, told = np.full((1, 2), 3.0), np.empty((5, 1, 2)), np.empty((5, 1, 7))
    affine = Affine(np.zeros(2), np.ones(2), np.zeros(0), np.zeros((0, 2)))
    averages = np.array([0.0, math.log(100.0), 0.0, 0.0, 0.0])
    generator = np.random.default_rng(0)
    advance(log_gamma, xi, 5, False, 0.8, averages, affine, np.ones((1, 1, 1)), given, generator, draws, told)
    assert told[..., 5].all()
    assert (draws == 3.0).all()


def test_the_map_has_the_covariance_it_is_made_of():
    known = covariance() * np.outer([1, 1e3, 1, 1e-3, 1], [1, 1e3, 1, 1e-3, 1])
    affine = affine_of(np.arange(5.0), known)
    xi = np.random.default_rng(0).standard_normal((7, SIZE))
    np.testing.assert_allclose(whiten(affine, inverse(affine, xi)), xi, rtol=1e-9, atol=1e-9)
    matrix = inverse(affine, np.eye(SIZE)) - affine.origin
    implied = np.linalg.solve(matrix.T, np.linalg.solve(matrix.T, known).T)
    values = np.linalg.eigvalsh(implied)  # of the law of xi: within the factor 2 that is left to the sampler
    assert values.min() > 0.5 - 1e-9
    assert values.max() < 2 + 1e-9


def test_shrinking_is_the_mean_of_two_covariances():
    draws = np.random.default_rng(0).standard_normal((5, SIZE))
    expected = 0.5 * np.cov(draws.T, bias=True) + 0.5 * covariance()
    np.testing.assert_allclose(shrunk(draws, covariance()), expected, rtol=1e-12)
    halves = 0.5 * draws.var(0) + 0.5 * covariance().diagonal()
    np.testing.assert_allclose(shrunk(draws, covariance().diagonal()), halves, rtol=1e-12)
