"""Tables that go wrong elsewhere, for every question about a fit: a right answer or one sentence."""

import warnings

import jaxtyping
import numpy as np
import pytest
import scipy.sparse
import torch

import probae as pa

QUESTIONS = {
    "standard_errors": pa.standard_errors,
    "sandwich": lambda run, x: pa.standard_errors(run, x, information=pa.Sandwich()),
    "fit_indices": pa.fit_indices,
    "regression_scores": pa.regression_scores,
    "bartlett_scores": pa.bartlett_scores,
    "ten_berge_scores": pa.ten_berge_scores,
    "alpha": lambda run, x: pa.alpha(x),
}


@pytest.fixture(params=QUESTIONS)
def ask(request):
    """Each question that takes data."""
    return QUESTIONS[request.param]


@pytest.fixture(scope="module")
def rows():
    """Eighty rows of five columns with one factor."""
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(80, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(80, 5, generator=generator, dtype=torch.float64)
    return z @ torch.tensor([[1.0, 0.8, 0.6, 0.9, 0.7]]).double() + 0.6 * noise + 3.0


@pytest.fixture(scope="module")
def run(rows):
    """Its one-factor model."""
    return pa.fit(pa.FactorAnalysis(5, 1), rows)


@pytest.fixture(autouse=True)
def as_installed(monkeypatch):
    """Without run-time type checks: what a user sees."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def changed(rows, where, value):
    x = rows.clone()
    x[where] = value
    return x


REFUSED = {
    "infinity": (lambda x: changed(x, (5, 2), torch.inf), "inf at row 5, column 2"),
    "out-of-range": (lambda x: changed(x, (5, 2), 1e200), "out of range"),
    "no-rows": (lambda x: x[:0], "row"),
    "one-dimension": (lambda x: x[:, 0], "two-dimensional"),
    "three-dimensions": (lambda x: x[None], "two-dimensional"),
    "ragged": (lambda x: [[1.0, 2.0, 3.0, 4.0, 5.0], [1.0]], "rows of equal length"),
    "strings": (lambda x: x.numpy().astype(str), "real numbers"),
    "complex": (lambda x: x.to(torch.complex128), "real numbers"),
    "sparse": (lambda x: scipy.sparse.csr_array(x.numpy()), "dense"),
    "none": (lambda x: None, "table"),
    "a-string": (lambda x: "rows.csv", "table"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(ask, name, run, rows):
    build, message = REFUSED[name]
    with pytest.raises(pa.DataError, match=message):
        ask(run, build(rows))


@pytest.mark.parametrize("name", [name for name in QUESTIONS if name != "alpha"])
@pytest.mark.parametrize("width", [4, 6])
def test_another_width_is_refused(name, width, run):
    with pytest.raises(pa.DataError, match=rf"\(samples, 5\), got \(80, {width}\)"):
        QUESTIONS[name](run, torch.randn(80, width))


def numbers_of(answer):
    values = [v for v in vars(answer).values() if isinstance(v, float | torch.Tensor)]
    return torch.cat([torch.as_tensor(v, dtype=torch.float64).flatten() for v in values])


@pytest.mark.filterwarnings("ignore::probae.IntegerDataWarning")
@pytest.mark.parametrize("kind", ["list", "reversed", "float32", "integers"])
def test_one_table_in_many_containers(ask, kind, rows):
    x = rows if kind == "reversed" else (4 * rows).round()
    table = {
        "list": x.tolist(),
        "reversed": x.numpy()[::-1][::-1],
        "float32": x.float(),
        "integers": x.int(),
    }[kind]
    fitted = pa.fit(pa.FactorAnalysis(5, 1), x)
    one, two = numbers_of(ask(fitted, table)), numbers_of(ask(fitted, x))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_a_missing_value(ask, run, rows, request):
    x = changed(rows, (3, 1), torch.nan)
    if "alpha" in request.node.name:
        with pytest.raises(pa.DataError, match="NaN"):
            ask(run, x)
        return
    answer = ask(pa.fit(pa.FactorAnalysis(5, 1), x), x)
    assert isinstance(answer, pa.FitIndices) or numbers_of(answer).isfinite().all()


def test_the_table_is_left_as_it_was(ask, run, rows, random_state):
    x, before = rows.clone(), random_state()
    ask(run, x)
    assert torch.equal(x, rows)
    assert random_state() == before


@pytest.mark.filterwarnings("ignore::probae.HeywoodWarning")
def test_a_constant_column(ask, rows, request):
    x = changed(rows, (slice(None), 2), 5.5)
    with pytest.warns(pa.ConstantColumnWarning):
        run = pa.fit(pa.FactorAnalysis(5, 1), x)
    if "alpha" in request.node.name:
        with pytest.raises(pa.DataError, match="column 2"):
            ask(run, x)
        return
    answer = ask(run, x)
    if isinstance(answer, pa.FitIndices):
        assert "no bound" in answer.note
    else:
        held = isinstance(answer, pa.StandardErrors)
        assert numbers_of(answer).isnan().sum() == held  # the noise variance of the column that does not vary
        assert not held or answer.heywood == ("column 2",)


def test_a_copied_column(ask, rows, request):
    x = rows.clone()
    x[:, 3] = 2 * x[:, 1] + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)
        run = pa.fit(pa.FactorAnalysis(5, 1), x)
        answer = ask(run, x)
    if isinstance(answer, pa.FitIndices):
        assert "no bound" in answer.note
    elif "score" in request.node.name:
        assert numbers_of(answer).isfinite().all()


@pytest.mark.parametrize("scale", [1e-8, 1e50, 1e100])
def test_other_units(ask, scale, rows, request):
    if scale > 1e60 and ("errors" in request.node.name or "sandwich" in request.node.name):
        with pytest.raises(pa.DataError, match="rescale"):
            ask(pa.fit(pa.FactorAnalysis(5, 1), rows * scale), rows * scale)
        return
    one = ask(pa.fit(pa.FactorAnalysis(5, 1), rows), rows)
    two = ask(pa.fit(pa.FactorAnalysis(5, 1), rows * scale), rows * scale)
    if isinstance(one, pa.StandardErrors):
        torch.testing.assert_close(two.loadings / scale, one.loadings, rtol=1e-6, atol=0)
        torch.testing.assert_close(two.noise_variance / scale / scale, one.noise_variance, rtol=1e-6, atol=0)
    elif isinstance(one, pa.FitIndices):
        assert two.chi_square == pytest.approx(one.chi_square, rel=1e-6)
        assert two.scaled.factor == pytest.approx(one.scaled.factor, rel=1e-6)
        assert two.srmr == pytest.approx(one.srmr, rel=1e-5)
    else:
        torch.testing.assert_close(numbers_of(two), numbers_of(one), rtol=1e-6, atol=1e-8)


def test_names_are_checked(ask, rows, request):
    if "alpha" in request.node.name:
        pytest.skip("takes no fit")
    import pandas as pd

    frame = pd.DataFrame(rows.numpy(), columns=list("abcde"))
    run = pa.fit(pa.FactorAnalysis(5, 1), frame)
    ask(run, frame)
    with pytest.raises(pa.DataError, match="order"):
        ask(run, frame[list("bacde")])
    with pytest.raises(pa.DataError, match="lacks 'a'"):
        ask(run, frame.rename(columns={"a": "z"}))


@pytest.mark.filterwarnings("ignore:.*reversed")
def test_fewer_rows_than_columns():
    x = torch.randn(8, 2, dtype=torch.float64) @ torch.randn(2, 12, dtype=torch.float64)
    x = x + torch.randn(8, 12, dtype=torch.float64)
    run = pa.fit(pa.ProbabilisticPCA(12, 2), x)
    assert pa.standard_errors(run, x).loadings.isfinite().all()
    assert np.isnan(pa.fit_indices(run, x).p_value)
    assert pa.regression_scores(run, x).values.isfinite().all()
    assert np.isfinite(pa.alpha(x.cumsum(1)).value)
