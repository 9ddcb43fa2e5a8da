"""Layer-wise pre-training: what layers alone can promise, what a fit keeps of it, what is refused.

Greedy layers are not the optimum of the whole: a layer keeps what reconstructs the layer below, which need not be what
reconstructs x. What is exact: principal layers of small gain are PCA, a linear layer ends at PCA, each layer ends where
its own loss is stationary, and the errors of the layers bound that of the stack.
"""

import pytest
import torch
from torch import nn

import probae as pa
from probae.activations import ACTIVATIONS
from probae.encoders import MLPEncoder, mirrored
from probae.inference.layers import GreedyLayers, Pair, PrincipalLayers
from probae.inference.pretraining import linear_layers, mirrors, pretrain
from probae.likelihoods import Bernoulli, Gaussian
from probae.linalg import haar_rotation

GREEDY = GreedyLayers(epochs=50, batch=50, lr=0.02)


@pytest.fixture(scope="module")
def x():
    """Two latents in eight columns of different units, with little noise; bounded, so that no row is far out."""
    generator = torch.Generator().manual_seed(0)
    z = 12**0.5 * (torch.rand(200, 2, generator=generator, dtype=torch.float64) - 0.5)
    loadings = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    noise = torch.rand(200, 8, generator=generator, dtype=torch.float64) - 0.5
    return (z @ loadings + 0.3 * noise) * torch.logspace(-2, 2, 8).double()


def unexplained(encoder, model, x):
    """Share of the variance that is not reconstructed, in standardised columns."""
    with torch.no_grad():
        rest = (x - model.reconstruct(encoder(x).mean)) / x.std(0)
    return float(rest.square().sum(0).mean() / (len(x) - 1))


def spectrum(x):
    return torch.linalg.eigvalsh(torch.corrcoef(x.mT)).flip(0)


