"""Every rotation criterion, once: a new one is tested by adding a line."""

import csv
from pathlib import Path

import pytest
import torch

from probae import rotation as r

DATA = Path(__file__).parent / "data"


class Smooth(r.Criterion):
    """A criterion of a user's own."""

    def value(self, loadings):
        return (loadings.square() + 1e-2).sqrt().sum((-2, -1))

    def gradient(self, loadings):
        return loadings / (loadings.square() + 1e-2).sqrt()


PATTERN = torch.eye(4, dtype=torch.float64).repeat(3, 1)[:10]
CRITERIA = {
    "varimax": r.Varimax(),
    "quartimax": r.Quartimax(),
    "orthomax": r.Orthomax(gamma=0.7),
    "crawford-ferguson": r.CrawfordFerguson(kappa=0.3),
    "equamax": r.Equamax(),
    "parsimax": r.Parsimax(),
    "oblimin": r.Oblimin(gamma=-0.5),
    "quartimin": r.Quartimin(),
    "biquartimin": r.Biquartimin(),
    "covarimin": r.Covarimin(),
    "oblimax": r.Oblimax(),
    "geomin": r.Geomin(),
    "geomin small": r.Geomin(epsilon=1e-3),
    "bentler": r.Bentler(),
    "infomax": r.Infomax(),
    "minimum entropy": r.MinimumEntropy(),
    "mccammon": r.McCammon(),
    "tandem 1": r.TandemI(),
    "tandem 2": r.TandemII(),
    "simplimax": r.Simplimax(zeros=13),
    "simplimax default": r.Simplimax(),
    "bifactor": r.Bifactor(),
    "bifactor geomin": r.Bifactor(groups=r.Geomin()),
    "target": r.Target(PATTERN),
    "partly specified": r.Target(torch.where(PATTERN == 0, 0.0, torch.nan)),
    "weighted target": r.Target(PATTERN, weights=1 + PATTERN),
    "own": Smooth(),
}
UNBOUNDED = {"biquartimin", "covarimin", "oblimax"}  # in oblique rotation
KINDS = [
    (name, oblique)
    for name, criterion in CRITERIA.items()
    for oblique in (False, True)
    if (criterion.oblique if oblique else criterion.orthogonal)
]


def read_matrix(name):
    """Read one of the classical loading matrices.

    harman8: centroid loadings of eight physical variables (Harman 1976, p. 22), as in GPArotation's data(Harman).
    box20: Thurstone's 20 box measures (Thurstone 1947), as in GPArotation's data(Thurstone).
    harman74: 24 psychological tests of 145 children (Holzinger & Swineford 1939; Harman 1976, table 7.4), four factors,
        Rscript -e 'round(unclass(factanal(covmat = Harman74.cor, factors = 4, rotation = "none")$loadings), 6)'.
    """
    rows = list(csv.reader((DATA / f"{name}.csv").read_text().splitlines()))[1:]
    return torch.tensor([[float(cell) for cell in row[1:]] for row in rows], dtype=torch.float64)


def random_loadings(seed, features=10, latents=4, batch=()):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, features, latents, generator=generator, dtype=torch.float64)


@pytest.fixture(params=["harman8", "box20", "harman74"])
def classical(request):
    """Return the name of a classical loading matrix, and the matrix."""
    return request.param, read_matrix(request.param)
