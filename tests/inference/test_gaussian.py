"""Maximum likelihood of Gaussian models: the top of the hill, whatever the road, and warnings where it has no top."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import FactorAnalysis as SklearnFactorAnalysis

from probae import (
    DataError,
    HeywoodWarning,
    ParameterError,
    ProbaeWarning,
    SufficientStatistics,
    UnderidentifiedWarning,
    fit,
)
from probae.datasets import ability_cov, holzinger_swineford
from probae.inference import EM, MaximumLikelihood
from probae.models import FactorAnalysis, LinearFactorModel, ProbabilisticPCA


def standardized(x):
    return (x - x.mean(0)) / x.std(0)


DATA = {
    "holzinger": lambda: holzinger_swineford().x.numpy(),
    "iris": lambda: load_iris().data,
    "wine": lambda: standardized(load_wine().data),
    "diabetes": lambda: standardized(load_diabetes(scaled=False).data),
    "breast-cancer": lambda: standardized(load_breast_cancer().data)[:, :10],
}


def quiet(model, x, method=None):
    """Fit without the warnings that other tests look at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbaeWarning)
        return fit(model, x, method)


def average(covariance, loadings, noise):
    """Mean log-likelihood in nats of centred rows with this sample covariance, by dense algebra."""
    model = loadings @ loadings.T + np.diag(np.broadcast_to(noise, len(loadings)))
    sign, log_det = np.linalg.slogdet(model)
    assert sign > 0
    return -0.5 * (
        len(model) * math.log(2 * math.pi) + log_det + np.trace(np.linalg.solve(model, covariance))
    )


