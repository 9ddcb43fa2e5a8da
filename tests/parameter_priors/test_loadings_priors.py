"""Every prior of loadings: its density is that of the program, its updates leave the joint law as it is, units cancel.

A new prior is tested by one line of PRIORS.
"""

import dataclasses

import pyro
import pyro.poutine as poutine
import pytest
import torch
from scipy import stats

import probae as pa
from probae.linalg import haar_rotation
from probae.parameter_priors import ARD, Horseshoe, MultiplicativeGamma, Normal, SpikeSlab

D, K = 4, 3
SCALE = torch.tensor([1.0, 2.0, 0.5, 3.0])
PRIORS = {
    "normal": Normal(SCALE),
    "normal, each entry": Normal(SCALE[:, None] * torch.tensor([1.0, 2.0, 3.0])),
    "ARD": ARD(2.0, 1.5, scale=SCALE),
    "multiplicative gamma": MultiplicativeGamma(3.0, 2.0, degrees=4.0, scale=SCALE),
    "horseshoe": Horseshoe(0.3, scale=SCALE),
    "spike and slab": SpikeSlab(2.0, 3.0, scale=SCALE),
}
CHAINS = 20_000
CRITICAL = 1e-4  # level of each test; the seeds are fixed

every = pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
hierarchical = pytest.mark.parametrize(
    "prior", [PRIORS[name] for name in PRIORS if "normal" not in name], ids=lambda p: type(p).__name__
)


def drawn(prior, chains=CHAINS, features=D, latents=K):
    """Hyperparameters and loadings from their prior."""
    state = prior.start(chains, features, latents)
    spread = prior.variance(state).sqrt().expand(chains, features, latents)
    return state, spread * torch.randn(chains, features, latents, dtype=torch.float64)


def standardized(prior, state, loadings):
    """Loadings that are not 0, in units of their standard deviation given the hyperparameters."""
    return (loadings / prior.variance(state).sqrt())[loadings != 0]


def summaries(state):
    """One entry, and the mean logarithm of all, of each hyperparameter."""
    for value in state.values():
        flat = value.reshape(len(value), -1)
        yield flat[:, -1]
        yield flat.clamp_min(1e-12).log().mean(-1)


def levels(prior, state, loadings, reference):
    """p values of the hypothesis that state and loadings come from their joint prior."""
    standard = standardized(prior, state, loadings)
    yield stats.kstest(standard[torch.randperm(len(standard))[:CHAINS]].numpy(), stats.norm.cdf).pvalue
    for one, other in zip(summaries(state), summaries(reference), strict=True):
        yield stats.ks_2samp(one.numpy(), other.numpy(), method="asymp").pvalue


@every
def test_the_density_is_that_of_the_programs_trace(prior):
    pyro.set_rng_seed(3)
    with pyro.settings.context(module_local_params=True):
        trace = poutine.trace(pa.FactorAnalysis(D, K).with_priors(loadings=prior)).get_trace(size=2)
    trace.compute_log_prob()
    sites = {name: node for name, node in trace.nodes.items() if name.startswith("loadings")}
    assert set(sites) == {"loadings", *prior.start(1, D, K)}
    state = {name: node["value"][None] for name, node in sites.items() if name != "loadings"}
    expected = sum(node["log_prob_sum"] for node in sites.values())
    torch.testing.assert_close(prior.log_prob(state, sites["loadings"]["value"][None])[0], expected)


@every
def test_the_program_draws_what_start_and_variance_draw(prior):
    torch.manual_seed(4)
    _, loadings = drawn(prior, 4000)
    program = pa.FactorAnalysis(D, K).with_priors(loadings=prior)
    with torch.no_grad():
        sites = torch.stack(
            [poutine.trace(program).get_trace(size=1).nodes["loadings"]["value"] for _ in range(100)]
        )
    for d, k in ((0, 0), (3, 2)):
        # half the law of a sparse loading is a point: a test of tied values errs towards acceptance
        assert stats.ks_2samp(sites[:, d, k].numpy(), loadings[:, d, k].numpy()).pvalue > CRITICAL


@hierarchical
def test_an_update_leaves_the_joint_law_as_it_is(prior):
    torch.manual_seed(5)
    state, loadings = drawn(prior)
    reference, _ = drawn(prior)
    for _ in range(2):
        state = prior.update(state, loadings)
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in reference.items()
    }
    assert min(levels(prior, state, loadings, reference)) > CRITICAL


@hierarchical
def test_an_update_from_other_loadings_is_noticed(prior):
    torch.manual_seed(5)
    state, loadings = drawn(prior)
    reference, _ = drawn(prior)
    other = torch.where(torch.rand_like(loadings) < 0.1, 0.0, loadings) if prior.sparse else 1.1 * loadings
    for _ in range(2):
        state = prior.update(state, other)
    assert min(levels(prior, state, loadings, reference)) < CRITICAL**2


