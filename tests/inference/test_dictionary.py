"""Dictionary learning: stationary points, planted atoms, batches."""

import numpy as np
import pytest
import torch

from probae import fit, sparse_codes
from probae.inference import MAP
from probae.inference.dictionary import learn_dictionary
from probae.models import SparseCoding

SETTINGS = {"steps": 300, "batch": 512, "tol": 0.01, "seed": 0}


@pytest.fixture(scope="module")
def planted():
    """Three of 32 unit atoms in 16 dimensions make a row, with noise at 26 dB."""
    generator = torch.Generator().manual_seed(5)
    atoms = torch.nn.functional.normalize(
        torch.randn(16, 32, generator=generator, dtype=torch.float64), dim=0
    )
    order = torch.rand(4000, 32, generator=generator).argsort(1)
    codes = torch.randn(4000, 32, generator=generator, dtype=torch.float64) * (order < 3)
    x = codes @ atoms.T
    x = x + 0.05 * x.square().mean().sqrt() * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return x - x.mean(0), atoms, learn_dictionary(x - x.mean(0), 32, 0.15, **SETTINGS)


def test_planted_atoms_are_found(planted):
    """Random directions in 16 dimensions reach |cos| of about .6 with the nearest of 32; .95 is no chance."""
    _, atoms, found = planted
    cosines = (found.atoms.T @ atoms).abs().amax(0)
    assert int((cosines > 0.95).sum()) >= 31


def test_a_converged_dictionary_is_stationary(planted):
    """With certified codes of all rows, the best place of each atom given the others is within tol of where it is."""
    x, _, _ = planted
    found = learn_dictionary(x, 32, 0.15, steps=300, batch=None, tol=1e-3, seed=0)
    assert found.turn < 1e-3
    z = sparse_codes(x, found.atoms, 0.15, tolerance=1e-9).z
    second, cross = z.T @ z / len(z), x.T @ z / len(z)
    best = torch.nn.functional.normalize(
        found.atoms + (cross - found.atoms @ second) / second.diagonal(), dim=0
    )
    # the judgement goes over the atoms in turn, this step takes all at once: a few times tol covers the difference
    assert (best - found.atoms).norm(dim=0).max() < 5e-3


def test_steps_on_all_rows_never_raise_the_energy(planted):
    """But by the gap of the codes, a thousandth, and where atoms were placed anew."""
    x, _, _ = planted
    found = learn_dictionary(x, 32, 0.15, steps=60, batch=None, tol=1e-9, seed=1)
    history = np.array(found.history)
    last = max((one["step"] for one in found.relocated), default=0)
    assert last < 45
    rises = np.diff(history[last + 1 :])
    assert (rises >= -1e-3 * np.abs(history[last + 2 :])).all()


def test_the_last_energy_is_that_of_all_rows(planted):
    x, _, found = planted
    z = sparse_codes(x, found.atoms, 0.15, tolerance=1e-9).z
    energy = (0.5 * (x - z @ found.atoms.T).square().sum(1) + 0.15 * z.abs().sum(1)).mean().item()
    assert -found.history[-1] == pytest.approx(energy, rel=2e-6)  # its codes have gaps of 1e-6


def test_a_batch_of_all_rows_or_more_is_no_batch(planted):
    x = planted[0][:300]
    runs = [learn_dictionary(x, 8, 0.2, steps=5, batch=b, tol=0.01, seed=3) for b in (None, 300, 10_000)]
    assert all(torch.equal(run.atoms, runs[0].atoms) for run in runs)


def test_one_atom_is_the_leading_direction_where_nothing_is_shrunk(planted):
    """At a penalty near zero the problem is that of principal components."""
    x = planted[0]
    found = learn_dictionary(x, 1, 1e-6, steps=500, batch=None, tol=1e-7, seed=0)
    leading = torch.linalg.svd(x, full_matrices=False)[2][0]
    assert abs(float(found.atoms[:, 0] @ leading)) > 1 - 1e-6


def test_fewer_rows_than_atoms_and_penalties_that_leave_nothing(planted):
    """Codes all zero: the energy is half the mean square norm, and every atom counts as unused."""
    x = planted[0][:10] - planted[0][:10].mean(0)
    found = learn_dictionary(x, 20, 1e3, steps=5, batch=4, tol=0.01, seed=0)
    assert found.unused == 20
    assert -found.history[-1] == pytest.approx(0.5 * x.square().sum(1).mean().item(), rel=0.5)
    assert torch.allclose(found.atoms.norm(dim=0), torch.ones(20, dtype=torch.float64))


def test_a_fit_is_equivariant_to_the_scale_of_x(planted):
    x = planted[0][:1000]
    runs = [fit(SparseCoding(16, 20), s * x, MAP(penalty=s * 0.2, steps=20)) for s in (1.0, 1e6)]
    assert torch.allclose(runs[1].model.loadings, 1e6 * runs[0].model.loadings, rtol=1e-6, atol=1e-3)
    assert runs[1].model.noise_variance.item() == pytest.approx(
        1e12 * runs[0].model.noise_variance.item(), rel=1e-9
    )


def test_atoms_placed_anew_are_reported(planted):
    run = fit(SparseCoding(16, 32), planted[0], MAP(penalty=0.15, steps=20))
    assert all(set(one) == {"step", "atoms"} and one["atoms"] >= 1 for one in run.restarts)
    assert len(run.restarts) > 0