def sklearn_score(x, latents):
    """Mean log-likelihood that scikit-learn reaches within 2000 steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops before it converges on Heywood cases
        other = SklearnFactorAnalysis(latents, tol=1e-7, max_iter=2000, svd_method="lapack").fit(x)
    return other.score(x)


def climb(covariance, latents, isotropic, start, bounded=None):
    """The same likelihood by long L-BFGS from given loadings and log noise: another road to the top."""
    features = len(covariance)
    S = torch.from_numpy(covariance)

    def value(vector):
        point = torch.from_numpy(vector).requires_grad_()
        W = point[: features * latents].view(features, latents)
        noise = point[features * latents :].exp().expand(features)
        model = W @ W.T + noise.diag()
        loss = 0.5 * (torch.logdet(model) + torch.trace(torch.linalg.solve(model, S)))
        (gradient,) = torch.autograd.grad(loss, point)
        return loss.item(), gradient.numpy()

    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30}
    size = 1 if isotropic else features
    bounds = [(None, None)] * (features * latents) + [(bounded, None)] * size
    answer = scipy.optimize.minimize(
        value, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return -answer.fun - 0.5 * features * math.log(2 * math.pi)


@pytest.mark.parametrize(
    ("name", "latents"), [("iris", 1), ("iris", 2), ("wine", 3), ("holzinger", 4), ("diabetes", 5)]
)
def test_ppca_closed_form_em_and_long_climbs_agree(name, latents):
    x = DATA[name]()
    covariance = np.cov(x.T, bias=True)
    closed = fit(ProbabilisticPCA(x.shape[1], latents), x)
    em = fit(ProbabilisticPCA(x.shape[1], latents), x, EM(steps=20_000, tol=1e-12))
    start = np.concatenate([np.random.default_rng(0).normal(size=x.shape[1] * latents), [0.0]])
    value = closed.log_likelihood(x).mean().item()
    assert value == pytest.approx(em.log_likelihood(x).mean().item(), abs=1e-6)
    assert value == pytest.approx(climb(covariance, latents, True, start), abs=1e-6)
    assert value == pytest.approx(closed.history[-1].item(), rel=1e-12)


@pytest.mark.parametrize(("name", "latents"), [("holzinger", 1), ("holzinger", 3), ("wine", 2)])
def test_factor_analysis_newton_em_and_long_climbs_agree(name, latents):
    x = DATA[name]()
    covariance = np.cov(x.T, bias=True)
    newton = fit(FactorAnalysis(x.shape[1], latents), x)
    em = fit(FactorAnalysis(x.shape[1], latents), x, EM(steps=20_000, tol=1e-11))
    start = np.concatenate([np.random.default_rng(0).normal(size=x.shape[1] * latents), np.zeros(x.shape[1])])
    value = newton.log_likelihood(x).mean().item()
    assert value == pytest.approx(em.log_likelihood(x).mean().item(), abs=1e-6)
    assert value == pytest.approx(climb(covariance, latents, False, start), abs=1e-6)
    assert value == pytest.approx(newton.history[-1].item(), rel=1e-12)


def gradient_at(model, covariance):
    """Largest derivative of the mean log-likelihood in loadings and log noise, by automatic differentiation."""
    W = model.loadings.detach().clone().requires_grad_()
    log_noise = model.noise_variance.detach().log().requires_grad_()
    full = W @ W.T + log_noise.exp().expand(len(W)).diag()
    value = -0.5 * (torch.logdet(full) + torch.trace(torch.linalg.solve(full, torch.from_numpy(covariance))))
    return max(g.abs().max().item() for g in torch.autograd.grad(value, (W, log_noise)))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (FactorAnalysis(9, 1), "holzinger"),
        (FactorAnalysis(9, 3), "holzinger"),
        (FactorAnalysis(13, 3), "wine"),
        (ProbabilisticPCA(9, 3), "holzinger"),
        (ProbabilisticPCA(4, 1), "iris"),
        (ProbabilisticPCA(13, 5), "wine"),
    ],
    ids=repr,
)
def test_gradient_vanishes_at_an_interior_maximum(model, name):
    x = DATA[name]()
    run = fit(model, x)
    assert run.converged
    assert gradient_at(run.model, np.cov(x.T, bias=True)) < 1e-5  # the search promises 1e-10 nats, its square


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("latents", [1, 2, 3])
def test_factor_analysis_is_never_below_scikit_learn(name, latents):
    """Also where a uniqueness runs to zero: there the floor, a millionth of the variance, costs less than 1e-5.

    scikit-learn stops EM early in its slow part, so it may lie below, but nothing it finds may lie above.
    """
    x = DATA[name]()
    run = quiet(FactorAnalysis(x.shape[1], latents), x)
    assert run.converged
    allowed = 1e-5 if any("Heywood" in text for text in run.warnings) else 1e-6
    assert run.log_likelihood(x).mean().item() >= sklearn_score(x, latents) - allowed


def test_factor_analysis_is_never_below_scikit_learn_near_heywood_cases():
    """Random covariances with one uniqueness between 1e-4 and 1e-2 of its variance."""
    generator = np.random.default_rng(7)
    worst = -np.inf
    for _ in range(12):
        features, latents = int(generator.integers(5, 9)), int(generator.integers(1, 3))
        W = generator.normal(size=(features, latents))
        psi = generator.uniform(0.2, 1.0, features)
        psi[0] = 10 ** generator.uniform(-4, -2) * (W[0] @ W[0])
        x = generator.normal(size=(300, latents)) @ W.T + generator.normal(size=(300, features)) * np.sqrt(
            psi
        )
        run = quiet(FactorAnalysis(features, latents), x)
        allowed = 1e-5 if any("Heywood" in text for text in run.warnings) else 1e-6
        worst = max(worst, sklearn_score(x, latents) - run.log_likelihood(x).mean().item() - allowed)
    assert worst <= 0


def test_many_features_take_the_iterative_eigensolver_to_the_same_top():
    """200 columns are beyond the dense solver; the answer has a zero gradient and is not below scikit-learn's."""
    generator = np.random.default_rng(3)
    W = generator.normal(size=(200, 3))
    x = generator.normal(size=(400, 3)) @ W.T + generator.normal(size=(400, 200)) * generator.uniform(
        0.5, 2, 200
    )
    run = fit(FactorAnalysis(200, 3), x)
    assert run.converged
    assert gradient_at(run.model, np.cov(x.T, bias=True)) < 1e-5
    assert run.log_likelihood(x).mean().item() >= sklearn_score(x, 3) - 1e-6


def test_planted_parameters_are_recovered():
    """Uniquenesses within five asymptotic standard errors, psi sqrt(2 / n) times a factor below 2 here."""
    truth = FactorAnalysis(8, 2)
    truth.loadings = torch.randn(8, 2, dtype=torch.float64)
    truth.uniquenesses = 0.5 + torch.rand(8, dtype=torch.float64)
    x = truth.sample(20_000, seed=1)
    run = fit(FactorAnalysis(8, 2), x)
    error = (run.model.uniquenesses - truth.uniquenesses).abs() / truth.uniquenesses.detach()
    assert (error < 5 * 2 * (2 / 20_000) ** 0.5).all()
    implied = [m.loadings @ m.loadings.mT for m in (run.model, truth)]
    assert torch.allclose(implied[0], implied[1].detach(), atol=0.15)


