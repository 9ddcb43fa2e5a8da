"""SBC of parameters: exact draws pass, each planted error is seen, failures count, and a killed run goes on."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

import probae as pa
from probae.analysis.simulator import Simulator
from probae.inference import Method
from probae.inference.base import ExactPosterior, Outcome

LAWS = pa.parameter_priors
TINY = 1e-7  # of loadings: x tells nothing of them, and their part in its variance is 1e-14


def no_factors(features=3, mean=None):
    """A model whose posterior is known: W from its prior, psi_d from IG(a + n / 2, b + |x_d|^2 / 2)."""
    return pa.FactorAnalysis(features, 1).with_priors(
        LAWS.Normal(TINY), LAWS.InverseGamma(2.0, 0.5), LAWS.Fixed() if mean is None else mean
    )


@dataclass(frozen=True)
class Conjugate(Method):
    """Independent draws from the posterior of `no_factors`, or spoiled ones."""

    draws: int = 200
    shift: float = 0.0  # of log psi
    stuck: bool = False  # every draw repeated to the end of its quarter
    broken: bool = False  # every third fit, about
    random: ClassVar[bool] = True

    def fit(self, model, data, seed):
        """Draw."""
        if self.broken and seed % 3 == 0:
            raise FloatingPointError("planted")
        x, size = data.values.double(), (1, self.draws)
        generator = np.random.default_rng(seed)
        shape, rate = 2.0 + len(x) / 2, 0.5 + 0.5 * x.square().sum(0).numpy()
        noise = np.exp(self.shift) * rate / generator.gamma(shape, size=(*size, x.shape[1]))
        if self.stuck:
            noise = np.repeat(noise[:, :4], self.draws // 4, 1)
        draws = {
            "noise_variance": torch.from_numpy(noise),
            "loadings": torch.from_numpy(TINY * generator.standard_normal((*size, x.shape[1], 1))),
            "mean": torch.zeros(*size, x.shape[1], dtype=torch.float64),
        }
        return Outcome(ExactPosterior(model), [], True, draws=draws)


def calibrate(method=None, simulations=100, **settings):
    """Calibrate draws of the toy from six rows."""
    return pa.parameter_calibration(
        no_factors(), method or Conjugate(), rows=6, simulations=simulations, **settings
    )


def test_exact_draws_pass_and_the_callers_random_state_is_left_alone():
    """A false alarm has a chance of at most .02; the ratio of the sd is 1 and the shift 0, within 4 errors of 13."""
    before = torch.get_rng_state()
    found = calibrate()
    assert torch.equal(torch.get_rng_state(), before)
    assert found.passed, str(found)
    assert found.ranks.shape == (100, 13)
    assert ((found.sd_ratio - 1).abs() < 4 * found.sd_ratio_error).all()
    assert (found.shift.abs() < 4 * found.shift_error).all()


def test_noise_variances_that_are_too_high_are_flagged_by_name():
    """Log psi is half its sd too high: trigamma(5) = .221, sd .47. Loadings, which are not touched, are not flagged."""
    found = calibrate(Conjugate(shift=0.25))
    flagged = {name for name, flag in zip(found.names, found.flagged.tolist(), strict=True) if flag}
    assert {f"log noise_variance[{d}]" for d in range(3)} <= flagged
    assert not any("WW'" in name for name in flagged)
    assert "log noise_variance[0]" in str(found)
    assert "flagged" in str(found)


def test_fits_that_fail_are_counted_and_more_than_one_in_a_hundred_is_no_pass():
    found = calibrate(Conjugate(broken=True))
    assert 10 < len(found.failures) < 60  # binomial of 100 and 1/3: mean 33, sd 4.7
    assert len(found.ranks) + len(found.failures) == 100
    assert found.failures[0][1] == "FloatingPointError: planted"
    assert not found.flagged.any()
    assert not found.passed
    assert f"{len(found.failures)} fits failed" in str(found)


def test_draws_worth_too_few_are_extended_and_then_a_failure_whose_ranks_are_kept():
    simulator = Simulator(no_factors(), Conjugate(draws=20, stuck=True), 6, 19, 0.0, 0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        one = simulator(0)
    assert one.failure.startswith("1280 draws worth")  # 20 x 2^6
    assert one.ranks is not None


def test_a_killed_calibration_goes_on_where_it_was(tmp_path, monkeypatch):
    """Bit for bit: simulation i is a function of the seed and i alone."""
    settings = {"draws": 19, "method": Conjugate(draws=60)}
    whole, calls = calibrate(**settings), []
    checkpoint = pa.Checkpoint(tmp_path / "ranks", every=10)
    own = Simulator.__call__

    def killed(self, number):
        calls.append(number)
        if len(calls) == 58:
            raise KeyboardInterrupt
        return own(self, number)

    monkeypatch.setattr(Simulator, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        calibrate(checkpoint=checkpoint, **settings)
    found = calibrate(checkpoint=checkpoint, **settings)
    assert calls[58:] == list(range(50, 100))
    assert torch.equal(found.ranks, whole.ranks)
    assert torch.equal(found.deviations, whole.deviations)
    with pytest.raises(pa.FileError, match="of another run, with other seed"):
        calibrate(checkpoint=checkpoint, seed=1, **settings)
    with pytest.raises(pa.FileError, match="of another run, with other of shift"):
        calibrate(Conjugate(60, shift=0.1), draws=19, checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": pa.SparseCoding(3, 4)}, "the loadings from their prior, but the model has none"),
        ({"model": "FactorAnalysis"}, "needs a linear model"),
        ({"method": pa.MaximumLikelihood()}, "method should draw parameters"),
        ({"missing": 1.0}, r"in \[0, 1\), got 1.0"),
        ({"rows": 1}, "rows"),
        ({"simulations": 10}, "simulations"),
        ({"draws": 5}, "draws"),
    ],
)
def test_what_is_refused(change, sentence):
    with pytest.raises(pa.ParameterError, match=sentence):
        pa.parameter_calibration(**({"model": no_factors(), "method": Conjugate(), "rows": 6} | change))


# Power: exact draws of log psi given n = 6 residuals, ranked at N = 500 as a calibration ranks them, spoiled as a
# sampler may be. Of 20 seeds at least 18 have to tell: at a level of .01 one quantity alone does with a chance of .98
# for sd x .8 and .92 for a shift of .2 sd, and there are three.

ROWS, SIMULATIONS, SEEDS = 6, 500, 20


def toy(seed, scale=1.0, power=0.0, spoil=None):
    """Rank log psi (N, 3) among 99 draws, of a prior whose scale is multiplied, or a density times psi^-power."""
    generator = np.random.default_rng(seed)
    psi = 0.5 / generator.gamma(2.0, size=(SIMULATIONS, 3))
    squares = psi * generator.chisquare(ROWS, size=psi.shape)
    draws = (0.5 * scale + 0.5 * squares) / generator.gamma(2.0 + ROWS / 2 + power, size=(99, *psi.shape))
    draws = torch.from_numpy(np.log(draws))
    draws = draws if spoil is None else spoil(draws)
    truth = torch.from_numpy(np.log(psi))
    return pa.Calibration.from_draws(["a", "b", "c"], truth, draws, seed=seed)


PLANTED = {
    "sd x .8": {"spoil": lambda draws: draws.mean(0) + 0.8 * (draws - draws.mean(0))},
    "shift .2 sd": {"spoil": lambda draws: draws + 0.2 * draws.std(0)},
    "features swapped": {"spoil": lambda draws: draws.roll(1, -1)},
    "scale of the prior x 1.5": {"scale": 1.5},
    "no Jacobian": {"power": -1.0},  # the density of psi taken for that of log psi
}


@pytest.mark.parametrize("error", PLANTED)
def test_a_planted_error_is_rejected_for_at_least_18_of_20_seeds(error):
    rejected = sum(not toy(seed, **PLANTED[error]).passed for seed in range(SEEDS))
    assert rejected >= 18


def test_exact_draws_pass_for_all_but_a_few_seeds():
    """False alarms have a chance of at most .02 each: more than 3 of 20 come about in 6e-4 of cases."""
    assert sum(not toy(seed).passed for seed in range(SEEDS)) <= 3


def test_the_effect_is_reported_with_its_error():
    """The sd of the ratio at N = 500 is .032 for normal deviations; .8 and .2 are found within 4 errors."""
    narrow, shifted = (toy(0, **PLANTED[error]) for error in ("sd x .8", "shift .2 sd"))
    assert ((narrow.sd_ratio - 0.8).abs() < 4 * narrow.sd_ratio_error).all()
    assert ((shifted.shift + 0.2).abs() < 4 * shifted.shift_error).all()
    assert (narrow.sd_ratio_error < 2 * 0.8 / (2 * 500) ** 0.5).all()
