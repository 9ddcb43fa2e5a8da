"""A fit as a tree: right names, right numbers, nothing dropped in silence, and what ArviZ makes of it."""

import warnings

import arviz_base
import arviz_stats
import numpy as np
import pandas as pd
import pytest
import torch
import xarray

import probae as pa
from probae.analysis.recipes import SiteDraws
from probae.inference import Fit
from probae.inference.draws_posterior import DrawsPosterior

P = pa.parameter_priors
CHAINS, DRAWS, ROWS, D, K = 2, 30, 25, 5, 2


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sampled(model=None, names=None, draws=DRAWS, spread=0.1, **hyper):
    """A Fit as a sampler gives it, its draws around the truth."""
    model = pa.FactorAnalysis(D, K) if model is None else model
    d, k = model.features, model.latents
    model.loadings, model.mean = normal(d, k, seed=5), normal(d, seed=6)
    found = {
        "loadings": model.loadings.detach() + spread * normal(CHAINS, draws, d, k, seed=1),
        "noise_variance": (spread * normal(CHAINS, draws, *model.noise_variance.shape, seed=2)).exp(),
        "mean": model.mean.detach() + spread * normal(CHAINS, draws, d, seed=3),
        **hyper,
    }
    program = model.with_priors(loadings=P.Normal(2.0), noise_variance=P.InverseGamma(), mean=P.Flat())
    noise = found["noise_variance"].reshape(CHAINS * draws, -1).expand(-1, d)
    model.requires_grad_(False)
    return Fit(
        model=model,
        program=program,
        posterior=DrawsPosterior(found["loadings"].flatten(0, 1), noise, found["mean"].flatten(0, 1)),
        method=pa.MaximumLikelihood(),
        seed=0,
        names=names,
        history=torch.zeros(1),
        converged=True,
        seconds=2.0,
        warnings=("a sentence", "another"),
        draws=found,
        sample_stats={"lp": normal(CHAINS, draws, seed=8), "diverging": normal(CHAINS, draws, seed=9) > 1},
    )