@settings(max_examples=16, deadline=None, derandomize=True)
@given(st.integers(0, 2**31 - 1), st.sampled_from(["fa", "ppca"]))
def test_equivariance(seed, kind):
    """Rows in any order change nothing; columns permute the answer; shifts move the mean; units scale the answer.

    The likelihood agrees to 1e-9 nats; in a flat direction of
    it, parameters agree to about the root of that.
    """
    generator = np.random.default_rng(seed)
    W = generator.normal(size=(6, 2))
    x = generator.normal(size=(80, 2)) @ W.T + generator.normal(size=(80, 6)) * generator.uniform(0.5, 1.5, 6)
    model = FactorAnalysis(6, 2) if kind == "fa" else ProbabilisticPCA(6, 2)
    scale = np.broadcast_to(10.0 ** generator.uniform(-3, 3, 6 if kind == "fa" else 1), 6)
    order, shift, ones = generator.permutation(6), generator.normal(size=6) * 100, np.ones(6)

    def answer(x):
        run = quiet(model, x)
        noise = run.model.noise_variance * torch.eye(6, dtype=torch.float64)
        covariance = run.model.loadings @ run.model.loadings.mT + noise
        return covariance.numpy(), run.model.mean.numpy(), run.history[-1].item()

    covariance, mean, value = answer(x)
    for rows, expected, centre, unit in (
        (generator.permutation(x), covariance, mean, ones),
        (x[:, order], covariance[np.ix_(order, order)], mean[order], ones),
        (x + shift, covariance, mean + shift, ones),
        (x * scale, covariance * np.outer(scale, scale), mean * scale, scale),
    ):
        actual, found, reached = answer(rows)
        assert reached + np.log(unit).sum() == pytest.approx(value, abs=1e-9)
        size = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
        np.testing.assert_allclose(actual / size, expected / size, atol=1e-4)
        np.testing.assert_allclose(
            found / np.sqrt(expected.diagonal()), centre / np.sqrt(expected.diagonal()), atol=1e-9
        )


def test_loadings_come_in_the_canonical_frame():
    x = holzinger_swineford().x
    for model in (FactorAnalysis(9, 3), ProbabilisticPCA(9, 3)):
        fitted = fit(model, x).model
        G = fitted.loadings.mT @ (fitted.loadings / fitted.noise_variance.expand(9)[:, None])
        diagonal = G.diagonal()
        assert (G - diagonal.diag()).abs().max() < 1e-9 * diagonal.max()
        assert (diagonal.diff() < 0).all()
        largest = fitted.loadings.gather(0, fitted.loadings.abs().argmax(0, keepdim=True))
        assert (largest > 0).all()


def test_ppca_in_the_limit_of_no_noise_is_pca():
    """The mean code of x, mapped back, tends to the orthogonal projection on the leading components."""
    x = DATA["wine"]()
    run = fit(ProbabilisticPCA(13, 3), x)
    vectors = np.linalg.svd(x - x.mean(0), full_matrices=False)[2][:3].T
    run.model.noise_variance = torch.tensor(1e-12, dtype=torch.float64)
    projection = run.model.loadings @ run.posterior(x).mean.T
    np.testing.assert_allclose(projection.T, (x - x.mean(0)) @ vectors @ vectors.T, atol=1e-6)


