"""The experiment on natural patches runs, its controls point the way it says, and its numbers mean what they say."""

import json
import math

import numpy as np
import pytest

from experiments import natural_patches as experiment


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    settings = experiment.Settings(
        size=4,
        components=6,
        train=1200,
        test=600,
        thinned=1,
        rotations=3,
        atom_size=6,
        atoms=40,
        patches=800,
        steps=40,
        output=tmp_path_factory.mktemp("natural_patches"),
    )
    experiment.main(settings)
    return settings, json.loads((settings.output / "rows.json").read_text("utf-8"))


def nats(rows, kind, law, frame="any"):
    (found,) = [
        row["nats"]
        for row in rows["likelihoods"]
        if row["rows"] == kind and row["law"].startswith(law) and row["frame"] == frame
    ]
    return found


def test_laws_are_in_their_order_on_patches(results):
    rows = results[1]
    order = [
        nats(rows, "patches", "Gaussian"),
        nats(rows, "patches", "Laplace", "random"),
        nats(rows, "patches", "Laplace", "independent"),
        nats(rows, "patches", "learned t", "random"),
        nats(rows, "patches", "multivariate t"),
    ]
    assert order == sorted(order)
    assert nats(rows, "patches", "Laplace", "independent, orthogonal") > nats(
        rows, "patches", "Laplace", "random"
    )


def test_on_gaussian_rows_a_sparse_law_loses(results):
    rows = results[1]
    gaussian = nats(rows, "Gaussian surrogate", "Gaussian")
    for frame in ("random", "principal", "independent"):
        assert nats(rows, "Gaussian surrogate", "Laplace", frame) < gaussian


def test_everything_is_written(results):
    settings, rows = results
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    assert {row["columns"] for row in rows["shapes"]} == {"atoms", "principal components"}
    assert all(gain["elliptical"] < 0 for gain in rows["gains"] if gain["rows"] == "patches")


def gabor(side, cycles, width, angle):
    """A cosine of so many cycles per patch under a Gaussian envelope."""
    rows, columns = np.meshgrid(np.arange(side) - side / 2, np.arange(side) - side / 2, indexing="ij")
    along = rows * math.cos(angle) + columns * math.sin(angle)
    envelope = np.exp(-0.5 * (rows**2 + columns**2) / width**2)
    return envelope * np.cos(2 * math.pi * cycles * along / side)


@pytest.mark.parametrize("angle", [0.0, 0.6, math.pi / 2])
def test_shapes_of_a_gabor_function_are_found(angle):
    shape = experiment.shape_of(gabor(24, 4.0, 3.0, angle))
    assert shape["frequency"] == pytest.approx(
        4.0, abs=0.3
    )  # the spectrum is sampled every quarter of a cycle
    # power spectrum with a standard deviation of side / (2 pi 3 sqrt 2) cycles across: exp(-2 (that / 4)^2)
    spread = 24 / (2 * math.pi * 3 * math.sqrt(2))
    assert shape["orientation"] == pytest.approx(math.exp(-2 * (spread / 4) ** 2), abs=0.02)
    # half the power where exp(-(2 pi f width / side)^2 ...) has fallen to 1/2: f = 4.0 +- .83 * 24 / (2 pi 3)
    reach = math.sqrt(math.log(2)) * 24 / (2 * math.pi * 3)
    assert shape["bandwidth"] == pytest.approx(math.log2((4.0 + reach) / (4.0 - reach)), rel=0.1)
    # energy exp(-r^2 / width^2) cos^2: 1 / sum of squared shares is 2 pi width^2 over 3/2
    assert shape["extent"] == pytest.approx(2 * math.pi * 9 / 1.5 / 24**2, rel=0.15)


def test_a_round_spot_has_no_orientation_and_a_flat_patch_fills_the_patch():
    assert experiment.shape_of(gabor(24, 0.0, 2.0, 0.0))["orientation"] < 0.05
    assert experiment.shape_of(np.ones((8, 8)))["extent"] == pytest.approx(1.0)
