"""Priors with hyperparameters under Gibbs sampling: sweeps keep the joint law, and planted zeros are found."""

import pytest
import torch
from scipy import stats

import probae as pa
from probae.inference.fit import fit
from probae.inference.gibbs import Gibbs
from probae.inference.gibbs.group_move import scale_columns
from probae.models import FactorAnalysis
from probae.parameter_priors import ARD, HalfNormal, Horseshoe, MultiplicativeGamma, SpikeSlab

CHAINS, D, K = 20_000, 5, 2


@pytest.mark.parametrize(
    "prior",
    [ARD(3.0, 2.0), MultiplicativeGamma(3.0, 3.0, degrees=5.0), Horseshoe(0.5)],
    ids=lambda p: type(p).__name__,
)
def test_sweeps_with_hyperparameters_leave_the_prior_as_it_is(prior, joint_test, Setting):
    """Twenty functions in three cases: |z| > 4.5 has probability 4e-4 in all, and the seeds are fixed."""
    noise = HalfNormal(0.8)
    assert joint_test(Setting(6, 4, 2, loadings=prior, noise=noise), sweeps=5) < 4.5


def test_a_scale_of_ard_off_by_a_tenth_is_caught(joint_test, Setting):

    def change(chains):
        chains.prior = ARD(3.0, 2.0, scale=1.1)

    assert joint_test(Setting(6, 4, 2, loadings=ARD(3.0, 2.0)), change=change) > 6


@pytest.mark.parametrize("error", [0, 3])
def test_stretching_factors_leaves_sparse_loadings_their_law(error):
    """Scores and loadings from their prior; a count of rows that is off by 3 is noticed."""
    torch.manual_seed(0)
    prior, rows = SpikeSlab(2.0, 3.0, scale=1.5), 8
    state = prior.start(CHAINS, D, K)
    variance = prior.variance(state)
    loadings = variance.sqrt() * torch.randn(CHAINS, D, K, dtype=torch.float64)
    scores = torch.randn(CHAINS, rows, K, dtype=torch.float64)
    moved, _ = scale_columns(loadings, scores.mT @ scores, variance, rows + error)
    assert torch.equal(moved != 0, loadings != 0)
    level = stats.kstest((moved[moved != 0] / 1.5)[:CHAINS].numpy(), stats.norm.cdf).pvalue
    assert level > 1e-4 if error == 0 else level < 1e-8


@pytest.mark.parametrize("method", [pa.NUTS(), pa.LaplaceApproximation(), pa.VariationalBayes()])
def test_methods_that_follow_gradients_refuse_sparse_loadings(method):
    model = FactorAnalysis(4, 1).with_priors(loadings=SpikeSlab())
    with pytest.raises(pa.NotExactError, match=r"Gibbs\(\)"):
        fit(model, torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), method)


@pytest.mark.filterwarnings("ignore::probae.checks.ConvergenceWarning")
def test_planted_zeros_are_found():
    """Two factors of three features each; at n = 400 a loading of 0 has a likelihood ratio of about sqrt(n) for it."""
    torch.manual_seed(1)
    planted = torch.zeros(6, 2, dtype=torch.float64)
    planted[:3, 0], planted[3:, 1] = 0.8, 0.7
    x = torch.randn(400, 2).double() @ planted.T + 0.6 * torch.randn(400, 6).double()
    model = FactorAnalysis(6, 2).with_priors(loadings=SpikeSlab())
    run = fit(model, x, Gibbs(draws=150, warmup=60))
    active = run.draws["loadings_active"]
    assert torch.equal(active != 0, run.draws["loadings"] != 0)
    truth = (planted != 0).double()
    for chance in active.mean(1):  # factors come in either order, chain by chain
        assert min((chance - truth).abs().amax(), (chance.flip(1) - truth).abs().amax()) < 0.5
    assert run.program.random_parameters[:3] == ["loadings_probability", "loadings_active", "loadings"]
    assert isinstance(run.program.parameter_priors["loadings"], pa.parameter_priors.SpikeSlab)
