"""Velicer's average partial correlations against psych and by hand."""

import numpy as np
import pytest

import probae as pa
from probae.checks import ParameterError
from probae.factors.number import MinimumAveragePartial
from probae.factors.velicer import average_partials


def test_holzinger_and_swineford_as_psych():
    # R 4.2.2, psych 2.2.9: vss(cor(x), n = 5, n.obs = 301)$map for 1 to 5 components
    known = [0.0802261368969, 0.0634152289337, 0.0682270613408, 0.120052296718, 0.206652420996]
    x = pa.datasets.holzinger_swineford().x
    judgement = pa.number_of_factors(x, rules=[MinimumAveragePartial()]).judgements[0]
    assert judgement.values[1:6].numpy() == pytest.approx(known, rel=1e-9)
    assert judgement.answer == 2


def test_24_psychological_tests_as_psych(harman74):
    # R 4.2.2, psych 2.2.9: vss(Harman74.cor$cov, n = 12, n.obs = 145)$map
    known = [0.02453815495, 0.02161053806, 0.01748720459, 0.01737950464, 0.02081780591, 0.02369709012]
    judgement = pa.number_of_factors(harman74, rules=[MinimumAveragePartial()]).judgements[0]
    assert judgement.values[1:7].numpy() == pytest.approx(known, rel=1e-8)
    assert judgement.answer == 4


def test_equal_correlations_by_hand():
    """R = (1 - r) I + r 1 1' of p columns: after its first component C = (1 - r) (I - 1 1' / p).

    So the partial correlations are -1 / (p - 1), all of them, whatever r is.
    """
    p, r = 5, 0.4
    R = (1 - r) * np.eye(p) + r
    squared, fourth = average_partials(R, p)
    assert (squared[0], fourth[0]) == pytest.approx((r**2, r**4))
    assert (squared[1], fourth[1]) == pytest.approx((1 / (p - 1) ** 2, 1 / (p - 1) ** 4))


def test_independent_columns_have_none():
    """Removing a component of the identity only makes correlations."""
    statistics = pa.SufficientStatistics.from_covariance(np.eye(6), count=100)
    result = pa.number_of_factors(statistics, rules=[MinimumAveragePartial(2), MinimumAveragePartial(4)])
    assert list(result.answers.values()) == [0, 0]


def test_components_stop_before_a_column_is_used_up():
    """The first column is a component of its own: after it no variance is left there."""
    R = np.eye(4)
    R[1:, 1:] = 0.3 + 0.7 * np.eye(3)
    values = average_partials(R, 4)
    assert np.isfinite(values).all()
    assert values.shape == (2, 2)


def test_the_power_is_one_of_two():
    with pytest.raises(ParameterError, match="power should be 2"):
        MinimumAveragePartial(3)