@every
def test_in_units_is_a_change_of_variables(prior):
    torch.manual_seed(6)
    units = torch.tensor([0.5, 3.0, 10.0, 1.0]).double()
    state, loadings = drawn(prior, 5)
    inner = prior.in_units(units)
    volume = ((loadings != 0) * units.log()[:, None]).sum((-2, -1))  # a spike at 0 has no volume
    scaled = loadings / units[:, None]
    torch.testing.assert_close(inner.log_prob(state, scaled) - volume, prior.log_prob(state, loadings))
    torch.testing.assert_close(
        inner.variance(state).expand(5, D, K) * units.square()[:, None], prior.variance(state).expand(5, D, K)
    )
    torch.manual_seed(7)
    given_scaled = inner.update(state, scaled)
    torch.manual_seed(7)
    for name, value in prior.update(state, loadings).items():
        torch.testing.assert_close(value, given_scaled[name])
    same = inner.in_units(1 / units)
    assert type(same) is type(prior)
    torch.testing.assert_close(same.log_prob(state, loadings), prior.log_prob(state, loadings))


@every
def test_it_says_whether_rotations_leave_it_as_it_is(prior):
    torch.manual_seed(8)
    assert prior.rotation_invariant == (prior is PRIORS["normal"])
    if prior.rotation_invariant:
        rotation = haar_rotation(K, generator=torch.Generator().manual_seed(0))
        state, loadings = drawn(prior, 5)
        torch.testing.assert_close(
            prior.log_prob(state, loadings @ rotation), prior.log_prob(state, loadings)
        )


@pytest.mark.parametrize("prior", [PRIORS["normal"], PRIORS["ARD"]], ids=["normal", "ARD"])
def test_the_marginal_density_is_the_joint_over_the_conditional(prior):
    """log p(W) = log p(W, h) - log p(h | W), for ARD with p(alpha | W) as scipy has it."""
    torch.manual_seed(9)
    state, loadings = drawn(prior, 6)
    conditional = torch.zeros(6, dtype=torch.float64)
    if state:
        shape = prior.shape + D / 2
        rate = prior.rate + 0.5 * (loadings / SCALE[:, None]).square().sum(1)
        terms = stats.gamma(shape, scale=1 / rate.numpy()).logpdf(state["loadings_precision"].numpy())
        conditional = torch.from_numpy(terms).sum(-1)
    torch.testing.assert_close(prior.log_marginal(loadings), prior.log_prob(state, loadings) - conditional)


def test_a_prior_without_a_marginal_says_so():
    with pytest.raises(pa.NotExactError, match="Horseshoe loadings have no closed density"):
        Horseshoe().log_marginal(torch.zeros(1, D, K))


def test_precisions_of_ard_are_gamma_given_the_loadings():
    torch.manual_seed(10)
    loadings = torch.linspace(-1, 1, D * K).double().reshape(D, K)
    draws = ARD(2.0, 1.5).update({}, loadings.expand(4000, D, K))["loadings_precision"]
    for k in range(K):
        rate = 1.5 + 0.5 * float(loadings[:, k].square().sum())
        assert (
            stats.kstest(draws[:, k].numpy(), stats.gamma(2.0 + D / 2, scale=1 / rate).cdf).pvalue > CRITICAL
        )


def test_loadings_of_the_horseshoe_alone_have_its_marginal_law():
    """With tau given, W / (s tau) is a normal scaled by a half-Cauchy: the density at w is E N(w; 0, lambda^2)."""
    torch.manual_seed(11)
    state, loadings = drawn(Horseshoe(0.5), 4000, 1, 1)
    ratio = (loadings[:, 0, 0] / state["loadings_global_scale"]).numpy()
    lambdas = torch.tan(torch.linspace(0.0, 1.0, 4002).double()[1:-1] * torch.pi / 2)  # quantiles of C+(0, 1)
    grid = torch.logspace(-3, 3, 60).double()
    cdf = torch.distributions.Normal(0.0, lambdas).cdf(grid[:, None]).mean(-1).numpy()
    # quantiles give the integral within 1 / 4000; Kolmogorov: P(sqrt(n) D > 2.23) = 1e-4
    below = (ratio[:, None] <= grid.numpy()).mean(0)
    assert abs(below - cdf).max() < 2.23 / 4000**0.5 + 1 / 4000


def sparse_moments(prior, count, features, latents, chains):
    """State and loadings from the prior, noise variances, and the moments of scores and rows drawn from them."""
    state, loadings = drawn(prior, chains, features, latents)
    scores = torch.randn(chains, count, latents, dtype=torch.float64)
    scores = (
        scores @ torch.tensor([[1.0, 0.8], [0.0, 0.6]]).double()[:latents, :latents]
    )  # correlated: order matters
    noise = torch.full((chains, features), 0.5, dtype=torch.float64)
    rows = scores @ loadings.mT + noise[:, None].sqrt() * torch.randn(
        chains, count, features, dtype=torch.float64
    )
    return state, loadings, scores.mT @ scores, scores.mT @ rows, noise


