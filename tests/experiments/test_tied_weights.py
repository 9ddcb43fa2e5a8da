"""Tied and untied autoencoders: linear ones reach their closed forms, and only a tie or decay makes a transpose."""

import json
from dataclasses import replace

import pytest
import torch

from experiments import tied_weights as experiment

TINY = experiment.Settings(samples=(200,), latents=3, steps=400, repeats=1, decay=0.01)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def select(rows, units, way):
    return next(row for row in rows["autoencoders"] if (row["units"], row["way"]) == (units, way))


@pytest.mark.parametrize("way", experiment.WAYS)
def test_linear_units_reach_the_best_error_on_their_own_rows(rows, way):
    found = select(rows, "linear", way)
    assert found["train error"] == pytest.approx(found["predicted train"], rel=2e-3)
    if way != "untied, decay":
        assert (
            found["train error"] >= found["predicted train"]
        )  # the error of principal components is the least


@pytest.mark.parametrize("way", ["tied", "untied, decay"])
def test_linear_units_have_the_eigenvalues_and_the_tie_of_the_closed_form(rows, way):
    found = select(rows, "linear", way)
    # Adam's last steps are a hundredth of .02 wide: a thousandth of a norm of order 1
    assert found["|W1 W2 - I|"] == pytest.approx(found["predicted inverse"], abs=5e-3)
    assert found["|W2 - W1'| / |W2|"] == pytest.approx(0.0, abs=5e-3)
    assert found["test error"] == pytest.approx(found["predicted test"], rel=2e-3)


def test_without_tie_or_decay_the_decoder_is_not_the_transpose(rows):
    found = select(rows, "linear", "untied")
    assert found["cosine"] < 0.9
    assert found["|W2 - W1'| / |W2|"] > 0.5


def test_gains_of_weight_decay_are_those_of_a_soft_threshold():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator, dtype=torch.float64) * torch.tensor(
        [3.0, 2, 1, 0.5, 0.1, 0.1]
    )
    gain, best = experiment.optimum(replace(TINY, decay=0.75), x, "untied, decay")
    values = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)[:3]
    assert values[2] < 1.5 < values[1]
    torch.testing.assert_close(gain, torch.stack([1 - 1.5 / values[0], 1 - 1.5 / values[1], 0 * values[2]]))
    torch.testing.assert_close(torch.linalg.eigvalsh(best).flip(0)[:2], gain[:2])


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, samples=(50, 100), steps=2, output=tmp_path / "tied_weights")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    assert set(json.loads((settings.output / "rows.json").read_text("utf-8"))) == {
        "autoencoders",
        "tied above untied",
        "fits",
    }
