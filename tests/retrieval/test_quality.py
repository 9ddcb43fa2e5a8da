"""Precision under ties, bit reports, and the baselines: quantised rotations, random hyperplanes, semantic analysis."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from probae import DataError, ParameterError
from probae.datasets import digits, topic_documents
from probae.retrieval import (
    ITQ,
    LSA,
    HammingIndex,
    RandomHyperplanes,
    bit_report,
    cosine_distances,
    pack,
    precision_at,
)


def leave_one_out(bits, labels):
    packed = pack(bits)
    return float(precision_at(10, packed.distances(packed), labels).precision[0])


def test_precision_is_the_mean_over_random_orders_of_ties():
    generator = torch.Generator().manual_seed(0)
    distances = torch.randint(0, 4, (6, 40), generator=generator).double()
    labels, asked = (torch.randint(0, 3, (n,), generator=generator) for n in (40, 6))
    curve = precision_at([1, 7, 40], distances, labels, asked)
    draws = []
    for _ in range(2000):
        shuffled = torch.randperm(40, generator=generator)
        order = shuffled[distances[:, shuffled].argsort(dim=1, stable=True)]
        hits = (labels[order] == asked[:, None]).double()
        draws.append(torch.stack([hits[:, :k].mean() for k in (1, 7, 40)]))
    draws = torch.stack(draws)
    # 4 standard errors of a mean of 2,000 orders; with k = 40 all orders agree, to rounding
    error = 4 * draws.std(0) / math.sqrt(2000) + 1e-12
    assert ((curve.precision - draws.mean(0)).abs() <= error).all()


def test_leaving_one_out_is_searching_the_others():
    x, labels = digits().x[:60], digits().labels[:60]
    distances = torch.cdist(x, x)
    curve = precision_at([3, 10], distances, labels)
    for k, value in zip(curve.counts, curve.precision, strict=True):
        hits = [
            float(
                (labels[[j for j in distances[i].argsort().tolist() if j != i][:k]] == labels[i])
                .double()
                .mean()
            )
            for i in range(60)
        ]
        assert float(value) == pytest.approx(np.mean(hits))


def test_one_query_has_no_standard_error():
    assert math.isnan(float(precision_at(1, [[0.0, 1.0]], [0, 1], [0]).standard_error))


def test_precision_refuses_what_does_not_fit():
    with pytest.raises(DataError, match="should have shape"):
        precision_at(1, torch.zeros(2, 3), [0, 1, 1])
    with pytest.raises(DataError, match="at most 2"):
        precision_at(3, torch.zeros(3, 3), [0, 1, 1])


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog", "cat"],
        np.array(["cat", "dog", "cat"]),
        pd.Series(["cat", "dog", "cat"], index=[7, 8, 9]),
        pd.Series(["cat", "dog", "cat"], dtype="category"),
        (False, True, False),
        np.array([3, 1, 3], dtype=np.int8),
        torch.tensor([0.5, 2.0, 0.5]),
    ],
)
def test_labels_of_every_kind_say_which_rows_are_alike(labels):
    distances = [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]
    # the nearest other row of the first is another, of the second another, of the third alike
    assert float(precision_at(1, distances, labels).precision[0]) == pytest.approx(1 / 3)
    asked = labels.iloc[:2] if isinstance(labels, pd.Series) else labels[:2]
    assert float(precision_at(1, distances[:2], labels, asked).precision[0]) == 1.0


@pytest.mark.parametrize("count", [np.int64(1), torch.tensor(1), [np.int32(1)], np.array([1]), range(1, 2)])
def test_counts_are_whole_numbers_of_every_kind(count):
    curve = precision_at(count, [[0.0, 1.0]], [0, 1], [0])
    assert curve.counts == (1,)
    assert type(curve.counts[0]) is int


def test_precision_says_what_is_wrong_by_its_own_name():
    distances = torch.zeros(2, 2)
    for count in (1.5, "10", [1.5], None, True, 0):
        with pytest.raises(ParameterError, match="counts should be a whole number of at least 1"):
            precision_at(count, distances, [0, 1])
    with pytest.raises(ParameterError, match="counts should hold at least one number"):
        precision_at([], distances, [0, 1])
    for labels in ([[0, 1], [1, 0]], 3, [["a"], ["b"]]):
        with pytest.raises(DataError, match="^labels should be a sequence of one label a row, got shape"):
            precision_at(1, distances, labels)
        with pytest.raises(DataError, match="^query_labels should be a sequence"):
            precision_at(1, distances, [0, 1], labels)
    for labels in ([0.0, math.nan], ["a", None], pd.Series(["a", None])):
        with pytest.raises(DataError, match="^labels should be complete and of one kind"):
            precision_at(1, distances, labels)
    with pytest.raises(DataError, match="^query_labels should be of the kind of labels"):
        precision_at(1, distances, ["a", "b"], [0, 1])
    for bad in (
        [0.0, 1.0],
        torch.zeros(2, 2, 2),
        torch.tensor([[0.0, math.nan], [1.0, 0.0]]),
        torch.zeros(0, 2),
    ):
        with pytest.raises(DataError, match=r"^distances (should|contains)(?!.*the model was built for)"):
            precision_at(1, bad, [0, 1])


@pytest.mark.parametrize(
    "bad", [[0, 1], np.zeros((2, 2, 2)), [[0.0, math.nan]], np.zeros((0, 3)), np.zeros((3, 0))]
)
def test_codes_and_activations_are_called_by_their_names(bad):
    with pytest.raises(DataError, match="^codes (should|contains)"):
        pack(bad)
    with pytest.raises(DataError, match="^activations (should|contains)"):
        bit_report(bad)


def test_other_columns_are_named_without_a_model():
    for name, call in (
        ("queries", lambda: cosine_distances([[1.0, 0.0]], [[1.0, 0.0, 0.0]])),
        ("counts", lambda: LSA(1).fit([[1, 0], [0, 1], [1, 1]]).codes([[1, 0, 0]])),
    ):
        with pytest.raises(
            DataError, match=rf"^{name} should have shape \(samples, [23]\), got \(1, [23]\)\.$"
        ):
            call()


def test_seeds_that_scikit_learn_does_not_take_end_in_one_sentence():
    counts = topic_documents(30, words=9, topics=3).x
    with pytest.raises(ParameterError, match=r"seed should be below 2\*\*32"):
        LSA(3).fit(counts, seed=2**40)
    assert LSA(3).fit(counts, seed=2**32 - 1).directions.shape == (9, 3)


def test_report_knows_dead_equal_and_opposite_bits():
    a = torch.tensor([0.95, 0.99, 0.05, 0.3], dtype=torch.float64)
    report = bit_report(torch.stack([a, 1 - a, torch.full_like(a, 0.2)], 1))
    assert report.balance.tolist() == [0.5, 0.5, 0.0]
    assert report.saturation.tolist() == [0.75, 0.75, 0.0]
    assert report.dead == 1
    expected = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(report.correlation, expected)
    assert bit_report(pack([[1, 0], [0, 0]])).saturation.tolist() == [1.0, 1.0]
    with pytest.raises(DataError, match="from 0 to 1"):
        bit_report([[1.5]])


def test_itq_loses_less_than_any_rotation_nearby_and_than_signs_of_components():
    x = digits().x
    found = ITQ(16, iterations=200).fit(x)
    gram = found.directions.T @ found.directions
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64))
    scores = (x - found.centre) @ found.directions

    def loss(v):
        return float((v.sign() - v).square().sum())

    components = torch.linalg.eigh((x - x.mean(0)).T @ (x - x.mean(0))).eigenvectors[:, -16:]
    assert loss(scores) < loss((x - x.mean(0)) @ components)
    # with the codes fixed, the rotation is a Procrustes solution: scores' codes is symmetric positive semidefinite
    product = scores.T @ scores.sign()
    assert float((product - product.T).norm() / product.norm()) < 1e-3
    assert float(torch.linalg.eigvalsh(product + product.T).min()) > 0


def test_random_hyperplanes_differ_in_the_share_of_the_angle():
    x = torch.tensor(
        [[1.0, 0.0], [math.cos(1.0), math.sin(1.0)], [-1.0, 0.0], [-math.cos(1.0), -math.sin(1.0)]]
    )
    bits = RandomHyperplanes(20_000).fit(x).bits(x)  # rows with mean zero: angles are around the origin
    share = float((bits[0] != bits[1]).double().mean())
    assert share == pytest.approx(1 / math.pi, abs=4 * math.sqrt(1 / math.pi * (1 - 1 / math.pi) / 20_000))
    assert bool((bits[0] != bits[2]).all())


def test_digits_baselines_are_the_oracles():
    """Leave one out over all 1,797 digits, expectation under ties; means over five seeds."""
    data = digits()
    raw = precision_at(10, torch.cdist(data.x, data.x), data.labels)
    assert float(raw.precision[0]) == pytest.approx(0.965, abs=0.0005)
    for kind, expected in ((ITQ, {16: 0.881, 32: 0.924}), (RandomHyperplanes, {16: 0.633, 32: 0.795})):
        for bits, value in expected.items():
            found = [
                leave_one_out(kind(bits).fit(data.x, seed).bits(data.x), data.labels) for seed in range(5)
            ]
            # a standard error over seeds each way, and the oracle's own draw of one or a few seeds
            assert np.mean(found) == pytest.approx(value, abs=3 * np.std(found, ddof=1) + 0.0005)


def test_lsa_with_all_but_one_direction_keeps_cosines():
    counts = topic_documents(80, words=12, topics=3).x
    space = LSA(11).fit(counts)
    torch.testing.assert_close(space.directions.T @ space.directions, torch.eye(11, dtype=torch.float64))
    singular = torch.linalg.svdvals(space.codes(counts))
    from probae.retrieval.lsa import weighted

    exact = torch.linalg.svdvals(weighted(counts, space.weights))
    # the randomised decomposition is near exact for 11 of 12 directions
    torch.testing.assert_close(singular, exact[:11], rtol=1e-6, atol=1e-8)


def test_documents_without_words_are_at_the_origin_and_counts_are_checked():
    counts = topic_documents(30, words=9, topics=3).x
    counts[4] = 0
    codes = LSA(3).fit(counts).codes(counts)
    assert codes[4].tolist() == [0.0, 0.0, 0.0]
    assert cosine_distances(codes[4:5], codes).tolist() == [[1.0] * 30]
    with pytest.raises(DataError, match="counts should be"):
        LSA(3).fit(counts / 2)
    with pytest.raises(DataError, match="more documents and words"):
        LSA(9).fit(counts)
    with pytest.raises(DataError, match="at least as many features"):
        ITQ(10).fit(counts)


def test_an_index_finds_classes_of_digits():
    data = digits()
    bits = ITQ(32).fit(data.x).bits(data.x)
    rows = HammingIndex(bits[:1000]).nearest(bits[1000:], 1).rows.flatten()
    assert float((data.labels[rows] == data.labels[1000:]).double().mean()) > 0.8  # one in ten by chance
