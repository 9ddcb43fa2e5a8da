"""What the demonstration fits: measured data first, then simulated data whose right verdict is known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xarray
from torch import Tensor

from probae import datasets
from probae.identifiability.report import Report
from probae.inference import MAP, Method
from probae.models import (
    FactorAnalysis,
    IndependentComponents,
    LinearFactorModel,
    ProbabilisticPCA,
    SparseCoding,
)
from probae.priors import Gaussian, Laplace, MultivariateStudentT, Prior, StudentT

ROWS, FEATURES, FACTORS = 2000, 10, 3  # of the simulated data


@dataclass(frozen=True)
class Expectation:
    """The verdict a case must get, in words and as a test."""

    text: str
    holds: Callable[[Report], bool]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to fit, what they are, and the truth or the labels where there are any."""

    x: Any
    source: str
    truth: dict[str, Tensor] | None = None
    labels: Any = None


@dataclass(frozen=True, eq=False)
class Case:
    """One fit of the demonstration.

    Attributes
    ----------
    name : folder of the fit
    data, model_name : what the table of verdicts shows
    rows : reads or simulates the data, given the seed
    model : what is fitted
    method : None for the one that suits the model
    expected : None for measured data, whose truth nobody knows
    unaudited : why the fit is only drawn; empty where it is audited
    """

    name: str
    data: str
    model_name: str
    rows: Callable[[int], Rows]
    model: Callable[[], LinearFactorModel]
    method: Method | None = None
    expected: Expectation | None = None
    unaudited: str = ""


def mental_tests(seed: int) -> Rows:
    """Nine mental tests of 301 pupils, under their descriptive names."""
    data = datasets.holzinger_swineford()
    names = {"features": list(data.extra["tests"])}
    x = xarray.DataArray(data.x.numpy(), dims=("samples", "features"), coords=names)
    return Rows(x, data.source, labels=data.extra["school"])


def patches(seed: int) -> Rows:
    """20,000 patches of 8 x 8 pixels, their mean removed."""
    data = datasets.natural_patches(size=8, count=20_000, seed=seed)
    return Rows(data.x, data.source)


def whitened_patches(seed: int) -> Rows:
    """The same patches on their leading principal components, each scaled to variance 1."""
    data = datasets.natural_patches(size=8, count=20_000, seed=seed, whiten=WHITE)
    return Rows(data.x, f"{data.source} ({data.extra['explained']:.0%} of the variance)")


def digits(seed: int) -> Rows:
    """1797 handwritten digits of 8 x 8 pixels."""
    data = datasets.digits()
    return Rows(data.x, data.source, labels=data.labels)


def simulated(prior: Prior) -> Callable[[int], Rows]:
    """Return rows with factors of a known law."""

    def make(seed: int) -> Rows:
        data = datasets.linear_factors(ROWS, FEATURES, FACTORS, prior=prior, seed=seed)
        return Rows(data.x, data.source, truth=data.truth)

    return make


def items(seed: int) -> Rows:
    """Answers on five levels: Gaussian factors, cut."""
    data = datasets.likert(ROWS, 9, FACTORS, seed=seed)
    return Rows(data.x, data.source)


def _verdict(name: str) -> Expectation:
    return Expectation(name, lambda report: report.verdict.name == name)


WHITE = 16  # principal components of the whitened patches
REMARK = Expectation(
    "NOT_IDENTIFIED, with the remark that non-Gaussian factors would be",
    lambda report: report.verdict.name == "NOT_IDENTIFIED" and "non-Gaussian" in " ".join(report.reasons),
)
DISCRETE = Expectation("not IDENTIFIED_SP", lambda report: report.verdict.name != "IDENTIFIED_SP")


def _gaussian() -> LinearFactorModel:
    return FactorAnalysis(FEATURES, FACTORS)


def _laplace() -> LinearFactorModel:
    return LinearFactorModel(FEATURES, FACTORS, prior=Laplace())


CASES = (
    Case("tests-gaussian", "mental tests", "Gaussian factors", mental_tests, lambda: FactorAnalysis(9, 3)),
    Case(
        "tests-laplace",
        "mental tests",
        "Laplace factors",
        mental_tests,
        lambda: LinearFactorModel(9, 3, prior=Laplace()),
    ),
    Case(
        "patches-independent",
        "image patches, whitened",
        "Student t components",
        whitened_patches,
        # a smooth law: the kink of Laplace's keeps the gradient of so many rows from vanishing
        lambda: IndependentComponents(WHITE, WHITE, prior=StudentT(5)),
    ),
    Case(
        "patches-sparse",
        "image patches",
        "sparse codes, 128 atoms",
        patches,
        lambda: SparseCoding(64, 128),
        method=MAP(),
        unaudited="More atoms than pixels: a patch does not determine its codes, so there are no scores to test.",
    ),
    Case("digits", "handwritten digits", "Gaussian components", digits, lambda: ProbabilisticPCA(64, 10)),
    Case(
        "laplace-gaussian",
        "simulated, Laplace",
        "Gaussian factors",
        simulated(Laplace()),
        _gaussian,
        expected=REMARK,
    ),
    Case(
        "laplace-laplace",
        "simulated, Laplace",
        "Laplace factors",
        simulated(Laplace()),
        _laplace,
        expected=_verdict("IDENTIFIED_SP"),
    ),
    Case(
        "gaussian-laplace",
        "simulated, Gaussian",
        "Laplace factors",
        simulated(Gaussian()),
        _laplace,
        expected=_verdict("MODEL_ONLY"),
    ),
    Case(
        "student-laplace",
        "simulated, multivariate t",
        "Laplace factors",
        simulated(MultivariateStudentT(5)),
        _laplace,
        expected=_verdict("MODEL_ONLY"),
    ),
    Case(
        "items-laplace",
        "simulated, 5-point items",
        "Laplace factors",
        items,
        lambda: LinearFactorModel(9, FACTORS, prior=Laplace()),
        expected=DISCRETE,
    ),
)
