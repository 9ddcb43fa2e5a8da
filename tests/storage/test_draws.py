"""Draws, what the sampler says of them and the priors of the parameters come back bit for bit, or not at all."""

import hashlib
import json
import warnings

import pyro.distributions as dist
import pytest
import safetensors.torch
import torch

import probae as pa
from probae.inference import Fit
from probae.inference.draws_posterior import DrawsPosterior
from probae.io import load, save
from probae.storage.manifest import checksum
from probae.storage.registry import PARAMETER_PRIORS

P = pa.parameter_priors
CHAINS, DRAWS, D, K = 2, 5, 4, 2


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sampled(model=None, **priors):
    """A Fit as a sampler gives it."""
    model = pa.FactorAnalysis(D, K) if model is None else model
    draws = {
        "loadings": normal(CHAINS, DRAWS, D, K, seed=1),
        "noise_variance": normal(CHAINS, DRAWS, *model.noise_variance.shape, seed=2).exp(),
        "mean": normal(CHAINS, DRAWS, D, seed=3),
        "loadings_precision": normal(CHAINS, DRAWS, K, seed=4).exp(),
    }
    model.loadings, model.mean = normal(D, K, seed=5), normal(D, seed=6)
    noise = draws["noise_variance"].reshape(CHAINS * DRAWS, -1).expand(-1, D).contiguous()
    program = model.with_priors(**({"loadings": P.Normal()} | priors))
    if "mean" not in program.random_parameters:
        program.mean = normal(D, seed=7)  # one of its own
    model.requires_grad_(False)
    return Fit(
        model=model,
        program=program,
        posterior=DrawsPosterior(draws["loadings"].flatten(0, 1), noise, draws["mean"].flatten(0, 1)),
        method=pa.MaximumLikelihood(),
        seed=3,
        names=("a", "b", "c", "d"),
        history=torch.zeros(2, dtype=torch.float64),
        converged=True,
        seconds=1.0,
        draws=draws,
        sample_stats={
            "lp": normal(CHAINS, DRAWS, seed=8),
            "diverging": normal(CHAINS, DRAWS, seed=9) > 0,
        },
    )


def same(one, two):
    return one.dtype == two.dtype and torch.equal(one, two)


