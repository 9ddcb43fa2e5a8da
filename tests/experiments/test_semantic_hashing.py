"""The experiment on binary codes runs, and its answer points the way it says; the oracle row of digits is slow."""

import json
import warnings
from dataclasses import replace

import pytest
import torch

import probae as pa
from experiments import semantic_hashing as experiment

TINY = experiment.Settings(bits=(8, 16), hidden=64, noise=3.0, lr=0.02, epochs=50, seeds=1, samples=300)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def precision(rows, method, bits):
    found = [row["precision"] for row in rows["precision"] if (row["method"], row["bits"]) == (method, bits)]
    return sum(found) / len(found)


def test_learned_codes_find_more_than_random_ones_and_less_than_pixels(rows):
    for bits in TINY.bits:
        assert precision(rows, "random hyperplanes", bits) < precision(rows, "learned", bits)
        assert precision(rows, "learned", bits) < precision(rows, "raw pixels", 0)


def test_noise_on_the_input_saturates_units(rows):
    found = {(row["method"], row["bits"]): row["saturation"] for row in rows["precision"]}
    for bits in TINY.bits:
        assert found["learned", bits] > found["learned, no code noise", bits] + 0.2


def test_more_comparisons_keep_more_of_the_exact_answer(rows):
    recall = [row["recall"] for row in rows["two stages"]]
    assert recall == sorted(recall)
    assert all(row["share compared"] < 0.1 for row in rows["two stages"])


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, bits=(4,), epochs=1, samples=60, output=tmp_path / "semantic_hashing")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    tables = json.loads((settings.output / "rows.json").read_text("utf-8"))
    assert set(tables) == {"precision", "activations", "held out", "two stages"}


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "target"), [(16, 0.88), (32, 0.925), (64, 0.94)])
def test_digits_codes_reach_the_oracle(bits, target):
    """hashing_digits: precision, and units outside (.1, .9) with noise on their input and without."""
    data, settings = pa.datasets.digits(), experiment.Settings()
    encoder = experiment.learn(settings, data.x, bits, settings.noise, settings.neighbours, seed=0)
    found = experiment.row(settings, "learned", bits, 0, encoder.bits(data.x), data.labels)
    assert found["precision"] >= target
    assert experiment.saturation(encoder, data.x)["saturation"] > 0.95
    quiet = experiment.learn(settings, data.x, bits, settings.quiet, settings.neighbours, seed=0)
    assert experiment.saturation(quiet, data.x)["saturation"] < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_ten_numbers_of_a_multinomial_autoencoder_find_what_fifty_of_semantic_analysis_do(seed):
    """8,000 documents of 10 topics; 2,000 more ask among the first 4,000."""
    data = pa.datasets.topic_documents(10_000, words=500, topics=10, seed=seed)
    train, rows, queries = data.x[:8000], data.x[:4000], data.x[8000:]
    method = pa.MAP(
        encoder=pa.LinearGaussianEncoder(500, 10),
        epochs=15,
        batch=256,
        lr=5e-3,
        regularizers=(pa.Denoising(pa.Masking(0.7)),),
    )
    model = pa.Autoencoder(
        500, 10, pa.decoders.LinearDecoder(10, 500), likelihood=pa.likelihoods.Multinomial()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)
        posterior = pa.fit(model, train.float(), method, seed=0).posterior
    space = pa.LSA(50).fit(train)
    found = [
        float(
            pa.precision_at(
                10,
                pa.cosine_distances(codes(queries), codes(rows)),
                data.labels[:4000],
                data.labels[8000:],
            ).precision[0]
        )
        for codes in (lambda x: posterior(x).mean, space.codes)
    ]
    assert found[0] >= found[1]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0.05)  # neither has broken down
