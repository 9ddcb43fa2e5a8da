"""Codes with a given number of atoms: scikit-learn, exhaustive search, exchanges."""

from itertools import combinations

import jaxtyping
import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp

from probae import DataError, ParameterError, k_sparse_codes, orthogonal_matching_pursuit


def problem(rows=20, features=10, atoms=25, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(features, atoms, generator=generator, dtype=torch.float64)
    return torch.randn(rows, features, generator=generator, dtype=torch.float64), a / a.norm(dim=0)


def error(x, a, z):
    return (x - z @ a.T).square().sum(1)


def refitted(x, a, chosen):
    """The least squared error of one row on some atoms."""
    part = a[:, list(chosen)].numpy()
    answer = np.linalg.lstsq(part, x.numpy(), rcond=None)[0]
    return float(np.square(x.numpy() - part @ answer).sum())


@pytest.mark.parametrize("active", [1, 3, 8, 10])
def test_pursuit_is_that_of_scikit_learn(active):
    x, a = problem()
    z = orthogonal_matching_pursuit(x, a, active)
    other = orthogonal_mp(a.numpy(), x.numpy().T, n_nonzero_coefs=active).T
    condition = np.linalg.cond(a.numpy()[:, :10]) ** 2
    np.testing.assert_allclose(z, other, rtol=0, atol=1e-13 * condition * 10)


def test_pursuit_does_not_depend_on_the_length_of_atoms():
    x, a = problem()
    lengths = torch.logspace(-3, 3, 25, dtype=torch.float64)
    z = orthogonal_matching_pursuit(x, a * lengths, 4)
    assert torch.allclose(z * lengths, orthogonal_matching_pursuit(x, a, 4), rtol=1e-8)


@pytest.mark.parametrize("codes", [orthogonal_matching_pursuit, k_sparse_codes])
def test_codes_are_least_squares_on_their_atoms(codes):
    """The residual is orthogonal to every active atom."""
    x, a = problem()
    z = codes(x, a, 5)
    assert ((z != 0).sum(1) == 5).all()
    correlation = (x - z @ a.T) @ a
    assert (correlation[z != 0].abs() < 1e-12 * x.norm(dim=1).max() * 100).all()


@pytest.mark.parametrize("seed", range(3))
def test_no_exchange_of_one_atom_improves_a_k_sparse_code(seed):
    x, a = problem(10, 6, 9, seed)
    z = k_sparse_codes(x, a, 3)
    assert (error(x, a, z) <= error(x, a, orthogonal_matching_pursuit(x, a, 3)) + 1e-12).all()
    for n in range(10):
        chosen = set(torch.nonzero(z[n]).flatten().tolist())
        now = float(error(x, a, z)[n])
        for out in chosen:
            for into in set(range(9)) - chosen:
                assert refitted(x[n], a, chosen - {out} | {into}) >= now - 1e-11 * float(x[n].square().sum())


def test_k_sparse_codes_beside_exhaustive_search():
    """Never below the best of all sets, and with one atom always the best; exchanges find it for more rows."""
    x, a = problem(30, 6, 9)
    for active in (1, 2, 3):
        best = torch.tensor(
            [min(refitted(row, a, c) for c in combinations(range(9), active)) for row in x],
            dtype=torch.float64,
        )
        greedy = error(x, a, orthogonal_matching_pursuit(x, a, active))
        swapped = error(x, a, k_sparse_codes(x, a, active))
        assert (swapped >= best - 1e-12).all()
        if active == 1:
            assert torch.allclose(swapped, best, rtol=1e-10)
        else:
            hits = [int((e <= best * (1 + 1e-9)).sum()) for e in (greedy, swapped)]
            assert hits[1] > hits[0]
            assert swapped.sum() < greedy.sum()


def test_planted_codes_are_found():
    """Four of 40 atoms in 30 dimensions without noise: the pursuit finds them or an exchange does."""
    _, a = problem(1, 30, 40, seed=1)
    random = np.random.default_rng(0)
    planted = np.zeros((50, 40))
    for row in planted:
        row[random.choice(40, 4, replace=False)] = random.choice([-1, 1], 4) * random.uniform(1, 2, 4)
    planted = torch.from_numpy(planted)
    z = k_sparse_codes(planted @ a.T, a, 4)
    assert ((z - planted).abs().amax(1) < 1e-10).double().mean() > 0.9


@pytest.mark.parametrize("codes", [orthogonal_matching_pursuit, k_sparse_codes])
def test_degenerate_dictionaries(codes):
    x, a = problem(6, 5, 8)
    x[2] = 0
    x[3] = 2 * a[:, 1]
    a[:, 3] = 0
    twice = torch.cat([a, a], 1)
    z = codes(x, twice, 3)
    assert z.isfinite().all()
    assert (z[2] == 0).all()
    assert torch.allclose(error(x, twice, z)[3], torch.tensor(0.0, dtype=torch.float64), atol=1e-24 * 100)
    assert (z[:, [3, 11]] == 0).all()
    assert (codes(x, torch.zeros(5, 4), 2) == 0).all()


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e140])
@pytest.mark.parametrize("codes", [orthogonal_matching_pursuit, k_sparse_codes])
def test_codes_scale(codes, scale):
    x, a = problem(6)
    base = codes(x, a, 3)
    assert torch.allclose(codes(x * scale, a, 3) / scale, base, rtol=1e-9)
    assert torch.allclose(codes(x, a * scale, 3) * scale, base, rtol=1e-9)


def test_dtype_and_arguments():
    x, a = problem(6)
    copies = x.clone(), a.clone()
    assert orthogonal_matching_pursuit(x.float(), a, 2).dtype == torch.float32
    assert k_sparse_codes(x.numpy(), a.numpy(), 2).dtype == torch.float64
    assert torch.equal(x, copies[0])
    assert torch.equal(a, copies[1])


@pytest.mark.parametrize("codes", [orthogonal_matching_pursuit, k_sparse_codes])
def test_wrong_arguments_end_in_one_sentence(codes, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    x, a = problem(6)
    with pytest.raises(DataError, match="dictionary should have shape"):
        codes(x, a.T, 2)
    with pytest.raises(ParameterError, match="active should be at most 10"):
        codes(x, a, 11)
    with pytest.raises(ParameterError, match="active should be a whole number"):
        codes(x, a, 0)
    with pytest.raises(DataError, match="NaN"):
        codes(x * torch.nan, a, 2)
