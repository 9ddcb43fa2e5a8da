"""Learning by the tangent bound: it never falls, it is a bound, and what it finds."""

import warnings

import pytest

from probae import (
    ConvergenceWarning,
    DataError,
    MaximumLikelihood,
    NotExactError,
    ParameterError,
    VariationalEM,
    VariationalPosterior,
    fit,
    match_columns,
)
from probae.datasets import linear_factors
from probae.models import ConfirmatoryFactorAnalysis, IndependentComponents, LinearFactorModel, SparseCoding
from probae.priors import Gaussian, Independent, Laplace, Logistic, MultivariateStudentT, SpikeSlab, StudentT


def run_of(model, x, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(model, x, VariationalEM(**settings), seed=1)


@pytest.fixture(scope="module")
def rows():
    """Six heavy-tailed codes in four features."""
    return linear_factors(400, 4, 6, noise=0.3, seed=3).x + 2


MODELS = {
    "laplace": lambda: SparseCoding(4, 6),
    "laplace-diagonal": lambda: LinearFactorModel(4, 5, prior=Laplace()),
    "laplace-fewer": lambda: LinearFactorModel(4, 2, prior=Laplace()),
    "t": lambda: SparseCoding(4, 6, prior=StudentT(5, learn=True)),
    "spike": lambda: SparseCoding(4, 6, prior=SpikeSlab(0.3, 0.3)),
    "elliptical": lambda: SparseCoding(4, 6, prior=MultivariateStudentT(5, learn=True)),
    "own": lambda: LinearFactorModel(4, 2, prior=Independent([Laplace(), StudentT(4, learn=True)])),
}


@pytest.mark.parametrize("batch", [1000, 150])
@pytest.mark.parametrize("name", MODELS)
def test_the_bound_never_falls(name, batch, rows):
    """Whether the parameters move after all rows or after each batch of them; rounding is about 1e-12."""
    run = run_of(MODELS[name](), rows, steps=25, batch=batch, tol=1e-12)
    assert len(run.history) == 25
    assert (run.history.diff() > -1e-10).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_history_is_the_bound_of_the_fitted_model(name, rows):
    """The posterior makes the bound of each row as high as it gets, so it cannot be below what the fit saw."""
    run = run_of(MODELS[name](), rows, steps=60, tol=1e-7)
    bound = VariationalPosterior(run.model, steps=200).bound(rows).mean().item()
    assert bound >= run.history[-1].item() - 1e-9
    if (
        name != "spike"
    ):  # whose tangents have several fixed points for a row, of which either may find a better one
        assert bound == pytest.approx(run.history[-1].item(), abs=0.02)


def test_history_is_below_the_exact_likelihood():
    """One Laplace factor has one."""
    x = linear_factors(500, 4, 1, noise=0.4, seed=2).x
    run = run_of(LinearFactorModel(4, 1, prior=Laplace()), x, steps=100)
    exact = run.model.log_likelihood(x).mean()
    assert run.history[-1] < exact
    assert (VariationalPosterior(run.model).bound(x) <= run.model.log_likelihood(x)).all()


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
def test_a_gaussian_prior_gives_maximum_likelihood(noise, rows):
    """The bound is then the likelihood itself and this is EM."""
    x = linear_factors(400, 6, 2, prior=Gaussian(), noise=0.5, seed=3).x
    run = run_of(LinearFactorModel(6, 2, noise=noise), x, steps=500, tol=1e-10)
    best = fit(LinearFactorModel(6, 2, noise=noise), x, MaximumLikelihood())
    assert run.history[-1].item() == pytest.approx(best.log_likelihood(x).mean().item(), abs=1e-6)
    assert run.log_likelihood(x).mean().item() == pytest.approx(run.history[-1].item(), abs=1e-6)


def test_planted_atoms_are_found_from_few_rows_and_many():
    data = linear_factors(3000, 8, 4, noise=0.3, seed=2)
    run = run_of(SparseCoding(8, 4), data.x, steps=60)
    match = match_columns(data.truth["loadings"], run.model.loadings)
    assert match.cosines.min() > 0.97
    assert run.model.noise_variance.item() == pytest.approx(0.3, rel=0.15)
    lengths = match.matched.norm(dim=0) / data.truth["loadings"].norm(dim=0)
    assert ((lengths - 1).abs() < 0.15).all()


def test_the_mean_is_learned(rows):
    run = run_of(SparseCoding(4, 6), rows, steps=30)
    error = rows.std(0) / 20  # of 400 rows
    assert ((run.model.mean - rows.mean(0)).abs() < 5 * error).all()


def test_more_rows_than_a_batch_and_all_in_one_end_alike(rows):
    """Four moves a pass instead of one: never behind after the same passes over the rows."""
    one, many = (run_of(SparseCoding(4, 6), rows, steps=40, batch=size, tol=1e-8) for size in (400, 100))
    assert (many.history[5:] >= one.history[5:]).all()
    assert one.history[-1].item() == pytest.approx(many.history[-1].item(), abs=0.1)


def test_refusals(rows):
    with pytest.raises(NotExactError, match="Gaussian scale mixture"):
        fit(SparseCoding(4, 6, prior=Logistic()), rows, VariationalEM())
    with pytest.raises(ParameterError, match="model with noise"):
        fit(IndependentComponents(4, 4), rows, VariationalEM())
    with pytest.raises(NotExactError, match="zeros"):
        fit(ConfirmatoryFactorAnalysis([[1], [1], [1], [0]]), rows, VariationalEM())
    with pytest.raises(DataError, match="missing|NaN"):
        fit(SparseCoding(4, 6), rows * float("nan"), VariationalEM())
    for settings in ({"steps": 0}, {"batch": 0}, {"tol": 0.0}):
        with pytest.raises(ParameterError, match=next(iter(settings))):
            VariationalEM(**settings)
