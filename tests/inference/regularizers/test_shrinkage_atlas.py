"""What each regulariser does to a linear autoencoder: the gain of every principal direction has a closed form.

`questions.md` Q3, oracles `lae_pca` and `shrinkage_atlas`. With ½|x - Bx|^2 as the loss a penalty has half the weight
that it has beside |x - Bx|^2, as in the table there.
"""

import pytest
import torch
from torch import nn

from probae import (
    MAP,
    ContractiveEncoder,
    ContractiveReconstruction,
    ConvergenceWarning,
    Denoising,
    GaussianNoise,
    SquaredError,
    WeightDecay,
    fit,
)
from probae.encoders import Encoder, LinearGaussianEncoder
from probae.encoders.laws import DiagonalCode
from probae.linalg import haar_rotation
from probae.models import ProbabilisticPCA

SPECTRUM = torch.tensor([5.0, 3.0, 2.0, 1.2, 0.8, 0.5, 0.3, 0.1], dtype=torch.float64)
TOP = SPECTRUM[:3]

pytestmark = pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")  # its noise test sees none here


class Tied(Encoder):
    """E[z | x] = W' x with the loadings W of the model."""

    def __init__(self, features, latents):
        super().__init__(features, latents)
        self.log_scale = nn.Parameter(torch.zeros(latents))

    def attach(self, model):
        object.__setattr__(self, "model", model)

    def start(self, x, generator):
        pass

    def forward(self, x):
        code = x @ self.model.loadings.to(x.dtype)
        return DiagonalCode(code, self.log_scale.exp().expand(code.shape))

    def jacobian(self, x):
        return self.model.loadings.mT.unsqueeze(0)


