"""Fits with an encoder in other units of x: the same answer put back, or one sentence that says what to do."""

import math
import warnings

import pytest
import torch

from probae import (
    MAP,
    SVI,
    Autoencoder,
    ContractiveReconstruction,
    ConvergenceWarning,
    Denoising,
    GaussianNoise,
    IntegerDataWarning,
    LassoEnergy,
    PredictiveSparseDecomposition,
    Reconstruction,
    SquaredError,
    WeightDecay,
    decoders,
    fit,
    likelihoods,
    load,
    save,
)
from probae.encoders import (
    Encoder,
    LinearGaussianEncoder,
    LISTAEncoder,
    MLPEncoder,
    OneLayerEncoder,
    TiedEncoder,
)
from probae.encoders.laws import DiagonalCode
from probae.inference import Cosine, JointDensity
from probae.models import FactorAnalysis, ProbabilisticPCA, SparseCoding
from probae.models.base import LatentModel

SCALES = [1e-8, 1e8, 1e140]

MODELS = {
    "fa": lambda: FactorAnalysis(4, 2),
    "ppca": lambda: ProbabilisticPCA(4, 2),
    "autoencoder": lambda: Autoencoder(4, 2, decoder=decoders.MLPDecoder(2, 4, hidden=(5,))),
    "robust autoencoder": lambda: Autoencoder(
        4, 2, decoders.LinearDecoder(2, 4), likelihoods.StudentT(5.0, noise="diagonal")
    ),
}
METHODS = {
    "density": lambda encoder, **more: MAP(encoder=encoder, objective=JointDensity(), **more),
    "reconstruction": lambda encoder, **more: MAP(encoder=encoder, objective=Reconstruction(), **more),
    "squared error": lambda encoder, **more: MAP(encoder=encoder, objective=SquaredError(), **more),
    "SVI": SVI,
}
ENCODERS = {
    "linear": lambda: LinearGaussianEncoder(4, 2),
    "network": lambda: MLPEncoder(4, 2, hidden=(5,)),
    "one layer": lambda: OneLayerEncoder(4, 2, "tanh"),
}


