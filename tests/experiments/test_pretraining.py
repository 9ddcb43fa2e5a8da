"""The experiment on pre-training runs, and its answer points the way it says."""

import json
from dataclasses import replace

import pytest
import torch
from sklearn.decomposition import PCA

from experiments import pretraining as experiment

TINY = experiment.Settings(
    units=("sigmoid",), depths=(3,), widths=(24, 16, 12), budgets=(5,), layer_epochs=5, repeats=1
)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def test_a_start_from_layers_is_below_an_unscaled_random_one(rows):
    """35 steps leave sigmoid units of small weights near the mean of the images; layers start with what PCA sees."""
    found = {row["start"]: row["error"] for row in rows["errors"]}
    assert list(found) == experiment.starts("sigmoid")
    assert found["principal"] < found["random, 1 / fan-in"] - 0.3


def test_differences_are_to_the_scaled_start_of_the_same_split(rows):
    found = {row["start"]: row["error"] for row in rows["errors"]}
    for row in rows["below scaled random start"]:
        assert row["lower by"] == pytest.approx(found[experiment.REFERENCE] - found[row["start"]])
        assert row["standard error"] == 0.0


def test_pca_is_that_of_scikit_learn():
    """`oracles.md` 1, #10: 3.3932 on the split of seed 0."""
    train, test = experiment.split(0)
    pca = PCA(2).fit(train.double().numpy())
    rest = test.numpy() - pca.inverse_transform(pca.transform(test.double().numpy()))
    found = experiment.pca_error(train, test, 2)
    assert found == pytest.approx((rest**2).sum(1).mean(), rel=1e-6)
    assert found == pytest.approx(3.3932, abs=5e-5)


def test_standard_errors_are_those_of_a_mean():
    values = [1.0, 2.0, 4.0, 7.0]
    mean, error = experiment.mean_and_error(values)
    assert (mean, error) == (3.5, pytest.approx(float(torch.tensor(values).double().std()) / 2))


def test_an_unscaled_start_has_weights_of_variance_one_over_fan_in():
    train, _ = experiment.split(0)
    encoder, model = experiment.started("random, 1 / fan-in", ((64, 48), "sigmoid"), train, TINY, 0)
    for layer in (encoder.body[2], model.decoder.body[2]):
        # 3,072 weights: a variance has a relative standard error of sqrt(2 / 3072) = .026
        assert layer.weight.var().item() * layer.in_features == pytest.approx(1.0, abs=5 * 0.026)
        assert not layer.bias.any()


def test_results_are_written_whole(tmp_path):
    settings = replace(
        TINY, units=("tanh",), depths=(1,), layer_epochs=1, budgets=(1, 2), output=tmp_path / "pretraining"
    )
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    assert len(json.loads((settings.output / "rows.json").read_text("utf-8"))["errors"]) == 2 * 5


def test_denoising_is_compared_with_decay_split_by_split(rows):
    found = {row["start"]: row["error"] for row in rows["errors"]}
    (row,) = rows["below decay"]
    assert row["lower by"] == pytest.approx(found["greedy, decay"] - found["greedy, denoising"])
