"""Rules that look at eigenvalues alone, each against the arithmetic of its definition."""

import math

import numpy as np
import pytest
import torch

import probae as pa
from probae.factors.number import AccelerationFactor, EmpiricalKaiser, Kaiser


def with_eigenvalues(values, count):
    """Return the statistics of a correlation matrix with these eigenvalues, whose sum is their number."""
    p = len(values)
    # two eigenvectors with entries of one size per column make the diagonal constant: a Hadamard frame
    frame = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    assert p == 4
    return pa.SufficientStatistics.from_covariance(frame.T @ np.diag(values) @ frame, count=count)


@pytest.mark.parametrize(("values", "answer"), [([2.5, 1.2, 0.2, 0.1], 2), ([3.1, 0.5, 0.3, 0.1], 1)])
def test_kaiser_counts_eigenvalues_above_one(values, answer):
    judgement = pa.number_of_factors(with_eigenvalues(values, 50), rules=[Kaiser()]).judgements[0]
    assert judgement.values.numpy() == pytest.approx(values, abs=1e-12)
    assert judgement.answer == answer


def test_empirical_kaiser_by_hand():
    """With p = 4 and n = 100, (1 + sqrt(.04))^2 = 1.44.

    Shares left for the four eigenvalues are 4 / 4, 1.9 / 3, .6 / 2 and .3 / 1, so the thresholds are 1.44, then .912
    and less, which 1 replaces.
    """
    statistics = with_eigenvalues([2.1, 1.3, 0.3, 0.3], 100)
    judgement = pa.number_of_factors(statistics, rules=[EmpiricalKaiser()]).judgements[0]
    assert judgement.threshold.numpy() == pytest.approx([1.44, 1.0, 1.0, 1.0])
    assert judgement.answer == 2
    # with n = 4: (1 + 1)^2 = 4 is above the first eigenvalue, and the second is not asked
    small = pa.number_of_factors(
        with_eigenvalues([2.1, 1.3, 0.3, 0.3], 4), rules=[EmpiricalKaiser()]
    ).judgements[0]
    assert small.threshold[:2].numpy() == pytest.approx([4.0, 4 * 1.9 / 3])
    assert small.answer == 0


def test_acceleration_by_hand():
    """Second differences of 2.0, 1.6, .25, .15 are -.95 and 1.25: the third eigenvalue is the elbow."""
    statistics = with_eigenvalues([2.0, 1.6, 0.25, 0.15], 50)
    judgement = pa.number_of_factors(statistics, rules=[AccelerationFactor()]).judgements[0]
    assert judgement.values.numpy() == pytest.approx([-0.95, 1.25])
    assert judgement.answer == 2


def test_24_psychological_tests_have_the_published_eigenvalues(harman74):
    # eigen(Harman74.cor$cov)$values[1:8], R 4.2.2; five exceed 1
    known = [
        8.135444083,
        2.096040754,
        1.692604883,
        1.501834297,
        1.025204405,
        0.9429365174,
        0.901216945,
        0.815944895,
    ]
    judgement = pa.number_of_factors(harman74, rules=[Kaiser()]).judgements[0]
    assert judgement.values[:8].numpy() == pytest.approx(known, rel=1e-9)
    assert judgement.answer == 5


def test_eigenvalues_of_few_rows_come_from_the_rows():
    x = pa.datasets.linear_factors(12, 30, 2, seed=0).x
    judgement = pa.number_of_factors(x, rules=[Kaiser()]).judgements[0]
    dense = np.linalg.eigvalsh(np.corrcoef(x.numpy().T))[::-1]
    assert judgement.values.numpy() == pytest.approx(dense, abs=1e-12)
    assert math.isclose(float(judgement.values.sum()), 30.0)


def test_empirical_kaiser_finds_no_factor_in_noise():
    generator = torch.Generator().manual_seed(4)
    answers = [
        pa.number_of_factors(
            torch.randn(200, 15, generator=generator).double(), rules=[EmpiricalKaiser()]
        ).answers
        for _ in range(20)
    ]
    assert sum(one["empirical Kaiser"] > 0 for one in answers) <= 3