@pytest.fixture(scope="module")
def axes():
    return haar_rotation(8, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def rows(axes):
    """Sixteen rows whose covariance is U diag(SPECTRUM) U' exactly: plus and minus sqrt(8 l) along each axis."""
    half = (8 * SPECTRUM).sqrt().unsqueeze(1) * axes.mT
    return torch.cat([half, -half])


def learned(rows, *regularizers, encoder=None, epochs=200, lr=0.05, **settings):
    method = MAP(
        encoder=encoder or LinearGaussianEncoder(8, 3),
        objective=SquaredError(),
        regularizers=regularizers,
        epochs=epochs,
        lr=lr,
        **settings,
    )
    return fit(ProbabilisticPCA(8, 3), rows, method)


def gains(run, axes):
    """u' B u of every axis u, for the reconstruction B x."""
    code = run.posterior(axes.mT).mean - run.posterior(torch.zeros(8, 8, dtype=torch.float64)).mean
    return ((code @ run.model.loadings.mT) @ axes).diagonal()


def expect(run, axes, top):
    found = gains(run, axes)
    torch.testing.assert_close(found[:3], torch.as_tensor(top).double(), atol=1e-3, rtol=0)
    assert found[3:].abs().max() < 1e-3


def test_without_a_penalty_it_is_pca_and_the_decoder_is_the_pseudoinverse(rows, axes):
    """Baldi & Hornik (1989): the loss is the sum of the tail eigenvalues. W2 is pinv(W1), and not its transpose."""
    run = learned(rows, epochs=500)  # the decoder follows the encoder slowly along axes with little variance
    expect(run, axes, [1.0, 1.0, 1.0])
    assert -2 * run.history[-1].item() == pytest.approx(SPECTRUM[3:].sum().item(), rel=1e-4)
    encoder, decoder = run.posterior.encoder.weight.detach(), run.model.loadings
    torch.testing.assert_close(decoder, torch.linalg.pinv(encoder), atol=1e-3, rtol=0)
    assert (decoder - encoder.mT).norm() / decoder.norm() > 0.1
    # the noise is what the squared error leaves: tail / 8 for isotropic noise
    assert run.model.noise_variance.item() == pytest.approx(SPECTRUM[3:].sum().item() / 8, rel=1e-4)


def test_the_reconstructions_jacobian_is_ridge(rows, axes):
    found = gains(learned(rows, ContractiveReconstruction(0.25)), axes)
    assert (found[:3] - TOP / (TOP + 0.5)).abs().max() < 1e-3
    assert found[3:].abs().max() < 1e-3


def test_input_noise_is_the_same_ridge(rows, axes):
    """Real noise, 1,600 rows a step. One step's gradient has an sd of sqrt(.5 * 5 / 1600) = .04 over curvatures of
    2.5 and more, averaged over some tens of steps at the end: .003, so 2 standard errors each.
    """
    run = learned(rows.repeat(100, 1), Denoising(lambda seen: seen + 0.5**0.5 * torch.randn_like(seen)))
    found = gains(run, axes)
    torch.testing.assert_close(found[:3], TOP / (TOP + 0.5), atol=6e-3, rtol=0)
    assert found[3:].abs().max() < 6e-3


def test_the_mean_over_input_noise_is_the_ridge_exactly(rows, axes):
    run = learned(rows, Denoising(GaussianNoise(0.5**0.5)))
    expect(run, axes, TOP / (TOP + 0.5))
    # the loss beside it: sum over kept axes of l s2 / (l + s2), and the tail, halved
    least = (TOP * 0.5 / (TOP + 0.5)).sum() + SPECTRUM[3:].sum()
    assert -2 * run.history[-1].item() == pytest.approx(least.item(), rel=1e-4)


@pytest.mark.parametrize("g", [0.5, 2.5])
def test_weight_decay_is_a_soft_threshold_and_makes_the_decoder_the_transpose(rows, axes, g):
    """max(1 - g / l, 0): Kunin et al. (2019). Directions with less variance than g are cut."""
    run = learned(rows, WeightDecay(g / 2))
    expect(run, axes, (1 - g / TOP).clamp_min(0.0))
    torch.testing.assert_close(
        run.model.loadings, run.posterior.encoder.weight.detach().mT, atol=1e-3, rtol=0
    )


def test_that_is_the_posterior_mean_of_ppca(rows, axes):
    """1 - s2 / l, with s2 the mean of the tail: no autoencoder is trained here."""
    run = fit(ProbabilisticPCA(8, 3), rows)
    noise = SPECTRUM[3:].mean()
    torch.testing.assert_close(run.model.noise_variance, noise)
    torch.testing.assert_close(gains(run, axes)[:3], 1 - noise / TOP, atol=1e-6, rtol=0)
    expect(learned(rows, WeightDecay(noise.item() / 2)), axes, 1 - noise / TOP)


@pytest.mark.parametrize("penalty", [WeightDecay(0.5), ContractiveEncoder(0.5)], ids=repr)
def test_tied_weights_make_decay_and_contraction_the_same(rows, axes, penalty):
    """max(1 - c / 2l, 0) with c = 1, for c |W|^2 beside |x - W W' x|^2: the shared weight counts once."""
    found = gains(learned(rows, penalty, encoder=Tied(8, 3)), axes)
    assert (found[:3] - (1 - 1 / (2 * TOP))).abs().max() < 1e-3
    assert found[3:].abs().max() < 1e-3


def test_tied_weights_alone_become_orthonormal(rows, axes):
    run = learned(rows, encoder=Tied(8, 3))
    expect(run, axes, [1.0, 1.0, 1.0])
    gram = run.model.loadings.mT @ run.model.loadings
    torch.testing.assert_close(gram, torch.eye(3, dtype=torch.float64), atol=1e-3, rtol=0)


@pytest.mark.filterwarnings("default::probae.ConvergenceWarning")
def test_an_untied_contraction_of_the_code_is_flagged_as_degenerate(rows, axes):
    """No minimiser: W1 -> e W1, W2 -> W2 / e lowers the penalty and leaves the reconstruction, which goes to PCA."""
    with pytest.warns(ConvergenceWarning, match="no minimiser here: codes shrink while the decoder grows"):
        short = learned(rows, ContractiveEncoder(0.25), epochs=100)
    with pytest.warns(ConvergenceWarning, match="no minimiser here"):
        long = learned(rows, ContractiveEncoder(0.25), epochs=400)
    assert long.posterior.encoder.weight.norm() < 0.75 * short.posterior.encoder.weight.norm()
    assert long.model.loadings.norm() > 1.3 * short.model.loadings.norm()
    assert (gains(long, axes)[:3] - 1).abs().max() < (gains(short, axes)[:3] - 1).abs().max()
