"""Alpha, omega and the Schmid-Leiman transformation against psych and against their definitions."""

import numpy as np
import pytest
import torch

import probae as pa
from probae import alpha, fit, omega, schmid_leiman
from probae.rotation import Quartimin

# R 4.2.2, psych 2.2.9, d: the nine tests of Holzinger and Swineford: alpha(d)
DROPPED = [
    *(0.72480631, 0.76423130, 0.74895596, 0.71500131, 0.72357205),
    *(0.71415400, 0.76643684, 0.74842448, 0.73103020),
]
REST = [
    *(0.52203672, 0.27524306, 0.37017212, 0.58070664, 0.52538538),
    *(0.59513902, 0.24573164, 0.36905545, 0.49478100),
]
# omega(d, 3)$schmid$sl, column g; omega(d, 3, fm = "ml")
GENERAL = [
    *(0.48550215, 0.29106193, 0.40683255, 0.44827059, 0.41733170),
    *(0.45851028, 0.23253473, 0.34607685, 0.44596215),
]


def split(run, holzinger):
    """Oblimin of the standardised loadings, as psych does it."""
    sd = holzinger.std(0, correction=0)
    return schmid_leiman(pa.rotate(run.model.loadings / sd.unsqueeze(1), Quartimin(), oblique=True)), sd


class TestAlpha:
    """Cronbach's alpha."""

    def test_as_psych_has_it(self, holzinger):
        found = alpha(holzinger)
        assert found.value == pytest.approx(0.760488596, abs=1e-9)
        assert found.standardized == pytest.approx(0.760402219, abs=1e-9)
        assert found.average_correlation == pytest.approx(0.260699001, abs=1e-9)
        assert found.standard_error == pytest.approx(0.0208342708, abs=1e-9)
        np.testing.assert_allclose(found.if_dropped, DROPPED, atol=1e-8)
        np.testing.assert_allclose(found.item_rest, REST, atol=1e-8)
        assert found.interval() == (pytest.approx(0.72, abs=0.005), pytest.approx(0.80, abs=0.005))

    def test_dropping_is_leaving_out(self, holzinger):
        keep = [i for i in range(9) if i != 3]
        assert alpha(holzinger).if_dropped[3].item() == pytest.approx(
            alpha(holzinger[:, keep]).value, rel=1e-12
        )

    def test_statistics_do(self, holzinger):
        assert alpha(pa.SufficientStatistics.from_data(holzinger)).value == pytest.approx(
            alpha(holzinger).value
        )

    def test_parallel_items_have_the_reliability_of_spearman_and_brown(self, statistics_of):
        S = torch.full((6, 6), 0.4, dtype=torch.float64).fill_diagonal_(1.0)
        assert alpha(statistics_of(S, 50)).value == pytest.approx(6 * 0.4 / (1 + 5 * 0.4), rel=1e-12)

    @pytest.mark.filterwarnings("ignore:.*reversed")
    def test_feldt_covers_and_the_error_is_right(self):
        """Parallel items: Feldt's interval is exact; 400 samples of 60 rows, five standard errors."""
        generator = torch.Generator().manual_seed(2)
        truth = 5 * 0.3 / (1 + 4 * 0.3)
        hits, values, errors = 0, [], []
        for _ in range(400):
            z = torch.randn(60, 1, generator=generator, dtype=torch.float64)
            x = 0.3**0.5 * z + 0.7**0.5 * torch.randn(60, 5, generator=generator, dtype=torch.float64)
            found = alpha(x)
            low, high = found.interval()
            hits += low <= truth <= high
            values.append(found.value)
            errors.append(found.standard_error)
        assert abs(hits / 400 - 0.95) < 5 * (0.95 * 0.05 / 400) ** 0.5
        assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)

    def test_bonett_is_close_to_feldt(self, holzinger):
        found = alpha(holzinger)
        np.testing.assert_allclose(found.bonett_interval(), found.interval(), atol=0.005)

    def test_a_reversed_item_is_named(self, holzinger):
        x = holzinger.clone()
        x[:, 4] *= -1
        with pytest.warns(pa.ProbaeWarning, match="column 4"):
            alpha(x)

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (lambda x: x[:, :1], "2 items"),
            (lambda x: torch.where(torch.arange(9) == 2, 1.0, x), "no variation in column 2"),
            (lambda x: torch.where(torch.arange(9) == 2, torch.nan, x), "NaN"),
            (lambda x: torch.stack([x[:, 0], -x[:, 0]], 1), "reverse"),
            (lambda x: x[:1], "2 rows"),
            (lambda x: x.numpy().astype(str), "real numbers"),
        ],
    )
    def test_refusals(self, holzinger, change, text):
        with pytest.raises(pa.DataError, match=text):
            alpha(change(holzinger))

    def test_printed(self, holzinger):
        found = alpha(holzinger)
        assert "alpha if dropped" in str(found)
        with pytest.raises(pa.ParameterError, match="level"):
            found.interval(95)


