"""Standard errors in every frame: against lavaan, against refits of shifted covariances, against closed forms."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import probae as pa
from probae import ExpectedInformation, FactorAnalysis, ObservedInformation, Sandwich, fit, standard_errors
from probae.rotation import CuretonMulaik, Geomin, Promax, Quartimin, Varimax

# R 4.2.2, lavaan 0.6-14. d: the nine tests of HolzingerSwineford1939; m: d with d[i, j] missing where, counted from 0,
# (7 i + 13 j) %% 11 == 0; HS <- "v =~ x1+x2+x3; t =~ x4+x5+x6; s =~ x7+x8+x9". Each row: loadings, noise variances,
# factor correlations (1,2), (1,3), (2,3), in the order of parameterEstimates.
# EXPECTED: cfa(HS, d, std.lv = TRUE); STANDARDIZED: standardizedSolution of it; OBSERVED: information = "observed";
# MLM, MLR: estimator = "MLM", "MLR"; FIML: cfa(HS, m, std.lv = TRUE, missing = "fiml"); FIML_EXPECTED:
# information = "expected"; FIML_MLR: estimator = "MLR"
EXPECTED = """
.0808465 .0774548 .0744212 .0566367 .0626758 .0536585 .0695826 .0659093 .0650170 .1136008 .1017232 .0906232
.0477178 .0583928 .0430350 .0813815 .0741940 .0707369 .0637793 .0728266 .0687292"""
STANDARDIZED = """
.0549727 .0596191 .0551393 .0225431 .0223412 .0233551 .0531548 .0505305 .0510942 .0848647 .0505095 .0640864
.0383945 .0382064 .0391437 .0605450 .0730716 .0679563 .0637793 .0728266 .0687292"""
OBSERVED = """
.0832328 .0807872 .0775791 .0566896 .0625879 .0537557 .0743081 .0754943 .0775235 .1190487 .1042618 .0950746
.0479629 .0579334 .0434405 .0875594 .0916588 .0905786 .0634638 .0862306 .0714709"""
MLM = """
.0929880 .0750968 .0675223 .0610273 .0546158 .0581461 .0668322 .0653153 .0590388 .1383543 .1074357 .0845609
.0500016 .0580438 .0462581 .0786181 .0742692 .0679466 .0720297 .0728673 .0747760"""
MLR = """
.1002626 .0876541 .0804998 .0612805 .0546804 .0581326 .0861253 .0928188 .0990886 .1564682 .1118783 .1002859
.0502818 .0567036 .0465165 .0972218 .1195323 .1187385 .0732686 .1190126 .0854725"""
FIML = """
.0836971 .0859903 .0827120 .0600601 .0641691 .0554025 .0907432 .0909255 .0928170 .1119537 .1112915 .1014142
.0555973 .0632678 .0472499 .1025775 .1028499 .1280563 .0702202 .0784923 .0696522"""
FIML_EXPECTED = """
.0805246 .0823849 .0775292 .0595440 .0642545 .0553871 .0746912 .0702285 .0739051 .1047090 .1069990 .0942321
.0539189 .0630023 .0468214 .0894851 .0770220 .0919951 .0680295 .0724483 .0698896"""
FIML_MLR = """
.1035387 .0970774 .0881503 .0629422 .0566919 .0590932 .1325561 .1301424 .1272034 .1494550 .1173059 .1146612
.0599374 .0635182 .0501296 .1229608 .1529024 .1909697 .0823590 .1021371 .0730407"""

# efa(d, nfactors = 3, rotation = "oblimin", rotation.args = list(row.weights = "none", std.ov = FALSE,
# oblimin.gamma = 0)); with rotation = "varimax", orthogonal = TRUE. Loadings by columns; errors of loadings, noise
# variances, factor correlations. (With Kaiser's weights or std.ov = TRUE lavaan holds the weights or the standard
# deviations fixed, though they are estimates; the refits below say what is right there.)
OBLIMIN_LOADINGS = """
.7117281 .5946990 .7827089 .0446216 -.0649149 .1021093 -.1402715 .1277611 .3865974 .2049293 .0381002 -.0960210
.9700794 1.1391165 .8759048 .0467157 -.0390293 .0238949 .0377371 -.1342956 .0285022 .0047315 .0076584
-.0129338 .7804611 .7046352 .4645333"""
OBLIMIN_ERRORS = """
.0890488 .0872447 .0785033 .0455971 .0282783 .0482136 .0407492 .0772545 .0787603 .0673204 .0690198 .0390060
.0600501 .0640465 .0570589 .0379703 .0391518 .0506120 .0571917 .0682633 .0510392 .0397554 .0289946 .0420587
.0795527 .0826632 .0706311 .0866113 .1019169 .0969962 .0477232 .0611692 .0423939 .1056521 .0803748 .0603802
.0694161 .0784757 .0669708"""
VARIMAX_LOADINGS = """
.7133112 .5644236 .7513277 .1393227 .0502833 .1837177 -.0442063 .1983336 .4283192 .3715996 .1549187 .0876011
.9744301 1.1176980 .8915462 .1241813 .0896248 .1775137 .1235639 -.0679637 .1036030 .0681435 .0698873 .0510299
.7560301 .7041054 .4986360"""
VARIMAX_ERRORS = """
.0802779 .0818600 .0794802 .0451081 .0379422 .0465606 .0512015 .0616160 .0689445 .0627145 .0666961 .0577492
.0577122 .0632507 .0548195 .0547118 .0508505 .0537361 .0622200 .0726994 .0601426 .0421245 .0365464 .0437302
.0833814 .0771117 .0685356 .0866113 .1019169 .0969962 .0477232 .0611692 .0423939 .1056521 .0803748 .0603802"""


def numbers(text):
    return torch.tensor([float(word) for word in text.split()], dtype=torch.float64)


def flat(errors, pattern):
    pairs = errors.factor_correlation[[0, 0, 1], [1, 2, 2]]
    return torch.cat([errors.loadings.T[pattern.T], errors.noise_variance, pairs])


@pytest.mark.parametrize(
    ("information", "expected"),
    [
        (None, EXPECTED),
        (ExpectedInformation(), EXPECTED),
        (ObservedInformation(), OBSERVED),
        (Sandwich(ExpectedInformation()), MLM),
        (Sandwich(), MLR),
    ],
)
def test_confirmatory_model_as_lavaan_has_it(confirmatory, holzinger, pattern, information, expected):
    errors = standard_errors(confirmatory, holzinger, information=information)
    torch.testing.assert_close(flat(errors, pattern), numbers(expected), rtol=0, atol=2e-6)
    assert errors.frame == "confirmatory"
    assert (errors.loadings[~pattern] == 0).all()


def test_standardized_confirmatory_model_as_lavaan_has_it(confirmatory, holzinger, pattern):
    errors = standard_errors(confirmatory, holzinger).standardized
    torch.testing.assert_close(flat(errors, pattern), numbers(STANDARDIZED), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("information", "expected"),
    [(None, FIML), (ExpectedInformation(), FIML_EXPECTED), (Sandwich(), FIML_MLR)],
)
def test_missing_entries_as_lavaan_has_them(with_holes, pattern, information, expected):
    run = fit(pa.ConfirmatoryFactorAnalysis(pattern, correlated=True), with_holes)
    errors = standard_errors(run, with_holes, information=information)
    torch.testing.assert_close(flat(errors, pattern), numbers(expected), rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("criterion", "oblique", "loadings", "expected"),
    [
        (Varimax(), False, VARIMAX_LOADINGS, VARIMAX_ERRORS),
        (Quartimin(), True, OBLIMIN_LOADINGS, OBLIMIN_ERRORS),
    ],
)
def test_rotated_loadings_as_lavaan_has_them(
    three_factors, holzinger, criterion, oblique, loadings, expected
):
    rotation = pa.rotate(three_factors.model.loadings, criterion, oblique=oblique)
    errors = standard_errors(three_factors, holzinger, rotation=rotation)
    theirs = numbers(loadings).reshape(3, 9).T
    order = (theirs.T @ errors.estimate.loadings).abs().argmax(1)
    assert torch.allclose(errors.estimate.loadings[:, order].abs(), theirs.abs(), atol=5e-5)
    wanted = numbers(expected)
    torch.testing.assert_close(errors.loadings[:, order].T.flatten(), wanted[:27], rtol=0, atol=5e-6)
    torch.testing.assert_close(errors.noise_variance, wanted[27:36], rtol=0, atol=5e-6)
    if oblique:
        pairs = errors.factor_correlation[order][:, order][[0, 0, 1], [1, 2, 2]]
        torch.testing.assert_close(pairs, wanted[36:], rtol=0, atol=5e-6)


def derivative(estimate, covariance, step=1e-5):
    """Derivatives of an estimate by the entries i >= j of the covariance it is made from."""
    entries = [(i, j) for i in range(len(covariance)) for j in range(i + 1)]
    columns = []
    for i, j in entries:
        shift = torch.zeros_like(covariance)
        shift[i, j] = shift[j, i] = step
        columns.append((estimate(covariance + shift) - estimate(covariance - shift)) / (2 * step))
    return torch.stack(columns, 1), entries


def delta_method(estimate, covariance, count):
    """Standard errors of anything estimated from a sample covariance of normal rows: no algebra of any model."""
    J, entries = derivative(estimate, covariance)
    S = covariance
    law = [[S[i, k] * S[j, m] + S[i, m] * S[j, k] for k, m in entries] for i, j in entries]
    return ((J @ torch.tensor(law, dtype=torch.float64) * J).sum(1) / count).sqrt()


def implied(model):
    noise = model.noise_variance.expand(model.features)
    return model.loadings @ model.loadings.T + torch.diag(noise)


FRAMES = {
    "canonical": None,
    "varimax": {"criterion": Varimax()},
    "varimax-kaiser": {"criterion": Varimax(), "normalize": True},
    "quartimin": {"criterion": Quartimin(), "oblique": True},
    "quartimin-kaiser": {"criterion": Quartimin(), "oblique": True, "normalize": True},
    "quartimin-weights": {"criterion": Quartimin(), "oblique": True, "normalize": CuretonMulaik()},
    "geomin": {"criterion": Geomin(), "oblique": True},
}


def check_by_refits(S, latents, settings, standardized, statistics_of):
    """Compare all errors with refits; S is a covariance that the model fits exactly, so the information is all."""
    count, D = 301, len(S)
    upper = torch.triu_indices(latents, latents, offset=1).unbind()

    def rotated(covariance):
        run = fit(FactorAnalysis(D, latents), statistics_of(covariance, count))
        sd = covariance.diagonal().sqrt().unsqueeze(1) if standardized else 1.0
        if settings is None:
            return run, None, run.model.loadings, torch.eye(latents, dtype=torch.float64)
        rotation = pa.rotate(run.model.loadings / sd, **settings, starts=1, tol=1e-11)
        return run, rotation, run.model.loadings @ rotation.matrix, rotation.factor_correlation

    run, rotation, reference, _ = rotated(S)

    def estimate(covariance):
        run, _, loadings, correlation = rotated(covariance)
        order = (reference.T @ loadings).abs().argmax(1)
        signs = torch.sign((loadings[:, order] * reference).sum(0))
        correlation = correlation[order][:, order] * signs * signs.unsqueeze(1)
        loadings, noise = loadings[:, order] * signs, run.model.noise_variance
        variance = covariance.diagonal()
        relative = (loadings / variance.sqrt().unsqueeze(1)).flatten()
        communalities = ((loadings @ correlation) * loadings).sum(1)
        return torch.cat(
            [loadings.flatten(), noise, relative, noise / variance, communalities, correlation[upper]]
        )

    errors = standard_errors(run, statistics_of(S, count), rotation=rotation)
    relative = errors.standardized
    found = [
        errors.loadings.flatten(),
        errors.noise_variance,
        relative.loadings.flatten(),
        relative.noise_variance,
    ]
    found += [errors.communalities, errors.factor_correlation[upper]]
    torch.testing.assert_close(torch.cat(found), delta_method(estimate, S, count), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("standardized", [True, False])
@pytest.mark.parametrize("frame", FRAMES)
def test_every_frame_agrees_with_refits_of_shifted_covariances(frame, standardized, statistics_of):
    W = torch.tensor([[2.0, 0.3], [1.2, -0.2], [0.9, 0.5], [0.2, 1.4], [-0.1, 3.0]], dtype=torch.float64)
    S = W @ W.T + torch.diag(torch.tensor([1.0, 2.0, 0.6, 0.8, 4.0], dtype=torch.float64))
    check_by_refits(S, 2, FRAMES[frame], standardized, statistics_of)


@pytest.mark.slow
@pytest.mark.parametrize("standardized", [True, False])
@pytest.mark.parametrize("frame", FRAMES)
def test_three_factors_agree_with_refits_of_shifted_covariances(
    frame, standardized, three_factors, statistics_of
):
    check_by_refits(implied(three_factors.model), 3, FRAMES[frame], standardized, statistics_of)


@pytest.mark.parametrize("criterion", [None, Varimax()])
def test_probabilistic_pca_agrees_with_refits_of_shifted_covariances(criterion, holzinger, statistics_of):
    count, S = 301, implied(fit(pa.ProbabilisticPCA(9, 2), holzinger).model)

    def rotated(covariance):
        run = fit(pa.ProbabilisticPCA(9, 2), statistics_of(covariance, count))
        rotation = (
            None if criterion is None else pa.rotate(run.model.loadings, criterion, starts=1, tol=1e-11)
        )
        return (
            run,
            rotation,
            run.model.loadings @ (torch.eye(2).double() if rotation is None else rotation.matrix),
        )

    run, rotation, reference = rotated(S)

    def estimate(covariance):
        run, _, loadings = rotated(covariance)
        order = (reference.T @ loadings).abs().argmax(1)
        loadings = loadings[:, order] * torch.sign((loadings[:, order] * reference).sum(0))
        return torch.cat([loadings.flatten(), run.model.noise_variance.reshape(1), loadings.square().sum(1)])

    errors = standard_errors(run, statistics_of(S, count), rotation=rotation)
    found = torch.cat([errors.loadings.flatten(), errors.noise_variance.reshape(1), errors.communalities])
    torch.testing.assert_close(found, delta_method(estimate, S, count), rtol=2e-5, atol=2e-6)


def test_noise_and_roots_of_probabilistic_pca(holzinger):
    """sigma^2 is a mean of D - K roots: error sigma^2 sqrt(2 / (n (D - K))). Each root l has error l sqrt(2 / n)."""
    run = fit(pa.ProbabilisticPCA(9, 2), holzinger)
    errors = standard_errors(run, holzinger)
    sigma2 = run.model.noise_variance.item()
    assert errors.noise_variance.item() == pytest.approx(sigma2 * math.sqrt(2 / (301 * 7)), rel=1e-10)
    W = run.model.loadings
    for k in range(2):
        gradient = torch.zeros(19, dtype=torch.float64)
        gradient[:18].reshape(9, 2)[:, k] = 2 * W[:, k]
        gradient[18] = 1.0
        root = float(W[:, k].square().sum()) + sigma2
        error = float(gradient @ errors.covariance @ gradient) ** 0.5
        assert error == pytest.approx(root * math.sqrt(2 / 301), rel=1e-9)


def test_many_features_leave_the_noise_as_if_the_factors_were_seen(statistics_of):
    """psi sqrt(2 / n) for D to infinity (Bai & Li, 2012, Annals of Statistics 40, 436-465), as statsmodels reports."""
    generator = torch.Generator().manual_seed(0)
    gaps = []
    for features in (20, 160):
        W = torch.randn(features, 2, generator=generator, dtype=torch.float64)
        psi = torch.rand(features, generator=generator, dtype=torch.float64) + 0.5
        statistics = statistics_of(W @ W.T + torch.diag(psi), 500)
        run = fit(FactorAnalysis(features, 2), statistics)
        ratio = standard_errors(run, statistics).noise_variance / (psi * math.sqrt(2 / 500))
        gaps.append((ratio - 1).abs().max().item())
    assert gaps[1] < 0.2 * gaps[0]  # of the order of 1 / D


def test_frames_differ_in_loadings_only(three_factors, holzinger):
    plain = standard_errors(three_factors, holzinger)
    for criterion, oblique in ((Varimax(), False), (Geomin(), True)):
        turned = standard_errors(
            three_factors, holzinger, rotation=pa.rotate(three_factors, criterion, oblique=oblique)
        )
        torch.testing.assert_close(turned.noise_variance, plain.noise_variance, rtol=1e-6, atol=0)
        torch.testing.assert_close(turned.communalities, plain.communalities, rtol=1e-6, atol=0)
        assert (turned.loadings - plain.loadings).abs().max() > 1e-3


def test_em_ends_in_another_frame_and_has_the_same_errors(three_factors, holzinger):
    run = fit(FactorAnalysis(9, 3), holzinger, pa.EM(tol=1e-13, steps=50_000))
    one, two = standard_errors(run, holzinger), standard_errors(three_factors, holzinger)
    torch.testing.assert_close(one.estimate.loadings, two.estimate.loadings, rtol=0, atol=1e-3)
    torch.testing.assert_close(one.loadings, two.loadings, rtol=0, atol=1e-3)


def test_moments_say_as_much_as_rows(three_factors, holzinger):
    statistics = pa.SufficientStatistics.from_data(holzinger)
    for information in (ExpectedInformation(), ObservedInformation()):
        one = standard_errors(three_factors, holzinger, information=information)
        two = standard_errors(three_factors, statistics, information=information)
        torch.testing.assert_close(one.covariance, two.covariance, rtol=1e-8, atol=1e-12)


@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_errors_follow_the_units(seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    W = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    x = z @ W.T + torch.randn(200, 7, generator=generator, dtype=torch.float64)
    units = torch.logspace(-3, 3, 7, dtype=torch.float64)[torch.randperm(7, generator=generator)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.HeywoodWarning)
        run, other = fit(FactorAnalysis(7, 2), x), fit(FactorAnalysis(7, 2), x * units)
    assume(not run.warnings)
    for rotation in (False, True):
        found = []
        for each, data in ((run, x), (other, x * units)):
            sd = data.std(0, correction=0).unsqueeze(1)
            turn = pa.rotate(each.model.loadings / sd, Quartimin(), oblique=True) if rotation else None
            found.append(standard_errors(each, data, rotation=turn, information=Sandwich()))
        one, two = found
        torch.testing.assert_close(two.loadings / units.unsqueeze(1), one.loadings, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(two.noise_variance / units**2, one.noise_variance, rtol=1e-4, atol=0)
        torch.testing.assert_close(two.standardized.loadings, one.standardized.loadings, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(two.factor_correlation, one.factor_correlation, rtol=1e-4, atol=1e-6)


def test_weights_of_zero_and_one_choose_rows(holzinger):
    chosen = torch.arange(301) % 3 > 0
    statistics = pa.SufficientStatistics.from_data(holzinger, weights=chosen.double())
    whole = fit(FactorAnalysis(9, 2), statistics)
    part = fit(FactorAnalysis(9, 2), holzinger[chosen])
    torch.testing.assert_close(whole.model.loadings, part.model.loadings, rtol=1e-6, atol=1e-7)
    one = standard_errors(whole, holzinger, information=Sandwich(), weights=5.0 * chosen)
    two = standard_errors(part, holzinger[chosen], information=Sandwich())
    torch.testing.assert_close(one.covariance, two.covariance, rtol=1e-5, atol=1e-9)


def test_rows_taken_twice_need_the_sandwich(holzinger):
    """Weights of 2 for some rows: the sandwich knows that they are not two observations."""
    weights = torch.ones(301, dtype=torch.float64)
    weights[:150] = 20.0
    run = fit(FactorAnalysis(9, 1), pa.SufficientStatistics.from_data(holzinger, weights=weights))
    robust = standard_errors(run, holzinger, information=Sandwich(), weights=weights)
    naive = standard_errors(run, holzinger, weights=weights)
    assert (robust.noise_variance / naive.noise_variance).mean() > 1.2


def test_a_rotated_fit_and_its_rotation(three_factors, holzinger):
    rotation = pa.rotate(three_factors, Quartimin(), oblique=True)
    turned = pa.rotated(three_factors, rotation)
    with pytest.raises(pa.ParameterError, match="rotation="):
        standard_errors(turned, holzinger)
    one = standard_errors(turned, holzinger, rotation=rotation)
    two = standard_errors(three_factors, holzinger, rotation=rotation)
    torch.testing.assert_close(one.covariance, two.covariance, rtol=1e-6, atol=1e-10)


def test_one_factor_has_no_frame_to_choose(holzinger):
    run = fit(FactorAnalysis(9, 1), holzinger)
    errors = standard_errors(run, holzinger)
    assert errors.covariance.shape == (18, 18)
    assert torch.linalg.eigvalsh(errors.covariance)[0] > 0


def test_a_variable_on_its_floor_is_named_and_held():
    table = torch.tensor(
        [[1.0, 0.9, 0.9, 0.3], [0.9, 1.0, 0.7, 0.2], [0.9, 0.7, 1.0, 0.2], [0.3, 0.2, 0.2, 1.0]]
    )
    statistics = pa.SufficientStatistics(
        100, torch.zeros(4, dtype=torch.float64), 100 * table.double(), ("first", "second", "third", "fourth")
    )
    with pytest.warns(pa.HeywoodWarning):
        run = fit(FactorAnalysis(4, 1), statistics)
    with pytest.warns(pa.HeywoodWarning, match="first"):
        errors = standard_errors(run, statistics)
    assert errors.heywood == ("first",)
    assert errors.noise_variance.isnan().tolist() == [True, False, False, False]
    assert errors.loadings.isfinite().all()
    assert "noise of first" not in errors.labels
    assert "first" in str(errors).splitlines()[-1]
    assert errors.standardized.noise_variance.isnan().tolist() == [True, False, False, False]


def test_intervals_and_tables(confirmatory, holzinger):
    errors = standard_errors(confirmatory, holzinger)
    lower, upper = errors.interval(0.95)
    z = 1.959963984540054
    W = errors.estimate.loadings
    torch.testing.assert_close(upper.loadings, W + z * errors.loadings)
    ratio = z * errors.noise_variance / errors.estimate.noise_variance
    torch.testing.assert_close(lower.noise_variance, errors.estimate.noise_variance * (-ratio).exp())
    assert (lower.noise_variance > 0).all()
    assert (upper.factor_correlation.tril(-1) < 1).all()
    assert (upper.factor_correlation.diagonal() == 1).all()
    table = errors.table().splitlines()
    assert len(table) == 1 + len(errors.labels) == 1 + 21
    assert "Factor correlations" in str(errors)
    assert errors.labels[0] == "column 0 on z[0]"
    assert errors.labels[9:12] == (
        "z[0] with z[1]",
        "z[0] with z[2]",
        "z[1] with z[2]",
    )
    np.testing.assert_allclose(errors.covariance.diagonal().sqrt()[:3], errors.loadings[:3, 0])
    with pytest.raises(pa.ParameterError, match="level"):
        errors.interval(95)


def test_shares_of_a_variance_stay_below_one(three_factors, holzinger):
    errors = standard_errors(three_factors, holzinger[:, :]).standardized
    lower, upper = errors.interval(0.999)
    assert ((lower.communalities > 0) & (upper.communalities < 1)).all()
    torch.testing.assert_close(lower.communalities, 1 - upper.noise_variance, rtol=1e-6, atol=0)


def test_standardizing_twice_changes_nothing(three_factors, holzinger):
    once = standard_errors(three_factors, holzinger).standardized
    torch.testing.assert_close(once.standardized.covariance, once.covariance, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(once.communalities, once.noise_variance, rtol=1e-9, atol=0)  # they add up to 1


def test_other_data_than_the_fit_saw_is_noticed(three_factors, holzinger):
    with pytest.warns(pa.ConvergenceWarning, match="nats"):
        standard_errors(three_factors, holzinger[:150])


class TestRefusals:
    """One sentence each."""

    def test_least_squares(self, holzinger):
        run = fit(FactorAnalysis(9, 3), holzinger, pa.MinimumResiduals())
        with pytest.raises(pa.ParameterError, match="maximum likelihood"):
            standard_errors(run, holzinger)

    def test_not_a_fit(self, holzinger):
        with pytest.raises(pa.ParameterError, match=r"pa\.fit"):
            standard_errors(FactorAnalysis(9, 1), holzinger)

    def test_other_models(self, holzinger):
        run = fit(pa.LinearFactorModel(9, 9, noise="none"), holzinger)
        with pytest.raises(pa.ParameterError, match="noise"):
            standard_errors(run, holzinger)
        sparse = fit(pa.SparseCoding(9, 2), holzinger, pa.MaximumLikelihood(draws=16))
        with pytest.raises(pa.NotExactError, match="Gaussian"):
            standard_errors(sparse, holzinger)

    def test_rows_for_the_sandwich(self, three_factors, holzinger):
        with pytest.raises(pa.DataError, match="rows"):
            standard_errors(
                three_factors, pa.SufficientStatistics.from_data(holzinger), information=Sandwich()
            )

    def test_a_rotation_of_something_else(self, three_factors, holzinger):
        other = pa.rotate(torch.randn(9, 3, dtype=torch.float64))
        with pytest.raises(pa.ParameterError, match="this fit"):
            standard_errors(three_factors, holzinger, rotation=other)
        with pytest.raises(pa.ParameterError, match=r"of shape \(9, 3\), got \(9, 2\)"):
            standard_errors(three_factors, holzinger, rotation=pa.rotate(other.loadings[:, :2]))
        with pytest.raises(pa.ParameterError, match=r"pa\.rotate"):
            standard_errors(three_factors, holzinger, rotation=Varimax())

    @pytest.mark.filterwarnings("ignore::probae.MissingRowWarning")
    def test_nothing_observed(self, three_factors, holzinger):
        with pytest.raises(pa.DataError, match="missing ones only"):
            standard_errors(three_factors, torch.full_like(holzinger, torch.nan))

    def test_a_rotation_of_fixed_zeros(self, confirmatory, three_factors, holzinger):
        with pytest.raises(pa.ParameterError, match="fixed loadings"):
            standard_errors(confirmatory, holzinger, rotation=pa.rotate(three_factors))

    def test_promax(self, three_factors, holzinger):
        rotation = pa.rotate(three_factors, Promax(), oblique=True)
        with pytest.raises(pa.ParameterError, match="Promax"):
            standard_errors(three_factors, holzinger, rotation=rotation)

    def test_information_by_name(self, three_factors, holzinger):
        with pytest.raises(pa.ParameterError, match="ExpectedInformation"):
            standard_errors(three_factors, holzinger, information="expected")
        with pytest.raises(pa.ParameterError, match="bread"):
            Sandwich("expected")

    def test_more_factors_than_the_data_identify(self, holzinger):
        with pytest.warns(pa.UnderidentifiedWarning):
            run = fit(FactorAnalysis(4, 2), holzinger[:, :4])
        with pytest.raises(pa.ParameterError, match="identified"):
            standard_errors(run, holzinger[:, :4])

    @pytest.mark.parametrize(
        ("weights", "text"),
        [
            (torch.ones(5), "shape"),
            (-torch.ones(301), "below zero"),
            (torch.full((301,), torch.nan), "finite"),
            ("abc", "numbers"),
        ],
    )
    def test_weights(self, three_factors, holzinger, weights, text):
        with pytest.raises(pa.DataError, match=text):
            standard_errors(three_factors, holzinger, information=Sandwich(), weights=weights)

    def test_weights_of_statistics(self, three_factors, holzinger):
        with pytest.raises(pa.DataError, match="from_data"):
            standard_errors(
                three_factors, pa.SufficientStatistics.from_data(holzinger), weights=torch.ones(301)
            )

    def test_statistics_of_other_features(self, three_factors, holzinger):
        with pytest.raises(pa.DataError, match="features"):
            standard_errors(three_factors, pa.SufficientStatistics.from_data(holzinger[:, :5]))
