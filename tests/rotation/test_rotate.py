"""rotate: what no rotation changes, conditions of a minimum, local minima, conventions, input."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pandas
import polars
import pytest
import scipy.sparse
import torch
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

import probae as pa
from probae import rotation as r
from probae.errors import ConvergenceWarning, DataError, FitError, ParameterError
from probae.rotation.projection import Problem, descend, size

spec = importlib.util.spec_from_file_location("rotation_registry", Path(__file__).with_name("conftest.py"))
registry = importlib.util.module_from_spec(spec)
spec.loader.exec_module(registry)
CRITERIA, KINDS, random_loadings = registry.CRITERIA, registry.KINDS, registry.random_loadings
BOUNDED = [(name, oblique) for name, oblique in KINDS if not (oblique and name in registry.UNBOUNDED)]

every_kind = pytest.mark.parametrize(("name", "oblique"), BOUNDED)


@pytest.fixture(scope="module")
def run():
    return pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)


@every_kind
def test_rotation_changes_the_axes_and_nothing_else(name, oblique):
    loadings = random_loadings(0)
    found = pa.rotate(loadings, CRITERIA[name], oblique=oblique, starts=5)
    phi, matrix = found.factor_correlation, found.matrix
    assert torch.allclose(found.loadings, loadings @ matrix, rtol=0, atol=1e-12)
    assert torch.allclose(found.loadings @ phi @ found.loadings.T, loadings @ loadings.T, rtol=0, atol=1e-9)
    assert torch.equal(phi.diagonal(), torch.ones(4, dtype=torch.float64))
    inverse = torch.linalg.inv(matrix)
    assert torch.allclose(inverse @ inverse.T, phi, rtol=0, atol=1e-9)
    if not oblique:
        assert torch.equal(phi, torch.eye(4, dtype=torch.float64))
        assert torch.allclose(matrix.T @ matrix, phi, rtol=0, atol=1e-13)
    assert found.value == pytest.approx(float(CRITERIA[name].value(found.loadings)), rel=1e-9, abs=1e-12)
    assert torch.allclose(found.communalities, loadings.square().sum(1), rtol=1e-9)
    assert float(found.variance.sum()) == pytest.approx(float(loadings.square().sum()), rel=1e-9)


@every_kind
def test_the_end_is_a_stationary_point_and_no_neighbour_is_lower(name, oblique):
    criterion, loadings = CRITERIA[name], random_loadings(1)
    found = pa.rotate(loadings, criterion, oblique=oblique, starts=20)
    assert found.converged

    def value(step):  # of the frame T (I + X), columns back at length 1
        identity = torch.eye(4, dtype=torch.float64)
        if not oblique:
            return criterion.value(found.loadings @ torch.matrix_exp(step - step.T))
        frame = torch.linalg.cholesky(found.factor_correlation).T @ (identity + step)
        frame = frame / frame.norm(dim=0)
        whole = found.loadings @ torch.linalg.cholesky(found.factor_correlation)
        return criterion.value(whole @ torch.linalg.inv(frame).T)

    here = value(torch.zeros(4, 4, dtype=torch.float64))
    slope = torch.autograd.functional.jacobian(value, torch.zeros(4, 4, dtype=torch.float64))
    assert slope.abs().max() <= 1e-6 * criterion.gradient(loadings).norm() * loadings.norm()
    for seed in range(20):
        push = 1e-3 * random_loadings(seed, 4, 4)
        assert value(push) >= here - 1e-10 * max(1.0, abs(float(here)))


@every_kind
def test_every_start_descends(name, oblique):
    criterion, loadings = CRITERIA[name], random_loadings(2)
    problem = Problem(loadings, criterion, oblique)
    frames = problem.frames(torch.linalg.qr(random_loadings(3, 4, 4, batch=(6,))).Q)
    last = frames.value
    for steps in range(1, 12):
        now = descend(problem, frames, (1.0, 1.0), 1e-12, steps).value
        assert (now <= last + 1e-13 * last.abs().clamp_min(1.0)).all()
        last = now


@pytest.mark.parametrize("oblique", [False, True])
def test_slope_is_the_derivative_along_a_step(oblique):
    problem = Problem(random_loadings(4), r.Geomin(), oblique)
    frames = problem.frames(torch.linalg.qr(random_loadings(5, 4, 4, batch=(3,))).Q)
    frames = problem.moved(
        frames, 0.3 * problem.tangent(random_loadings(6, 4, 4, batch=(3,))).clamp(-0.5, 0.5)
    )
    step = problem.tangent(random_loadings(7, 4, 4, batch=(3,)))
    up, down = (problem.moved(frames, h * step).value for h in (1e-6, -1e-6))
    assert torch.allclose((up - down) / 2e-6, (frames.slope * step).sum((-2, -1)), rtol=1e-6)
    exact = problem.frames(frames.transform)
    assert torch.allclose(exact.loadings, frames.loadings, rtol=0, atol=1e-12)
    assert torch.allclose(exact.slope, frames.slope, rtol=0, atol=1e-11)


@pytest.mark.parametrize("oblique", [False, True])
def test_simple_structure_is_recovered(oblique):
    simple = torch.zeros(12, 3, dtype=torch.float64)
    for k in range(3):
        simple[4 * k : 4 * k + 4, k] = torch.tensor([0.9, 0.8, 0.7, 0.6]) - 0.1 * k
    phi = torch.tensor([[1.0, 0.5, 0.2], [0.5, 1.0, 0.4], [0.2, 0.4, 1.0]], dtype=torch.float64)
    root = torch.linalg.cholesky(phi) if oblique else torch.eye(3, dtype=torch.float64)
    turn = torch.linalg.qr(random_loadings(8, 3, 3)).Q
    for criterion in (r.Quartimin(), r.Geomin(epsilon=1e-8)) if oblique else (r.Quartimax(), r.Varimax()):
        found = pa.rotate(simple @ root @ turn, criterion, oblique=oblique)
        match = pa.match_columns(simple, found.loadings)
        assert match.distance < 1e-4
        if oblique:
            signs = match.signs.unsqueeze(1) * match.signs
            assert torch.allclose(
                found.factor_correlation[match.order][:, match.order] * signs, phi, atol=1e-4
            )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), oblique=st.booleans(), normalize=st.booleans())
def test_the_frame_one_starts_from_does_not_matter(seed, oblique, normalize):
    loadings = random_loadings(seed, 12, 3)
    turn = torch.linalg.qr(random_loadings(seed + 1, 3, 3)).Q
    criterion = r.Quartimin() if oblique else r.Varimax()
    one, other = (
        pa.rotate(w, criterion, oblique=oblique, normalize=normalize, starts=60)
        for w in (loadings, loadings @ turn)
    )
    assert one.value == pytest.approx(other.value, rel=1e-8)


def test_containers_of_every_kind_are_read():
    values = random_loadings(18).numpy()
    wanted = pa.rotate(values).loadings
    masked = np.ma.masked_array(values, mask=False)
    memory = torch.from_numpy(values).requires_grad_()
    for source in (masked, memory, polars.DataFrame(values), xarray.DataArray(values), values[::-1][::-1]):
        assert torch.equal(pa.rotate(source).loadings, wanted)
    assert memory.requires_grad
    rounded = torch.from_numpy(values).to(torch.bfloat16)
    assert torch.allclose(pa.rotate(rounded).loadings, pa.rotate(rounded.double()).loadings)
    whole = (10 * values).round()
    assert torch.equal(pa.rotate(whole.astype(np.int8)).loadings, pa.rotate(whole).loadings)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_scale_of_the_loadings_does_not_matter(seed):
    loadings = random_loadings(seed, 12, 3)
    one, large = (pa.rotate(c * loadings, r.Quartimin(), oblique=True, starts=30) for c in (1.0, 1e6))
    assert large.value == pytest.approx(1e24 * one.value, rel=1e-6)
    assert large.converged


def test_units_of_x_do_not_matter(run):
    x = pa.datasets.holzinger_swineford().x
    units = torch.tensor([10.0**i for i in range(-4, 5)], dtype=torch.float64)
    scaled = pa.fit(pa.FactorAnalysis(9, 3), x * units)
    for normalize in (False, True):
        one, other = (pa.rotate(fit, r.Geomin(), oblique=True, normalize=normalize) for fit in (run, scaled))
        assert torch.allclose(other.loadings, one.loadings * units.unsqueeze(1), rtol=1e-5, atol=0)
        assert torch.allclose(other.standardized, one.standardized, rtol=0, atol=1e-6)
        assert torch.allclose(other.factor_correlation, one.factor_correlation, rtol=0, atol=1e-6)


def test_kaiser_normalization_weighs_rows_alike():
    loadings = random_loadings(9, 12, 3)
    weights = torch.linspace(0.1, 3.0, 12, dtype=torch.float64).unsqueeze(1)
    one, other = (pa.rotate(w, r.Varimax(), normalize=True) for w in (loadings, weights * loadings))
    assert one.value == pytest.approx(other.value, rel=1e-9)
    assert pa.match_columns(weights * one.loadings, other.loadings).distance < 1e-6
    assert pa.rotate(loadings, normalize=r.Kaiser()).value == pytest.approx(one.value, rel=1e-12)
    weighted = pa.rotate(loadings, normalize=r.CuretonMulaik())
    assert weighted.converged
    assert repr(weighted).startswith("Varimax, orthogonal, CuretonMulaik(): value")


def test_local_minima_are_counted_and_each_is_a_minimum():
    found = pa.rotate(registry.read_matrix("box20"), r.Geomin(epsilon=0.001), oblique=True)
    assert len(found.minima) > 1
    assert sum(m.count for m in found.minima) == found.converged_starts
    values = [m.value for m in found.minima]
    assert values == sorted(values)
    assert found.value == values[0] == pytest.approx(float(found.values.min()), rel=1e-6)
    assert torch.equal(found.minima[0].loadings, found.loadings)
    for m in found.minima:
        again = pa.rotate(
            m.loadings @ torch.linalg.cholesky(m.factor_correlation), r.Geomin(0.001), oblique=True
        )
        assert any(pa.match_columns(m.loadings, other.loadings).distance < 1e-3 for other in again.minima)
    assert f"{len(found.minima)} minima of 100 starts (count): " in repr(found)


def test_minima_of_equal_value_are_told_apart_by_their_loadings():
    # the corners of an octagon look alike from two pairs of axes, 45 degrees apart
    angles = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    found = pa.rotate(torch.stack([angles.cos(), angles.sin()], 1), r.Geomin(epsilon=1e-3))
    assert [m.value for m in found.minima] == pytest.approx([found.value] * 2, rel=1e-9)
    assert pa.match_columns(*(m.loadings for m in found.minima)).distance > 0.1


def test_a_saddle_point_is_left():
    # both features at 45 degrees: the slope of quartimax vanishes, but it is the worst frame of all
    loadings = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / 2**0.5
    found = pa.rotate(loadings, r.Quartimax(), starts=1)
    assert found.value == pytest.approx(-0.5, abs=1e-12)
    assert torch.allclose(found.loadings.abs().sum(1), torch.ones(2, dtype=torch.float64), atol=1e-6)


def test_columns_are_sorted_by_variance_with_a_positive_largest_entry(run):
    for oblique, criterion in ((False, r.Varimax()), (True, r.Quartimin())):
        found = pa.rotate(run, criterion, oblique=oblique)
        assert (found.variance.diff() <= 0).all()
        largest = found.standardized.gather(0, found.standardized.abs().argmax(0, keepdim=True))
        assert (largest > 0).all()


def test_the_general_factor_of_bifactor_stays_first():
    loadings = registry.read_matrix("harman74")
    found = pa.rotate(loadings, r.Bifactor())
    assert float(found.loadings[:, 0].min()) > 0.2  # every test loads on the general factor
    assert (found.variance[1:].diff() <= 0).all()


def test_a_target_fixes_order_and_signs():
    target = torch.zeros(9, 3, dtype=torch.float64)
    target[0:3, 2], target[3:6, 0], target[6:9, 1] = 1.0, -1.0, 1.0
    found = pa.rotate(random_loadings(10, 9, 3) * 0.2 + target, r.Target(target), oblique=True)
    assert (torch.sign(found.loadings[target != 0]) == target[target != 0]).all()
    partly = torch.where(target == 0, 0.0, torch.nan)
    assert pa.rotate(target, r.Target(partly), oblique=True).value < 1e-12


def test_full_target_is_procrustes():
    loadings, target = random_loadings(11, 9, 3), random_loadings(12, 9, 3)
    found = pa.rotate(loadings, r.Target(target))
    assert torch.allclose(found.matrix, pa.procrustes(target, loadings).rotation, atol=1e-6)


def test_one_seed_one_result(run, random_state):
    before = random_state()
    one, other = (pa.rotate(run, r.Geomin(), oblique=True, seed=3) for _ in range(2))
    assert random_state() == before
    assert torch.equal(one.loadings, other.loadings)
    assert torch.equal(one.values, other.values)
    assert repr(one) == repr(other)


def test_a_fit_a_model_a_frame_and_an_array_give_the_same(run):
    names = [f"test {i}" for i in range(9)]
    standard = pa.rotate(run).standardized
    units = pa.rotate(run).units
    assert torch.allclose(units.square(), run.model.communalities + run.model.noise_variance.detach())
    bare = (run.model.loadings.detach() / units.unsqueeze(1)).numpy()
    for source in (
        bare,
        bare.tolist(),
        torch.from_numpy(bare),
        np.asfortranarray(bare),
        pandas.DataFrame(bare, names),
    ):
        assert torch.allclose(pa.rotate(source).loadings, standard, atol=1e-9)
    assert pa.rotate(pandas.DataFrame(bare, names)).names == tuple(names)
    assert torch.equal(pa.rotate(run.model).loadings, pa.rotate(run).loadings)
    assert "test 4 " in repr(pa.rotate(pandas.DataFrame(bare, names)))
    assert "column 4" in repr(pa.rotate(bare))


def test_names_of_a_fit_are_kept():
    frame = pandas.DataFrame(pa.datasets.holzinger_swineford().x.numpy(), columns=[f"t{i}" for i in range(9)])
    assert pa.rotate(pa.fit(pa.FactorAnalysis(9, 2), frame)).names == tuple(frame.columns)


def test_the_source_is_not_touched(run):
    array = random_loadings(13).numpy()
    copy = array.copy()
    array.setflags(write=False)
    pa.rotate(array, normalize=True)
    assert (array == copy).all()
    before = run.model.loadings.detach().clone()
    pa.rotate(run)
    assert torch.equal(run.model.loadings, before)


def test_promax_is_oblique_and_keeps_the_fit():
    loadings = registry.read_matrix("harman74")
    found = pa.rotate(loadings, r.Promax(), oblique=True)
    rebuilt = found.loadings @ found.factor_correlation @ found.loadings.T
    assert torch.allclose(rebuilt, loadings @ loadings.T, atol=1e-12)
    assert found.factor_correlation[torch.triu_indices(4, 4, 1).unbind()].abs().min() > 0.1
    assert found.value == pytest.approx(pa.rotate(loadings).value, rel=1e-12)
    assert torch.allclose(found.minima[0].loadings, found.loadings)


@pytest.mark.parametrize(("name", "oblique"), [k for k in KINDS if not CRITERIA[k[0]].placed])
def test_one_factor_has_one_frame(name, oblique):
    criterion = CRITERIA[name]
    loadings = torch.linspace(-0.9, 0.5, 15, dtype=torch.float64).unsqueeze(1)
    if criterion.leading or name == "mccammon":
        with pytest.raises(ParameterError, match="at least [23] factors"):
            pa.rotate(loadings, criterion, oblique=oblique)
        return
    found = pa.rotate(loadings, criterion, oblique=oblique)
    assert torch.equal(found.loadings, -loadings)
    assert len(found.minima) == 1


@pytest.mark.parametrize(
    "loadings", [random_loadings(14, 6, 4), random_loadings(14, 3, 4), random_loadings(14, 1, 4)]
)
def test_dependent_columns_turn_orthogonally_and_are_refused_obliquely(loadings):
    loadings = loadings.clone()
    loadings[:, 3] = 0.0
    found = pa.rotate(loadings, r.Varimax())
    assert torch.allclose(found.loadings @ found.loadings.T, loadings @ loadings.T, atol=1e-12)
    with pytest.raises(
        DataError, match="independent columns for an oblique rotation, got rank . with 4 columns"
    ):
        pa.rotate(loadings, r.Quartimin(), oblique=True)
    with pytest.raises(DataError, match="independent columns"):
        pa.rotate(loadings, r.Promax(), oblique=True)


def test_criteria_without_a_minimum_say_so():
    with pytest.raises(FitError, match="Oblimin.gamma=4.0. has no minimum here"):
        pa.rotate(random_loadings(15, 6, 2), r.Oblimin(gamma=4.0), oblique=True)


def test_too_few_steps_are_reported():
    with pytest.warns(ConvergenceWarning, match="not converged in 2 steps"):
        found = pa.rotate(random_loadings(16), r.Geomin(), oblique=True, steps=2, starts=3)
    assert not found.converged
    assert "(not converged)" in repr(found)
    assert torch.isfinite(found.loadings).all()


def test_values_of_all_starts_are_given(run):
    found = pa.rotate(run, starts=7)
    assert found.values.shape == (7,)
    alone = pa.rotate(run, starts=1)
    assert float(alone.values[0]) == pytest.approx(float(found.values[0]), rel=1e-12)


BAD = {
    "one-dimensional": ([1.0, 2.0], "shape .2,."),
    "three-dimensional": (np.zeros((2, 2, 2)), "shape .2, 2, 2."),
    "nan": ([[1.0, float("nan")]], "got nan at row 0, column 1"),
    "infinite": ([[1.0], [float("inf")]], "got inf at row 1, column 0"),
    "huge": ([[1e200]], "up to 1e.150"),
    "empty": (np.zeros((0, 3)), "shape .0, 3."),
    "strings": ([["a", "b"]], "real numbers"),
    "complex": (np.ones((2, 2), dtype=complex), "real numbers"),
    "objects": (np.array([[1, None]], dtype=object), "real numbers"),
    "sparse": (scipy.sparse.eye_array(3), "should be dense"),
    "ragged": ([[1.0], [1.0, 2.0]], "rows of equal length"),
    "none": (None, "loadings should"),
    "zero": (np.zeros((4, 2)), "nothing to rotate"),
    "tiny": (np.eye(3) * 1e-60, "powers float64 can hold, got 1e-60"),
    "large": (np.eye(3) * 1e60, "powers float64 can hold, got 1e.60"),
    "repeated names": (pandas.DataFrame(np.eye(2), index=["a", "a"]), "distinct names"),
}


@pytest.mark.parametrize(("source", "message"), BAD.values(), ids=BAD)
def test_bad_loadings_are_refused_in_a_sentence(source, message):
    with pytest.raises(DataError, match=message):
        pa.rotate(source)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"criterion": "varimax"}, "criterion should be a value such as rotation.Varimax.., got 'varimax'"),
        ({"criterion": r.Varimax}, "criterion should be a value"),
        ({"criterion": r.Varimax(), "oblique": True}, "Varimax should be used with orthogonal factors"),
        ({"criterion": r.Quartimin()}, "Quartimin should be used with correlated factors"),
        ({"criterion": r.Promax()}, "Promax should be used with correlated factors"),
        ({"criterion": r.Simplimax(zeros=41)}, "zeros should be at most the number of loadings, 40, got 41"),
        (
            {"criterion": r.Target([[1.0]])},
            "target should have the shape of the loadings, .10, 4., got .1, 1.",
        ),
        ({"oblique": "yes"}, "oblique should be True or False"),
        (
            {"normalize": "kaiser"},
            "normalize should be True, False, Kaiser.. or CuretonMulaik.., got 'kaiser'",
        ),
        ({"normalize": r.Kaiser}, "normalize should be True"),
        ({"starts": 0}, "starts should be a whole number of at least 1"),
        ({"seed": -1}, "seed should be a whole number of at least 0"),
        ({"steps": 1.5}, "steps should be a whole number"),
        ({"tol": 0.0}, "tol should be a finite number above 0"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(arguments, message):
    with pytest.raises(ParameterError, match=message):
        pa.rotate(random_loadings(0), **arguments)


def test_bifactor_needs_two_groups():
    with pytest.raises(ParameterError, match="Bifactor should have at least 3 factors to rotate, got 2"):
        pa.rotate(random_loadings(0, 6, 2), r.Bifactor())


def test_models_that_a_rotation_would_change_are_refused():
    model = pa.LinearFactorModel(6, 2, prior=pa.priors.Laplace())
    with pytest.raises(ParameterError, match="factors whose law no rotation changes, got Laplace"):
        pa.rotate(model)
    assert pa.rotate(model.loadings).loadings.shape == (6, 2)
    correlated = pa.LinearFactorModel(6, 2, prior=pa.priors.CorrelatedGaussian([[1.0, 0.5], [0.5, 1.0]]))
    with pytest.raises(ParameterError, match="factors whose law no rotation changes"):
        pa.rotate(correlated)


def test_many_features_are_rotated_in_blocks_with_the_same_answer(monkeypatch):
    loadings = random_loadings(17, 40, 3)
    whole = pa.rotate(loadings, r.Quartimin(), oblique=True, starts=20)
    monkeypatch.setattr("probae.rotation.starts.BLOCK", 40 * 3 * 6)
    parts = pa.rotate(loadings, r.Quartimin(), oblique=True, starts=20)
    assert torch.allclose(whole.values, parts.values, rtol=1e-12)


def test_warnings_are_not_given_in_ordinary_use(run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pa.rotate(run).converged
    assert float(size(torch.eye(2))) == pytest.approx(2**0.5)
