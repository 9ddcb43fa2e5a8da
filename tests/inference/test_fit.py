"""What `fit` promises for every pair of model and method."""

import copy
import hashlib
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch

from probae import (
    DataError,
    NotExactError,
    ParameterError,
    ProbaeWarning,
    SufficientStatistics,
    fit,
)
from probae.encoders import Encoder, LinearGaussianEncoder
from probae.encoders.laws import DiagonalCode
from probae.inference import EM, MAP, NUTS, SVI, Fit, MaximumLikelihood
from probae.inference.segment_posterior import SegmentPosterior
from probae.models import (
    FactorAnalysis,
    IndependentComponents,
    LinearFactorModel,
    ProbabilisticPCA,
    SparseCoding,
)


def digest(run):
    """sha256 of all fitted numbers: model, history, and encoder where there is one."""
    tensors = [*run.model.state_dict().values(), run.history]
    tensors += getattr(run.posterior, "encoder", torch.nn.Module()).state_dict().values()
    return hashlib.sha256(b"".join(t.detach().contiguous().numpy().tobytes() for t in tensors)).hexdigest()


def run_of(case, x, seed=0):
    return fit(case.model, x, case.method, seed=seed)


def test_the_result_is_complete(witnessed, rows):
    case, run = witnessed.case, witnessed.run
    assert isinstance(run, Fit)
    assert run.seed == 3
    assert not run.interrupted
    assert run.history.dtype == torch.float64
    assert len(run.history) > 0
    assert run.history.isfinite().all()
    assert run.seconds > 0
    assert type(run.model) is type(case.model)
    assert run.model.random_parameters == []
    assert not any(p.requires_grad for p in run.model.parameters())
    assert all(p.isfinite().all() for p in run.model.parameters())
    assert type(run.model).__name__ in repr(run)
    posterior = run.posterior(rows[:7])
    assert posterior.batch_shape == (7,)
    assert posterior.event_shape == (case.model.latents,)
    assert posterior.mean.shape == (7, case.model.latents)
    assert posterior.mean.isfinite().all()
    assert not posterior.mean.requires_grad


def test_the_arguments_are_not_changed(witnessed):
    assert witnessed.rows_kept
    assert witnessed.arguments_kept


def test_the_callers_random_state_is_untouched(witnessed):
    assert witnessed.random_state_kept


def test_other_devices_are_not_reseeded(witnessed):
    """torch.manual_seed would seed the caller's graphics cards as well, and nothing would put them back."""
    assert witnessed.devices_seeded == []


def test_names_of_the_table_survive(witnessed):
    assert witnessed.run.names == ("a", "b", "c", "d")


def test_columns_in_another_order_are_noticed(witnessed, rows):
    """Scores of shuffled columns would be wrong without a word."""
    frame = pd.DataFrame(rows.numpy(), columns=["a", "b", "c", "d"])
    assert torch.equal(witnessed.run.posterior(frame).mean, witnessed.run.posterior(rows).mean)
    with pytest.raises(DataError, match="order"):
        witnessed.run.posterior(frame[["b", "a", "c", "d"]])


def test_log_likelihood_is_exact_or_estimated(witnessed, rows):
    """Of the model, whatever found it; more non-Gaussian codes than features have no estimate yet, and say so."""
    model = witnessed.run.model
    if not model.gaussian and model.noise != "none" and model.latents >= model.features:
        with pytest.raises(NotExactError, match="^(?!.*of a Fit)"):
            witnessed.run.log_likelihood(rows)
        return
    if isinstance(witnessed.run.posterior, SegmentPosterior):
        with pytest.raises(ParameterError, match="pass the labels as well"):
            witnessed.run.log_likelihood(rows)
        return
    value = witnessed.run.log_likelihood(rows)
    assert value.shape == (60,)
    assert value.isfinite().all()


def test_the_callers_random_state_does_not_matter(witnessed, rows):
    torch.manual_seed(11)
    np.random.seed(12)  # noqa: NPY002 - the state a careless library would read
    assert digest(run_of(witnessed.case, rows, seed=3)) == digest(witnessed.run)


def test_float32_in_float32_out(witnessed, rows):
    """Closed forms are computed in float64, so they differ by the rounding of x and of the result only."""
    run = run_of(witnessed.case, rows.float(), seed=3)
    assert run.posterior(rows.float()).mean.dtype == torch.float32
    assert run.posterior(rows).mean.dtype == torch.float64
    assert witnessed.run.posterior(rows.float()).mean.dtype == torch.float32
    if not isinstance(witnessed.case.method, (SVI, MAP)):  # those two learn in float32
        sampled = not run.model.gaussian and run.model.noise != "none"  # stops within 1e-7 of the likelihood
        chain = sampled and run.method.random  # follows the last bit of x: one x for both
        other = run_of(witnessed.case, rows.float().double(), seed=3) if chain else witnessed.run
        ours, theirs = (r.posterior(rows.float()).mean for r in (run, other))
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=2e-2 if sampled and not chain else 1e-4)


