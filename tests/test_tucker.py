"""Tucker's congruence with its limits: matched as columns are, called as the convention says, beside chance."""

import numpy as np
import pytest
import torch

from probae import congruence, match_columns, tucker_congruence
from probae.agreement import chance_level
from probae.checks import DataError
from probae.linalg import haar_rotation
from probae.tucker import Congruence


def at_angles(*cosines):
    """Orthonormal columns and others at the given cosines to them, shuffled and with changed signs and lengths."""
    k = len(cosines)
    A = np.eye(2 * k)[:, :k]
    B = np.zeros((2 * k, k))
    B[range(k), range(k)] = cosines
    B[range(k, 2 * k), range(k)] = np.sqrt(1 - np.square(cosines))
    return A, (B * np.linspace(1, 5, k) * (-1.0) ** np.arange(k))[:, ::-1]


def test_each_factor_is_matched_and_called_by_its_limit():
    A, B = at_angles(0.99, 0.951, 0.949, 0.851, 0.849)
    found = congruence(A, B)
    assert found.coefficients.tolist() == pytest.approx([0.99, 0.951, 0.949, 0.851, 0.849])
    assert found.labels == ("equal", "equal", "fair", "fair", "not similar")
    assert found.order.tolist() == [4, 3, 2, 1, 0]
    matched = B[:, found.order.numpy()] * found.signs.numpy()
    assert tucker_congruence(A, matched).diagonal().tolist() == pytest.approx(found.coefficients.tolist())
    assert torch.allclose(found.coefficients, match_columns(A, B / np.linalg.norm(B, axis=0)).cosines)
    assert "mean 0.918, arbitrary axes reach" in str(found)


def test_arbitrary_axes_of_two_factors_are_called_fair_and_are_not_above_chance():
    """The limits are no evidence for few factors: turned axes reach .90 on average."""
    A = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 2)))[0]
    turned = [
        congruence(A, A @ haar_rotation(2, torch.Generator().manual_seed(s)).numpy()) for s in range(40)
    ]
    means = np.array([one.mean for one in turned])
    simulated = turned[0].chance  # for the columns of A at hand, which are orthonormal here
    assert abs(simulated.mean - chance_level(2).mean) < 4 * simulated.error
    assert means.mean() == pytest.approx(2 * np.sqrt(2) / np.pi, abs=5 * means.std() / np.sqrt(40))
    above = sum(one.above_chance for one in turned)
    assert above < 40 * 0.05 + 4 * np.sqrt(40 * 0.05 * 0.95)
    assert sum("fair" in one.labels or "equal" in one.labels for one in turned) > 20


def test_one_factor_is_never_above_chance():
    assert not congruence(np.ones((3, 1)), np.ones((3, 1))).above_chance
    assert Congruence(torch.ones(1), torch.arange(1), torch.ones(1), chance_level(1)).labels == ("equal",)


def test_columns_of_zeros_are_refused():
    with pytest.raises(DataError, match="B should have no zero column"):
        congruence(np.eye(2), np.diag([1.0, 0.0]))
