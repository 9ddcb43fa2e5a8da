"""Point codes: atoms of one norm beside a prior, and objectives that a method does not go with."""

import math

import pytest
import torch

from probae import (
    MAP,
    SVI,
    Autoencoder,
    ConvergenceWarning,
    JointDensity,
    LassoEnergy,
    NotExactError,
    ParameterError,
    PredictiveSparseDecomposition,
    ReweightedWakeSleep,
    WeightDecay,
    decoders,
    fit,
    priors,
)
from probae.encoders import LinearGaussianEncoder, MLPEncoder, TiedEncoder
from probae.inference import Amortization
from probae.models import FactorAnalysis, ProbabilisticPCA, SparseCoding

pytestmark = pytest.mark.filterwarnings("ignore:.*before it converged")
MODELS = {
    "linear": lambda: SparseCoding(8, 4),
    "decoder": lambda: Autoencoder(8, 4, decoders.LinearDecoder(4, 8), prior=priors.Laplace()),
}


@pytest.fixture(scope="module")
def planted():
    """1,000 rows of 4 orthogonal atoms of norm 1 with Laplace codes and noise .3."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.linalg.qr(torch.randn(8, 4, generator=generator, dtype=torch.float64)).Q
    uniform = torch.rand(1000, 4, generator=generator, dtype=torch.float64) - 0.5
    codes = -uniform.sign() * torch.log1p(-2 * uniform.abs()) / math.sqrt(2)
    noise = 0.3 * torch.randn(1000, 8, generator=generator, dtype=torch.float64)
    return atoms, codes @ atoms.mT + noise


def loadings(run):
    return getattr(run.model, "decoder", run.model).loadings


def test_beside_a_prior_codes_and_atoms_settle_at_the_planted_ones(planted):
    """Twice the epochs are the same answer: with free norms codes would shrink, and atoms grow, without end.

    Each atom is mixed with 7 other directions by errors of about 1 / sqrt N = .032, at most three times that: cosines
    above 1 - 7 * .095^2 / 2 = .968.
    """
    atoms, x = planted
    size = {"linear": 150, "longer": 300, "decoder": 150}
    found = {}
    for name, epochs in size.items():
        method = MAP(encoder=LinearGaussianEncoder(8, 4), batch=None, lr=0.05, epochs=epochs)
        run = fit(MODELS["decoder" if name == "decoder" else "linear"](), x, method)
        found[name] = (run.posterior(x).mean.abs().mean().item(), run.history[-1].item())
        norms = loadings(run).norm(dim=0)
        expected = (0.5 * x.var(0).sum() / 4).sqrt()
        torch.testing.assert_close(norms, expected.expand(4), rtol=1e-6, atol=0)
        cosines = (atoms.mT @ (loadings(run) / norms)).abs()
        assert (cosines.amax(0) > 0.968).all()
        assert sorted(cosines.argmax(0).tolist()) == [0, 1, 2, 3]
    for codes, value in found.values():  # the last steps are of length lr / 100 = 5e-4
        assert codes == pytest.approx(found["longer"][0], rel=2e-3)
        assert value == pytest.approx(found["longer"][1], abs=5e-3)


@pytest.mark.parametrize("objective", [LassoEnergy(), PredictiveSparseDecomposition(1.0)], ids=repr)
def test_energies_hold_the_atoms_too(objective, planted):
    x = planted[1][:100]
    run = fit(
        SparseCoding(8, 4), x, MAP(encoder=MLPEncoder(8, 4, hidden=(6,)), objective=objective, epochs=3)
    )
    expected = (0.5 * x.var(0).sum() / 4).sqrt()
    torch.testing.assert_close(loadings(run).norm(dim=0), expected.expand(4), rtol=1e-6, atol=0)


def test_decay_and_tied_weights_set_the_scale_by_themselves(planted):
    x = planted[1][:100]
    decay = MAP(encoder=LinearGaussianEncoder(8, 4), regularizers=(WeightDecay(0.01),), epochs=3)
    for method in (decay, MAP(encoder=TiedEncoder(8, 4), epochs=3)):
        assert loadings(fit(ProbabilisticPCA(8, 4), x, method)).norm(dim=0).std() > 1e-3


def test_a_decoder_without_atoms_is_warned_of(planted):
    model = Autoencoder(8, 4, decoders.MLPDecoder(4, 8, hidden=(5,)))
    encoder = MLPEncoder(8, 4, hidden=(5,))
    with pytest.warns(ConvergenceWarning, match="has no maximiser here"):
        fit(model, planted[1], MAP(encoder=encoder, epochs=1))


def test_objectives_and_methods_that_do_not_go_together_are_refused(planted):
    x = planted[1]
    encoder = MLPEncoder(8, 4, hidden=(5,))
    for objective in (LassoEnergy(), PredictiveSparseDecomposition()):
        methods = (MAP(encoder=encoder, objective=objective), Amortization(encoder, objective=objective))
        for model in (FactorAnalysis(8, 4), ProbabilisticPCA(8, 4), Autoencoder(8, 4)):
            for method in methods:
                with pytest.raises(NotExactError, match="the energy of Laplace codes with isotropic noise"):
                    fit(model, x, method)
    for objective in (LassoEnergy(), PredictiveSparseDecomposition(), JointDensity()):
        with pytest.raises(ParameterError, match="use MAP"):
            fit(SparseCoding(8, 4), x, SVI(encoder, objective=objective))
    with pytest.raises(ParameterError, match="a TiedEncoder shares its weights"):
        fit(FactorAnalysis(8, 4), x, SVI(TiedEncoder(8, 4), objective=ReweightedWakeSleep(3)))