def test_threads_are_left_as_they_were(rows):
    torch.set_num_threads(2)
    try:
        fit(FactorAnalysis(4, 1), rows, SVI(LinearGaussianEncoder(4, 1), epochs=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_two_fits_queried_in_turn_agree_with_each_alone(rows):
    first, second = fit(FactorAnalysis(4, 1), rows), fit(FactorAnalysis(4, 1), 5 * rows[:40] + rows[20:])
    alone = [copy.deepcopy(run).posterior(rows).mean for run in (first, second)]
    for _ in range(2):
        for run, expected in zip((first, second), alone, strict=True):
            assert torch.equal(run.posterior(rows).mean, expected)
            run.model(rows)


SCRIPT = """
import importlib.util, sys, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
registry, helpers = load("registry", sys.argv[2] + "/conftest.py"), load("helpers", sys.argv[2] + "/test_fit.py")
rows = torch.load(sys.argv[3], weights_only=True)
torch.manual_seed(99)
helpers.fit(helpers.FactorAnalysis(4, 2), rows * 3, helpers.EM(steps=3))
for name in reversed(list(registry.FITS)):
    print(name, helpers.digest(helpers.run_of(registry.FITS[name](4), rows, seed=3)))
"""


@pytest.fixture(scope="session")
def elsewhere(rows, tmp_path_factory):
    """Digests of the whole registry from a new process: another hash seed and order, unrelated fits before."""
    file, here = tmp_path_factory.mktemp("rows") / "rows.pt", Path(__file__).parent
    torch.save(rows, file)
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, here.parents[1], here, file]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env=os.environ | one | {"PYTHONHASHSEED": "77"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(line.split() for line in done.stdout.splitlines())


def test_one_seed_is_one_result_in_every_process(witnessed, elsewhere, request):
    assert digest(witnessed.run) == elsewhere[request.node.callspec.params["witnessed"]]


def test_seeds_matter_where_chance_does(rows):
    model, method = FactorAnalysis(4, 1), SVI(LinearGaussianEncoder(4, 1), epochs=3)
    assert digest(fit(model, rows, method, seed=0)) != digest(fit(model, rows, method, seed=1))


class Tied(Encoder):
    """An encoder whose weights are the model's own loadings."""

    def __init__(self, model):
        super().__init__(model.features, model.latents)
        self.loadings = dict(model.named_parameters())["loadings_unconstrained"]
        self.log_scale = torch.nn.Parameter(torch.zeros(model.latents, dtype=torch.float64))

    def start(self, x, generator):
        pass

    def forward(self, x):
        return DiagonalCode(x @ self.loadings * 0.1, self.log_scale.exp().expand(len(x), -1))


def test_a_tied_encoder_stays_tied(rows):
    model = SparseCoding(4, 2)
    run = fit(model, rows, SVI(Tied(model), epochs=3))
    fitted = dict(run.model.named_parameters())["loadings_unconstrained"]
    assert run.posterior.encoder.loadings.data_ptr() == fitted.data_ptr()
    assert not torch.equal(fitted, dict(model.named_parameters())["loadings_unconstrained"])


def honoured(case, name, rows):
    """Whether draws follow a law of sd .01 about 3, within 5 sd, whatever x says: NUTS takes any law of Pyro."""
    gamma = dist.Gamma(torch.tensor(9e4, dtype=torch.float64), 3e4)
    law = gamma if name == "noise_variance" else dist.Normal(torch.tensor(3.0, dtype=torch.float64), 0.01)
    short = replace(case.method, draws=10, warmup=40, chains=1, tree_depth=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbaeWarning)  # of what Pyro costs, and of few draws
        draws = fit(case.model.with_priors(**{name: law}), rows, short).draws[name]
    return bool((draws - 3).abs().max() < 0.05)


@pytest.mark.parametrize("name", ["loadings", "noise_variance", "mean"])
def test_priors_of_parameters_are_honoured_or_refused(case, name, rows):
    """A method that ignores a prior would answer another question than the one asked."""
    if name == "noise_variance" and case.model.noise == "none":
        pytest.skip("this model has no noise")
    if isinstance(case.method, NUTS):
        assert honoured(case, name, rows)
        return
    law = dist.Gamma if name == "noise_variance" else dist.Normal
    prior = {name: law(torch.tensor(1.0, dtype=torch.float64), 1.0)}
    with pytest.raises((ParameterError, NotExactError), match=name):
        fit(case.model.with_priors(**prior), rows, case.method)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FactorAnalysis, None), "model should be a probae model"),
        (("fa", None), "model should be a probae model"),
        ((FactorAnalysis(4, 1), MaximumLikelihood), "method should be a value"),
        ((FactorAnalysis(4, 1), "ml"), "method should be a value"),
        (
            (IndependentComponents(4, 4), EM()),
            "EM is exact for Gaussian and MultivariateStudentT factors only",
        ),
        ((LinearFactorModel(4, 4, noise="none"), EM()), "EM needs a model with noise"),
        ((FactorAnalysis(4, 1), MAP()), "MAP learns Laplace codes"),
        ((IndependentComponents(4, 4), MAP()), "MAP learns Laplace codes"),
        ((SparseCoding(4, 6), MaximumLikelihood()), "use MAP"),
        ((IndependentComponents(4, 4), SVI(LinearGaussianEncoder(4, 4))), "SVI needs a model with noise"),
        ((FactorAnalysis(4, 1), SVI(LinearGaussianEncoder(4, 2))), "build both with the same sizes"),
        ((FactorAnalysis(4, 1), SVI(LinearGaussianEncoder(5, 1))), "build both with the same sizes"),
    ],
)
def test_a_wrong_pair_ends_in_one_sentence(arguments, message, rows, as_installed):
    model, method = arguments
    with pytest.raises((ParameterError, NotExactError), match=message):
        fit(model, rows, method)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EM(steps=0), "steps should be a whole number of at least 1"),
        (lambda: EM(tol=0.0), "tol should be a finite number above 0"),
        (lambda: EM(tol="small"), "tol should be a finite number above 0"),
        (lambda: MAP(penalty=-1.0), "penalty should be a finite number above 0"),
        (lambda: MAP(penalty=0.0), "penalty should be a finite number above 0"),
        (lambda: MAP(steps=2.5), "steps should be a whole number"),
        (lambda: MAP(batch=0), "batch should be a whole number"),
        (lambda: MaximumLikelihood(draws=0), "draws should be a whole number"),
        (lambda: MaximumLikelihood(draws=-3), "draws should be a whole number"),
        (lambda: MaximumLikelihood(draws=1.5), "draws should be a whole number"),
        (lambda: SVI("linear"), "SVI needs an encoder"),
        (lambda: SVI(LinearGaussianEncoder), "SVI needs an encoder"),
        (lambda: SVI(LinearGaussianEncoder(4, 1), epochs=0), "epochs should be a whole number"),
        (lambda: SVI(LinearGaussianEncoder(4, 1), batch=0), "batch should be a whole number"),
        (lambda: SVI(LinearGaussianEncoder(4, 1), lr=-0.1), "lr should be a finite number above 0"),
        (lambda: SVI(LinearGaussianEncoder(4, 1), lr=float("nan")), "lr should be a finite number above 0"),
        (lambda: SVI(LinearGaussianEncoder(4, 1), objective="ELBO"), "objective"),
    ],
)
def test_wrong_settings_end_in_one_sentence(build, message, as_installed):
    with pytest.raises(ParameterError, match=message):
        build()


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None, True])
def test_a_wrong_seed_ends_in_one_sentence(seed, rows, as_installed):
    with pytest.raises(ParameterError, match="seed should be a whole number of at least 0"):
        fit(FactorAnalysis(4, 1), rows, seed=seed)


