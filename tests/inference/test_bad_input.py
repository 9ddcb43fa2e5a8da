"""Rows that go wrong elsewhere, for every fit: a right answer, or one sentence that says what to do."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
import torch

from probae import (
    CollinearWarning,
    ConstantColumnWarning,
    DataError,
    NotExactError,
    ParameterError,
    ProbaeWarning,
    SufficientStatistics,
    UnderidentifiedWarning,
    fit,
)
from probae.encoders import LinearGaussianEncoder
from probae.inference import MAP, SVI, Gibbs, MaximumLikelihood
from probae.inference.least_squares import LeastSquares
from probae.models import FactorAnalysis, ProbabilisticPCA, SparseCoding


def changed(rows, row, column, value):
    x = rows.clone()
    x[row, column] = value
    return x


REFUSED = {
    "infinity": (lambda x: changed(x, 5, 2, torch.inf), "inf at row 5, column 2"),
    "minus-infinity": (lambda x: changed(x, 5, 2, -torch.inf), "-inf at row 5, column 2"),
    "out-of-range": (lambda x: changed(x, 5, 2, 1e200), "out of range"),
    "no-rows": (lambda x: x[:0], "at least 2 rows"),
    "one-row": (lambda x: x[:1], "at least 2 rows"),
    "no-columns": (lambda x: x[:, :0], "4"),
    "too-few-columns": (lambda x: x[:, :3], r"shape \(samples, 4\), got \(60, 3\)"),
    "too-many-columns": (lambda x: torch.cat([x, x], 1), r"shape \(samples, 4\), got \(60, 8\)"),
    "one-dimension": (lambda x: x[:, 0], "two-dimensional"),
    "three-dimensions": (lambda x: x[None], "two-dimensional"),
    "ragged": (lambda x: [[1.0, 2.0, 3.0, 4.0], [1.0]], "rows of equal length"),
    "strings": (lambda x: x.numpy().astype(str), "real numbers"),
    "objects": (lambda x: np.array([[None] * 4] * 5, dtype=object), "real numbers"),
    "complex": (lambda x: x.to(torch.complex128), "real numbers"),
    "dates": (lambda x: np.full((5, 4), np.datetime64("2020-01-01")), "real numbers"),
    "none": (lambda x: None, "table"),
    "a-dict": (lambda x: {"a": [1.0, 2.0]}, "table"),
    "a-number": (lambda x: 3.0, "table"),
    "a-string": (lambda x: "rows.csv", "table"),
    "empty-column": (lambda x: changed(x, slice(None), 2, torch.nan), "NaN|column 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_for_every_fit(case, name, rows, as_installed):
    build, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        fit(case.model, build(rows), case.method)


def finite(run, x):
    """No fitted number and no score may be NaN or infinite; noise variances are above zero."""
    assert all(value.isfinite().all() for value in run.model.state_dict().values())
    if run.model.noise != "none":
        assert (run.model.noise_variance > 0).all()
    assert run.history.isfinite().all()
    assert run.posterior(x[:5]).mean.isfinite().all()


def test_missing_entries(case, rows):
    x = changed(rows, slice(0, 30, 3), 1, torch.nan)
    if case.missing:
        run = fit(case.model, x, case.method)
        finite(run, x)
        assert run.log_likelihood(x).isfinite().all()
        return
    with pytest.raises((DataError, ParameterError), match=r"NaN|missing") as refusal:
        fit(case.model, x, case.method)
    if case.model.noise == "none":
        assert "EM()" not in str(refusal.value)  # which refuses models without noise


@pytest.mark.parametrize("kind", ["bool", "int8", "float16", "list", "reversed"])
def test_one_table_in_many_containers_gives_one_answer(kind, rows):
    """The values are exact in float16 and int8."""
    x = (rows * 2).round().clamp(-100, 100)
    if kind == "bool":
        x = (x > x.median(0).values).double()
    table = {
        "bool": x.bool(),
        "int8": x.to(torch.int8),
        "float16": x.half(),
        "list": x.tolist(),
        "reversed": x.numpy()[::-1][::-1],
    }[kind]
    for model, method in (
        (FactorAnalysis(4, 1), None),
        (SparseCoding(4, 3), MAP(steps=2)),
        (FactorAnalysis(4, 1), SVI(LinearGaussianEncoder(4, 1), epochs=2)),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProbaeWarning)  # of counts
            run = fit(model, table, method)
            exact = fit(model, x if kind != "float16" else x.float(), method)
        finite(run, x)
        for one, two in zip(run.model.parameters(), exact.model.parameters(), strict=True):
            assert torch.equal(one, two)


def test_sparse_rows(rows, covariance_of):
    """A Gaussian model needs only the Gram matrix of sparse rows; the refusal of others says so."""
    x = rows * (rows.abs() > 0.5)
    run = fit(FactorAnalysis(4, 1), scipy.sparse.csr_array(x.numpy()))
    dense = fit(FactorAnalysis(4, 1), x)
    assert torch.allclose(covariance_of(run.model), covariance_of(dense.model), rtol=1e-8)


def test_a_constant_column(case, rows):
    x = changed(rows, slice(None), 2, 5.5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if not case.constant:
            with pytest.raises(DataError, match="constant|singular"):
                fit(case.model, x, case.method)
            return
        method = case.method
        if isinstance(method, Gibbs):  # the posterior mean is 0, that of few draws is not
            method = replace(method, draws=2000)
        run = fit(case.model, x, method)
    assert any(w.category is ConstantColumnWarning for w in caught)
    finite(run, x)
    tolerance = (
        1e-2 if isinstance(case.method, SVI) else 1e-3
    )  # stochastic steps end near the mean, not on it
    assert run.model.mean[2].item() == pytest.approx(5.5, rel=tolerance)
    if not isinstance(case.method, SVI):
        assert run.model.loadings[2].abs().max() <= 1e-3 * run.model.loadings.abs().max()


def test_only_constant_columns(case, rows, as_installed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbaeWarning)
        with pytest.raises(DataError, match="constant|vary|singular"):
            fit(case.model, torch.ones_like(rows), case.method)


def test_statistics_of_a_constant_column_warn(rows):
    x = changed(rows, slice(None), 2, 5.5)
    with pytest.warns(ConstantColumnWarning, match="column 2"):
        fit(FactorAnalysis(4, 1), SufficientStatistics.from_data(x))


def test_statistics_of_one_row_are_refused(case, rows):
    if not case.statistics:
        pytest.skip("this fit needs the rows")
    with pytest.raises(DataError, match=r"row|vary|singular"):
        fit(case.model, SufficientStatistics.from_data(rows[:1]), case.method)


def test_a_copied_column(case, rows):
    x = rows.clone()
    x[:, 3] = 2 * x[:, 1] + 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if case.model.noise == "none":
            with pytest.raises(DataError, match="collinear|singular"):
                fit(case.model, x, case.method)
            return
        run = fit(case.model, x, case.method)
    assert any(w.category is CollinearWarning for w in caught)
    finite(run, x)


@pytest.mark.parametrize("scale", [1e-8, 1e140])
def test_another_unit_of_all_columns(witnessed, scale, rows, covariance_of):
    """The same fit in the other unit: the covariance scales with the square, the objective shifts by D log scale.

    Where the same steps are taken only rounding differs, which a hundred steps may amplify.
    """
    run, other = witnessed.run, fit(witnessed.case.model, rows * scale, witnessed.case.method, seed=3)
    finite(other, rows * scale)
    ratio = covariance_of(other.model) / scale / scale / covariance_of(run.model)
    assert torch.allclose(ratio, torch.ones_like(ratio), rtol=1e-4)
    if not isinstance(witnessed.case.method, MAP):
        shift = run.history[-1] - other.history[-1]
        unitless = isinstance(witnessed.case.method, LeastSquares)  # of correlations
        assert shift.item() == pytest.approx(0.0 if unitless else 4 * np.log(scale), abs=1e-5)


def test_other_units_of_some_columns(witnessed, rows, covariance_of):
    """Factor analysis and noise-free models follow the unit of each column; 1e12 lies between the units here."""
    case = witnessed.case
    scale = torch.tensor([1e6, 1.0, 1e-6, 1e2], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbaeWarning)  # isotropic noise may not fit such columns
        other = fit(case.model, rows * scale, case.method, seed=3)
    finite(other, rows * scale)
    if case.model.noise in ("isotropic", "complement"):
        return  # one noise variance for all columns does depend on their units
    ratio = covariance_of(other.model) / torch.outer(scale, scale) / covariance_of(witnessed.run.model)
    assert torch.allclose(ratio, torch.ones_like(ratio), rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_float32_of_extreme_size(witnessed, scale, rows, covariance_of):
    """Squares of such numbers do not exist in float32, in which SVI and MAP learn."""
    if scale < 1 and not isinstance(witnessed.case.method, (SVI, MAP)):
        pytest.skip("this fit runs in float64: large numbers are test enough")
    x = (rows * scale).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbaeWarning)
        plain = fit(
            witnessed.case.model, rows.float(), witnessed.case.method, seed=3
        )  # float32 has draws of its own
        other = fit(witnessed.case.model, x, witnessed.case.method, seed=3)
    finite(other, x)
    ratio = covariance_of(other.model) / scale**2 / covariance_of(plain.model)
    assert torch.allclose(ratio, torch.ones_like(ratio), rtol=1e-2)


@pytest.mark.parametrize("count", [3])
def test_fewer_rows_than_columns(case, count, rows):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            run = fit(case.model, rows[:count], case.method)
        except (DataError, NotExactError) as refusal:
            assert any(word in str(refusal) for word in ("rows", "singular"))  # noqa: PT017 - one of two outcomes
            return
    finite(run, rows[:count])
    assert all(issubclass(w.category, ProbaeWarning) for w in caught)


@pytest.mark.parametrize("latents", [4, 6])
@pytest.mark.parametrize("build", [FactorAnalysis, ProbabilisticPCA])
def test_as_many_factors_as_columns(build, latents, rows):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = fit(build(4, latents), rows, MaximumLikelihood())
    assert any(
        w.category is UnderidentifiedWarning and f"{latents} factors" in str(w.message) for w in caught
    )
    finite(run, rows)
    sample = torch.cov(rows.T, correction=0)
    saturated = torch.distributions.MultivariateNormal(rows.mean(0), sample).log_prob(rows).mean()
    assert run.log_likelihood(rows).mean() <= saturated + 1e-9


def test_one_column(rows):
    with pytest.warns(UnderidentifiedWarning):
        run = fit(ProbabilisticPCA(1, 1), rows[:, :1])
    finite(run, rows[:, :1])
    variance = (run.model.loadings.square().sum() + run.model.noise_variance).item()
    assert variance == pytest.approx(rows[:, 0].var(correction=0).item(), rel=1e-9)
