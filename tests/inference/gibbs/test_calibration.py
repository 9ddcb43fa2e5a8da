"""Simulation-based calibration of the sweeps of Gibbs, with planted errors.

Chains of one engine carry simulations of their own here, so that a thousand simulations are one run. What `fit` does
around the sweeps is calibrated by `test_calibration_of_samplers.py`.
"""

import pytest
import torch

import probae as pa
from probae.inference.gibbs import chains as engine
from probae.inference.gibbs.rows import Centred

LAWS = pa.parameter_priors
DRAWS = 99


def quantities(case, theta, x):
    """As `invariant_quantities`, for a data set of its own of each parameter; entries hidden are the same in all."""
    W, noise = theta["loadings"], theta["noise"].expand(theta["mean"].shape)
    seen = ~x[0].isnan()
    seen = (seen[:1] if seen.all() else seen).double()
    weight = seen / noise[:, None]
    precision = (W.mT[:, None] * weight[..., None, :]) @ W[:, None]
    lower = torch.linalg.cholesky(precision + torch.eye(case.latents).double())
    apart = (x - theta["mean"][:, None]).nan_to_num()
    inner = torch.linalg.solve_triangular(lower, ((apart * weight) @ W)[..., None], upper=False)
    log_det = (seen * noise.log()[:, None]).sum(-1) + 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    distance = (apart.square() * weight).sum(-1) - inner.square().sum((-2, -1))
    likelihood = -0.5 * (log_det + distance).sum(-1)
    prior = case.loadings.log_prob(theta["hyper"], W) + case.noise.log_prob(theta["noise"]).sum(-1)
    z = torch.linalg.solve_triangular(lower[:, 0].mT, inner[:, 0], upper=True)[..., 0]
    found = {f"log psi[{d}]": theta["noise"][:, d].log() for d in range(theta["noise"].shape[1])}
    found |= {f"log (WW')[{d},{d}]": W[:, d].square().sum(-1).log() for d in range(case.features)}
    found |= {f"(WW')[{d},{e}]": (W[:, d] * W[:, e]).sum(-1) for d, e in ((0, 1), (0, -1), (1, -1))}
    found["log largest eigenvalue"] = torch.linalg.eigvalsh(W.mT @ W)[:, -1].log()
    found |= {"log p(x | theta)": likelihood, "log p(x, theta)": likelihood + prior}
    found["E(x[0,0] | x[0])"] = (W[:, 0] * z).sum(-1) + theta["mean"][:, 0] - x[:, :, 0].nanmean(1)
    if not isinstance(case.mean, LAWS.Fixed):
        found["mean[0]"] = theta["mean"][:, 0] - x[:, :, 0].nanmean(1)
    return found


def simulated(case, own, simulations, warmup, thin):
    """Names, true values (simulations, q) and draws (DRAWS, simulations, q) of the quantities.

    Every chain has a simulation, and starts where every chain starts, not at the truth.
    """
    truth = own.parameters(simulations)
    x = own.data(truth)
    theta, kept = own.start(x), []
    for sweep in range(warmup + DRAWS * thin):
        theta = own.kernel(theta, x)
        if sweep >= warmup and (sweep - warmup) % thin == thin - 1:
            kept.append(torch.stack(list(quantities(case, own.with_mean(theta), x).values()), -1))
    exact = quantities(case, truth, x)
    return list(exact), torch.stack(list(exact.values()), -1), torch.stack(kept)


@pytest.fixture
def calibration(Simulations):
    """Return a function that ranks the parameters of simulations among draws; ``batches`` of them fit in memory."""

    def run(case, simulations=1000, batches=1, warmup=30, thin=3, seed=0, wrong_loadings=None):
        size = simulations // batches
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            parts = [
                simulated(case, Simulations(case, size, seed + batch, wrong_loadings), size, warmup, thin)
                for batch in range(batches)
            ]
        names, exact, draws = zip(*parts, strict=True)
        return pa.Calibration.from_draws(names[0], torch.cat(exact), torch.cat(draws, 1), seed=seed)

    return run


CALIBRATED = {
    "one normal law": {"rows": 12},
    "fewer rows than features": {"rows": 5, "features": 8},
    "missing entries": {"rows": 12, "missing": True, "mean": LAWS.Normal(0.7)},
    "missing entries, flat mean": {"rows": 12, "missing": True, "mean": LAWS.Flat()},
    "flat mean": {"rows": 12, "mean": LAWS.Flat()},
    "isotropic noise": {"rows": 8, "isotropic": True},
    "no orthogonal move": {"rows": 12, "turn": False},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALIBRATED)
def test_the_sweeps_are_calibrated(name, calibration, Case):
    """False alarm: .02."""
    found = calibration(Case(**CALIBRATED[name]))
    assert found.passed, str(found)


@pytest.mark.slow
def test_the_sweeps_are_calibrated_at_100_features_and_10_latents(calibration, Case):
    """207 quantities; the largest eigenvalue takes some tens of sweeps from the start."""
    case = Case(rows=200, features=100, latents=10)
    found = calibration(case, batches=4, warmup=100, thin=5)
    assert found.passed, str(found)


def with_remainder_of_n(monkeypatch, case):
    """n degrees of freedom in place of n - rank."""
    exact = engine.remainder

    def wrong(generator, lead, latents, freedom):
        return exact(generator, lead, latents, case.rows)

    monkeypatch.setattr(engine, "remainder", wrong)


def with_exponent_n(monkeypatch, case):
    """|A|^n in place of |A|^(n - D) in the move along the orbit."""
    exact = engine.move_frame

    def wrong(loadings, square, variance, count, generator, *, turn):
        return exact(loadings, square, variance, count + case.features, generator, turn=turn)

    monkeypatch.setattr(engine, "move_frame", wrong)


def with_rows_of_n(monkeypatch, case):
    """n rows about their own mean in place of n - 1."""
    exact = Centred.about_their_mean
    monkeypatch.setattr(Centred, "about_their_mean", lambda self: exact(self)._replace(count=self.count))


@pytest.mark.slow
@pytest.mark.parametrize("plant", [with_remainder_of_n, with_exponent_n, with_rows_of_n])
def test_an_error_planted_in_a_sweep_is_caught_by_both(plant, calibration, geweke, Case, monkeypatch):
    case = Case(rows=12, mean=LAWS.Flat())
    plant(monkeypatch, case)
    assert not calibration(case).passed
    assert geweke(case).z.abs().max() > 6


@pytest.mark.slow
def test_a_scale_of_the_prior_half_as_large_again_is_caught(calibration, Case):
    assert not calibration(Case(), wrong_loadings=LAWS.Normal(1.5)).passed