@pytest.mark.parametrize(
    ("features", "latents", "warns"), [(4, 2, True), (9, 6, True), (9, 5, False), (6, 3, False)]
)
@pytest.mark.parametrize("method", [MaximumLikelihood(), EM(steps=20, tol=1e-2)], ids=["ml", "em"])
def test_more_factors_than_can_be_identified_warn(features, latents, warns, method):
    """The bound of Ledermann: (D - K)^2 >= D + K."""
    assert warns == ((features - latents) ** 2 < features + latents)
    truth = FactorAnalysis(features, latents)
    x = truth.sample(300, seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(FactorAnalysis(features, latents), x, method)
    found = [str(w.message) for w in caught if w.category is UnderidentifiedWarning]
    assert bool(found) == warns
    assert all(f"{latents} factors are too many for {features} features" in text for text in found)


def test_heywood_cases_warn_by_name():
    """Iris with one factor: the third uniqueness runs to zero."""
    frame = pd.DataFrame(load_iris().data, columns=["sl", "sw", "pl", "pw"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = fit(FactorAnalysis(4, 1), frame)
    messages = [str(w.message) for w in caught if w.category is HeywoodWarning]
    assert len(messages) == 1
    assert "pl" in messages[0]
    assert messages[0] in run.warnings
    assert (run.model.uniquenesses > 0).all()


def test_digits_have_an_unbounded_likelihood_and_say_so():
    """Three pixels are 0 in every image: their density has no top. They are left without loadings, and named."""
    x = load_digits().data / 16
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = fit(FactorAnalysis(64, 2), x)
    assert any("columns 0, 32, 39" in str(w.message) for w in caught)
    assert (run.model.loadings[[0, 32, 39]] == 0).all()
    assert (run.model.uniquenesses > 0).all()
    varying = x.std(0) > 0
    fitted = fit(FactorAnalysis(61, 2), x[:, varying]).model
    assert torch.allclose(run.model.uniquenesses[varying], fitted.uniquenesses, rtol=1e-4)


def test_interior_answers_give_no_warning():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(FactorAnalysis(9, 3), holzinger_swineford().x)
        fit(FactorAnalysis(6, 2), SufficientStatistics.from_covariance(ability_cov().covariance, count=112))
        fit(ProbabilisticPCA(4, 2), load_iris().data)
    assert caught == []


def test_data_without_noise_hold_the_variance_at_its_floor():
    z = torch.randn(50, 2, dtype=torch.float64)
    x = z @ torch.randn(2, 5, dtype=torch.float64)
    with pytest.warns(HeywoodWarning, match="2 dimensions"):
        run = fit(ProbabilisticPCA(5, 2), x)
    assert run.model.noise_variance > 0
    assert run.log_likelihood(x).isfinite().all()


def test_noise_far_below_the_signal_is_still_estimated():
    """sigma = 1e-5 against loadings of order 1 is within reach of float64: no floor is needed."""
    truth = ProbabilisticPCA(5, 2)
    truth.noise_variance = torch.tensor(1e-10, dtype=torch.float64)
    x = truth.sample(1000, seed=0)
    run = quiet(ProbabilisticPCA(5, 2), x)
    assert run.model.noise_variance.item() == pytest.approx(
        1e-10, rel=0.15
    )  # 3,000 squares: 0.026 relative sd


def test_gaussian_model_without_noise_takes_the_sample_covariance():
    x = DATA["iris"]()
    run = fit(LinearFactorModel(4, 4, noise="none"), x)
    np.testing.assert_allclose(
        run.model.loadings @ run.model.loadings.T, np.cov(x.T, bias=True), rtol=1e-9, atol=1e-12
    )
    covariance = np.cov(x.T, bias=True)
    saturated = -0.5 * (4 * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] + 4)
    assert run.history[-1].item() == pytest.approx(saturated, rel=1e-12)
    assert run.log_likelihood(x).mean().item() == pytest.approx(saturated, rel=1e-9)


def test_dense_reference_agrees_with_the_model():
    """The dense likelihood of this file against `log_likelihood`, so that neither is trusted alone."""
    x = DATA["holzinger"]()
    run = fit(FactorAnalysis(9, 2), x)
    dense = average(np.cov(x.T, bias=True), run.model.loadings.numpy(), run.model.uniquenesses.numpy())
    assert dense == pytest.approx(run.log_likelihood(x).mean().item(), rel=1e-12)


def test_missing_entries_name_the_method_that_takes_them():
    x = holzinger_swineford().x
    x[0, 0] = torch.nan
    with pytest.raises(DataError, match=r"EM\(\)"):
        fit(FactorAnalysis(9, 3), x, MaximumLikelihood())


def test_every_start_is_reported():
    x = np.random.default_rng(12).normal(size=(97, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeywoodWarning)
        run = fit(FactorAnalysis(12, 4), x)
        one = fit(FactorAnalysis(12, 4), x, MaximumLikelihood(starts=1))
        three = fit(FactorAnalysis(12, 4), x, MaximumLikelihood(starts=3))
    shortfalls = [start["shortfall"] for start in run.restarts]
    assert len(shortfalls) > 5
    assert min(shortfalls) == pytest.approx(0.0, abs=1e-12)
    assert one.restarts == ()
    assert len(three.restarts) == 3
    assert one.history[-1] <= three.history[-1] <= run.history[-1]


def test_starts_are_a_count():
    with pytest.raises(ParameterError, match="starts should be a whole number of at least 1, got 0"):
        MaximumLikelihood(starts=0)
