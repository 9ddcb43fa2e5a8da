"""compare: differences row by row, stacking, what is within noise, and what cannot be compared."""

import pytest
import torch

import probae as pa
from probae.analysis.compare import stacking_weights
from probae.analysis.cross_validation import CrossValidation


def result(pointwise, rows="r", scheme="leave one out", **more):
    return CrossValidation(torch.as_tensor(pointwise, dtype=torch.float64), scheme, rows, **more)


def three(count=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(count, generator=generator, dtype=torch.float64)
    shift = 0.1 * torch.randn(2, count, generator=generator, dtype=torch.float64)
    return {"a": result(base), "b": result(base - 0.05 + shift[0]), "c": result(base - 0.5 + shift[1])}


def test_differences_are_summed_row_by_row_with_their_own_error():
    given = three()
    found = pa.compare(given)
    assert found.names == ("a", "b", "c")
    gap = given["b"].pointwise - given["a"].pointwise
    assert float(found.difference[1]) == pytest.approx(float(gap.sum()), abs=1e-10)
    assert float(found.difference_error[1]) == pytest.approx(float((200 * gap.var()).sqrt()), abs=1e-10)
    # the rows are shared, so the difference is known far better than either total
    assert found.difference_error[1] < found.results[0].standard_error / 5


def test_differences_are_antisymmetric_and_add_up():
    found = pa.compare(three())
    (ab, error), (ba, same) = found.between("a", "b"), found.between("b", "a")
    assert ab == -ba
    assert error == same
    assert found.between("a", "b")[0] + found.between("b", "c")[0] == pytest.approx(
        found.between("a", "c")[0], abs=1e-10
    )
    assert found.between("a", "a") == (0.0, 0.0)


def test_order_of_the_candidates_does_not_matter():
    given = three()
    turned = dict(reversed(given.items()))
    first, second = pa.compare(given), pa.compare(turned)
    assert first.names == second.names
    assert torch.equal(first.difference, second.difference)
    assert torch.allclose(first.weights, second.weights, atol=1e-6)


def test_stacking_weights_are_optimal():
    """At the maximum over the simplex mean_n p_m / mixture is 1 where w_m > 0 and at most 1 elsewhere (KKT)."""
    generator = torch.Generator().manual_seed(1)
    pointwise = torch.randn(4, 300, generator=generator, dtype=torch.float64)
    pointwise[3] -= 3
    weights = stacking_weights(pointwise)
    density = pointwise.exp()
    ratio = (density / (weights @ density)).mean(1)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(ratio.max()) < 1 + 1e-4  # what is lost in the mean log density is at most ratio - 1
    assert torch.allclose(ratio[weights > 1e-3], torch.ones(()).double(), atol=1e-4)


def test_stacking_weights_do_not_change_when_a_row_is_made_less_likely_for_all():
    pointwise = torch.randn(3, 50, dtype=torch.float64)
    shift = 300 * torch.rand(50, dtype=torch.float64)
    assert torch.allclose(stacking_weights(pointwise), stacking_weights(pointwise - shift), atol=1e-6)


def test_what_is_within_noise_is_said():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(400, generator=generator, dtype=torch.float64)
    wide = torch.randn(400, generator=generator, dtype=torch.float64)
    wide -= wide.mean()
    found = pa.compare(
        {"best": result(base), "same": result(base - 0.005), "noisy": result(base - 0.05 + wide)}
    )
    assert found.names == ("best", "same", "noisy")
    assert any(note.startswith("same: less than 4 nats") for note in found.notes)  # 400 * .005 = 2
    assert any(
        note.startswith("noisy: within 2 standard errors") for note in found.notes
    )  # 20 against 2 * 20
    clear = pa.compare({"best": result(base), "worse": result(base - 0.5 + 0.1 * wide)})
    assert clear.notes == ()


def test_few_rows_are_said():
    notes = pa.compare({"a": result(torch.zeros(20)), "b": result(-torch.rand(20) - 1)}).notes
    assert any("20 rows, fewer than 100" in note for note in notes)


def test_the_planted_number_of_factors_predicts_best(factors):
    """Two factors planted: one loses by more than 3 errors, three win nothing that counts."""
    x = factors(8, 2, 0.3).sample(200, seed=1)
    found = pa.compare({f"{k}": pa.k_fold(pa.ProbabilisticPCA(8, k), x, folds=5) for k in (1, 2, 3)})
    assert found.names[0] in ("2", "3")
    gain, error = found.between("2", "1")
    assert gain > 3 * error
    gain, error = found.between("3", "2")
    assert gain < 2 * error


def test_fits_stand_for_their_leave_one_out(factors, normal_mean):
    model = factors()
    x = model.sample(120, seed=1)
    runs = {"a": pa.fit(model, x, normal_mean()), "b": pa.fit(factors(noise=2.0), x, normal_mean())}
    found = pa.compare(runs, x)
    assert torch.equal(found.results[found.names.index("a")].pointwise, pa.loo(runs["a"], x).pointwise)
    assert found.names[0] == "a"  # whose noise is the true one


def test_results_on_other_rows_or_of_other_schemes_are_refused(factors):
    with pytest.raises(pa.DataError, match="different rows"):
        pa.compare({"a": result([1.0, 2.0]), "b": result([1.0, 2.0], rows="s")})
    with pytest.raises(pa.ParameterError, match="leave out different things"):
        pa.compare({"a": result([1.0, 2.0]), "b": result([1.0, 2.0], scheme="5 folds of rows, seed 0")})
    with pytest.raises(pa.ParameterError, match="at least two"):
        pa.compare({"a": result([1.0, 2.0])})
    with pytest.raises(pa.ParameterError, match="at least two"):
        pa.compare([result([1.0, 2.0]), result([1.0, 2.0])])
    with pytest.raises(pa.ParameterError, match="'b' should be a result"):
        pa.compare({"a": result([1.0, 2.0]), "b": [1.0, 2.0]})
    run = pa.fit(pa.FactorAnalysis(6, 1), factors().sample(40, seed=0))
    with pytest.raises(pa.ParameterError, match="needs x"):
        pa.compare({"a": run, "b": run})
    with pytest.raises(pa.ParameterError, match="name should be one of a, b"):
        pa.compare({"a": result([1.0, 2.0]), "b": result([0.0, 1.0])}).between("a", "c")


def test_the_table_reads_best_first():
    lines = str(pa.compare(three())).splitlines()
    assert lines[0] == "Prediction of 200 rows (leave one out), in nats"
    assert lines[1].split() == ["elpd", "difference", "its", "error", "p", "weight"]
    assert [line.split()[0] for line in lines[2:5]] == ["a", "b", "c"]


def test_doubtful_rows_are_passed_on():
    high = torch.tensor([0.1] * 199 + [1.2], dtype=torch.float64)
    given = three()
    given["a"] = result(given["a"].pointwise, k_hat=high)
    assert any(note.startswith("a: some rows have a Pareto k") for note in pa.compare(given).notes)
