"""Minimum residuals and principal axes: derivatives, agreement with each other and with psych."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import probae as pa
from probae import FactorAnalysis, MinimumResiduals, PrincipalAxis, SufficientStatistics, fit
from probae.inference import least_squares

# R 4.2.2, psych 2.2.9: fa(Harman74.cor$cov, k, n.obs = 145, rotate = "none", fm = "minres", min.err = 1e-10)
HARMAN_1 = """
.65236658 .86125012 .82657291 .76727683 .53986888 .54656336 .56554119 .54227806 .53987715 .80196888 .70010215
.79540066 .64993974 .82447317 .85022676 .7461353 .79065314 .7366335 .80093361 .6156316 .64530533 .62026425 .51734841
.57623272"""
HARMAN_4 = """
.44982015 .77015627 .66152929 .65020432 .3612239 .32391353 .27149698 .48703168 .25610486 .25682423 .53013884
.44828431 .48928232 .6360016 .69253438 .54880494 .58562409 .58533266 .76528071 .58312933 .57784528 .60049594 .48805525
.51218521"""
# and half the sum of squared residual correlations of those loadings, off the diagonal
HARMAN_RESIDUAL = {1: 2.57812970384, 4: 0.459893083677}

# R's Harman74.cor: 24 tests of 145 pupils, Harman (1976), Modern Factor Analysis, p. 124; lower triangle by columns
HARMAN = """
.318 .403 .468 .321 .335 .304 .332 .326 .116 .308 .314 .489 .125 .238 .414 .176 .368 .27 .365 .369 .413 .474 .282
.317 .23 .285 .234 .157 .157 .195 .057 .15 .145 .239 .103 .131 .272 .005 .255 .112 .292 .306 .232 .348 .211 .305
.247 .268 .223 .382 .184 -.075 .091 .14 .321 .177 .065 .263 .177 .211 .312 .297 .165 .25 .383 .203 .227 .327 .335
.391 .325 .099 .11 .16 .327 .066 .127 .322 .187 .251 .137 .339 .349 .38 .335 .248 .622 .656 .578 .723 .311 .344
.215 .344 .28 .229 .187 .208 .263 .19 .398 .318 .441 .435 .42 .722 .527 .714 .203 .353 .095 .309 .292 .251 .291
.273 .167 .251 .435 .263 .386 .431 .433 .619 .685 .246 .232 .181 .345 .236 .172 .18 .228 .159 .226 .451 .314 .396
.405 .437 .532 .285 .3 .271 .395 .252 .175 .296 .255 .25 .274 .427 .362 .357 .501 .388 .17 .28 .113 .28 .26 .248
.242 .274 .208 .274 .446 .266 .483 .504 .424 .484 .585 .408 .172 .154 .124 .289 .317 .19 .173 .405 .16 .262 .531
.428 .535 .35 .24 .314 .362 .35 .29 .202 .399 .304 .251 .412 .512 .131 .173 .119 .278 .349 .11 .246 .355 .193 .35
.414 .195 .139 .281 .194 .323 .263 .241 .425 .279 .382 .358 .37 .412 .341 .201 .206 .302 .183 .243 .242 .304 .325
.345 .334 .192 .272 .232 .246 .256 .165 .324 .344 .258 .388 .348 .283 .36 .262 .448 .324 .262 .173 .273 .287 .326
.358 .301 .357 .317 .272 .405 .167 .331 .342 .303 .374 .413 .463 .509 .366 .374 .451 .448 .503 .375 .434"""

# psych 2.2.9: fa(cov2cor(ability.cov$cov), 2, n.obs = 112, rotate = "none", fm = "minres", min.err = 1e-10)
ABILITY = [0.43289854, 0.62346849, 0.16527356, 0.79756336, 0.061353014, 0.33049137]
ABILITY_LOADINGS = [
    [0.74976061, 0.52388376, 0.75000353, 0.39233178, 0.81829924, 0.72651082],
    [0.070430767, 0.31949541, 0.52174817, 0.22025534, -0.51868423, -0.3764182],
]
ABILITY_RESIDUAL = 0.0155426763917
# the same with fm = "pa", min.err = 1e-12, max.iter = 20000
ABILITY_AXES = [0.43290177, 0.62347052, 0.16525696, 0.79756491, 0.06133957, 0.33050062]


def harman():
    correlation = np.eye(24)
    rows, columns = np.triu_indices(24, 1)  # by columns of the lower triangle
    correlation[rows, columns] = correlation[columns, rows] = np.array(HARMAN.split(), dtype=float)
    return correlation


def off_diagonal(correlation, model):
    residual = correlation - model.loadings.numpy() @ model.loadings.numpy().T
    return 0.5 * np.square(residual - np.diag(residual.diagonal())).sum()


@given(st.integers(0, 10**6), st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_derivatives_are_those_of_finite_differences(seed, latents):
    rng = np.random.default_rng(seed)
    correlation = np.corrcoef(rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)), rowvar=False)
    psi = rng.uniform(0.3, 0.9, 6)
    point = least_squares.evaluate(correlation, psi, latents)
    steps = 1e-6 * np.eye(6)
    ends = [[least_squares.evaluate(correlation, psi + s * h, latents) for h in steps] for s in (1, -1)]
    gradient = np.array([(a.value - b.value) / 2e-6 for a, b in zip(*ends, strict=True)])
    hessian = np.array([(a.gradient - b.gradient) / 2e-6 for a, b in zip(*ends, strict=True)])
    np.testing.assert_allclose(point.gradient, gradient, atol=1e-7)
    exact, positive = point.hessians()
    np.testing.assert_allclose(exact, hessian, atol=1e-5 * np.abs(hessian).max())
    assert np.linalg.eigvalsh(positive)[0] > -1e-12


@pytest.mark.parametrize(("latents", "expected"), [(1, HARMAN_1), (4, HARMAN_4)])
def test_minres_of_24_tests_as_psych_has_it_or_better(latents, expected):
    correlation = harman()
    statistics = SufficientStatistics.from_covariance(correlation, count=145)
    run = fit(FactorAnalysis(24, latents), statistics, MinimumResiduals())
    np.testing.assert_allclose(run.model.uniquenesses, np.array(expected.split(), dtype=float), atol=1e-5)
    assert run.converged
    assert -run.history[-1].item() == pytest.approx(off_diagonal(correlation, run.model), rel=1e-9)
    assert -run.history[-1].item() <= HARMAN_RESIDUAL[latents] + 1e-12


@pytest.mark.parametrize("latents", [1, 4])
def test_principal_axes_end_where_minres_does(latents):
    statistics = SufficientStatistics.from_covariance(harman(), count=145)
    axes = fit(FactorAnalysis(24, latents), statistics, PrincipalAxis())
    newton = fit(FactorAnalysis(24, latents), statistics, MinimumResiduals())
    assert axes.converged
    torch.testing.assert_close(axes.model.uniquenesses, newton.model.uniquenesses, rtol=0, atol=1e-7)
    assert (axes.history.diff() > -1e-13).all()  # alternating minimisation never climbs
    assert (newton.history.diff() > -1e-13).all()


def test_ability_as_psych_has_it_or_better():
    table = pa.datasets.ability_cov()
    sd = table.covariance.diagonal().sqrt()
    statistics = SufficientStatistics.from_covariance(table.covariance, count=table.count)
    run = fit(FactorAnalysis(6, 2), statistics, MinimumResiduals())
    np.testing.assert_allclose(run.model.uniquenesses / sd**2, ABILITY, atol=1e-4)
    loadings = run.model.loadings / sd.unsqueeze(1)
    signs = torch.sign((loadings * torch.tensor(ABILITY_LOADINGS).T).sum(0))
    np.testing.assert_allclose(loadings * signs, np.transpose(ABILITY_LOADINGS), atol=1e-4)
    assert -run.history[-1].item() <= ABILITY_RESIDUAL
    axes = fit(FactorAnalysis(6, 2), statistics, PrincipalAxis())
    np.testing.assert_allclose(axes.model.uniquenesses / sd**2, ABILITY_AXES, atol=1e-7)


def test_stationary_where_no_uniqueness_is_on_its_floor():
    """The diagonal fits, and the loadings are the principal axes of what the uniquenesses leave."""
    correlation = harman()
    run = fit(
        FactorAnalysis(24, 3),
        SufficientStatistics.from_covariance(correlation, count=145),
        MinimumResiduals(),
    )
    W, psi = run.model.loadings.numpy(), run.model.uniquenesses.numpy()
    np.testing.assert_allclose(np.square(W).sum(1) + psi, 1.0, atol=1e-9)
    np.testing.assert_allclose((correlation - np.diag(psi)) @ W, W * np.square(W).sum(0), atol=1e-8)


def test_an_exact_model_is_found_exactly():
    generator = torch.Generator().manual_seed(3)
    W = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    psi = torch.rand(8, generator=generator, dtype=torch.float64) + 0.2
    statistics = SufficientStatistics.from_covariance(W @ W.T + torch.diag(psi), count=50)
    for method in (MinimumResiduals(), PrincipalAxis(tol=1e-13)):
        run = fit(FactorAnalysis(8, 2), statistics, method)
        torch.testing.assert_close(run.model.uniquenesses, psi, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(run.model.loadings @ run.model.loadings.T, W @ W.T, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", [MinimumResiduals(), PrincipalAxis()])
def test_units_do_not_matter(method):
    x = pa.datasets.holzinger_swineford().x
    units = torch.logspace(-3, 5, 9, dtype=torch.float64)
    run, other = fit(FactorAnalysis(9, 2), x, method), fit(FactorAnalysis(9, 2), 7.0 + x * units, method)
    torch.testing.assert_close(
        other.model.loadings / units.unsqueeze(1), run.model.loadings, rtol=1e-6, atol=1e-8
    )
    torch.testing.assert_close(other.model.uniquenesses / units**2, run.model.uniquenesses, rtol=1e-6, atol=0)


def heywood_statistics():
    """A variable that would need a communality above 1: r_12 r_13 / r_23 = 1.62."""
    correlation = torch.tensor(
        [[1.0, 0.9, 0.9, 0.3], [0.9, 1.0, 0.5, 0.2], [0.9, 0.5, 1.0, 0.2], [0.3, 0.2, 0.2, 1.0]],
        dtype=torch.float64,
    )
    correlation[1, 2] = correlation[2, 1] = 0.7
    return SufficientStatistics(
        100, torch.zeros(4, dtype=torch.float64), 100 * correlation, ("first", "second", "third", "fourth")
    )


@pytest.mark.parametrize("method", [MinimumResiduals(), PrincipalAxis()])
def test_a_heywood_case_is_named(method):
    with pytest.warns(pa.HeywoodWarning, match="first"):
        run = fit(FactorAnalysis(4, 1), heywood_statistics(), method)
    assert run.model.uniquenesses.min().item() == pytest.approx(1e-6)
    assert run.converged


def test_a_singular_correlation_matrix_is_no_obstacle():
    """Fewer rows than columns: least squares needs no inverse."""
    x = torch.randn(12, 3, dtype=torch.float64) @ torch.randn(3, 20, dtype=torch.float64)
    x = x + 0.5 * torch.randn(12, 20, dtype=torch.float64)
    run = fit(FactorAnalysis(20, 2), x, MinimumResiduals())
    axes = fit(FactorAnalysis(20, 2), x, PrincipalAxis())
    assert run.converged
    torch.testing.assert_close(run.model.uniquenesses, axes.model.uniquenesses, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", [MinimumResiduals(), PrincipalAxis()])
def test_what_least_squares_does_not_fit(method):
    x = torch.randn(30, 4, dtype=torch.float64)
    with pytest.raises(pa.ParameterError, match="diagonal"):
        fit(pa.ProbabilisticPCA(4, 1), x, method)
    with pytest.raises(pa.NotExactError, match="Gaussian"):
        fit(pa.SparseCoding(4, 1), x, method)
    with pytest.raises(pa.ParameterError, match="confirmatory"):
        fit(pa.ConfirmatoryFactorAnalysis([[1, 0], [1, 0], [0, 1], [0, 1]], correlated=False), x, method)


@pytest.mark.parametrize(
    ("build", "text"),
    [(lambda: MinimumResiduals(steps=0), "steps"), (lambda: PrincipalAxis(tol=-1.0), "tol")],
)
def test_settings(build, text):
    with pytest.raises(pa.ParameterError, match=text):
        build()


def test_too_few_steps_are_said():
    statistics = SufficientStatistics.from_covariance(harman(), count=145)
    for method in (MinimumResiduals(steps=1), PrincipalAxis(steps=3)):
        with pytest.warns(pa.ConvergenceWarning):
            assert not fit(FactorAnalysis(24, 4), statistics, method).converged