class TestOmega:
    """McDonald's omega."""

    @pytest.mark.parametrize(
        ("method", "total", "hierarchical", "tolerance"),
        [(pa.MinimumResiduals(), 0.8508350734, 0.4492424341, 1e-5), (None, 0.8507280997, 0.4531167587, 3e-4)],
    )
    def test_as_psych_has_it(self, holzinger, method, total, hierarchical, tolerance):
        """Omega(d, 3) and omega(d, 3, fm = "ml"); psych divides by the sample's variance, which only minres keeps."""
        run = fit(pa.FactorAnalysis(9, 3), holzinger, method)
        parts, sd = split(run, holzinger)
        found = omega(run, parts, weights=1 / sd)
        assert found.total == pytest.approx(total, abs=tolerance)
        assert found.hierarchical == pytest.approx(hierarchical, abs=tolerance)

    def test_general_loadings_as_psych_has_them(self, holzinger):
        run = fit(pa.FactorAnalysis(9, 3), holzinger, pa.MinimumResiduals())
        np.testing.assert_allclose(split(run, holzinger)[0].general, GENERAL, atol=2e-5)

    def test_schmid_leiman_rebuilds_the_covariance(self, three_factors):
        rotation = pa.rotate(three_factors, Quartimin(), oblique=True)
        parts = schmid_leiman(rotation)
        W, g = rotation.loadings, parts.factor_loadings
        torch.testing.assert_close(
            parts.general.outer(parts.general) + parts.group @ parts.group.T,
            W @ rotation.factor_correlation @ W.T,
            rtol=0,
            atol=1e-8,
        )
        torch.testing.assert_close(
            g.outer(g).tril(-1), rotation.factor_correlation.tril(-1), rtol=0, atol=1e-7
        )

    def test_one_factor(self, holzinger):
        run = fit(pa.FactorAnalysis(9, 1), holzinger)
        found = omega(run)
        w, psi = run.model.loadings[:, 0].sum().item(), run.model.noise_variance.sum().item()
        assert found.total == pytest.approx(w**2 / (w**2 + psi), rel=1e-12)
        assert found.hierarchical == found.total
        assert found.limit == 1.0
        assert "group" not in str(found)

    def test_equal_loadings_give_alpha(self, statistics_of):
        S = torch.full((6, 6), 0.4, dtype=torch.float64).fill_diagonal_(1.0)
        run = fit(pa.FactorAnalysis(6, 1), statistics_of(S, 50))
        assert omega(run).total == pytest.approx(alpha(statistics_of(S, 50)).value, rel=1e-8)

    def test_a_bifactor_model_shows_its_general_factor(self, statistics_of):
        pattern = torch.cat([torch.ones(9, 1), torch.eye(3).repeat_interleave(3, 0)], 1).bool()
        general = torch.linspace(0.5, 0.8, 9, dtype=torch.float64)
        W = torch.cat([general.unsqueeze(1), 0.4 * pattern[:, 1:].double()], 1)
        W[0, 1], W[4, 2], W[8, 3] = 0.55, 0.6, 0.3
        psi = 1 - W.square().sum(1)
        statistics = statistics_of(W @ W.T + torch.diag(psi), 500)
        run = fit(pa.ConfirmatoryFactorAnalysis(pattern, correlated=False), statistics)
        found = omega(run)
        total = float((W @ W.T + torch.diag(psi)).sum())
        assert found.hierarchical == pytest.approx(float(general.sum()) ** 2 / total, rel=1e-4)
        assert found.total == pytest.approx(1 - float(psi.sum()) / total, rel=1e-4)
        assert found.total == pytest.approx(found.hierarchical + found.group.sum().item(), rel=1e-9)

    def test_a_subscale(self, confirmatory):
        """Reliability of the first three tests alone, from the model of all nine."""
        weights = torch.tensor([1.0, 1.0, 1.0, 0, 0, 0, 0, 0, 0])
        found = omega(confirmatory, weights=weights)
        w, psi = (
            confirmatory.model.loadings[:3, 0].sum().item(),
            confirmatory.model.noise_variance[:3].sum().item(),
        )
        assert found.total == pytest.approx(w**2 / (w**2 + psi), rel=1e-12)
        assert np.isnan(found.hierarchical)

    def test_standard_error_is_the_delta_method(self, three_factors, holzinger):
        """One factor and equal noise: omega is a function of two numbers; and it is the same in every frame."""
        run = fit(pa.FactorAnalysis(9, 1), holzinger)
        errors = pa.standard_errors(run, holzinger)
        found = omega(run, standard_errors=errors)
        W, psi = run.model.loadings[:, 0], run.model.noise_variance
        a, b = W.sum(), psi.sum()
        gradient = torch.cat([(2 * a * b / (a**2 + b) ** 2).expand(9), (-(a**2) / (a**2 + b) ** 2).expand(9)])
        assert found.total_error == pytest.approx(
            float(gradient @ errors.covariance @ gradient) ** 0.5, rel=1e-9
        )
        assert found.hierarchical_error == pytest.approx(found.total_error, rel=1e-9)
        turned = pa.standard_errors(three_factors, holzinger, rotation=pa.rotate(three_factors))
        plain = pa.standard_errors(three_factors, holzinger)
        one, two = (omega(three_factors, standard_errors=each) for each in (turned, plain))
        assert one.total_error == pytest.approx(two.total_error, rel=1e-6)
        assert np.isnan(one.hierarchical_error)
        with pytest.raises(pa.ParameterError, match="this fit"):
            omega(run, standard_errors=plain)

    def test_standard_errors_of_a_bifactor_model_are_the_spread_of_omega(self):
        """150 samples: a spread of 150 numbers is good to 6 %."""
        pattern = torch.cat([torch.ones(9, 1), torch.eye(3).repeat_interleave(3, 0)], 1).bool()
        W = torch.cat([torch.full((9, 1), 0.6), 0.5 * pattern[:, 1:]], 1).double()
        W[::3, 0] = 0.8
        generator, values, errors = torch.Generator().manual_seed(9), [], []
        for _ in range(150):
            z = torch.randn(800, 4, generator=generator, dtype=torch.float64)
            x = z @ W.T + torch.randn(800, 9, generator=generator, dtype=torch.float64) * 0.6
            run = fit(pa.ConfirmatoryFactorAnalysis(pattern, correlated=False), x)
            found = omega(run, standard_errors=pa.standard_errors(run, x))
            values.append([found.total, found.hierarchical])
            errors.append([found.total_error, found.hierarchical_error])
        np.testing.assert_allclose(np.mean(errors, 0) / np.std(values, 0), 1.0, atol=0.25)

    def test_four_factors_whose_correlations_one_factor_does_not_explain(self):
        Phi = torch.tensor([[1.0, 0.6, 0.2, 0.1], [0.6, 1, 0.3, 0.2], [0.2, 0.3, 1, 0.5], [0.1, 0.2, 0.5, 1]])
        blocks = torch.kron(torch.eye(4), torch.tensor([[0.8], [0.7], [0.6], [0.75]])).double()
        blocks[::4] = blocks[::4] * 0.5 + 0.15  # features of several factors
        common = blocks @ Phi.double() @ blocks.mT
        covariance = common + torch.diag(1 - common.diagonal())
        run = fit(pa.FactorAnalysis(16, 4), pa.SufficientStatistics.from_covariance(covariance, count=500))
        parts = schmid_leiman(pa.rotate(run, Quartimin(), oblique=True))
        assert (parts.general.square() + parts.group.square().sum(1) - common.diagonal()).abs().max() > 1e-3
        found = omega(run, parts)
        assert found.total == pytest.approx(float(common.sum() / covariance.sum()), rel=1e-6)
        assert found.hierarchical == pytest.approx(
            float(parts.general.sum().square() / covariance.sum()), rel=1e-6
        )

    def test_two_factors_share_a_general_one_by_decree(self, holzinger):
        run = fit(pa.FactorAnalysis(9, 2), holzinger)
        rotation = pa.rotate(run, Quartimin(), oblique=True)
        with pytest.warns(pa.UnderidentifiedWarning, match="equal"):
            parts = schmid_leiman(rotation)
        assert parts.factor_loadings[0] == parts.factor_loadings[1]

    def test_refusals(self, three_factors, confirmatory, holzinger):
        with pytest.raises(pa.ParameterError, match="oblique=True"):
            schmid_leiman(pa.rotate(three_factors))
        with pytest.raises(pa.ParameterError, match="got Fit"):
            schmid_leiman(three_factors)
        with pytest.raises(pa.ParameterError, match="result of pa.standard_errors, got str"):
            omega(three_factors, standard_errors="no")
        with pytest.raises(pa.ParameterError, match="correlated"):
            omega(confirmatory, 0)
        with pytest.raises(pa.ParameterError, match="index"):
            omega(three_factors, 3)
        with pytest.raises(pa.DataError, match="weights"):
            omega(three_factors, weights=[1.0, 2.0])
        with pytest.raises(pa.DataError, match="numbers"):
            omega(three_factors, weights="abc")
        with pytest.raises(pa.DataError, match="varies"):
            omega(three_factors, weights=torch.zeros(9))
        other = fit(pa.FactorAnalysis(9, 3), holzinger, pa.MinimumResiduals())
        with pytest.raises(pa.ParameterError, match="communalities"):
            omega(three_factors, split(other, holzinger)[0])
