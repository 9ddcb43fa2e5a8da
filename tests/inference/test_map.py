"""MAP sparse coding: unit-norm atoms, certified codes, and the scale of the generative model."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import MiniBatchDictionaryLearning

from probae import ConvergenceWarning, NotExactError, fit
from probae.codes import sparse_codes
from probae.datasets import linear_factors, natural_patches
from probae.inference import MAP
from probae.inference.map import match_scale
from probae.matching import match_columns
from probae.models import LinearFactorModel, SparseCoding
from probae.priors import Laplace, StudentT


@pytest.fixture(scope="module")
def planted():
    """Spiky codes of twelve unit atoms in eight dimensions, and the learned dictionary."""
    generator = torch.Generator().manual_seed(1)
    atoms = torch.randn(8, 12, generator=generator, dtype=torch.float64)
    atoms = atoms / atoms.norm(dim=0)
    active = torch.rand(3000, 12, generator=generator) < 0.12
    codes = active * torch.randn(3000, 12, generator=generator, dtype=torch.float64) * 3
    x = codes @ atoms.T + 0.05 * torch.randn(3000, 8, generator=generator, dtype=torch.float64) + 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        run = fit(SparseCoding(8, 12), x, MAP(penalty=0.2, steps=150))
    return atoms, x, run


def scale_of(run):
    """c of loadings = c A with unit-norm atoms A."""
    return run.model.loadings.norm(dim=0)


def energy(x, atoms, codes, penalty):
    return (0.5 * (x - codes @ atoms.T).square().sum(1) + penalty * codes.abs().sum(1)).mean().item()


def test_planted_atoms_are_approached(planted):
    """The problem is not convex: most atoms are found, some pairs stay merged. Random atoms match to about .6."""
    atoms, x, run = planted
    assert match_columns(atoms, run.model.loadings).cosines.mean() > 0.85
    centred = x - x.mean(0)
    learned, true = (
        energy(centred, a, sparse_codes(centred, a, 0.2, tolerance=1e-8).z, 0.2)
        for a in (run.model.loadings / scale_of(run), atoms)
    )
    assert learned < 1.15 * true


def test_the_energy_is_not_above_that_of_scikit_learn(planted):
    """The same number of minibatches of the same size, unit-norm atoms, one penalty."""
    _, x, run = planted
    centred = x - x.mean(0)
    settings = {"alpha": 0.2, "batch_size": 512, "max_iter": 25, "random_state": 0, "fit_algorithm": "cd"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of its inner problems stop early
        other = MiniBatchDictionaryLearning(12, max_no_improvement=None, **settings).fit(centred.numpy())
    theirs = torch.from_numpy(other.components_.T.copy())
    ours, theirs = (
        energy(centred, a, sparse_codes(centred, a, 0.2, tolerance=1e-8).z, 0.2)
        for a in (run.model.loadings / scale_of(run), theirs / theirs.norm(dim=0))
    )
    assert ours < theirs


def test_atoms_share_one_length(planted):
    lengths = scale_of(planted[2])
    assert torch.allclose(lengths, lengths.mean().expand(12), rtol=1e-9)


def test_scale_matches_the_trace_of_the_covariance(planted):
    """tr S = c^2 K + D sigma^2, with sigma^2 = penalty c / sqrt 2."""
    _, x, run = planted
    c = scale_of(run)[0].item()
    assert run.model.noise_variance.item() == pytest.approx(0.2 * c / math.sqrt(2), rel=1e-6)
    power = (x - x.mean(0)).square().sum(1).mean().item()
    assert power == pytest.approx(12 * c**2 + 8 * run.model.noise_variance.item(), rel=1e-6)
    assert torch.allclose(run.model.mean, x.mean(0))


@pytest.mark.parametrize("penalty", [1e-3, 0.3, 10.0])
def test_match_scale_solves_its_equation(penalty):
    c = match_scale(7.0, 5, 9, penalty)
    assert c > 0
    assert 9 * c**2 + 5 * penalty * c / math.sqrt(2) == pytest.approx(7.0, rel=1e-12)


def test_codes_are_those_of_the_lasso_on_its_scale(planted):
    """z = h / c, with h the lasso codes of unit atoms at the penalty."""
    _, x, run = planted
    c = scale_of(run)[0]
    h = sparse_codes(x[:100] - x.mean(0), run.model.loadings / c, 0.2, tolerance=1e-12, steps=100_000).z
    assert torch.allclose(run.posterior(x[:100]).mean, h / c, atol=1e-3)


def test_codes_satisfy_the_optimality_conditions(planted):
    """Of 1/2 |x - mean - W z|^2 + sqrt 2 sigma^2 |z|_1, the negative log joint times sigma^2."""
    _, x, run = planted
    z = run.posterior(x[:200]).mean
    penalty = math.sqrt(2) * run.model.noise_variance
    correlation = (x[:200] - run.model.mean - z @ run.model.loadings.T) @ run.model.loadings
    slack = 2e-3 * penalty * 10
    assert (correlation.abs() <= penalty + slack).all()
    active = z != 0
    assert 0 < active.double().mean() < 0.9
    assert ((correlation - penalty * z.sign()).abs()[active] <= slack).all()


def test_codes_maximise_the_joint_density(planted):
    _, x, run = planted
    rows = x[:50]
    z = run.posterior(rows).mean
    best = run.model.log_joint(rows, z)
    for seed in range(5):
        other = z + 0.02 * torch.randn(
            z.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        assert (run.model.log_joint(rows, other) <= best + 1e-6).all()


def test_the_energy_falls(planted):
    _, _, run = planted
    assert run.history[-20:].mean() > run.history[:20].mean()


def test_the_dictionary_beats_random_and_principal_ones(planted):
    """At equal penalty and unit-norm atoms."""
    _, x, run = planted
    centred = x - x.mean(0)
    learned = run.model.loadings / scale_of(run)
    noise = torch.randn(8, 12, dtype=torch.float64)
    vectors = torch.linalg.svd(centred, full_matrices=False)[2].T
    values = [
        energy(centred, atoms, sparse_codes(centred, atoms, 0.2, tolerance=1e-8).z, 0.2)
        for atoms in (learned, noise / noise.norm(dim=0), vectors)
    ]
    assert values[0] < 0.9 * min(values[1:])


def test_the_given_penalty_decides_the_sparsity(planted):
    _, x, _ = planted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        loose, tight = (fit(SparseCoding(8, 12), x, MAP(penalty=p, steps=30)) for p in (0.05, 1.0))
    dense, sparse = ((run.posterior(x[:300]).mean != 0).double().mean() for run in (loose, tight))
    assert sparse < dense


def test_without_a_penalty_the_scale_is_still_consistent():
    """A default penalty leaves sqrt 2 sigma^2 / c as the penalty that the codes use."""
    data = linear_factors(1500, 8, 4, prior=Laplace(), noise=0.3, seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        run = fit(SparseCoding(8, 4), data.x, MAP(steps=60))
    c = scale_of(run)
    assert torch.allclose(c, c.mean().expand(4), rtol=1e-6)
    power = (data.x - data.x.mean(0)).square().sum(1).mean().item()
    assert power == pytest.approx(4 * c[0].item() ** 2 + 8 * run.model.noise_variance.item(), rel=1e-6)


def test_without_a_penalty_the_noise_is_estimated():
    """The default penalty is a working value for fewer latents than features; the marginal likelihood then decides."""
    data = linear_factors(1500, 8, 4, prior=Laplace(), noise=0.3, seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        run = fit(SparseCoding(8, 4), data.x, MAP(steps=60))
    assert run.model.noise_variance.item() == pytest.approx(0.3, rel=0.5)


def test_unused_atoms_are_replaced_and_counted(rows):
    """Sixty rows about one line leave most of twelve atoms without work."""
    with pytest.warns(ConvergenceWarning, match="no row used"):
        run = fit(SparseCoding(4, 12), rows, MAP(steps=5))
    assert torch.allclose(scale_of(run), scale_of(run).mean().expand(12), rtol=1e-6)


@pytest.mark.slow
def test_float32_learns_the_same_energy(planted):
    _, x, run = planted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        single = fit(SparseCoding(8, 12), x.float(), MAP(penalty=0.2, steps=150))
    assert single.history[-20:].mean().item() == pytest.approx(run.history[-20:].mean().item(), rel=0.02)
    assert single.posterior(x[:5].float()).mean.dtype == torch.float32


def test_natural_patches_give_sparser_codes_than_their_gaussian_surrogate():
    """The same covariance without the higher moments: a learned dictionary gains less on it."""
    x = natural_patches(size=5, count=1500).x
    generator = np.random.default_rng(0)
    surrogate = torch.from_numpy(generator.multivariate_normal(np.zeros(25), np.cov(x.numpy().T), size=1500))
    kurtosis = []
    for rows in (x, surrogate):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            run = fit(SparseCoding(25, 30), rows, MAP(steps=30, batch=300))
        z = run.posterior(rows).mean
        kurtosis.append(((z**4).mean(0) / (z**2).mean(0) ** 2).median().item())
    assert kurtosis[0] > 2 * kurtosis[1]


@pytest.mark.parametrize(
    "model",
    [
        SparseCoding(6, 8, prior=StudentT(5)),
        LinearFactorModel(6, 8, prior=Laplace()),
        LinearFactorModel(6, 6, prior=Laplace(), noise="none"),
    ],
    ids=repr,
)
def test_other_models_are_refused(model):
    with pytest.raises(NotExactError, match="MAP learns Laplace codes with isotropic noise"):
        fit(model, torch.randn(40, 6, dtype=torch.float64), MAP())
