"""An accelerated ascent: never down, soon there, and honest about how it ended."""

import math

import pytest
import torch

from probae.inference.acceleration import Ascent, Point


class Quadratic:
    """-x'Hx/2 climbed by x - r H x, slow in the flat directions."""

    def __init__(self, curvatures, rate=None):
        self.curvatures = torch.tensor(curvatures, dtype=torch.float64)
        self.rate = 1.0 / float(self.curvatures.max()) if rate is None else rate
        self.visited = []

    def evaluate(self, theta):
        slope = -self.curvatures * theta
        point = Point(theta, 0.5 * float(slope @ theta), slope, theta + self.rate * slope)
        self.visited.append(point.value)
        return point

    def bounded(self, start, step):
        return start + step

    def slope(self, point):
        return float(point.gradient.abs().max())

    def leap(self, point):
        return None


class Quartic(Quadratic):
    """-sum x^4: the plain step shrinks faster than the distance, so small steps do not mean arrival."""

    def evaluate(self, theta):
        slope = -4 * theta**3
        point = Point(theta, -float((theta**4).sum()), slope, theta + 0.05 * slope)
        self.visited.append(point.value)
        return point


class Deceiving(Quadratic):
    """The objective is finite on a narrow strip only, which accelerated steps leave."""

    def evaluate(self, theta):
        point = super().evaluate(theta)
        bad = float(theta.abs().max()) > 1.0 or abs(float(theta[0] - theta[1])) > 1.5
        return Point(theta, math.nan, point.gradient, point.following) if bad else point


def climb(problem, size, steps=500, tolerance=1e-12):
    ascent = Ascent(problem, torch.ones(size, dtype=torch.float64), tolerance)
    values = [ascent.point.value, *(point.value for _, point in zip(range(steps), ascent, strict=False))]
    return ascent, torch.tensor(values, dtype=torch.float64)


def test_a_quadratic_takes_as_many_steps_as_it_has_curvatures():
    """Plain steps would need about 1e4 times log(1e6) of them."""
    ascent, values = climb(Quadratic([1.0, 1e-1, 1e-2, 1e-3, 1e-4]), 5)
    assert ascent.converged
    assert len(values) <= 16
    assert ascent.point.value == pytest.approx(0.0, abs=1e-12)
    assert (values.diff() >= 0).all()


def test_a_flat_top_is_climbed_before_convergence_is_claimed():
    ascent, values = climb(Quartic([1.0]), 1)
    assert ascent.converged
    assert -values[-1] < 1e-9
    assert (values.diff() >= 0).all()


def test_steps_downhill_or_into_nowhere_are_refused():
    problem = Deceiving([1.0, 1e-3], rate=0.5)
    ascent, values = climb(problem, 2, steps=2000)
    assert values.isfinite().all()
    assert (values.diff() >= 0).all()
    assert ascent.converged
    assert ascent.point.value == pytest.approx(0.0, abs=1e-9)


def test_a_map_that_only_goes_down_ends_the_path_unconverged():
    ascent, values = climb(Quadratic([1.0], rate=-0.5), 1)
    assert len(values) == 1
    assert not ascent.converged


def test_running_out_of_steps_is_not_convergence():
    ascent, values = climb(Quadratic([1.0, 1e-2]), 2, steps=2)
    assert len(values) == 3
    assert not ascent.converged


def test_a_leap_is_taken_when_offered():
    class Leaping(Quadratic):
        def leap(self, point):
            return self.evaluate(torch.zeros_like(point.theta)) if point.value < 0 else None

    ascent, values = climb(Leaping([1.0, 1e-12, 1e-12, 1e-12], rate=1e-3), 4)
    assert values[-1] == 0.0
    assert ascent.converged
