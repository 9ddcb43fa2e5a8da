"""What an audit takes besides a fit: estimators of scikit-learn, bare loadings, draws; and what it refuses."""

import json
import math
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import NMF, PCA, FactorAnalysis, FastICA

import probae as pa
from probae import DataError, ParameterError, priors
from probae.identifiability.given import fitted_law
from probae.identifiability.scikit import sklearn_subject
from probae.identifiability.subjects import read_subject
from probae.linalg import givens, haar_rotation

GAUSSIAN, LAPLACE = priors.Gaussian(), priors.Laplace()
X = np.random.default_rng(0).standard_normal((80, 4))


def data(prior, seed=0, samples=800, features=6, latents=2):
    return pa.datasets.linear_factors(samples, features, latents, prior=prior, seed=seed)


def ica(x, latents, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FastICA does not settle where nothing singles out axes
        return FastICA(latents, random_state=seed).fit(x)


def test_fast_ica_of_gaussian_data_has_no_axes():
    """Of five tables one may be at the tests' level , .02 in all: two have probability .004."""
    verdicts = []
    for seed in range(5):
        x = data(GAUSSIAN, seed, samples=500, latents=3).x.numpy()
        verdicts.append(pa.audit(ica(x, 3), x).verdict.name)
    assert "IDENTIFIED_SP" not in verdicts
    assert sum(name in ("MODEL_ONLY", "NOT_IDENTIFIED") for name in verdicts) >= 4


def test_fast_ica_of_independent_sources_has_axes():
    """Square, mixed heavy and light tails, in a table of names: each source gets its own law."""
    z = priors.Independent([LAPLACE, priors.StudentT(5.0)]).sample(3000, 2).numpy()
    x = pd.DataFrame(z @ np.array([[1.0, 0.4], [0.3, 1.2]]) + 5.0, columns=["left", "right"])
    report = pa.audit(ica(x, 2), x)
    assert (report.verdict.name, report.evidence.precision[0].samples) == ("IDENTIFIED_SP", 3000)
    assert any("FastICA assumes no law" in reason for reason in report.reasons)
    assert json.loads(json.dumps(report.to_dict()))["model"].startswith(
        "scikit-learn's FastICA as IndependentComp"
    )


@pytest.mark.parametrize("whiten", ["unit-variance", "arbitrary-variance", False])
def test_sources_of_fast_ica_are_read_at_variance_one(whiten):
    x = torch.tensor(priors.Laplace().sample(1000, 3).numpy() @ np.diag([1.0, 2.0, 3.0])).double()
    given = (x - x.mean(0)) if whiten is False else x
    if whiten is False:
        given = given @ torch.linalg.inv(torch.linalg.cholesky(given.T @ given / len(x))).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = FastICA(whiten=whiten, random_state=0).fit(given.numpy())
    run = read_subject(estimator, given).fit
    sources = run.posterior(given).mean
    assert torch.allclose(sources.std(0, correction=0), torch.ones(3).double(), atol=1e-6)
    assert sources.mean(0).abs().max() < 1e-6
    theirs = torch.tensor(estimator.transform(given.numpy()))
    assert torch.corrcoef(torch.cat([sources, theirs], 1).T)[:3, 3:].diagonal().min() > 1 - 1e-6


def test_fast_ica_of_fewer_sources_leaves_the_noise_outside_them():
    """What x varies outside their span is spread over D - K directions."""
    x = data(LAPLACE, 1).x
    run = read_subject(ica(x.numpy(), 2), x).fit
    values = torch.linalg.eigvalsh(torch.cov(x.T, correction=0))
    assert float(run.model.noise_variance) == pytest.approx(float(values[:4].mean()), rel=1e-6)
    assert run.model.noise == "complement"


def test_factor_analysis_and_pca_are_read_with_their_own_likelihood():
    x = data(GAUSSIAN, 2).x
    for estimator in (
        FactorAnalysis(2, tol=1e-8, max_iter=5000),
        FactorAnalysis(2, rotation="varimax"),
        PCA(2),
        PCA(),
    ):
        estimator.fit(x.numpy())
        model = read_subject(estimator, x).fit.model
        if model.noise == "none":
            covariance = model.loadings @ model.loadings.T
            assert torch.allclose(covariance, torch.cov(x.T), atol=1e-10)
        else:
            theirs = estimator.score_samples(x.numpy())
            assert np.allclose(model.log_likelihood(x).numpy(), theirs, atol=1e-8)
        report = pa.audit(estimator, x)
        assert report.verdict.name == "NOT_IDENTIFIED"
        assert pa.audit(estimator).verdict.name == "NOT_IDENTIFIED"  # structure needs no rows
    assert any(
        "varimax, a convention" in r
        for r in pa.audit(FactorAnalysis(2, rotation="varimax").fit(x), x).reasons
    )


def test_a_factor_analysis_that_was_stopped_had_not_converged():
    x = data(GAUSSIAN, 2).x.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stopped = FactorAnalysis(2, max_iter=2).fit(x)
    assert pa.audit(stopped, x).verdict.name == "NOT_CONVERGED"


def test_unfinished_rotation_is_no_matter_where_no_frame_is_better():
    """FastICA stopped at once: on Gaussian data no verdict needs its rotation, on Laplace data none can be given."""
    for prior, verdict in ((GAUSSIAN, "MODEL_ONLY"), (LAPLACE, "NOT_CONVERGED")):
        x = data(prior, 3, samples=2000).x.numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator = FastICA(2, max_iter=1, tol=1e-12, random_state=0).fit(x)
        report = pa.audit(estimator, x)
        assert report.verdict.name == verdict
        assert any("had not settled after 1 steps" in reason for reason in report.reasons)


def test_scikit_learn_is_looked_for_and_never_imported(monkeypatch):
    estimator = PCA(2).fit(X)
    assert sklearn_subject(estimator, X) is not None
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    assert sklearn_subject(estimator, X) is None
    assert not any(name.split(".")[0] == "sklearn" for name in sys.modules)


def test_bare_loadings_are_judged_by_what_the_data_support():
    truth = data(LAPLACE, 4, samples=2000)
    W = truth.truth["loadings"]
    assert pa.audit(W, truth.x).verdict.name == "IDENTIFIED_SP"
    turned = W @ givens(2, 0, 1, math.radians(40.0))
    assert pa.audit(turned, truth.x).verdict.name == "MISSPECIFIED_FRAME"
    assert pa.audit(turned, truth.x, prior=GAUSSIAN).verdict.name == "NOT_IDENTIFIED"
    normal = data(GAUSSIAN, 4)
    report = pa.audit(normal.truth["loadings"].tolist(), normal.x)
    assert (report.verdict.name, report.group) == ("MODEL_ONLY", "SP(2)")
    assert any("came without a law" in reason for reason in report.reasons)


def test_maximum_likelihood_loadings_keep_their_noise():
    """diag S = diag (W W' + Psi) at the maximum: what bare loadings leave is the noise variance."""
    x = data(GAUSSIAN, 5).x
    run = pa.fit(pa.FactorAnalysis(6, 2), x)
    model = read_subject(run.model.loadings, x, GAUSSIAN).fit.model
    assert torch.allclose(model.noise_variance, run.model.noise_variance, rtol=1e-5)


def test_a_square_matrix_is_a_mixing_of_any_scale():
    z = LAPLACE.sample(2000, 3).double()
    mixing = haar_rotation(3, torch.Generator().manual_seed(0))
    model = read_subject(mixing * torch.tensor([0.1, 1.0, 50.0]), z @ mixing.T).fit.model
    assert model.noise == "none"
    sources = model.posterior(z @ mixing.T).mean
    assert torch.allclose(sources.std(0, correction=0), torch.ones(3).double())


def test_loadings_in_other_units_are_refused_not_read():
    truth = data(GAUSSIAN, 6)
    W, scale = truth.truth["loadings"], torch.tensor([9.0, 0.2, 4.0, 30.0, 1.0, 0.1])
    deviation = truth.x.std(0, correction=0)
    with pytest.raises(
        DataError, match="those of standardised columns, so pass x standardised|whose variance is"
    ):
        pa.audit(W / deviation[:, None], truth.x / deviation * scale)
    with pytest.raises(DataError, match="of variance 1 in the units of x"):
        pa.audit(10 * W, truth.x)


def test_draws_are_audited_at_their_aligned_mean():
    truth = data(GAUSSIAN, 7, samples=500)
    W = truth.truth["loadings"]
    generator = torch.Generator().manual_seed(0)
    near = W + 0.02 * torch.randn(2, 400, 6, 2, generator=generator, dtype=torch.float64)
    turned = near @ haar_rotation(2, generator, 800).reshape(2, 400, 2, 2)
    report = pa.audit(turned, truth.x)
    assert (report.verdict.name, report.group) == ("NOT_IDENTIFIED", "O(2)")
    assert any("flat orbit" in reason for reason in report.reasons)
    found = report.evidence.loadings
    assert found.rank == 2
    model = read_subject(turned, truth.x).fit.model
    assert pa.procrustes(W, model.loadings).distance < 0.02
    one = read_subject({"loadings": near[0], "noise_variance": torch.full((400,), 0.3)}, truth.x).fit.model
    assert (one.noise, float(one.noise_variance)) == ("isotropic", pytest.approx(0.3))
    apart = torch.cat([near[:1], near[1:] * 1.5])
    assert pa.audit(apart, truth.x).verdict.name == "NOT_CONVERGED"
    axes = pa.audit(near, truth.x, prior=LAPLACE)
    assert (axes.verdict.name, axes.group) == ("MODEL_ONLY", "SP(2)")


@pytest.mark.filterwarnings("ignore::probae.errors.ProbaeWarning")
def test_a_fit_of_a_sampler_is_no_restricted_guide():
    x = data(GAUSSIAN, 8, samples=300).x
    run = pa.fit(pa.FactorAnalysis(6, 2), x, pa.Gibbs(draws=150, warmup=100, chains=2))
    report = pa.audit(run, x)
    assert not report.evidence.inference.restricted
    assert any(reason.startswith("Chains: ") for reason in report.reasons)
    assert report.verdict.name in ("NOT_IDENTIFIED", "NOT_CONVERGED")
    tree = pa.audit(pa.to_datatree(run, x), x)
    assert tree.group == report.group


def test_laws_of_scores_are_found():
    torch.manual_seed(0)
    laws = [priors.Laplace(), priors.Uniform(), priors.StudentT(4.0)]
    z = priors.Independent(laws).sample(4000, 3).double()
    found = fitted_law(z, torch.zeros(3, 3).double())
    assert [type(law).__name__ for law in found.coordinates(3)] == [
        "Laplace",
        "GeneralizedNormal",
        "StudentT",
    ]


@pytest.mark.parametrize(
    ("subject", "settings", "message"),
    [
        (3, {}, "audit needs the result of probae.fit, a fitted FactorAnalysis, PCA or FastICA"),
        ("loadings", {}, "got str"),
        (None, {}, "got NoneType"),
        (np.zeros(4), {}, "got ndarray"),
        (pa.FactorAnalysis(4, 1), {}, "a model: fit it to data first"),
        (PCA(2), {}, "This PCA of scikit-learn is not fitted"),
        (NMF(2), {}, "of a pipeline pass the last step"),
        (np.ones((4, 6)), {}, "pass it as prior"),
        (np.ones((4, 1)), {"prior": "laplace"}, "prior should be a law of probae.priors"),
        (PCA(2).fit(X), {"prior": LAPLACE}, "prior is for bare loadings and draws"),
        (PCA(2).fit(X[:, [0, 1, 0, 1]]), {}, "leaves no variance outside"),
    ],
)
def test_anything_else_gets_one_sentence(subject, settings, message):
    x = X * 10 if np.ndim(subject) == 2 else X
    with pytest.raises(ParameterError, match=message):
        pa.audit(subject, x, **settings)


@pytest.mark.parametrize(
    ("subject", "x", "message"),
    [
        (np.full((4, 1), 0.1), None, "needs the rows they are about"),
        (np.full((4, 1), np.nan), X, "NaN"),
        (np.full((3, 1), 0.1), X, "4 features|shape"),
        (np.ones((4, 4)), X, "needs independent columns"),
        (np.full((4, 1), 0.1), np.full((5, 4), np.nan), "complete rows"),
        (np.full((2, 3, 4, 1), 0.1), X, "at least 4 draws"),
        (np.full((50, 4, 1), 0.1), None, "needs the rows they are about"),
        ({"loadings": "many"}, X, "tensors of numbers"),
        ({"loadings": np.full((2, 50, 4, 1), np.inf)}, X, "finite loadings"),
    ],
)
@pytest.mark.filterwarnings("ignore::probae.errors.ProbaeWarning")
def test_loadings_and_rows_that_do_not_go_together(subject, x, message):
    with pytest.raises(DataError, match=message):
        pa.audit(subject, x)


def test_fast_ica_needs_its_rows():
    with pytest.raises(DataError, match="needs the rows it was fitted to"):
        pa.audit(ica(X, 2))
