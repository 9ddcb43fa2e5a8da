"""The contractive penalty against weight decay: one unit in closed form, and two networks of equal error."""

import json
from dataclasses import replace

import pytest
import torch

from experiments import jacobian_or_weights as experiment

TINY = experiment.Settings(
    contractive=(0.3,), samples=300, latents=12, epochs=60, batch=150, repeats=1, tries=5
)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def test_one_unit_is_its_closed_forms(rows):
    found = {row["w"]: row for row in rows["one unit"]}
    # s'(u)^2 = (1 - u^2 / 2 + ...) / 16, so w^2 / 16 is too large by the share w^2 / 2, .78 % at w = 1/8
    assert found[0.125]["gaussian z"] == pytest.approx(found[0.125]["small w"], rel=0.0079)
    # the density of z falls by u^2 / (2 w^2) over the unit: with (pi^2 - 6) / 18, the integral of u^2 s'^2, that is
    # a share of .65 / w^2
    for w in (8.0, 16.0, 64.0):
        assert found[w]["gaussian z"] == pytest.approx(found[w]["large w"], rel=0.66 / w**2)
    # to four digits, from the closed-form table of the question
    for w, normal, edge in ((1.0, 0.04484, 0.03866), (2.0, 0.1161, 0.04409), (4.0, 0.25595, 0.00499)):
        assert found[w]["gaussian z"] == pytest.approx(normal, rel=1e-3)
        assert found[w]["|z| = 1"] == pytest.approx(edge, rel=2e-3)
    for row in found.values():
        # h (1 - h) of a saturated unit is 1 less a number near 1: rounding 1e-16, squared
        assert row["|z| = 1"] == pytest.approx(row["predicted |z| = 1"], rel=1e-6, abs=1e-25)


def test_networks_reconstruct_equally_well(rows):
    ratio = next(row["ratio"] for row in rows["ratios"] if row["number"] == "squared error")
    assert abs(ratio - 1) < TINY.tolerance


def test_each_penalty_is_smaller_where_it_was_asked_for(rows):
    found = {row["number"]: row["ratio"] for row in rows["ratios"]}
    assert found["|J|^2"] < 1 < found["|W|"]


def test_the_jacobian_is_below_its_bound_and_units_are_saturated_by_contraction(rows):
    ours, peer = rows["networks"]
    assert all(row["|J|^2"] < row["|W|^2 / 16"] for row in (ours, peer))
    assert ours["saturated"] > peer["saturated"]


def test_rows_are_moved_at_right_angles():
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, :2] *= 10
    moved = experiment.moved(x) - x
    centred = x - x.mean(0)
    leading = torch.linalg.svd(centred, full_matrices=False).Vh[:1]
    assert float((moved @ leading.T).abs().max()) < 1e-10
    torch.testing.assert_close(moved.norm(dim=1), centred.norm(dim=1), rtol=1e-10, atol=0)


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, epochs=2, tries=1, output=tmp_path / "jacobian_or_weights")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    assert set(json.loads((settings.output / "rows.json").read_text("utf-8"))) == {
        "one unit",
        "networks",
        "ratios",
        "spectra",
    }