@pytest.mark.parametrize("error", [1.0, 2.0])
def test_drawing_sparse_loadings_leaves_the_joint_law_as_it_is(error):
    """Geweke's test; noise variances twice as large as they are get noticed."""
    torch.manual_seed(12)
    prior = SpikeSlab(2.0, 3.0, scale=1.5)
    state, loadings, square, cross, noise = sparse_moments(prior, 5, 2, 2, CHAINS)
    reference, _ = drawn(prior, CHAINS, 2, 2)
    for _ in range(3):
        state, loadings = prior.draw_loadings(state, loadings, square, cross, error * noise)
        state = prior.update(state, loadings)
    assert torch.equal(state["loadings_active"], (loadings != 0).double())
    active = stats.ttest_ind(state["loadings_active"].sum((1, 2)), reference["loadings_active"].sum((1, 2)))
    level = min(active.pvalue, *levels(prior, state, loadings, reference))
    assert level > CRITICAL if error == 1.0 else level < CRITICAL**2


def test_turning_sparse_factors_leaves_their_law_as_it_is():
    torch.manual_seed(14)
    prior = SpikeSlab(4.0, 1.0, scale=SCALE)
    state, loadings = drawn(prior, CHAINS, D, 2)
    turned = prior.turned(loadings)
    same = ((loadings[..., 0] != 0) == (loadings[..., 1] != 0)).all(1)
    assert 0.1 < same.double().mean() < 0.9
    assert torch.equal((turned != loadings).any(2).any(1), same & (loadings != 0).any(2).any(1))
    torch.testing.assert_close(turned @ turned.mT, loadings @ loadings.mT)
    assert min(levels(prior, state, turned, state)) > CRITICAL


def test_indicators_have_their_exact_probabilities():
    """Two loadings: the four sets of active ones by their closed-form weights."""
    torch.manual_seed(13)
    chains, prior = 8000, SpikeSlab(scale=0.7)
    square = torch.tensor([[6.0, 3.0], [3.0, 5.0]]).double()
    cross, noise, chance = torch.tensor([2.0, 2.5]).double(), 0.8, torch.tensor([0.3, 0.6]).double()
    weights = []
    for active in ([0, 0], [1, 0], [0, 1], [1, 1]):
        on = [k for k in range(2) if active[k]]
        weight = float(torch.where(torch.tensor(active) > 0, chance, 1 - chance).prod())
        if on:  # p(x | set) up to a constant: integral of exp(-w'Gw/2 psi + w'c/psi) N(w; 0, v)
            precision = square[on][:, on] / noise + torch.eye(len(on)).double() / 0.49
            pull = cross[on] / noise
            weight *= float(
                (0.5 * pull @ torch.linalg.solve(precision, pull)).exp() / (0.49 * precision).det().sqrt()
            )
        weights.append(weight)
    state = {"loadings_probability": chance.expand(chains, 2)}
    loadings = torch.zeros(chains, 1, 2, dtype=torch.float64)
    given = (
        square.expand(chains, 2, 2),
        cross[:, None].expand(chains, 2, 1),
        torch.full((chains, 1), noise).double(),
    )
    for _ in range(25):  # the chains forget where they start at a rate below 1/2 a sweep
        state, loadings = prior.draw_loadings(state, loadings, *given)
    sets = (loadings[:, 0] != 0).long() @ torch.tensor([1, 2])
    expected = torch.tensor(weights, dtype=torch.float64) / sum(weights) * chains
    assert stats.chisquare(torch.bincount(sets, minlength=4).numpy(), expected.numpy()).pvalue > CRITICAL


@pytest.mark.parametrize("kind", [Normal, ARD, MultiplicativeGamma, Horseshoe, SpikeSlab])
def test_a_scale_for_other_loadings_is_refused(kind):
    for scale in (torch.ones(D + 1), torch.ones(D, K + 1), torch.ones(1, D, K)):
        with pytest.raises(pa.ParameterError, match=rf"shape \({D}, {K}\) should .* got shape"):
            pa.FactorAnalysis(D, K).with_priors(loadings=kind(scale=scale))


@pytest.mark.parametrize("kind", [ARD, MultiplicativeGamma, Horseshoe, SpikeSlab])
def test_numbers_that_are_not_positive_are_refused(kind):
    for field in dataclasses.fields(kind):
        for bad in (0.0, -1.0, float("nan")):
            with pytest.raises(pa.ParameterError, match=field.name):
                kind(**{field.name: bad})
