"""Public alignment: the model decides the group, all sites move together, runs are joined, wrong input is refused."""

import re

import pytest
import torch

import probae as pa
from probae import parameter_priors, priors
from probae.errors import DataError, ParameterError
from probae.inference.assignment import signed_permutation
from probae.linalg import haar_rotation


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def haar(latents, *batch, seed=0):
    count = torch.Size(batch).numel()
    return haar_rotation(latents, torch.Generator().manual_seed(seed), count).view(*batch, latents, latents)


def turned(chains=4, draws=50, features=7, latents=3, seed=0):
    """Draws about random loadings, each turned on its own, with their rotations."""
    W = normal(features, latents, seed=5) + 0.1 * normal(chains, draws, features, latents, seed=seed)
    return W @ haar(latents, chains, draws, seed=seed + 1)


def test_gaussian_factors_are_rotated_to_the_frame_of_the_model(sampled):
    run = sampled(turned())
    found = pa.align(run)
    assert found.group.name == "O(3)"
    goal = run.model.loadings.double()
    weights = 1 / goal.square().sum(1, keepdim=True)
    product = goal.T @ (weights * found.mean)
    assert torch.allclose(
        product, product.T, rtol=0, atol=1e-12
    )  # where Procrustes on the model's loadings ends
    assert float((found.loadings - found.mean).square().mean().sqrt()) < 0.11
    assert "axes are a convention" in found.caution


def test_other_independent_factors_are_permuted_and_reflected(sampled):
    W = normal(7, 3, seed=5) + 0.1 * normal(4, 50, 7, 3)
    flips = signed_permutation(torch.tensor([2, 0, 1]), torch.tensor([1.0, -1.0, 1.0]).double())
    W[1] = W[1] @ flips
    found = pa.align(sampled(W, codes=priors.Laplace()))
    assert set(found.rotations.abs().unique().tolist()) == {0.0, 1.0}
    assert float((found.loadings - found.mean).square().mean().sqrt()) < 0.11


def test_every_linked_site_moves_with_the_loadings(sampled):
    W, z = turned(), normal(4, 50, 6, 3, seed=3)
    mean = normal(4, 50, 3, seed=4)
    found = pa.align(sampled(W, z=z, factor_mean=mean))
    A = found.loadings
    assert torch.allclose(A @ A.mT, W @ W.mT, rtol=0, atol=1e-12)
    assert torch.allclose(found.draws["z"] @ A.mT, z @ W.mT, rtol=0, atol=1e-12)
    assert torch.allclose(found.scores(z), found.draws["z"], rtol=0, atol=1e-14)
    shifted = A @ found.draws["factor_mean"].unsqueeze(-1)
    assert torch.allclose(shifted, W @ mean.unsqueeze(-1), rtol=0, atol=1e-12)


def test_precisions_of_ard_follow_their_columns(sampled):
    W = torch.tensor([3.0, 1.0, 0.3]).double() * (normal(7, 3, seed=5) + 0.1 * normal(4, 50, 7, 3))
    precision = 7 / W.square().sum(2)
    order = torch.rand(4, 50, 3, generator=torch.Generator().manual_seed(0)).argsort(-1)
    W = W @ signed_permutation(order, torch.ones(4, 50, 3).double())
    precision = precision.gather(-1, order)
    run = sampled(W, loadings_prior=parameter_priors.ARD(), loadings_precision=precision)
    found = pa.align(run)
    assert found.group.name == "SP(3)"
    assert found.left_out == ()
    again = 7 / found.loadings.square().sum(2)
    assert torch.allclose(found.draws["loadings_precision"], again, rtol=1e-12)
    rotated = pa.align(run, pa.OrthogonalProcrustes())
    assert rotated.left_out == ("loadings_precision",)
    assert "Left out, as no rotation can move them: loadings_precision." in str(rotated)


def test_aligning_an_aligned_run_changes_nothing(sampled):
    run = sampled(turned())
    first = pa.align(run)
    again = sampled(first.loadings)
    again.model.loadings = run.model.loadings
    assert torch.allclose(pa.align(again).loadings, first.loadings, rtol=0, atol=1e-8)


def test_chains_of_several_runs_are_aligned_jointly(sampled):
    runs = [sampled(turned(chains=2, seed=seed)) for seed in (0, 10)]
    found = pa.align(runs)
    assert found.loadings.shape == (4, 50, 7, 3)
    means = found.loadings.mean(1)
    # each of the 84 means of 50 draws has a standard error of .1 / sqrt(50)
    assert float((means - means.mean(0)).abs().max()) < 5 * 0.1 / 50**0.5
    assert set(found.draws) == {"loadings", "noise_variance"}


def test_restarts_of_a_point_fit_are_aligned():
    x = pa.datasets.holzinger_swineford().x
    runs = [pa.fit(pa.FactorAnalysis(9, 3), x[seed::3]) for seed in range(3)]
    runs += [pa.fit(pa.FactorAnalysis(9, 3), x)] * 2
    found = pa.align(runs)
    assert found.loadings.shape == (5, 1, 9, 3)
    assert torch.allclose(found.loadings[3], found.loadings[4], rtol=0, atol=1e-12)
    whole = runs[-1].model.loadings
    assert torch.allclose(found.loadings[3, 0] @ found.loadings[3, 0].T, whole @ whole.T, atol=1e-12)