def trained(rows, model, method, encoder, **more):
    """A fit of 8 epochs, the warnings it gave but for the one on its length, and its reconstruction of the rows."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = fit(MODELS[model](), rows, METHODS[method](encoder, epochs=8, batch=20, **more), seed=1)
    known = ("before it converged", "has no maximiser here")  # the latter of a density beside a network
    said = [str(one.message) for one in caught if not any(part in str(one.message) for part in known)]
    with torch.no_grad():
        return run, said, run.model.likelihood(run.posterior(rows).mean).mean


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore::probae.GuideWarning")
def test_the_fit_is_the_same_in_any_unit(model, method, encoder, rows):
    """It takes the same steps: rounding alone differs, 1e-16 of numbers up to 30 over 24 steps."""
    one, _, rebuilt = trained(rows, model, method, ENCODERS[encoder]())
    for scale in SCALES:
        other, _, again = trained(rows * scale, model, method, ENCODERS[encoder]())
        torch.testing.assert_close(again / scale, rebuilt, rtol=0, atol=1e-10)
        if method == "squared error":
            torch.testing.assert_close(other.history / scale / scale, one.history, rtol=1e-9, atol=0)
        else:
            shifted = one.history - 4 * math.log(scale)
            torch.testing.assert_close(other.history, shifted, rtol=0, atol=1e-9 * 4 * abs(math.log(scale)))


def test_each_column_of_a_density_has_its_own_unit(rows):
    """Diagonal noise: columns between 1e-6 and 1e6 give the same codes, and the history shifts by their logs."""
    units = torch.tensor([1e6, 1.0, 1e-6, 1e2], dtype=torch.float64)
    for model in ("fa", "robust autoencoder"):
        one, _, rebuilt = trained(rows, model, "density", LinearGaussianEncoder(4, 2))
        other, _, again = trained(rows * units, model, "density", LinearGaussianEncoder(4, 2))
        torch.testing.assert_close(again / units, rebuilt, rtol=0, atol=1e-9)
        torch.testing.assert_close(other.history, one.history - units.log().sum(), rtol=0, atol=1e-9)


def test_a_squared_error_keeps_the_sizes_of_columns(rows):
    """It weighs columns by their variance: a column a thousand times as large is the one that is fitted."""
    x = rows * torch.tensor([1e3, 1.0, 1.0, 1.0], dtype=torch.float64)
    method = MAP(encoder=LinearGaussianEncoder(4, 1), objective=SquaredError(), epochs=300, lr=0.05)
    run = fit(FactorAnalysis(4, 1), x, method)
    direction = run.model.loadings[:, 0] / run.model.loadings.norm()
    axes = torch.linalg.eigh(torch.cov(x.mT, correction=0)).eigenvectors
    assert abs(direction @ axes[:, -1]) > math.cos(1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "regularizer",
    [
        lambda s: Denoising(GaussianNoise(0.3 * s)),
        lambda s: WeightDecay(0.01),
        lambda s: ContractiveReconstruction(0.1),
    ],
    ids=["noise", "decay", "contraction"],
)
def test_an_autoencoder_that_standardises_by_itself_takes_regularisers_in_any_unit(method, regularizer, rows):
    """Weights of its networks have no units; the noise is given in those of x, a penalty in those of the objective.

    So 0.01 of the squared weights is 0.01 s^2 beside a squared error in units s.
    """
    _, said, rebuilt = trained(
        rows, "autoencoder", method, MLPEncoder(4, 2, hidden=(5,)), regularizers=(regularizer(1.0),)
    )
    assert said == []
    for scale in SCALES:
        own = regularizer(scale)
        if method == "squared error" and not isinstance(own, Denoising):
            own = type(own)(own.weight * scale**2)
        _, said, again = trained(
            rows * scale, "autoencoder", method, MLPEncoder(4, 2, hidden=(5,)), regularizers=(own,)
        )
        assert said == []
        # Adam adds 1e-8 to the size of a gradient, which is in other units where the objective is an energy
        torch.testing.assert_close(again / scale, rebuilt, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("model", "encoder"), [("ppca", "network"), ("fa", "linear"), ("autoencoder", "linear")]
)
def test_weights_in_the_units_of_x_with_regularisers_are_warned_of(model, encoder, method, scale, rows):
    noisy = Denoising(GaussianNoise(0.3 * scale))
    run, said, _ = trained(rows * scale, model, method, ENCODERS[encoder](), regularizers=(noisy,))
    assert sum("standardise x, or the answer will be of no use" in one for one in said) == 1
    assert all(
        value.isfinite().all() for value in (*run.model.parameters(), *run.posterior.encoder.parameters())
    )
    _, said, _ = trained(
        rows, model, method, ENCODERS[encoder](), regularizers=(Denoising(GaussianNoise(0.3)),)
    )
    assert said == []


def test_one_tiny_column_beside_others_is_no_matter_where_the_noise_is_common(rows):
    x = rows * torch.tensor([1.0, 1.0, 1.0, 1e-5], dtype=torch.float64)
    for model, expected in (("ppca", 0), ("fa", 1)):
        _, said, _ = trained(
            x, model, "density", LinearGaussianEncoder(4, 2), regularizers=(WeightDecay(0.1),)
        )
        assert sum("standardise x" in one for one in said) == expected


def test_a_model_without_units_is_left_alone(rows):
    """Probabilities have no unit: an autoencoder of 0s and 1s is trained on them as they are, and not warned of."""
    x = (rows > rows.mean(0)).double()
    model = Autoencoder(4, 2, likelihood=likelihoods.Bernoulli())
    assert model.units is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", IntegerDataWarning)
        fit(model, x, MAP(encoder=LinearGaussianEncoder(4, 2), epochs=2, regularizers=(WeightDecay(0.1),)))


class Fixed(Encoder):
    """An encoder that cannot be put into other units."""

    def __init__(self, features, latents):
        super().__init__(features, latents)
        self.weight = torch.nn.Parameter(torch.zeros(latents, features))

    def start(self, x, generator):
        pass

    def forward(self, x):
        return DiagonalCode(x @ self.weight.mT, torch.ones(len(x), self.latents, dtype=x.dtype))


def test_an_encoder_that_cannot_be_rescaled_is_trained_on_x_as_it_is(rows):
    for method in (MAP(encoder=Fixed(4, 2), epochs=2), SVI(Fixed(4, 2), epochs=2)):
        assert not method.unit_free
        with pytest.warns(ConvergenceWarning, match="an encoder that cannot be rescaled"):
            fit(FactorAnalysis(4, 2), rows * 1e8, method)


def test_an_objective_of_the_users_is_trained_on_x_as_it_is():
    class Own(JointDensity):
        pass

    assert MAP(encoder=LinearGaussianEncoder(4, 2), objective=Own()).unit_free  # a density like its parent
    own = Own.__call__
    own.__dict__["name"] = "mine"
    assert not MAP(encoder=LinearGaussianEncoder(4, 2), objective=own).unit_free
    assert not SVI(LinearGaussianEncoder(4, 2), objective=own).unit_free


@pytest.mark.parametrize(
    "method", [SVI, lambda encoder, **more: MAP(encoder=encoder, **more)], ids=["SVI", "MAP"]
)
def test_the_history_of_a_squared_error_is_that_of_x_on_unequal_columns(method, rows):
    """The last value is that before the last step, of length lr / 100: below 1e-3 of it after 300 steps."""
    x = rows * torch.tensor([100.0, 1.0, 1.0, 30.0], dtype=torch.float64)
    run = fit(
        FactorAnalysis(4, 2), x, method(LinearGaussianEncoder(4, 2), objective=SquaredError(), epochs=300)
    )
    left = (x - run.model.likelihood(run.posterior(x).mean).mean).square()
    assert run.history[-1].item() == pytest.approx(-0.5 * left.sum(1).mean().item(), rel=1e-3)
    torch.testing.assert_close(run.model.noise_variance, left.mean(0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("objective", [LassoEnergy(), PredictiveSparseDecomposition(0.5)], ids=repr)
def test_energies_of_sparse_codes_are_in_squared_units(objective, rows):
    """gamma too, which is why the method changes it with the units."""

    def run(scale):
        own = PredictiveSparseDecomposition(0.5 * scale**2) if hasattr(objective, "gamma") else objective
        method = MAP(encoder=LISTAEncoder(4, 5, layers=2), epochs=4, batch=20, objective=own)
        return fit(SparseCoding(4, 5), rows * scale, method)

    one = run(1.0)
    for scale in (1e-8, 1e140):
        other = run(scale)
        torch.testing.assert_close(other.history / scale / scale, one.history, rtol=1e-6, atol=0)
        assert other.method.objective == (
            PredictiveSparseDecomposition(0.5 * scale**2) if hasattr(objective, "gamma") else objective
        )


def test_a_rescaled_autoencoder_is_the_change_of_variables():
    """log p(u x) = log p(x) - sum log u at the same z, whichever way it is put."""
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for name, units in (("autoencoder", [3.0] * 4), ("robust autoencoder", [3.0, 0.1, 1.0, 50.0])):
        model, units = MODELS[name](), torch.tensor(units, dtype=torch.float64)
        before = model.log_joint(x, z)
        model.rescale(units)
        torch.testing.assert_close(
            model.log_joint(x * units, z), before - units.log().sum(), rtol=1e-12, atol=1e-12
        )
    with pytest.raises(NotImplementedError):
        LatentModel(4, 2, FactorAnalysis(4, 2).prior).rescale(units)


def test_a_tied_decoder_follows_and_is_saved(rows, tmp_path):
    run, _, rebuilt = trained(
        rows * 1e8, "robust autoencoder", "squared error", TiedEncoder(4, 2), schedule=Cosine(final=1e-3)
    )
    save(run, tmp_path / "run")
    again = load(tmp_path / "run")
    with torch.no_grad():
        assert torch.equal(again.model.likelihood(again.posterior(rows * 1e8).mean).mean, rebuilt)
    assert again.method.schedule == Cosine(final=1e-3)
