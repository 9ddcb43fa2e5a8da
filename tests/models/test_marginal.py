"""Patterns of missing entries, and scores of a known least-squares problem."""

import torch

from probae.models.marginal import Scores, missing_patterns


def test_patterns_cover_every_row_once():
    x = torch.zeros(50, 4, dtype=torch.float64)
    x[torch.rand(50, 4) < 0.4] = torch.nan
    patterns = missing_patterns(x)
    rows = torch.cat([rows for rows, _ in patterns])
    assert rows.sort().values.tolist() == list(range(50))
    for rows, observed in patterns:
        assert torch.equal(~x[rows].isnan(), observed.expand(len(rows), 4))


def test_complete_rows_have_one_pattern():
    ((rows, observed),) = missing_patterns(torch.zeros(5, 3, dtype=torch.float64))
    assert observed.all()
    assert len(torch.arange(5)[rows]) == 5


def test_scores_are_generalised_least_squares():
    W = torch.randn(6, 2, dtype=torch.float64)
    psi = 0.2 + torch.rand(6, dtype=torch.float64)
    x = torch.randn(9, 6, dtype=torch.float64)
    mean = torch.randn(6, dtype=torch.float64)
    scores = Scores.of(x, W, psi, mean)
    G = W.T @ (W / psi[:, None])
    assert torch.allclose(scores.values, torch.linalg.solve(G, W.T @ ((x - mean) / psi).T).T, rtol=1e-10)
    assert torch.allclose(scores.covariance, torch.linalg.inv(G), rtol=1e-10)
    assert not scores.uncorrelated


def test_scores_are_uncorrelated_exactly_when_the_whitened_columns_are_orthogonal():
    psi = 0.2 + torch.rand(6, dtype=torch.float64)
    U = torch.linalg.qr(torch.randn(6, 3, dtype=torch.float64))[0]
    columns = torch.tensor([1.0, 10.0, 1e-3], dtype=torch.float64)
    orthogonal = psi.sqrt()[:, None] * U * columns
    zero = torch.zeros(6, dtype=torch.float64)
    x = torch.zeros(1, 6, dtype=torch.float64)
    assert Scores.of(x, orthogonal, psi, zero).uncorrelated
    tilted = orthogonal.clone()
    tilted[:, 0] += 1e-6 * orthogonal[:, 1]  # a correlation of 1e-5
    assert not Scores.of(x, tilted, psi, zero).uncorrelated
