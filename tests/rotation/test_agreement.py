"""Agreement with GPArotation and psych: the same criteria, the same minima."""

import csv
import importlib.util
from pathlib import Path

import pytest
import torch

import probae as pa
from probae import rotation as r
from probae.errors import FitError

spec = importlib.util.spec_from_file_location("rotation_registry", Path(__file__).with_name("conftest.py"))
registry = importlib.util.module_from_spec(spec)
spec.loader.exec_module(registry)

# Written by GPArotation 2022.10-2: Rscript gparotation.R > data/gparotation.csv, in this folder, under R 4.2.2.
TABLE = list(csv.DictReader((registry.DATA / "gparotation.csv").read_text().splitlines()))


def criterion_of(name, loadings):
    features, latents = loadings.shape
    target = torch.where(loadings.abs() > 0.4, loadings.sign(), 0.0)
    # R fills matrices column by column
    weights = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]).repeat(features * latents)[: features * latents]
    return {
        "varimax": r.Varimax(),
        "quartimax": r.Quartimax(),
        "entropy": r.MinimumEntropy(),
        "mccammon": r.McCammon(),
        "tandemI": r.TandemI(),
        "tandemII": r.TandemII(),
        "equamax": r.Equamax(),
        "parsimax": r.Parsimax(),
        "cf.3": r.CrawfordFerguson(kappa=0.3),
        "geomin": r.Geomin(),
        "geomin.001": r.Geomin(epsilon=0.001),
        "bentler": r.Bentler(),
        "infomax": r.Infomax(),
        "quartimin": r.Quartimin(),
        "oblimin_0.5": r.Oblimin(gamma=-0.5),
        "oblimax": r.Oblimax(),
        "simplimax": r.Simplimax(),
        "bifactor": r.Bifactor(),
        "target": r.Target(target),
        "pst": r.Target(target, weights=weights.reshape(latents, features).T.double()),
    }[name]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: "-".join(list(row.values())[:4]))
def test_values_are_those_of_gparotation(row):
    loadings = registry.read_matrix(row["matrix"])
    criterion = criterion_of(row["criterion"], loadings)
    if row["criterion"] == "oblimax" and row["matrix"] != "harman8":
        # GPArotation stops where its factors are collinear: |correlation| 1 to 6 digits, loadings of 1e7 and more
        with pytest.raises(FitError, match="Oblimax.* has no minimum here"):
            pa.rotate(loadings, criterion, oblique=True, normalize=row["normalize"] == "1", starts=20)
        return
    found = pa.rotate(
        loadings,
        criterion,
        oblique=row["rotation"] == "oblique",
        normalize=row["normalize"] == "1",
        starts=40,
    )
    scale = 4 if row["criterion"] == "bifactor" else 1  # GPArotation leaves out the 1 / 4 of quartimin there
    best = float(row["best"]) / scale
    assert found.value <= best + 1e-6
    if row["criterion"] != "simplimax":  # it has so many minima that 30 starts of R seldom meet the lowest
        assert found.value == pytest.approx(best, abs=1e-5)
        # what R finds from the unrotated loadings is among our minima
        assert min(abs(m.value - float(row["first"]) / scale) for m in found.minima) < 1e-5


def test_promax_is_that_of_r():
    # Rscript -e 'A <- as.matrix(read.csv("data/harman74.csv", row.names = 1)); v <- varimax(A, eps = 1e-14);
    #   p <- promax(v$loadings, m = 4); print(solve(crossprod(v$rotmat %*% p$rotmat)), digits = 8)'
    found = pa.rotate(registry.read_matrix("harman74"), r.Promax(), oblique=True, normalize=True)
    wanted = [0.43082101, 0.60412222, 0.53449184, 0.52527551, 0.52697192, 0.60584695]
    above = found.factor_correlation[torch.triu_indices(4, 4, 1).unbind()]
    assert sorted(above.abs().tolist()) == pytest.approx(sorted(wanted), abs=1e-7)
    # first row of p$loadings: -0.088846472 -0.043023683 0.83230820 -0.0203709705
    first = sorted([0.088846472, 0.043023683, 0.83230820, 0.0203709705])
    assert sorted(found.loadings[0].abs().tolist()) == pytest.approx(first, abs=1e-7)


def test_varimax_with_kaiser_normalization_is_that_of_r():
    # Rscript: A as above; v <- varimax(A, normalize = TRUE, eps = 1e-14);
    #   L <- unclass(v$loadings) / sqrt(rowSums(A^2)); sprintf("%.10f", -sum(sweep(L^2, 2, colMeans(L^2))^2) / 4)
    found = pa.rotate(registry.read_matrix("harman74"), r.Varimax(), normalize=True)
    assert found.value == pytest.approx(-2.0457582598, abs=1e-9)


@pytest.mark.parametrize(
    ("criterion", "oblique", "value"),
    [
        # psych::bifactor(A, eps = 1e-8, maxit = 5000)$Table, likewise biquartimin and equamax; psych 2.2.9
        (r.Bifactor(), False, 0.1175056 / 4),
        (r.Bifactor(), True, 0.1085308 / 4),
        (r.Equamax(), False, 1.114046),
    ],
)
def test_values_are_those_of_psych(criterion, oblique, value):
    found = pa.rotate(registry.read_matrix("harman74"), criterion, oblique=oblique)
    assert found.value == pytest.approx(value, abs=1e-6)
