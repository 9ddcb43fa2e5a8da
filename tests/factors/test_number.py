"""How many factors: one table of rules; each runs on what it needs and says why it cannot run."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import probae as pa
from probae.checks import ConstantColumnWarning, DataError, ParameterError
from probae.factors import number, sample, sequence
from probae.factors.number import (
    AIC,
    BIC,
    RULES,
    ComparisonData,
    HeldOutLikelihood,
    Kaiser,
    MinimumAveragePartial,
    ParallelAnalysis,
    SequentialChiSquare,
)

CHEAP = [Kaiser(), MinimumAveragePartial(), ParallelAnalysis(replicates=100), BIC()]
NEED_ROWS = {
    "parallel analysis (components, permuted)",
    "parallel analysis (common factors, permuted)",
    "comparison data",
    "held-out likelihood",
    "held-out likelihood within 1 standard error",
}


@pytest.fixture(scope="module")
def clear():
    """Four uncorrelated factors with five loadings of .7 each, 500 rows."""
    return four_factors(0)


def four_factors(seed, load=0.7, n=500):
    generator = np.random.default_rng(seed)
    W = load * np.kron(np.eye(4), np.ones((5, 1)))
    noise = generator.standard_normal((n, 20)) * np.sqrt(1 - load**2)
    return generator.standard_normal((n, 4)) @ W.T + noise


@pytest.fixture(scope="module")
def pupils():
    return pa.number_of_factors(pa.datasets.holzinger_swineford().x)


def published(table, **keywords):
    return pa.SufficientStatistics.from_covariance(table.covariance, count=table.count, **keywords)


def test_every_rule_finds_four_clear_factors(clear):
    """Equal loadings, no cross-loadings, 25 rows a column: structure no rule should miss."""
    rules = [rule for rule in RULES if not isinstance(rule, AIC)]  # AIC names too many now and then
    result = pa.number_of_factors(clear, rules=rules)
    assert result.agreement == {4: tuple(rule.name for rule in rules)}


def test_a_summary_serves_every_rule_that_needs_no_rows(clear):
    whole = pa.number_of_factors(clear, rules=RULES)
    summary = pa.number_of_factors(pa.SufficientStatistics.from_data(clear), rules=RULES)
    assert {name for name, answer in summary.answers.items() if answer is None} == NEED_ROWS
    for one, other in zip(whole.judgements, summary.judgements, strict=True):
        if one.name in NEED_ROWS:
            assert "needs the rows" in other.note
        else:
            assert one.answer == other.answer
            assert torch.allclose(one.values, other.values, rtol=1e-8, atol=1e-10)


def test_ability_has_one_component_and_two_factors():
    result = pa.number_of_factors(published(pa.datasets.ability_cov()))
    # factanal(covmat = ability.cov, factors = 2), R 4.2.2: chi square 6.106616519 on 4 degrees, p .1913263142;
    # with 1 factor 75.17959136 on 9 degrees
    one, two = result.fits[1:3]
    assert (one.chi_square, one.degrees) == (pytest.approx(75.17959136, rel=1e-6), 9)
    assert (two.chi_square, two.degrees) == (pytest.approx(6.106616519, rel=1e-6), 4)
    assert two.p_value == pytest.approx(0.1913263142, rel=1e-5)
    assert result.answers["sequential chi-square"] == 2
    assert result.answers["Kaiser"] == 2
    assert result.answers["parallel analysis (components, Gaussian)"] == 1


def test_answers_agreement_and_range_tell_the_same(pupils):
    named = [answer for answer in pupils.answers.values() if answer is not None]
    assert pupils.range == (min(named), max(named))
    assert sum(len(names) for names in pupils.agreement.values()) == len(named)
    for k, names in pupils.agreement.items():
        assert all(pupils.answers[name] == k for name in names)
    assert max(pupils.agreement, key=lambda k: len(pupils.agreement[k])) == 3  # spatial, verbal, speed


def test_the_table_has_a_row_for_each_rule(pupils):
    frame = pd.DataFrame(pupils.table).set_index("rule")
    assert list(frame.index) == [rule.name for rule in RULES]
    assert frame.loc["BIC", "answer"] == 3
    assert (frame["source"] != "").all()


def test_the_text_shows_every_rule_and_every_warning(pupils):
    text = str(pupils)
    for rule in RULES:
        assert rule.name in text
    assert "x4" not in text  # the tensor has no names
    assert sum("Heywood" in line for line in text.splitlines()) == sum(
        bool(one.warnings) for one in pupils.fits
    )
    assert "<pre>" in pupils._repr_html_()
    assert json.loads(json.dumps(pupils.to_dict()))["agreement"]["3"]


def test_fits_warn_in_the_table_only(pupils):
    """pyproject.toml turns warnings into errors, so raised ones would have failed `pupils`."""
    assert any("Heywood" in note for note in pupils.fits[5].warnings)
    assert pupils.largest == 5


def test_names_of_a_data_frame_are_used():
    data = pa.datasets.holzinger_swineford()
    frame = pd.DataFrame(data.x.numpy(), columns=data.feature_names)
    result = pa.number_of_factors(frame, rules=[BIC()])
    notes = " ".join(result.fits[5].warnings)  # five factors of nine tests are a Heywood case
    assert any(f"the uniqueness of {name}" in notes for name in data.feature_names)


def test_units_shifts_and_order_of_columns_do_not_matter(clear):
    generator = np.random.default_rng(3)
    units = 10.0 ** generator.uniform(-6, 6, 20)
    other = (clear * units + units)[:, generator.permutation(20)]
    rules = [rule for rule in RULES if not isinstance(rule, (number.MinkaEvidence, ComparisonData))]
    before = pa.number_of_factors(clear, rules=rules, largest=5)
    after = pa.number_of_factors(other, rules=rules, largest=5)
    for one, two in zip(before.judgements, after.judgements, strict=True):
        assert one.answer == two.answer
        if one.rule.statistic not in ("BIC", "AIC", "log-likelihood per held-out row"):
            assert torch.allclose(one.values, two.values, rtol=1e-5, atol=1e-6), one.name


def test_one_seed_one_result_and_no_state_left(clear, random_state):
    before = random_state()
    rules = [ParallelAnalysis(permute=True, replicates=100), ComparisonData(population=1000, samples=50)]
    first = pa.number_of_factors(clear[:, :8], rules=rules, seed=5)
    again = pa.number_of_factors(clear[:, :8], rules=rules[::-1], seed=5)
    other = pa.number_of_factors(clear[:, :8], rules=rules, seed=6)
    assert random_state() == before
    for rule in rules:
        assert torch.equal(first.judgement(rule).values, again.judgement(rule).values)
    thresholds = [one.judgement(rules[0]).threshold for one in (first, again, other)]
    assert torch.equal(thresholds[0], thresholds[1])
    assert not torch.equal(thresholds[0], thresholds[2])


def test_more_columns_than_rows():
    x = pa.datasets.linear_factors(40, 120, 2, seed=1).x
    result = pa.number_of_factors(
        x, largest=3, rules=[rule for rule in RULES if not isinstance(rule, ComparisonData)]
    )
    ran = {name: answer for name, answer in result.answers.items() if answer is not None}
    for name in (
        "parallel analysis (components, Gaussian)",
        "BIC",
        "held-out likelihood",
        "acceleration factor",
    ):
        assert ran[name] == 2
    assert "more rows than columns, got 40 rows of 120" in result.judgement("sequential chi-square").note


def test_wide_data_form_no_matrix_of_all_pairs(monkeypatch):
    x = pa.datasets.linear_factors(30, 200, 2, seed=1).x
    monkeypatch.setattr(sample, "MOST_DENSE", 100)
    result = pa.number_of_factors(
        x, rules=[Kaiser(), ParallelAnalysis(replicates=100), MinimumAveragePartial()]
    )
    dense = np.linalg.eigvalsh(np.corrcoef(x.numpy().T))[::-1]
    assert result.judgement("Kaiser").values.numpy() == pytest.approx(dense, abs=1e-10)
    assert "all pairs of 200 columns" in result.judgement(MinimumAveragePartial()).note


def test_constant_columns_are_left_out_and_named(clear):
    frame = pd.DataFrame(clear[:, :6], columns=list("abcdef"))
    with pytest.warns(ConstantColumnWarning, match="constant in column.*'same'.*left out"):
        result = pa.number_of_factors(frame.assign(same=7.1), rules=CHEAP)
    assert result.features == 6
    alone = pa.number_of_factors(frame, rules=CHEAP)
    for one, two in zip(result.judgements, alone.judgements, strict=True):
        assert torch.allclose(one.values, two.values, rtol=1e-8)
    with pytest.warns(ConstantColumnWarning, match="left out"):
        pa.number_of_factors(pa.SufficientStatistics.from_data(frame.assign(same=7.1)), rules=CHEAP)


def test_columns_left_out_may_leave_fewer_columns_than_rows():
    x = pa.datasets.linear_factors(30, 20, 2, seed=0).x
    padded = torch.cat([x, torch.ones(30, 20).double()], 1)
    with pytest.warns(ConstantColumnWarning, match="left out"):
        result = pa.number_of_factors(padded, rules=CHEAP)
    assert result.answers == pa.number_of_factors(x, rules=CHEAP).answers


def test_wide_statistics_may_have_been_merged():
    x = pa.datasets.linear_factors(30, 100, 2, seed=0).x
    parts = [pa.SufficientStatistics.from_data(part) for part in (x[:10], x[10:20], x[20:])]
    merged = pa.number_of_factors(parts[0] + parts[1] + parts[2], rules=CHEAP)
    for one, two in zip(merged.judgements, pa.number_of_factors(x, rules=CHEAP).judgements, strict=True):
        assert one.answer == two.answer
        assert torch.allclose(one.values, two.values, rtol=1e-6, atol=1e-9)


def test_a_copied_column_stops_only_the_rules_that_invert():
    x = pa.datasets.holzinger_swineford().x
    doubled = torch.cat([x, 2 * x[:, :1]], 1)
    result = pa.number_of_factors(
        doubled, rules=[Kaiser(), ParallelAnalysis(common=True), SequentialChiSquare()]
    )
    assert result.answers["Kaiser"] == 3
    for rule in (ParallelAnalysis(common=True), SequentialChiSquare()):
        assert "a column follows from the others" in result.judgement(rule).note


def test_missing_values_leave_the_rules_that_need_no_rows(clear):
    generator = np.random.default_rng(8)
    holes = np.where(generator.uniform(size=clear.shape) < 0.05, np.nan, clear)
    result = pa.number_of_factors(holes)
    assert {name for name, answer in result.answers.items() if answer is None} == NEED_ROWS
    assert {answer for name, answer in result.answers.items() if name not in {"AIC", *NEED_ROWS}} == {4}
    assert "rows without missing values" in result.judgement("comparison data").note
    assert "Missing values" in str(result)
    assert "Missing values" not in str(pa.number_of_factors(clear, rules=CHEAP))


def test_sparse_rows_serve_as_a_summary(clear):
    result = pa.number_of_factors(scipy.sparse.csr_matrix(clear), rules=[Kaiser(), HeldOutLikelihood()])
    assert result.answers == {"Kaiser": 4, "held-out likelihood": None}


def test_the_default_limit_rises_with_parallel_analysis_and_stops_at_the_ledermann_bound():
    small = sample.open_sample(torch.randn(50, 5, dtype=torch.float64), 0, None)
    assert sequence.most_factors(small) == sequence.ledermann_bound(5) == 2
    many = pa.datasets.linear_factors(2000, 40, 8, seed=0).x
    assert sequence.most_factors(sample.open_sample(many, 0, None)) == 12


def test_an_answer_at_the_limit_says_so(clear):
    result = pa.number_of_factors(clear, largest=3, rules=[BIC(), SequentialChiSquare(), ComparisonData()])
    rows = {row["rule"]: row for row in result.table}
    assert rows["BIC"]["answer"] == 3
    assert "raise largest" in rows["BIC"]["note"]
    assert rows["sequential chi-square"]["answer"] is None
    assert "every number up to 3 is rejected" in rows["sequential chi-square"]["note"]
    assert rows["comparison data"]["answer"] is None


def test_three_columns_are_enough():
    x = pa.datasets.holzinger_swineford().x[:, :3]
    result = pa.number_of_factors(x)
    assert result.largest == 1
    assert result.answers["Kaiser"] == 1
    assert result.fits[1].chi_square is None  # no degrees of freedom are left


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (np.zeros((20, 4)), "at least 3 columns that vary, got 0 of 4"),
        (np.random.default_rng(0).standard_normal((20, 2)), "at least 3 columns that vary, got 2 of 2"),
        (np.random.default_rng(0).standard_normal((2, 5)), "at least 3"),
        (np.arange(5.0), "two-dimensional"),
        ([["a", "b", "c"]] * 4, "numbers"),
        (np.where(np.eye(20, 4) > 0, np.nan, 1.0), "constant"),
        (np.where(np.arange(4) == 1, np.nan, np.random.default_rng(0).standard_normal((20, 4))), "column 1"),
        (np.where(np.eye(20, 4) > 0, np.inf, 1.0), "row 0, column 0"),
        (np.zeros((0, 4)), "at least 3 row"),
        (None, "table"),
    ],
)
def test_bad_data_gets_a_sentence(x, sentence):
    with pytest.raises(DataError, match=sentence):
        pa.number_of_factors(x, rules=CHEAP)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"largest": 6}, "largest should be at most 5, the Ledermann bound for 9 columns"),
        ({"largest": 0}, "largest should be a whole number of at least 1"),
        ({"largest": 2.5}, "largest should be a whole number"),
        ({"seed": -1}, "seed should be a whole number"),
        ({"rules": []}, "rules should be a list of rules"),
        ({"rules": Kaiser()}, "rules should be a list of rules"),
        ({"rules": ["Kaiser"]}, "got a list with 'Kaiser'"),
        ({"rules": [BIC(), BIC()]}, "different names"),
    ],
)
def test_bad_settings_get_a_sentence(settings, sentence):
    with pytest.raises(ParameterError, match=sentence):
        pa.number_of_factors(pa.datasets.holzinger_swineford().x, **settings)


def test_a_rule_that_was_not_asked_is_named(pupils):
    result = pa.number_of_factors(pa.datasets.holzinger_swineford().x, rules=[Kaiser()])
    with pytest.raises(ParameterError, match=r"one that was asked, \['Kaiser'\]"):
        result.judgement("BIC")


def test_the_caller_s_data_stay_as_they_were(clear):
    before = clear.copy()
    pa.number_of_factors(clear, rules=CHEAP)
    assert np.array_equal(clear, before)


@pytest.mark.slow
def test_four_factors_are_found_on_nearly_every_sample():
    """Loadings of .6 and correlated with nothing: each of these rules misses at most one sample of twenty."""
    # a level of .30 adds a factor now and then; fourth powers miss a factor of five weak columns one time in four
    loose = {"AIC", "Kaiser", "comparison data", "minimum average partial (2000)"}
    misses = dict.fromkeys((rule.name for rule in RULES), 0)
    for seed in range(20):
        for name, answer in pa.number_of_factors(four_factors(100 + seed, 0.6), seed=seed).answers.items():
            misses[name] += answer != 4
    assert {name: count for name, count in misses.items() if count > 1 and name not in loose} == {}
