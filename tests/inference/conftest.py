"""The registry of fits: a new method, or a new model for one, is tested by one line here."""

import copy
import random
from pathlib import Path
from typing import Any, NamedTuple

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch

from probae.encoders import (
    LinearGaussianEncoder,
    LISTAEncoder,
    MLPEncoder,
    SpikeSlabEncoder,
    TiedEncoder,
)
from probae.inference import (
    EM,
    IWAE,
    MAP,
    NUTS,
    SVI,
    Gibbs,
    LaplaceApproximation,
    MaximumLikelihood,
    MinimumResiduals,
    PrincipalAxis,
    SegmentedLikelihood,
    SquaredError,
    StochasticEM,
    VariationalBayes,
    VariationalEM,
)
from probae.inference.fit import fit
from probae.models import (
    ConfirmatoryFactorAnalysis,
    FactorAnalysis,
    IndependentComponents,
    LinearFactorModel,
    ProbabilisticPCA,
    SparseCoding,
)
from probae.priors import Laplace, MultivariateStudentT, SpikeSlab, StudentT


class Case(NamedTuple):
    """A model for `width` columns and a method for it; what the pair can take."""

    model: Any
    method: Any
    missing: bool = False  # integrates missing entries out
    statistics: bool = False  # needs no rows
    constant: bool = True  # a constant column leaves something to fit


def svi(encoder, **settings):
    return SVI(encoder, **({"epochs": 4} | settings))


def one_factor(features):
    return ConfirmatoryFactorAnalysis(np.ones((features, 1)))


FITS = {
    "fa-default": lambda d: Case(FactorAnalysis(d, 1), None, missing=True, statistics=True),
    "fa-ml": lambda d: Case(FactorAnalysis(d, 1), MaximumLikelihood(), statistics=True),
    "fa-nuts": lambda d: Case(
        FactorAnalysis(d, 1), NUTS(draws=400, warmup=200), missing=True, statistics=True
    ),
    "laplace-nuts": lambda d: Case(LinearFactorModel(d, 1, prior=Laplace()), NUTS(draws=400, warmup=200)),
    "fa-em": lambda d: Case(FactorAnalysis(d, 1), EM(steps=500, tol=1e-9), missing=True, statistics=True),
    "cfa-ml": lambda d: Case(one_factor(d), None, missing=True, statistics=True),
    "cfa-em": lambda d: Case(one_factor(d), EM(steps=2000, tol=1e-9), missing=True, statistics=True),
    "cfa-svi": lambda d: Case(one_factor(d), svi(LinearGaussianEncoder(d, 1))),
    "fa-minres": lambda d: Case(FactorAnalysis(d, 1), MinimumResiduals(), statistics=True),
    "fa-pa": lambda d: Case(FactorAnalysis(d, 1), PrincipalAxis(), statistics=True),
    "ppca-ml": lambda d: Case(ProbabilisticPCA(d, 2), MaximumLikelihood(), statistics=True),
    "ppca-em": lambda d: Case(ProbabilisticPCA(d, 2), EM(steps=500, tol=1e-9), missing=True, statistics=True),
    "gaussian-noiseless": lambda d: Case(
        LinearFactorModel(d, d, noise="none"), None, statistics=True, constant=False
    ),
    "laplace-ml": lambda d: Case(LinearFactorModel(d, 1, prior=Laplace()), MaximumLikelihood(draws=16)),
    "sparse-ml": lambda d: Case(SparseCoding(d, 2), MaximumLikelihood(draws=16)),
    "ica": lambda d: Case(
        IndependentComponents(d, d, prior=StudentT(5)), MaximumLikelihood(), constant=False
    ),
    "ica-reduced": lambda d: Case(IndependentComponents(d, d - 2, prior=StudentT(5)), None),
    "elliptical-em": lambda d: Case(LinearFactorModel(d, 1, MultivariateStudentT(5, learn=True)), EM()),
    "elliptical-noiseless": lambda d: Case(
        LinearFactorModel(d, d, MultivariateStudentT(5, learn=True), "none"), EM(), constant=False
    ),
    "segmented": lambda d: Case(
        LinearFactorModel(d, d, noise="none"), SegmentedLikelihood([0, 1] * 30), constant=False
    ),
    "sparse-map": lambda d: Case(SparseCoding(d, 3), MAP(steps=4)),
    "fa-map-encoder": lambda d: Case(
        FactorAnalysis(d, 1), MAP(encoder=LinearGaussianEncoder(d, 1), epochs=4)
    ),
    "ppca-map-encoder": lambda d: Case(
        ProbabilisticPCA(d, 2), MAP(encoder=MLPEncoder(d, 2, hidden=(4,)), objective=SquaredError(), epochs=4)
    ),
    "sparse-vem": lambda d: Case(SparseCoding(d, d + 1), VariationalEM(steps=4, batch=25)),
    "t-vem": lambda d: Case(LinearFactorModel(d, 1, prior=StudentT(5, learn=True)), VariationalEM(steps=4)),
    "sparse-sem": lambda d: Case(SparseCoding(d, d + 1), StochasticEM(steps=4, batch=25)),
    "laplace-sem": lambda d: Case(LinearFactorModel(d, 1, prior=Laplace()), StochasticEM(steps=4)),
    "fa-gibbs": lambda d: Case(
        FactorAnalysis(d, 1), Gibbs(draws=50, warmup=50), missing=True, statistics=True
    ),
    "ppca-gibbs": lambda d: Case(
        ProbabilisticPCA(d, 2), Gibbs(draws=50, warmup=50), missing=True, statistics=True
    ),
    "fa-laplace": lambda d: Case(
        FactorAnalysis(d, 1), LaplaceApproximation(draws=20), missing=True, statistics=True
    ),
    "ppca-laplace": lambda d: Case(
        ProbabilisticPCA(d, 2), LaplaceApproximation(draws=20), missing=True, statistics=True
    ),
    "fa-vb": lambda d: Case(
        FactorAnalysis(d, 1), VariationalBayes(steps=60, draws=20), missing=True, statistics=True
    ),
    "fa-svi": lambda d: Case(FactorAnalysis(d, 1), svi(LinearGaussianEncoder(d, 1))),
    "fa-tied-svi": lambda d: Case(FactorAnalysis(d, 1), svi(TiedEncoder(d, 1))),
    "spike-slab-svi": lambda d: Case(
        SparseCoding(d, 2, prior=SpikeSlab()), svi(SpikeSlabEncoder(d, 2, hidden=(4,)))
    ),
    "fa-iwae": lambda d: Case(FactorAnalysis(d, 1), svi(LinearGaussianEncoder(d, 1), objective=IWAE(3))),
    "fa-svi-refined": lambda d: Case(FactorAnalysis(d, 1), svi(LinearGaussianEncoder(d, 1), refine=2)),
    "sparse-svi": lambda d: Case(SparseCoding(d, d + 1), svi(MLPEncoder(d, d + 1, hidden=(8,)), batch=25)),
    "sparse-lista-svi": lambda d: Case(
        SparseCoding(d, d + 1), svi(LISTAEncoder(d, d + 1, layers=3), batch=25)
    ),
}