def pair_of(activation="tanh"):
    # columns in their own units need a noise variance each
    return mirrored(8, 2, (9, 5), Gaussian("diagonal"), activation=activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_principal_layers_of_small_gain_are_pca(activation, x):
    """Two components of the correlation matrix: the third derivative of a unit adds about gain^2 / 3 of the signal."""
    pair = pretrain(*pair_of(activation), x, PrincipalLayers(gain=0.01))
    tail = spectrum(x)[2:].sum().item() / 8
    assert unexplained(*pair, x) == pytest.approx(tail, rel=1e-3)
    with torch.no_grad():
        z = pair[0](x).mean
    axes = torch.linalg.eigh(torch.corrcoef(x.mT)).eigenvectors[:, -2:]
    scores = (x - x.mean(0)) / x.std(0) @ axes
    together = torch.corrcoef(torch.cat([z, scores], 1).mT)[:2, 2:].abs()
    assert together.max(1).values.min() > 0.999


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_larger_gains_still_find_both_latents(activation, x):
    """One latent alone leaves half of the variance or so; units that bend leave some of it of both."""
    assert unexplained(*pretrain(*pair_of(activation), x, PrincipalLayers()), x) < 0.25


def linear_pair(width, seed=0):
    torch.manual_seed(seed)
    up, down = nn.Linear(8, width).double(), nn.Linear(width, 8).double()
    return Pair(up, down, nn.Identity(), 0.0, lambda h, output: (output - h).square().sum(1))


SPECTRUM = torch.tensor([5.0, 3.0, 2.0, 1.2, 0.8, 0.5, 0.3, 0.1], dtype=torch.float64)


@pytest.fixture(scope="module")
def axes():
    return haar_rotation(8, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def rows(axes):
    """Sixteen rows of covariance U diag(SPECTRUM) U' exactly: plus and minus sqrt(8 l) along each axis."""
    half = (8 * SPECTRUM).sqrt().unsqueeze(1) * axes.mT
    return torch.cat([half, -half])


@pytest.mark.parametrize("how", [PrincipalLayers(), GreedyLayers(epochs=300, batch=None, lr=0.05)], ids=repr)
def test_a_linear_layer_is_pca(how, rows):
    """Baldi & Hornik (1989): the mean error is the sum of the tail eigenvalues, for either kind of layer."""
    pair = linear_pair(3)
    assert how.layer(rows, rows, pair, torch.Generator()) is False
    assert GreedyLayers().loss(rows, pair).item() == pytest.approx(SPECTRUM[3:].sum().item(), rel=1e-3)


def test_decay_of_a_linear_layer_is_a_soft_threshold(rows, axes):
    """|x - Bx|^2 + c (|U|^2 + |V|^2) keeps max(1 - c / l, 0) of a direction (Kunin et al., 2019)."""
    pair = linear_pair(3)
    GreedyLayers(epochs=300, batch=None, lr=0.05, decay=0.5).layer(rows, rows, pair, torch.Generator())
    gains = (axes.mT @ (pair.down.weight @ pair.up.weight) @ axes).diagonal().detach()
    expected = 1 - 0.5 / SPECTRUM
    expected[3:] = 0
    torch.testing.assert_close(gains, expected, atol=2e-3, rtol=0)


def test_a_decay_above_the_variance_of_the_values_cuts_the_whole_layer(x):
    """The same soft threshold: values of sigmoid units, between 0 and 1, have variances of 1/4 at most."""
    h = ((x - x.mean(0)) / x.std(0)).sigmoid()
    pair = linear_pair(3)
    decay = 1.1 * float(torch.linalg.eigvalsh(torch.cov(h.mT, correction=0))[-1])
    GreedyLayers(epochs=300, batch=None, lr=0.05, decay=decay).layer(h, h, pair, torch.Generator())
    assert (pair.down.weight @ pair.up.weight).abs().max() < 1e-3


def test_a_layer_without_bottleneck_may_hide_the_latents_and_a_small_decay_keeps_them(x):
    """Greedy layers promise no more than their own loss. Eight linear units that whiten lose nothing, and then no two
    directions are better than others for the next layer. Decay makes the mirror the transpose, U = V', whose values
    keep the order of the variances: then the next layer ends at the components of x.
    """
    h = (x - x.mean(0)) / x.std(0, correction=0)
    values, axes = torch.linalg.eigh(torch.cov(h.mT, correction=0))
    whitening = linear_pair(8)
    with torch.no_grad():
        whitening.up.weight.copy_((axes / values.sqrt()).mT)
        whitening.down.weight.copy_(axes * values.sqrt())
        whitening.up.bias.zero_()
        whitening.down.bias.zero_()
        white = whitening.up(h)
    assert GreedyLayers().loss(h, whitening).item() < 1e-20  # no layer can be better
    torch.testing.assert_close(torch.cov(white.mT, correction=0), torch.eye(8, dtype=torch.float64))
    kept, code = linear_pair(8), linear_pair(2)
    GreedyLayers(epochs=300, batch=None, lr=0.05, decay=0.02).layer(h, h, kept, torch.Generator())
    with torch.no_grad():
        below = kept.up(h)
    PrincipalLayers().layer(below, below, code, torch.Generator())
    with torch.no_grad():
        rest = h - kept.down(code.down(code.up(below)))
    tail = values[:6].sum().item()
    # the threshold c = .02 takes (c / l)^2 l = c^2 / l from a kept direction, l > 1: nothing beside the tail
    assert rest.square().sum(1).mean().item() == pytest.approx(tail, rel=0.02)


@pytest.mark.parametrize(("activation", "decay"), [("tanh", 0.05), ("relu", 0.05), ("sigmoid", 0.0)])
def test_greedy_layers_find_both_latents(activation, decay, x):
    """With some decay where units are free to scale; one latent alone leaves half of the variance or so."""
    how = GreedyLayers(epochs=100, batch=50, lr=0.02, decay=decay)
    assert unexplained(*pretrain(*pair_of(activation), x, how), x) < 0.25


def test_a_layer_ends_where_its_own_loss_is_stationary(x):
    """Full batches and a rate that falls to a hundredth: the gradient falls to a hundredth too, at least."""
    h = ((x - x.mean(0)) / x.std(0)).tanh()
    squash = nn.Tanh()
    torch.manual_seed(0)
    up, down = nn.Linear(8, 4).double(), nn.Linear(4, 8).double()
    pair = Pair(up, down, squash, 0.0, lambda h, output: (squash(output) - h).square().sum(1))
    how = GreedyLayers(epochs=400, batch=None, lr=0.02)

    def slope():
        found = torch.autograd.grad(how.loss(h, pair), [*up.parameters(), *down.parameters()])
        return float(torch.cat([one.flatten() for one in found]).norm())

    before, loss = slope(), how.loss(h, pair).item()
    how.layer(h, h, pair, torch.Generator())
    assert slope() < 0.01 * before
    assert how.loss(h, pair).item() < 0.1 * loss


@pytest.mark.parametrize("how", [GREEDY, PrincipalLayers(gain=2.0)], ids=["greedy", "principal"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_errors_of_the_layers_bound_the_error_of_the_stack(activation, how, x):
    """e <= e_1 + |V_1| (e_2 + L |V_2| (e_3 ...)): the triangle inequality, if every weight is in its place."""
    encoder, model = pretrain(*pair_of(activation), x, how)
    squash, lipschitz = nn.Tanh() if activation == "tanh" else nn.Sigmoid(), {"tanh": 1, "sigmoid": 0.25}
    downs = mirrors(model)
    with torch.no_grad():
        h = [(x - encoder.centre) / encoder.spread]
        for up in linear_layers(encoder.body):
            h.append(squash(up(h[-1])))
        h.append(encoder(x).mean)
        bound, factor = 0.0, 1.0
        for level, down in enumerate(downs):
            output = down(h[level + 1])
            error = ((squash(output) if level else output) - h[level]).square().sum(1).sqrt()
            bound = bound + factor * error
            factor *= float(torch.linalg.matrix_norm(down.weight, 2)) * (
                lipschitz[activation] if level else 1
            )
        rest = ((x - model.reconstruct(encoder(x).mean)) / x.std(0)).square().sum(1).sqrt()
    assert (rest <= bound * (1 + 1e-12)).all()


@pytest.fixture(params=[GREEDY, PrincipalLayers()], ids=["greedy", "principal"])
def pair(request, x):
    return pretrain(*pair_of(), x, request.param, seed=1)


def test_codes_have_mean_zero_and_variance_one(pair, x):
    with torch.no_grad():
        z = pair[0](x).mean
    assert torch.allclose(z.mean(0), torch.zeros(2).double(), atol=1e-8)
    assert torch.allclose(z.std(0), torch.ones(2).double(), rtol=1e-8)


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning", "ignore::probae.GuideWarning")
def test_a_fit_goes_on_from_the_weights(pair, x):
    """One step of Adam moves no weight by more than its learning rate."""
    run = pa.fit(pair[1], x, pa.SVI(pair[0], epochs=1, lr=1e-4))
    before = {**pair[1].state_dict(), **pair[0].state_dict()}
    after = {**run.model.state_dict(), **run.posterior.encoder.state_dict()}
    assert all(float((after[name] - before[name]).abs().max()) <= 1.001e-4 for name in before)


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning", "ignore::probae.GuideWarning")
def test_training_on_from_the_layers_lowers_the_error(pair, x):
    before = unexplained(*pair, x)
    run = pa.fit(pair[1], x, pa.SVI(pair[0], epochs=100, lr=0.005, objective=pa.Reconstruction()))
    assert unexplained(run.posterior.encoder, run.model, x) < before
    assert spectrum(x)[2:].sum() / 8 > 0  # PCA leaves something, so there is room


def test_the_pair_given_is_left_as_it_was_and_the_seed_decides(x):
    pair = mirrored(8, 2, hidden=(6,))
    how = GreedyLayers(epochs=2, corruption=pa.Denoising(pa.GaussianNoise(0.2)))
    before = [value.clone() for part in pair for value in part.state_dict().values()]
    state = torch.get_rng_state()
    one, other, third = (pretrain(*pair, x, how, seed=seed)[0](x).mean for seed in (3, 3, 4))
    assert torch.equal(state, torch.get_rng_state())
    after = [value for part in pair for value in part.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)


def test_single_precision_gives_nearly_the_same_layers(x):
    double, single = (pretrain(*pair_of(), rows, PrincipalLayers()) for rows in (x, x.float()))
    assert next(single[0].parameters()).dtype == torch.float64
    assert unexplained(*single, x) == pytest.approx(
        unexplained(*double, x), rel=1e-3
    )  # rounding 1e-7, many sums


def test_constant_columns_are_reconstructed(x):
    rows = torch.cat([x, torch.full((200, 1), 3.0, dtype=torch.float64)], 1)
    encoder, model = pretrain(*mirrored(9, 2, (9, 5), Gaussian("diagonal")), rows, PrincipalLayers())
    with torch.no_grad():
        assert torch.allclose(model.reconstruct(encoder(rows).mean)[:, 8], rows[:, 8])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": MLPEncoder(8, 2, hidden=(5,))}, "widths reversed"),
        ({"encoder": MLPEncoder(8, 2, hidden=(6,), normalize=True)}, "plain layers"),
        ({"encoder": MLPEncoder(8, 2, hidden=(6,), activation="relu")}, "the same units"),
        ({"model": pa.FactorAnalysis(8, 2)}, "widths reversed"),
        ({"how": "pca"}, "how should be"),
    ],
)
def test_what_does_not_mirror_is_refused(change, message, x, monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    encoder, model = mirrored(8, 2, hidden=(6,))
    with pytest.raises(pa.ParameterError, match=message):
        pretrain(**({"encoder": encoder, "model": model, "x": x} | change))


@pytest.mark.parametrize(
    "settings", [{"epochs": 0}, {"batch": 0}, {"lr": -1.0}, {"decay": -1.0}, {"corruption": 1}]
)
def test_wrong_settings_are_refused(settings, monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(pa.ParameterError, match=next(iter(settings))):
        GreedyLayers(**settings)
    with pytest.raises(pa.ParameterError, match="gain"):
        PrincipalLayers(gain=0.0)


def test_data_the_likelihood_has_no_density_for_are_refused(x):
    with pytest.raises(pa.DataError, match="between 0 and 1"):
        pretrain(*mirrored(8, 2, hidden=(6,), likelihood=Bernoulli()), x)


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning", "ignore::probae.GuideWarning")
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_a_fit_from_layers_is_saved_and_loaded_with_its_units(activation, x, tmp_path):
    encoder, model = pretrain(*pair_of(activation), x, PrincipalLayers())
    run = pa.fit(model, x, pa.SVI(encoder, epochs=1))
    pa.save(run, tmp_path / "run")
    again = pa.load(tmp_path / "run")
    assert torch.equal(again.posterior(x).mean, run.posterior(x).mean)
    assert repr(again.model) == repr(run.model)
    assert f"activation='{activation}'" in repr(again.posterior.encoder)