def quiet_fit(*arguments):
    """A fit of a few steps, of which nobody expects convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)
        return pa.fit(*arguments)


FRAME = pd.DataFrame(
    normal(ROWS, D, seed=4).numpy(), columns=list("abcde"), index=[f"person {i}" for i in range(ROWS)]
)


@pytest.fixture(scope="module")
def run():
    return sampled(names=tuple("abcde"))


@pytest.fixture(scope="module")
def tree(run):
    return pa.to_datatree(run, FRAME, draws=20)


def test_groups_have_the_names_of_sites_and_data(tree):
    dims = {
        f"{group}.{name}": v.dims[2:] for group in tree.children for name, v in tree[group].data_vars.items()
    }
    assert dims == {
        "posterior.loadings": ("feature", "factor"),
        "posterior.noise_variance": ("feature",),
        "posterior.mean": ("feature",),
        "posterior_predictive.x": ("obs", "feature"),
        "sample_stats.lp": (),
        "sample_stats.diverging": (),
        "prior.loadings": ("feature", "factor"),
        "prior.noise_variance": ("feature",),
        "prior_predictive.x": ("obs", "feature"),
        "observed_data.x": (),
        "log_likelihood.x": ("obs",),
        **{f"constant_data.{name}": () for name in tree["constant_data"].data_vars},
    }
    assert tree["observed_data"]["x"].dims == ("obs", "feature")
    assert all(v.dims[:2] == ("chain", "draw") for v in tree["posterior"].data_vars.values())
    for group in ("observed_data", "posterior_predictive"):
        assert tree[group]["feature"].values.tolist() == list("abcde")
        assert tree[group]["obs"].values.tolist() == list(FRAME.index)
    assert tree["posterior"]["loadings"].sel(feature="c", factor=1, chain=1, draw=3).dims == ()


def test_draws_are_stored_as_they_were_drawn(run, tree):
    for name, value in run.draws.items():
        assert np.array_equal(tree["posterior"][name].values, value.numpy())
    assert tree["sample_stats"]["diverging"].dtype == bool
    assert "none" in tree["posterior"].attrs["alignment"]


def test_the_root_says_what_was_fitted(tree):
    assert tree.attrs["inference_library"] == "probae"
    assert tree.attrs["fit_warnings"] == "a sentence\nanother"
    assert "log_likelihood_missing" not in tree.attrs


def test_each_row_has_the_likelihood_of_each_draw(run, tree):
    value = tree["log_likelihood"]["x"]
    for chain, draw in ((0, 0), (1, 17)):
        one = pa.FactorAnalysis(D, K)
        for name in one.parameter_names:
            setattr(one, name, run.draws[name][chain, draw])
        # sums of squares of some tens of nats: 1e2 eps is 2e-14
        expected = one.log_likelihood(FRAME).numpy()
        np.testing.assert_allclose(value[chain, draw].values, expected, rtol=1e-10, atol=1e-10)
    assert tree["log_likelihood"].attrs["bound"] == "exact"


def counted(monkeypatch):
    """Count the draws and rows that likelihoods are computed for."""
    from probae.analysis import recipes

    asked = []
    real = recipes.of_checked_rows

    def count(model, draws, x):
        asked.append((draws["mean"].shape[1], len(x)))
        return real(model, draws, x)

    monkeypatch.setattr(recipes, "of_checked_rows", count)
    return asked


def test_the_likelihood_is_computed_when_asked_for_and_only_that_part(run, monkeypatch):
    asked = counted(monkeypatch)
    value = pa.to_datatree(run, FRAME)["log_likelihood"]["x"]
    repr(value)
    assert asked == []
    some = value.isel(draw=slice(3, 5), obs=[7, 2]).values
    assert asked == [(CHAINS * 2, 2)]
    whole = value.values
    assert np.array_equal(value.values, whole)
    assert asked[1:] == [(CHAINS * DRAWS, ROWS)]  # kept from then on
    # blocks of other sizes may round differently
    np.testing.assert_allclose(some, whole[:, 3:5][:, :, [7, 2]], rtol=0, atol=1e-12)


def test_missing_entries_stay_missing_and_are_integrated_out(run):
    frame = FRAME.mask(normal(ROWS, D, seed=12).numpy() > 1)
    frame.iloc[3] = np.nan
    with pytest.warns(pa.MissingRowWarning):
        tree = pa.to_datatree(run, frame, draws=3)
    assert np.array_equal(tree["observed_data"]["x"].values, frame.to_numpy(), equal_nan=True)
    one = pa.FactorAnalysis(D, K)
    for name in one.parameter_names:
        setattr(one, name, run.draws[name][1, 2])
    found = tree["log_likelihood"]["x"][1, 2].values
    seen = np.arange(ROWS) != 3
    np.testing.assert_allclose(found[seen], one.log_likelihood(frame[seen]).numpy(), rtol=1e-10, atol=1e-10)
    assert found[3] == 0  # a row without values says nothing, and has been warned of once
    assert np.isfinite(tree["posterior_predictive"]["x"].values).all()


def test_replicates_have_the_moments_of_their_draw():
    run = sampled(spread=0.0)  # every draw is the same
    tree = pa.to_datatree(run, FRAME, draws=40)
    x = tree["posterior_predictive"]["x"].values.reshape(-1, D)
    covariance = run.model.loadings @ run.model.loadings.T + torch.eye(D, dtype=torch.float64)
    n = len(x)
    # covariances of n = 1,000 normal rows vary by sqrt((s_ij^2 + s_ii s_jj) / n), means by sqrt(s_ii / n)
    s = covariance.numpy()
    error = np.sqrt((s**2 + np.outer(np.diag(s), np.diag(s))) / n)
    assert (np.abs(np.cov(x.T) - s) < 5 * error).all()
    assert (np.abs(x.mean(0) - run.model.mean.numpy()) < 5 * np.sqrt(np.diag(s) / n)).all()


def test_replicates_carry_the_numbers_of_their_draws(tree):
    replicates = tree["posterior_predictive"]
    assert replicates.sizes["draw"] * CHAINS == 20
    numbers = replicates["draw"].values
    assert numbers[0] == 0
    assert numbers[-1] == DRAWS - 1
    # without factors or noise a replicate is the mean of its own draw
    still = sampled(draws=DRAWS)
    still.draws["loadings"].zero_()
    still.draws["noise_variance"].fill_(1e-30)
    x = pa.to_datatree(still, FRAME, draws=20)["posterior_predictive"]["x"]
    mean = still.draws["mean"][:, numbers.tolist()]
    np.testing.assert_allclose(x.isel(obs=3).values, mean.numpy(), atol=1e-12)


def test_the_prior_predictive_comes_from_the_draws_of_the_prior(run, tree):
    again = SiteDraws(run.program, "loadings", ROWS, (0, 0))(torch.arange(20), torch.arange(D))
    assert np.array_equal(tree["prior"]["loadings"][0].values, again.numpy())
    assert tree["prior"].sizes == {"chain": 1, "draw": 20, "feature": D, "factor": K}
    assert "mean" not in tree["prior"].data_vars
    assert "flat" in tree["prior"].attrs["mean"]
    assert float(tree["constant_data"]["loadings_prior_scale"]) == 2.0


def test_axes_of_length_one_stay():
    one = sampled(pa.FactorAnalysis(D, 1))
    tree = pa.to_datatree(one, FRAME.to_numpy(), draws=4)
    assert tree["prior"]["loadings"].shape == (1, 4, D, 1)
    assert tree["posterior"]["loadings"].shape == (CHAINS, DRAWS, D, 1)
    common = pa.to_datatree(sampled(pa.ProbabilisticPCA(D, K)), FRAME.to_numpy(), draws=4)
    assert common["posterior"]["noise_variance"].dims == ("chain", "draw")
    assert common["prior"]["noise_variance"].dims == ("chain", "draw")


def test_hyperparameters_are_told_from_features_by_name():
    square = sampled(
        pa.FactorAnalysis(4, 4), loadings_precision=normal(CHAINS, DRAWS, 4), other=normal(CHAINS, DRAWS, 7)
    )
    posterior = pa.to_datatree(square, groups=["posterior"])["posterior"]
    assert posterior["loadings_precision"].dims[2:] == ("factor",)
    assert posterior["noise_variance"].dims[2:] == ("feature",)
    assert posterior["other"].dims[2:] == ("other_dim_0",)


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_latents_of_a_sampler_are_drawn_in_the_frame_of_each_draw(correlation):
    factors = pa.priors.CorrelatedGaussian(torch.tensor([[1.0, correlation], [correlation, 1.0]]))
    prior = factors if correlation else None
    run = sampled(pa.LinearFactorModel(D, K, prior=prior), draws=100, spread=0.0)
    z = pa.to_datatree(run, FRAME, latents=True, draws=2)["posterior"]["z"]
    law = pa.LinearFactorModel(D, K, prior=prior)
    for name in law.parameter_names:
        setattr(law, name, run.draws[name][0, 0])
    law = law.posterior(FRAME)
    # the mean of 200 draws: within 5 of its errors for each of 50 numbers
    error = (law.variance / 200).sqrt().numpy()
    assert (np.abs(z.values.mean((0, 1)) - law.mean.numpy()) < 5 * error).all()
    spread = z.values.var((0, 1)) / law.variance.numpy()
    assert (np.abs(spread - 1) < 5 * np.sqrt(2 / 200)).all()
    assert np.array_equal(z.isel(obs=[4]).values, z.values[:, :, [4]])


@pytest.fixture(scope="module")
def exact():
    return quiet_fit(pa.FactorAnalysis(D, K), pa.datasets.linear_factors(200, D, K, seed=1).x)


def test_a_point_fit_has_draws_of_z_and_its_parameters_are_constants(exact):
    x = pa.datasets.linear_factors(30, D, K, seed=2).x
    tree = pa.to_datatree(exact, x, draws=2000)
    z, law = tree["posterior"]["z"], exact.posterior(x)
    assert z.dims == ("chain", "draw", "obs", "factor")
    # means of 2,000 independent draws
    error = (law.variance / 2000).sqrt().numpy()
    assert (np.abs(z.values.mean((0, 1)) - law.mean.numpy()) < 5 * error).all()
    assert np.array_equal(tree["constant_data"]["loadings"].values, exact.model.loadings.numpy())
    value = tree["log_likelihood"]["x"]
    assert value.shape == (1, 2000, 30)
    assert np.array_equal(value[0, 7].values, exact.model.log_likelihood(x).numpy())
    assert "fixed" in tree["log_likelihood"].attrs["parameters"]
    assert "prior_predictive" not in tree.children


def test_an_encoder_gives_z_and_the_model_the_exact_likelihood():
    x = pa.datasets.linear_factors(60, D, K, seed=1).x
    run = quiet_fit(pa.FactorAnalysis(D, K), x, pa.SVI(pa.MLPEncoder(D, K, hidden=(4,)), epochs=2))
    tree = pa.to_datatree(run, x, draws=1000)
    law = run.posterior(x)
    error = (law.variance / 1000).sqrt().numpy()
    assert (np.abs(tree["posterior"]["z"].values.mean((0, 1)) - law.mean.numpy()) < 5 * error).all()
    assert "EncoderPosterior" in tree["posterior"].attrs["z"]
    expected = run.model.log_likelihood(x).numpy()
    assert np.array_equal(tree["log_likelihood"]["x"][0, 0].values, expected)


def test_an_estimated_likelihood_says_its_draws_and_errors():
    model = pa.SparseCoding(3, 4)
    x = model.sample(6, seed=0)
    run = quiet_fit(model, x, pa.SVI(pa.LaplaceEncoder(3, 4, hidden=(3,)), epochs=2))
    tree = pa.to_datatree(run, x, draws=3)
    expected = pa.log_evidence(run, x, pa.ImportanceWeighted(1000))
    group = tree["log_likelihood"]
    assert np.array_equal(group["x"][0, 2].values, expected.value.numpy())
    assert group.attrs["importance_draws"] == 1000
    assert group.attrs["bound"] == "lower"
    assert group.attrs["standard_error_max"] == float(expected.standard_error.max())
    assert np.array_equal(
        tree["constant_data"]["log_likelihood_standard_error"].values, expected.standard_error.numpy()
    )


def test_a_likelihood_without_closed_form_is_estimated_for_each_draw():
    model = pa.LinearFactorModel(4, 2, prior=pa.priors.Laplace())
    run, x = sampled(model, draws=2), normal(6, 4)
    tree = pa.to_datatree(run, x, groups=["log_likelihood"])
    assert tree["log_likelihood"].attrs["importance_draws"] == 100
    for name in model.parameter_names:
        setattr(model, name, run.draws[name][1, 0])
    expected = pa.log_evidence(model, x, pa.Quadrature())
    error = np.sqrt(
        expected.standard_error.numpy() ** 2 + tree["log_likelihood"].attrs["standard_error_max"] ** 2
    )
    assert (np.abs(tree["log_likelihood"]["x"][1, 0].values - expected.value.numpy()) < 5 * error).all()


def test_another_estimator_can_be_had():
    model = pa.SparseCoding(3, 2)
    x = model.sample(3, seed=0)
    run = quiet_fit(model, x, pa.MAP(steps=2))
    groups = ["log_likelihood"]
    assert (
        pa.to_datatree(run, x, groups=groups)["log_likelihood"].attrs["estimator"] == "Quadrature(points=12)"
    )
    other = pa.to_datatree(run, x, groups=groups, estimator=pa.ImportanceWeighted(500))
    assert other["log_likelihood"].attrs["importance_draws"] == 500


def test_rows_in_doubt_are_warned_of():
    model = pa.SparseCoding(4, 6)
    run = quiet_fit(model, model.sample(20, seed=0), pa.MAP(steps=2))
    with pytest.warns(pa.ProbaeWarning, match=r"of \d+ of 20 rows is estimated too roughly"):
        tree = pa.to_datatree(run, 4 * model.sample(20, seed=1), estimator=pa.ImportanceWeighted(2))
    assert tree["log_likelihood"].attrs["doubtful_rows"] > 0


def test_a_point_mass_is_one_draw():
    model = pa.SparseCoding(4, 3)
    x = model.sample(20, seed=0)
    run = quiet_fit(model, x, pa.MAP(penalty=0.3, steps=2))
    tree = pa.to_datatree(run, x, groups=["posterior", "constant_data"])
    assert np.array_equal(tree["posterior"]["z"][0, 0].values, run.posterior(x).mean.numpy())
    assert tree["posterior"].sizes["draw"] == 1
    assert float(tree["constant_data"]["penalty"]) == 0.3


def test_chains_of_codes_stay_chains():
    model = pa.SparseCoding(3, 2)
    x = model.sample(4, seed=0)
    run = quiet_fit(model, x, pa.MAP(steps=2))
    object.__setattr__(run, "posterior", pa.HMCPosterior(run.model, draws=5, warmup=5, chains=3))
    tree = pa.to_datatree(run, x, groups=["posterior", "log_likelihood"])
    assert tree["posterior"]["z"].shape == (3, 5, 4, 2)
    assert tree["log_likelihood"]["x"].shape == (3, 5, 4)


def test_a_nonlinear_model_has_a_tree_too():
    x = pa.datasets.linear_factors(40, 4, 2, seed=1).x.float()
    model = pa.Autoencoder(4, 2, decoder=pa.decoders.MLPDecoder(2, 4, hidden=(3,)))
    run = quiet_fit(model, x, pa.SVI(pa.MLPEncoder(4, 2, hidden=(3,)), epochs=2))
    tree = pa.to_datatree(run, x[:5], draws=3)
    assert tree["observed_data"]["x"].dtype == np.float32
    assert tree["posterior_predictive"]["x"].dtype == np.float32
    assert tree["posterior_predictive"]["x"].shape == (1, 3, 5, 4)
    assert tree["log_likelihood"]["x"].dtype == np.float64
    assert tree["log_likelihood"].attrs["importance_draws"] == 1000


def test_a_likelihood_that_cannot_be_had_is_missed_aloud(run):
    with pytest.warns(pa.ProbaeWarning, match="no log-likelihood.*needs the rows"):
        tree = pa.to_datatree(run)
    assert "needs the rows" in tree.attrs["log_likelihood_missing"]
    assert {"posterior", "sample_stats", "prior", "constant_data"} == set(tree.children)
    model = pa.SparseCoding(4, 6)
    fitted = quiet_fit(model, model.sample(20, seed=0), pa.MAP(steps=2))
    with pytest.warns(pa.ProbaeWarning, match="no log-likelihood.*no closed form"):
        tree = pa.to_datatree(fitted, model.sample(3, seed=1), estimator=pa.Exact())
    assert "no closed form" in tree.attrs["log_likelihood_missing"]
    assert "log_likelihood" not in tree.children


def test_only_the_groups_asked_for_are_made(run):
    tree = pa.to_datatree(run, FRAME, groups=["observed_data", "posterior"])
    assert set(tree.children) == {"observed_data", "posterior"}


def test_one_seed_gives_one_tree_and_leaves_the_state_alone(run, random_state):
    before = random_state()
    one, two = (pa.to_datatree(run, FRAME, draws=4, latents=True, seed=7).load() for _ in range(2))
    assert random_state() == before
    for group in one.children:
        xarray.testing.assert_equal(one[group].to_dataset(), two[group].to_dataset())
    other = pa.to_datatree(run, FRAME, draws=4, latents=True, seed=8)
    for group, name in (("posterior", "z"), ("posterior_predictive", "x"), ("prior", "loadings")):
        assert not np.array_equal(one[group][name].values, other[group][name].values)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"groups": ["posterior", "loo"]},
            pa.ParameterError,
            "each group should be 'posterior', .*, got 'loo'",
        ),
        ({"draws": 0}, pa.ParameterError, "draws should be a whole number of at least 1"),
        ({"seed": -1}, pa.ParameterError, "seed should be"),
        ({"estimator": "exact"}, pa.ParameterError, "estimator should be one such as"),
        ({"x": FRAME[list("edcba")]}, pa.DataError, "names"),
        ({"x": FRAME.to_numpy()[:, :2]}, pa.DataError, "features"),
    ],
)
def test_bad_arguments_get_a_sentence(arguments, error, message, run):
    with pytest.raises(error, match=message):
        pa.to_datatree(run, **({"x": FRAME} | arguments))


def test_what_is_no_fit_gets_a_sentence():
    with pytest.raises(pa.ParameterError, match="run should be the result of fit, got FactorAnalysis"):
        pa.to_datatree(pa.FactorAnalysis(2, 1), FRAME)
    with pytest.raises(pa.NotExactError, match="latents=False"):
        pa.to_datatree(sampled(pa.LinearFactorModel(D, K, prior=pa.priors.Laplace())), FRAME, latents=True)


@pytest.mark.parametrize("name", ["sampler", "point fit"])
def test_a_tree_comes_back_from_a_file(name, tmp_path, run, exact):
    x = FRAME.mask(normal(ROWS, D, seed=12).numpy() > 1)
    tree = pa.to_datatree(run if name == "sampler" else exact, x, draws=5)
    path = pa.save(tree, tmp_path / "run.nc")
    again = xarray.open_datatree(path, engine="h5netcdf").load()
    assert again.identical(tree)
    assert again["observed_data"]["obs"].values.tolist() == list(FRAME.index)
    assert [file.name for file in tmp_path.iterdir()] == ["run.nc"]


def test_a_failure_while_writing_leaves_the_old_file(run, tmp_path):
    path = pa.save(pa.to_datatree(run, FRAME, draws=2, groups=["observed_data"]), tmp_path / "run.nc")
    before = path.read_bytes()
    tree = pa.to_datatree(run, FRAME, groups=["log_likelihood"])
    tree["log_likelihood"].attrs["x"] = object()  # nothing netCDF can hold
    with pytest.raises(TypeError):
        pa.save(tree, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.nc"]
    with pytest.raises(pa.FileError, match="could not be written"):
        pa.save(pa.to_datatree(run, FRAME, groups=["observed_data"]), tmp_path / "nowhere" / "run.nc")


def test_arviz_takes_the_tree(tree):
    table = arviz_stats.summary(tree, var_names=["noise_variance"])
    assert list(table.index) == [f"noise_variance[{name}]" for name in "abcde"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # k-hat of 60 draws
        loo = arviz_stats.loo(tree, pointwise=True)
    assert loo.elpd_i.dims == ("obs",)
    assert loo.n_data_points == ROWS
    stacked = arviz_base.extract(tree, group="posterior_predictive")
    assert stacked.dims == ("obs", "feature", "sample")


def test_plots_of_arviz_run(tree):
    import arviz_plots
    from matplotlib import pyplot

    arviz_plots.plot_trace(tree, var_names=["noise_variance"], coords={"feature": ["a", "b"]})
    arviz_plots.plot_forest(tree, var_names=["mean"])
    arviz_plots.plot_rank(tree, var_names=["noise_variance"], coords={"feature": ["a"]})
    arviz_plots.plot_ppc_dist(tree, num_samples=5)
    arviz_plots.plot_prior_posterior(tree, var_names=["noise_variance"], coords={"feature": ["a"]})
    pyplot.close("all")