@pytest.fixture(params=FITS)
def case(request):
    """Each fit of the registry, for four columns."""
    return FITS[request.param](4)


@pytest.fixture(scope="session")
def rows():
    """Sixty rows of four columns with one strong heavy-tailed factor."""
    generator = torch.Generator().manual_seed(4)
    z = torch.distributions.Laplace(0.0, 1.0).icdf(
        torch.rand(60, 1, generator=generator, dtype=torch.float64)
    )
    loadings = torch.tensor([[1.0, 0.8, 0.6, 0.9]], dtype=torch.float64)
    noise = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    return z @ loadings + 0.6 * noise + torch.tensor([3.0, 0.0, -1.0, 10.0], dtype=torch.float64)


class Witnessed(NamedTuple):
    """A fit of the registry on a table with names, and what it changed outside."""

    case: Case
    run: Any
    random_state_kept: bool
    rows_kept: bool
    arguments_kept: bool
    devices_seeded: list


def generators():
    """States of the torch, numpy and Python generators, to compare by ==."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), (name, keys.tobytes(), *rest), random.getstate()


def contents(case):
    """Every number in a model and in the encoder of its method."""
    encoder = getattr(case.method, "encoder", None) or torch.nn.Module()
    return {**case.model.state_dict(), **{f"encoder.{k}": v for k, v in encoder.state_dict().items()}}


@pytest.fixture(scope="session", params=FITS)
def witnessed(request, rows):
    """Each fit of the registry, run once for all tests that only look at the result."""
    case = FITS[request.param](4)
    frame = pd.DataFrame(rows.numpy().copy(), columns=["a", "b", "c", "d"])
    before, inside, seeded = frame.copy(), copy.deepcopy(contents(case)), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "manual_seed_all", seeded.append)
        torch.manual_seed(123)
        state = generators()
        run = fit(case.model, frame, case.method, seed=3)
        run.posterior(frame).mean.sum()
        kept = generators() == state
    after = contents(case)
    return Witnessed(
        case,
        run,
        kept,
        frame.equals(before),
        all(torch.equal(after[name], inside[name]) for name in inside),
        seeded[1:],  # the first is this fixture's own
    )


def covariance_of(model):
    """W W' + Psi: what every fit says of x, in any frame."""
    loadings = model.loadings.detach().double()
    noise = 0.0 if model.noise == "none" else model.noise_variance.detach().double()
    where = torch.eye(model.features, dtype=torch.float64)
    if model.noise == "complement":
        where -= loadings @ torch.linalg.pinv(loadings)
    return loadings @ loadings.mT + noise * where


@pytest.fixture(name="covariance_of")
def covariance_of_fixture():
    """`covariance_of`, for every test of this folder."""
    return covariance_of


@pytest.fixture
def as_installed(monkeypatch):
    """Switch the run-time type checks off: what does a user see who passes a wrong type?"""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def pytest_collection_modifyitems(items):
    """Let the short fits of this folder stop early: tests that look at that warning catch it themselves."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning"))
