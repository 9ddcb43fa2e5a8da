"""What tells the noise from the factors: counts at the parameters, factors that are not Gaussian, and the verdicts."""

import json

import pytest

import probae as pa
from probae import priors
from probae.identifiability import noise_identification as module
from probae.identifiability.given import given_fit
from probae.identifiability.noise_identification import gaussian_factors, noise_identification

GAUSSIAN, LAPLACE = priors.Gaussian(), priors.Laplace()


def mixed(laplace, gaussian):
    return priors.Independent([LAPLACE] * laplace + [GAUSSIAN] * gaussian)


# theory 1.2: flat directions of p features and k factors, and how many of them are no rotation
TABLE = [
    *[(10, 3, 3, 0), (7, 3, 3, 0), (6, 3, 3, 0), (8, 4, 6, 0), (20, 6, 15, 0)],
    *[(5, 3, 5, 2), (4, 2, 2, 1), (2, 1, 1, 1)],
]


@pytest.mark.parametrize(("features", "factors", "dimension", "beyond"), TABLE)
def test_gaussian_factors_have_the_flat_directions_of_theory(features, factors, dimension, beyond):
    found = noise_identification(pa.FactorAnalysis(features, factors))
    assert (found.nullity.dimension, found.beyond, found.identified) == (dimension, beyond, beyond == 0)
    assert found.local == ((features, factors) == (6, 3))  # the only one at the Ledermann bound itself
    assert json.loads(json.dumps(found.to_dict()))["flat_directions"] == dimension


@pytest.mark.parametrize(("factors", "dimension", "identified"), [(9, 36, True), (10, 46, False)])
def test_isotropic_noise_needs_a_dimension_of_its_own(factors, dimension, identified):
    found = noise_identification(pa.ProbabilisticPCA(10, factors))
    assert (found.nullity.dimension, found.identified) == (dimension, identified)


@pytest.mark.parametrize(
    ("prior", "features", "identified"),
    [
        (LAPLACE, 4, True),  # beyond the Ledermann bound, which concerns Gaussian factors alone
        (mixed(2, 2), 5, True),  # two Gaussian factors of five features are within it
        (mixed(2, 2), 4, False),
        (mixed(1, 1), 3, True),
        (mixed(1, 1), 2, False),
        (priors.MultivariateStudentT(5.0), 4, True),
    ],
)
def test_factors_that_are_not_gaussian_leave_less_to_tell(prior, features, identified):
    latents = len(prior.laws) if isinstance(prior, priors.Independent) else 3
    assert noise_identification(pa.LinearFactorModel(features, latents, prior)).identified == identified


def test_the_gaussian_part_is_that_of_the_columns_whatever_their_scale():
    """Two features carry the Gaussian factor: its scale and their noise are one direction (a doublet)."""
    model = pa.LinearFactorModel(6, 2, priors.Independent([LAPLACE, priors.Scaled(GAUSSIAN, 3.0)]))
    assert gaussian_factors(model) == (1,)
    assert noise_identification(model).identified
    loadings = model.loadings.detach().clone()
    loadings[2:, 1] = 0
    model.loadings = loadings
    found = noise_identification(model)
    assert (found.beyond, found.nullity.features) == (1, (0, 1))
    assert "the noise of columns 0, 1" in found.sentence


def test_large_models_are_counted(monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 10)
    for features, factors, identified in ((9, 3, True), (5, 3, False), (3, 3, False)):
        found = noise_identification(pa.FactorAnalysis(features, factors))
        assert (found.identified, found.nullity, found.beyond) == (identified, None, None)


def test_noise_that_x_shows_apart_is_not_asked_about():
    assert noise_identification(pa.IndependentComponents(5, 3)) is None
    assert noise_identification(pa.LinearFactorModel(3, 3, noise="none")) is None


def rows(features, latents, prior=GAUSSIAN, samples=400):
    return pa.datasets.linear_factors(samples, features, latents, prior=prior, seed=0).x


@pytest.mark.filterwarnings("ignore::probae.errors.UnderidentifiedWarning")
def test_an_audit_finds_no_noise_variance_in_as_many_components_as_features():
    x = rows(5, 2)
    report = pa.audit(pa.fit(pa.ProbabilisticPCA(5, 5), x), x)
    assert report.verdict.name == "PSI_NOT_IDENTIFIED"
    assert any("11 flat directions, 10 of them rotations" in reason for reason in report.reasons)
    assert pa.audit(pa.fit(pa.ProbabilisticPCA(5, 4), x)).verdict.name == "NOT_IDENTIFIED"


def test_an_audit_keeps_the_columns_that_stand_beside_an_unidentified_noise():
    model = pa.LinearFactorModel(4, 4, mixed(2, 2))
    report = pa.audit(given_fit(model, "a test"))
    assert report.verdict.name == "PSI_NOT_IDENTIFIED"
    assert "The columns of the 2 factors that are not Gaussian are identified" in report.reasons[0]


def test_an_audit_names_columns_of_overcomplete_loadings_that_no_data_tell_apart():
    model = pa.LinearFactorModel(3, 4, LAPLACE)
    assert pa.audit(given_fit(model, "a test")).verdict.name == "INCONCLUSIVE"
    loadings = model.loadings.detach().clone()
    loadings[:, 2] = -2 * loadings[:, 0]
    model.loadings = loadings
    report = pa.audit(given_fit(model, "a test"))
    assert report.verdict.name == "RANK_DEFICIENT"
    assert "(0, 2)" in report.reasons[0]
    loadings[:, 2] = 0
    model.loadings = loadings
    assert "Columns of zeros: 2" in pa.audit(given_fit(model, "a test")).reasons[0]


def test_known_unequal_variances_are_called_gaussian():
    laws = [priors.Scaled(GAUSSIAN, sd) for sd in (1.0, 2.0, 5.0)]
    report = pa.audit(given_fit(pa.LinearFactorModel(10, 3, priors.Independent(laws)), "a test"))
    assert (report.verdict.name, report.group) == ("NOT_IDENTIFIED", "O(3)")
    assert report.reasons[0].startswith("The factors are Gaussian")
    assert "conjugate" in report.reasons[1]
    assert report.to_dict()["structure"]["gl_information"]["dimension"] == 3