def test_statistics_serve_in_place_of_the_rows(case, rows, covariance_of):
    statistics = SufficientStatistics.from_data(rows)
    if not case.statistics:
        with pytest.raises(DataError, match=r"needs the rows of x|pass x itself"):
            run_of(case, statistics)
        return
    one, two = run_of(case, statistics), run_of(case, rows)
    assert torch.allclose(covariance_of(one.model), covariance_of(two.model), rtol=1e-8)
    assert torch.allclose(one.model.mean, two.model.mean, rtol=1e-12)


def test_statistics_of_another_width_are_refused(rows):
    with pytest.raises(DataError, match=r"3 features.*4"):
        fit(FactorAnalysis(4, 1), SufficientStatistics.from_data(rows[:, :3]))


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (FactorAnalysis(4, 1), MaximumLikelihood),
        (ProbabilisticPCA(4, 1), MaximumLikelihood),
        (SparseCoding(4, 2), MaximumLikelihood),
        (IndependentComponents(4, 4), MaximumLikelihood),
        (SparseCoding(4, 4), MAP),
        (SparseCoding(4, 9), MAP),
    ],
)
def test_default_methods(model, kind):
    from probae.inference.fit import _default

    assert type(_default(model, None)) is kind


def test_missing_entries_choose_em(rows):
    x = rows.clone()
    x[0, 0] = torch.nan
    assert isinstance(fit(FactorAnalysis(4, 1), x).method, EM)


def test_a_covariance_passed_as_rows_is_noticed():
    x = np.random.default_rng(0).normal(size=(200, 1)) + np.random.default_rng(1).normal(size=(200, 6))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(FactorAnalysis(6, 1), np.cov(x.T))
    assert any("square and symmetric" in str(one.message) for one in caught)