PROGRAMS = {
    "numbers": {"loadings": P.Normal(2.0), "noise_variance": P.InverseGamma(3.0, 0.25)},
    "a scale for each feature": {"loadings": P.Normal(torch.arange(1.0, D + 1, dtype=torch.float64))},
    "a scale for each entry": {"loadings": P.Normal(normal(D, K).exp()), "mean": P.Normal(3.0, normal(D))},
    "a flat mean": {"mean": P.Flat()},
    "a known mean": {"mean": P.Fixed()},
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_draws_and_program_come_back_bit_for_bit(name, tmp_path):
    run = sampled(**PROGRAMS[name])
    again = load(save(run, tmp_path / "run"))
    for part in ("draws", "sample_stats"):
        assert set(getattr(run, part)) == set(getattr(again, part))
        assert all(same(value, getattr(again, part)[key]) for key, value in getattr(run, part).items())
    assert again.program.random_parameters == run.program.random_parameters
    assert {k: type(v) for k, v in again.program.parameter_priors.items()} == {
        k: type(v) for k, v in run.program.parameter_priors.items()
    }
    assert same(again.program.point().loadings, run.program.point().loadings)
    x = normal(6, D)
    assert same(again.posterior(x).mean, run.posterior(x).mean)
    # the programs say the same: what one draws is what the other draws, with its density
    assert same(again.program.sample(5, seed=1), run.program.sample(5, seed=1))
    assert again.model.random_parameters == []


def test_one_noise_variance_comes_back(tmp_path):
    run = sampled(pa.ProbabilisticPCA(D, K))
    again = load(save(run, tmp_path / "run"))
    assert again.draws["noise_variance"].shape == (CHAINS, DRAWS)


def test_every_law_of_a_parameter_can_be_saved(tmp_path):
    for law in PARAMETER_PRIORS:
        kinds = (P.LoadingsPrior, P.NoisePrior, P.MeanPrior)
        name = ("loadings", "noise_variance", "mean")[[issubclass(law, kind) for kind in kinds].index(True)]
        run = sampled(**{name: law()})
        again = load(save(run, tmp_path / law.__name__))
        assert same(again.program.sample(5, seed=1), run.program.sample(5, seed=1))


PYRO = {
    "a number": {"loadings": dist.Laplace(0.0, 1.0)},
    "float64": {"noise_variance": dist.Gamma(torch.tensor(2.0, dtype=torch.float64), 1.0)},
    "events": {
        "loadings": dist.StudentT(4.0, 0.0, torch.ones(D, K)).to_event(2),
        "mean": dist.Normal(normal(D), 2.0),
    },
}


@pytest.mark.parametrize("name", PYRO)
def test_common_laws_of_pyro_come_back_bit_for_bit(name, tmp_path):
    run = sampled(**PYRO[name])
    again = load(save(run, tmp_path / "run"))
    assert same(again.program.sample(5, seed=1), run.program.sample(5, seed=1))
    assert repr(again.program.parameter_priors) == repr(run.program.parameter_priors)


LISTED = PROGRAMS | PYRO


@pytest.mark.parametrize("name", LISTED)
def test_priors_that_the_model_lists_come_back(name, tmp_path):
    """A fit's model is a point that lists the priors it was given, so that it can be fitted again under them."""
    model = pa.FactorAnalysis(D, K).with_priors(**LISTED[name]).point()
    run = sampled(model, **LISTED[name])
    again = load(save(run, tmp_path / "run"))
    assert repr(again.model.parameter_priors) == repr(run.model.parameter_priors)
    assert set(again.model.parameter_priors) == set(LISTED[name])
    one, two = (each.model.with_priors(**each.model.parameter_priors) for each in (run, again))
    assert same(one.sample(5, seed=1), two.sample(5, seed=1))
    assert again.model.random_parameters == []


def test_a_prior_without_a_site_comes_back_with_a_point_fit(tmp_path):
    model = pa.ProbabilisticPCA(5, 2).with_priors(mean=P.Flat())
    run = pa.fit(model, model.sample(120, seed=1), pa.MaximumLikelihood())
    again = load(save(run, tmp_path / "run"))
    assert repr(again.model.parameter_priors) == repr(run.model.parameter_priors) == "{'mean': Flat()}"
    assert again.program is again.model


def test_a_loaded_fit_is_sampled_again_under_its_priors(tmp_path):
    x = pa.datasets.linear_factors(40, D, K, seed=1).x
    model = pa.FactorAnalysis(D, K).with_priors(
        loadings=P.Normal(0.1), noise_variance=P.InverseGamma(5.0, 9.0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ConvergenceWarning)  # of few draws
        run = pa.fit(model, x, pa.Gibbs(draws=20, warmup=10, chains=2))
        again = load(save(run, tmp_path / "run"))
        one, two = (pa.fit(each.model, x, each.method, seed=4) for each in (run, again))
    assert all(same(value, two.draws[name]) for name, value in one.draws.items())


def test_another_law_of_pyro_is_refused_with_what_to_do(tmp_path):
    run = sampled(loadings=dist.VonMises(0.0, 1.0))
    with pytest.raises(
        pa.FileError, match=r"loadings has the prior VonMises, and a file can hold laws of .* Normal"
    ):
        save(run, tmp_path / "run")


def test_a_fit_without_priors_has_the_format_older_versions_read(tmp_path):
    run = pa.fit(pa.ProbabilisticPCA(5, 2), pa.datasets.linear_factors(120, 5, 2, seed=1).x)
    content = json.loads((save(run, tmp_path / "run") / "manifest.json").read_text())
    assert content["schema"] == 1
    assert "parameter_priors" not in content


@pytest.fixture
def kept(tmp_path):
    """The folder, manifest and tensors of a saved fit."""
    folder = save(sampled(loadings=P.Normal(normal(D, 1).exp())), tmp_path / "run")
    raw = next(folder.glob("*.safetensors")).read_bytes()
    return folder, json.loads((folder / "manifest.json").read_text()), safetensors.torch.load(raw)


def rewrite(folder, content, tensors):
    """Write a changed fit with valid checksums."""
    raw = safetensors.torch.save(tensors)
    digest = hashlib.sha256(raw).hexdigest()
    content["weights"] = {"sha256": digest, "bytes": len(raw)}
    content["tensors"] = {
        name: {
            "dtype": str(t.dtype).removeprefix("torch."),
            "shape": list(t.shape),
            "sha256": hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest(),
        }
        for name, t in tensors.items()
    }
    content["checksum"] = checksum(content)
    (folder / f"weights-{digest[:16]}.safetensors").write_bytes(raw)
    (folder / "manifest.json").write_text(json.dumps(content))


def test_the_copy_loads(kept):
    rewrite(*kept)
    assert load(kept[0]).draws["mean"].shape == (CHAINS, DRAWS, D)


@pytest.mark.parametrize(
    ("name", "tensor", "sentence"),
    [
        ("draws.loadings", normal(CHAINS, DRAWS, D, 3), "draws of loadings are not those"),
        ("draws.mean", normal(CHAINS, 4, D), "differ in chains or length"),
        ("draws.mean", normal(CHAINS), "differ in chains or length"),
        ("sample_stats.lp", normal(3, DRAWS), "sample_stats differ in chains or length"),
        ("posterior.noise", normal(3, D), "impossible noise|DrawsPosterior refuses"),
        ("posterior.loadings", normal(10, D, 3), "impossible loadings"),
        ("posterior.mean", torch.zeros(10, D, dtype=torch.int64), "impossible mean|DrawsPosterior refuses"),
        ("program.values.loadings", normal(D, 3), "values of the parameters"),
        ("program.values.other", normal(D), "values of the parameters"),
        ("program.state.mean_unconstrained", normal(3), "refuses"),
        ("program.state.other", normal(3), "refuses"),
        ("program.priors.loadings.scale", normal(7, 1).exp(), "refuses"),
        ("program.priors.loadings.scale", -normal(D, 1).exp(), "refuses"),
        ("program.priors.mean.scale", normal(D), "program of the fit"),
        ("model_priors.mean.scale", normal(D), "priors of the model"),
    ],
)
def test_tensors_of_something_else_are_refused(name, tensor, sentence, kept):
    folder, content, tensors = kept
    rewrite(folder, content, tensors | {name: tensor})
    with pytest.raises(pa.FileError, match=sentence):
        load(folder)


PRIOR = {"class": "parameter_priors.InverseGamma", "shape": 2.0, "scale": 0.5}


@pytest.mark.parametrize("key", ["parameter_priors", "model_priors"])
@pytest.mark.parametrize(
    "priors",
    [
        [],
        "loadings",
        {"weights": PRIOR},
        {"noise_variance": PRIOR | {"shape": -1.0}},
        {"noise_variance": {"class": "InverseGamma", "shape": 2.0, "scale": 0.5}},
        {"noise_variance": {"class": "Laplace"}},
        {"noise_variance": {"class": "parameter_priors.LoadingsPrior"}},
        {"noise_variance": PRIOR | {"scale": {"ref": "draws.mean"}}},
        {"noise_variance": 3},
        {"loadings": {"pyro": "VonMises", "event_dims": 0}},
        {"loadings": {"pyro": ["Normal"], "event_dims": 0}},
        {"loadings": {"pyro": "HalfNormal", "event_dims": 10**9}},
        {"loadings": {"pyro": "HalfNormal", "event_dims": 0, "x": 1}},
        {"loadings": {"pyro": "Normal", "event_dims": 0}},
    ],
    ids=str,
)
def test_a_manifest_with_other_priors_is_refused(key, priors, kept):
    folder, content, tensors = kept
    rewrite(folder, content | {key: priors}, tensors)
    with pytest.raises(pa.FileError):
        load(folder)


@pytest.mark.parametrize("priors", [{}, None])
def test_a_program_without_priors_is_refused(priors, kept):
    folder, content, tensors = kept
    rewrite(folder, content | {"parameter_priors": priors}, tensors)
    with pytest.raises(pa.FileError):
        load(folder)


def test_priors_in_the_older_format_are_refused(kept):
    folder, content, tensors = kept
    rewrite(folder, content | {"schema": 1}, tensors)
    with pytest.raises(pa.FileError, match="surplus"):
        load(folder)