def test_bare_draws_are_aligned_as_asked():
    W = turned()
    found = pa.align(W, pa.OrthogonalProcrustes())
    assert torch.equal(found.loadings, pa.align({"loadings": W}, pa.OrthogonalProcrustes()).loadings)
    assert found.group is None
    assert found.caution == ""
    single = pa.align(W.float(), pa.OrthogonalProcrustes())
    assert single.loadings.dtype == torch.float64


def test_intervals_hold_their_share_of_draws():
    W = normal(7, 2, seed=5) + 0.1 * normal(4, 500, 7, 2)
    found = pa.align(W, pa.SignedPermutations())
    lower, upper = found.interval(0.9)
    inside = ((found.loadings >= lower) & (found.loadings <= upper)).double().mean((0, 1))
    assert torch.allclose(inside, torch.full((7, 2), 0.9).double(), atol=1 / 2000)  # quantiles of 2000 draws
    one, two = pa.align(W[:1, :1], pa.SignedPermutations()).interval()
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("codes", "method", "sentence"),
    [
        (None, pa.SignedPermutations(), "chains may stay apart"),
        (None, pa.OrthogonalProcrustes(), "the axes are a convention"),
        (None, pa.VarimaxPermutations(), "VarimaxPermutations chose the axes"),
        (None, pa.PivotMatch(), "PivotMatch chose the axes"),
        (priors.Laplace(), pa.OrthogonalProcrustes(), "turns their uncertainty away"),
        (priors.Laplace(), pa.VarimaxPermutations(), "turns their uncertainty away"),
        (priors.Laplace(), None, r"Identified up to SP\(3\), by non-Gaussian factors."),
    ],
)
def test_a_method_that_does_not_fit_the_group_is_said_to(sampled, codes, method, sentence):
    found = pa.align(sampled(turned(draws=10), codes=codes), method)
    assert re.search(sentence, found.caution)
    assert found.caution in str(found)


def test_print_names_rows_and_columns(sampled):
    names = tuple(f"item {i}" for i in range(7))
    text = str(pa.align(sampled(turned(), names=names)))
    assert text.splitlines()[0] == "Loadings of 4 chains of 50 draws, aligned by O(3): mean (sd)"
    assert all(name in text for name in (*names, "z[0]", "z[2]"))
    wide = str(pa.align(turned(features=50), pa.OrthogonalProcrustes()))
    assert "... 10 more rows" in wide


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (3.0, "a fit of a sampler.*got float"),
        ([], "got list"),
        ([1, 2], "got list"),
        (torch.zeros(4, 3), r"shape \(chain, draw, features, latents\), got shape \(4, 3\)"),
        ({"mean": torch.zeros(2, 2, 3)}, "got no site of that name"),
        (torch.full((1, 2, 3, 2), float("nan")), "finite loadings, got 12 that are not"),
        (
            {"loadings": torch.ones(2, 5, 3, 1), "mean": torch.zeros(5, 3)},
            r"mean of shape \(2, 5\) \+ ..., as the loadings have, got \(5, 3\)",
        ),
    ],
)
def test_what_holds_no_draws_is_refused(source, sentence):
    with pytest.raises((ParameterError, DataError), match=f"align needs .*{sentence}"):
        pa.align(source, pa.OrthogonalProcrustes())


def test_a_point_fit_alone_and_bare_draws_without_a_method_are_refused(sampled):
    run = pa.fit(pa.FactorAnalysis(9, 1), pa.datasets.holzinger_swineford().x)
    with pytest.raises(ParameterError, match=r"MaximumLikelihood gives one value: fit with Gibbs\(\)"):
        pa.align(run)
    with pytest.raises(ParameterError, match="needs a method for draws without a model"):
        pa.align(turned())
    with pytest.raises(ParameterError, match="method should be a value such as"):
        pa.align(turned(), "procrustes")
    with pytest.raises(DataError, match="as many draws, features and factors"):
        pa.align([sampled(turned()), sampled(turned(draws=3))])
    with pytest.raises(ParameterError, match=r"models that identify O\(3\), SP\(3\)"):
        pa.align([sampled(turned()), sampled(turned(), codes=priors.Laplace())])
    with pytest.raises(DataError, match=r"z should have shape \(4, 50, samples, 3\)"):
        pa.align(sampled(turned())).scores(torch.zeros(50, 6, 3))
    with pytest.raises(ParameterError, match="level should be between 0 and 1, got 95"):
        pa.align(sampled(turned())).interval(95)


@pytest.mark.parametrize("prior", [None, parameter_priors.ARD(), parameter_priors.MultiplicativeGamma()])
@pytest.mark.filterwarnings("ignore::probae.errors.ConvergenceWarning")
def test_the_alignment_of_a_fit_is_in_the_frame_of_its_model_and_scores(prior):
    x = pa.datasets.linear_factors(200, 6, 2, noise=0.4, seed=0).x
    model = pa.FactorAnalysis(6, 2) if prior is None else pa.FactorAnalysis(6, 2).with_priors(loadings=prior)
    run = pa.fit(model, x, pa.Gibbs(draws=60, warmup=40, chains=2))
    found = pa.align(run)
    assert found.group.name == ("O(2)" if prior is None else "SP(2)")
    own = run.model.loadings.double()
    # the frame is that of the model, and the mean as well: to the difference of two ways to align where both rotate
    assert float((found.mean - own).norm() / own.norm()) < (0.01 if prior is None else 1e-12)
    assert not found.left_out
    kept = run.posterior.loadings
    assert float((kept.mean(0) - own).norm() / own.norm()) < 1e-12
