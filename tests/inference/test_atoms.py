"""Steps of unit-norm atoms, and which of them are placed anew."""

import pytest
import torch

from probae.inference.atoms import nearest, relocate, seed_atoms, update_atoms


@pytest.fixture
def problem():
    """Five atoms (rows) in four dimensions, sparse codes and noisy rows, with their moments."""
    atoms = torch.nn.functional.normalize(torch.randn(5, 4, dtype=torch.float64))
    z = torch.randn(300, 5, dtype=torch.float64) * (torch.rand(300, 5) < 0.4)
    x = z @ torch.nn.functional.normalize(torch.randn(5, 4, dtype=torch.float64)) + 0.1
    return atoms, x, z, z.T @ z / 300, z.T @ x / 300


def loss(x, z, atoms):
    return float((x - z @ atoms).square().sum(1).mean())


def test_a_pass_never_raises_the_squared_error_and_keeps_unit_norm(problem):
    atoms, x, z, second, cross = problem
    before = loss(x, z, atoms)
    for _ in range(20):
        update_atoms(atoms, second, cross, passes=1)
        after = loss(x, z, atoms)
        assert after <= before * (1 + 1e-12)  # rounding of a sum of 1,200 squares
        before = after
    assert torch.allclose(atoms.norm(dim=1), torch.ones(5, dtype=torch.float64), rtol=1e-14)


def test_the_passes_end_where_the_gradient_points_along_each_atom(problem):
    """Stationary on the product of spheres; the move of the last pass says how nearly."""
    atoms, _, _, second, cross = problem
    update_atoms(atoms, second, cross, passes=2000)
    moved = update_atoms(atoms, second, cross, passes=1)
    gradient = second @ atoms - cross
    along = (gradient * atoms).sum(1, keepdim=True) * atoms
    assert moved < 1e-9
    assert (gradient - along).norm(dim=1).max() < 1e-8


def test_an_atom_without_codes_stays(problem):
    atoms, _, _, second, cross = problem
    second[2], second[:, 2], cross[2] = 0.0, 0.0, 0.0
    kept = atoms[2].clone()
    update_atoms(atoms, second, cross)
    assert torch.equal(atoms[2], kept)


@pytest.mark.parametrize("useless", ["dead", "copy"])
def test_a_useless_atom_goes_where_the_residuals_point(useless):
    """Atoms 0 and 1 do their work; atom 2 is dead or a copy of 1; the residual lies along the third axis."""
    atoms = torch.eye(3, dtype=torch.float64)
    second = torch.eye(3, dtype=torch.float64)
    if useless == "dead":
        second[2, 2] = 0.0
    else:
        atoms[2] = atoms[1]
    residual = torch.zeros(40, 3, dtype=torch.float64)
    residual[:, 2] = torch.randn(40, dtype=torch.float64)
    cross = second @ atoms
    moved = relocate(atoms, second, cross, residual, penalty=0.1)
    assert len(moved) == 1
    assert moved[0] in ({2} if useless == "dead" else {1, 2})
    assert abs(atoms[moved[0], 2]) == pytest.approx(1.0, abs=1e-12)
    kept = atoms.clone()
    update_atoms(atoms, second, cross)
    assert torch.allclose(atoms[moved[0]], kept[moved[0]])  # its new moments hold it until rows use it


def test_useful_atoms_stay_though_single_rows_would_gain():
    """Each of ten rows has a direction of its own: no other row vouches for it."""
    atoms, second = torch.eye(20, dtype=torch.float64)[:10], 0.01 * torch.eye(10, dtype=torch.float64)
    residual = torch.eye(20, dtype=torch.float64)[10:]
    before = atoms.clone()
    assert relocate(atoms, second, second @ atoms, residual, penalty=0.1) == []
    assert torch.equal(atoms, before)


def test_seeds_are_rows_of_unit_norm_that_leave_constant_columns_out():
    x = torch.randn(6, 4, dtype=torch.float64)
    x[:, 1] = 0.0
    x[2] = 0.0
    atoms = seed_atoms(x, 15, torch.Generator().manual_seed(0))
    assert torch.allclose(atoms.norm(dim=1), torch.ones(15, dtype=torch.float64))
    assert (atoms[:, 1] == 0).all()
    assert nearest(atoms).max() < 1.0  # copies of a row are told apart


def test_one_atom_has_no_other_near():
    assert nearest(torch.ones(1, 3, dtype=torch.float64)).tolist() == [0.0]
