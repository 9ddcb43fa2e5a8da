"""Criteria: gradients, batches, identities among families, values by another formula."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from probae import rotation as r
from probae.errors import DataError, ParameterError

spec = importlib.util.spec_from_file_location("rotation_registry", Path(__file__).with_name("conftest.py"))
registry = importlib.util.module_from_spec(spec)
spec.loader.exec_module(registry)
CRITERIA, random_loadings = registry.CRITERIA, registry.random_loadings

everything = pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)


@everything
def test_gradient_is_that_of_the_value(criterion):
    loadings = random_loadings(0, batch=(3,)).requires_grad_()
    (wanted,) = torch.autograd.grad(criterion.value(loadings).sum(), loadings)
    assert torch.allclose(criterion.gradient(loadings.detach()), wanted, rtol=1e-10, atol=1e-12)


@everything
def test_gradient_is_differentiable(criterion):
    loadings = random_loadings(1)
    hessian = torch.func.jacrev(criterion.gradient)(loadings).reshape(40, 40)
    direction = random_loadings(2)
    step = 1e-6 * direction
    numerical = (criterion.gradient(loadings + step) - criterion.gradient(loadings - step)) / 2e-6
    # central differences: error about 1e-16 / 1e-6 relative to the size of the gradient
    scale = criterion.gradient(loadings).abs().max() + hessian.abs().max()
    assert torch.allclose(hessian @ direction.flatten(), numerical.flatten(), rtol=0, atol=1e-8 * scale)
    assert torch.allclose(hessian, hessian.T, rtol=0, atol=1e-12 * hessian.abs().max())


@everything
def test_batches_are_loadings_one_by_one(criterion):
    loadings = random_loadings(3, batch=(2, 3))
    values, gradients = criterion.value(loadings), criterion.gradient(loadings)
    assert values.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert torch.allclose(values[i, j], criterion.value(loadings[i, j]), rtol=1e-13)
            assert torch.allclose(gradients[i, j], criterion.gradient(loadings[i, j]), rtol=1e-12, atol=1e-13)


@everything
def test_order_and_signs_do_not_matter_unless_columns_are_placed(criterion):
    loadings = random_loadings(4)
    order = [*range(criterion.leading), *reversed(range(criterion.leading, 4))]
    changed = loadings[:, order] * torch.tensor([1.0, -1.0, 1.0, -1.0])
    same = torch.allclose(criterion.value(changed), criterion.value(loadings), rtol=1e-12)
    assert same != criterion.placed


@everything
def test_zero_entries_have_finite_gradients(criterion):
    loadings = random_loadings(5)
    loadings[loadings.abs() < 0.5] = 0.0
    assert criterion.value(loadings).isfinite()
    assert criterion.gradient(loadings).isfinite().all()


def explicit(loadings, kappa):
    """Sum the Crawford-Ferguson criterion term by term."""
    square, (features, latents) = loadings.square(), loadings.shape
    pairs = [(j, k) for j in range(latents) for k in range(latents) if j != k]
    rows = sum(square[d, j] * square[d, k] for d in range(features) for j, k in pairs)
    other = [(c, d) for c in range(features) for d in range(features) if c != d]
    columns = sum(square[c, k] * square[d, k] for k in range(latents) for c, d in other)
    return (1 - kappa) / 4 * rows + kappa / 4 * columns


@pytest.mark.parametrize("kappa", [0.0, 0.2, 1.0])
def test_crawford_ferguson_is_its_sum(kappa):
    loadings = random_loadings(6, 5, 3)
    assert torch.allclose(r.CrawfordFerguson(kappa).value(loadings), explicit(loadings, kappa), rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_orthomax_and_crawford_ferguson_differ_by_a_constant_in_orthogonal_rotation(gamma):
    loadings = random_loadings(7)
    turn = torch.linalg.qr(random_loadings(8, 4, 4)).Q
    one, other = r.Orthomax(gamma), r.CrawfordFerguson(gamma / 10)
    differences = [one.value(x) - other.value(x) for x in (loadings, loadings @ turn)]
    assert torch.allclose(differences[0], differences[1], rtol=1e-12)


def test_members_are_in_their_families():
    x = random_loadings(9, 12, 3)
    assert torch.allclose(r.Quartimin().value(x), r.CrawfordFerguson(0.0).value(x))
    assert torch.allclose(r.Quartimin().value(x), r.Oblimin(0.0).value(x))
    assert torch.allclose(r.Varimax().value(x), r.Orthomax(1.0).value(x))
    assert torch.allclose(r.Quartimax().value(x), -x.pow(4).sum() / 4)
    assert torch.allclose(r.Equamax().value(x), r.CrawfordFerguson(3 / 24).value(x))
    assert torch.allclose(r.Parsimax().value(x), r.CrawfordFerguson(2 / 13).value(x))
    covariances = torch.cov(x.square().T, correction=0)
    off = covariances.sum() - covariances.trace()
    assert torch.allclose(r.Covarimin().value(x), 12 * off / 4)


def test_tandem_criteria_are_sums_over_pairs_of_features():
    x = random_loadings(10)
    correlations, together = (x @ x.T).square(), x.square() @ x.square().T
    assert torch.allclose(r.TandemI().value(x), -(correlations * together).sum())
    assert torch.allclose(r.TandemII().value(x), ((1 - correlations) * together).sum())


def test_infomax_is_what_mutual_information_lacks():
    x = random_loadings(11)
    p = x.square() / x.square().sum()
    product = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
    assert torch.allclose(r.Infomax().value(x), math.log(4) - (p * (p / product).log()).sum())


def test_bifactor_leaves_the_first_column_alone():
    x = random_loadings(12)
    assert torch.allclose(r.Bifactor().value(x), r.Quartimin().value(x[:, 1:]))
    assert not r.Bifactor().gradient(x)[:, 0].any()


def test_simplimax_counts_ties_once():
    x = torch.tensor([[1.0, 1.0], [1.0, 2.0]])
    assert float(r.Simplimax(zeros=2).value(x)) == 2.0
    assert int((r.Simplimax(zeros=2).gradient(x) != 0).sum()) == 2


def test_unspecified_targets_have_no_say():
    nan = float("nan")
    criterion = r.Target([[nan, 0.0], [0.0, nan]])
    assert torch.equal(
        criterion.gradient(torch.tensor([[9.0, 1.0], [2.0, 9.0]])), torch.tensor([[0.0, 2.0], [4.0, 0.0]])
    )
    assert repr(criterion) == "Target(2 x 2, 2 specified)"


def test_cureton_mulaik_weights_are_their_formula():
    loadings = random_loadings(13, 6, 3)
    weights = r.CuretonMulaik().weights(loadings)
    values, vectors = torch.linalg.eigh((unit := loadings / loadings.norm(dim=1, keepdim=True)).T @ unit)
    assert values[-1] > values[-2]
    for row, weight in zip(unit, weights / r.Kaiser().weights(loadings), strict=True):
        a, middle = abs(float(row @ vectors[:, -1])), math.acos(3**-0.5)
        delta = math.pi / 2 if a < 3**-0.5 else 0.0
        expected = math.cos(math.pi / 2 * (middle - math.acos(a)) / (middle - delta)) ** 2 + 1e-3
        assert float(weight) == pytest.approx(expected, rel=1e-6)  # arccos near 1 loses half of the digits


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: r.Orthomax(gamma=float("nan")), "gamma should be a finite number"),
        (lambda: r.Oblimin(gamma="0"), "gamma should be a finite number"),
        (lambda: r.CrawfordFerguson(kappa=1.5), "kappa should be between 0 and 1, got 1.5"),
        (lambda: r.Geomin(epsilon=0.0), "epsilon should be a finite number above 0"),
        (lambda: r.Simplimax(zeros=0), "zeros should be a whole number of at least 1"),
        (lambda: r.Promax(power=1.0), "power should be above 1"),
        (lambda: r.Promax(first=r.Quartimin()), "first should be an orthogonal criterion"),
        (lambda: r.Bifactor(groups=r.Varimax()), "groups should be a criterion such as"),
        (lambda: r.Target([[float("nan")]]), "target should specify a loading"),
        (lambda: r.Target([[1.0]], weights=[[-1.0]]), "weights should be non-negative"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.mark.parametrize("target", [[1.0, 2.0], [[float("inf")]], [["a"]], [[]], None])
def test_targets_are_checked(target):
    with pytest.raises(DataError, match="target should"):
        r.Target(target)
