"""The registry of models: a new model is tested by one line here."""

import jaxtyping
import pytest
import torch

from probae.models import (
    ConfirmatoryFactorAnalysis,
    FactorAnalysis,
    IndependentComponents,
    LinearFactorModel,
    ProbabilisticPCA,
    SparseCoding,
)
from probae.priors import (
    CorrelatedGaussian,
    Gaussian,
    GeneralizedNormal,
    Independent,
    Laplace,
    Logistic,
    MultivariateStudentT,
    Scaled,
    SpikeSlab,
    StudentT,
    Uniform,
)

PHI = [[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]]
MODELS = {
    "fa": lambda: FactorAnalysis(6, 2),
    "fa-more-latents": lambda: FactorAnalysis(3, 5),
    "fa-one-latent": lambda: FactorAnalysis(4, 1),
    "ppca": lambda: ProbabilisticPCA(5, 3),
    "fa-correlated": lambda: LinearFactorModel(6, 3, prior=CorrelatedGaussian(PHI)),
    "ppca-correlated": lambda: LinearFactorModel(5, 3, prior=CorrelatedGaussian(PHI), noise="isotropic"),
    "correlated-noiseless": lambda: LinearFactorModel(3, 3, prior=CorrelatedGaussian(PHI), noise="none"),
    "cfa": lambda: ConfirmatoryFactorAnalysis([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1], [0, 0]]),
    "bifactor": lambda: ConfirmatoryFactorAnalysis([[1, 1, 0]] * 3 + [[1, 0, 1]] * 3, correlated=False),
    "gaussian-noiseless": lambda: LinearFactorModel(3, 3, noise="none"),
    "sparse": lambda: SparseCoding(6, 2),
    "sparse-overcomplete": lambda: SparseCoding(4, 7),
    "sparse-t": lambda: SparseCoding(5, 2, prior=StudentT(5)),
    "ica": lambda: IndependentComponents(3, 3),
    "ica-complement": lambda: IndependentComponents(5, 2),
    "ica-logistic": lambda: IndependentComponents(4, 4, prior=Logistic()),
    "noisy-ica": lambda: LinearFactorModel(5, 3, prior=Laplace()),
    "spike-slab": lambda: LinearFactorModel(4, 2, prior=SpikeSlab()),
    "generalized": lambda: LinearFactorModel(4, 2, prior=GeneralizedNormal(1.5), noise="isotropic"),
    "spherical-t": lambda: LinearFactorModel(5, 3, prior=MultivariateStudentT(5)),
    "unequal": lambda: LinearFactorModel(5, 2, prior=Independent([Laplace(), Gaussian()])),
    "scaled": lambda: LinearFactorModel(4, 2, prior=Scaled(Laplace(), 2.0)),
    "uniform": lambda: LinearFactorModel(4, 2, prior=Uniform()),
}


def randomize(model, seed=0, noise=None):
    """Give a model seeded loadings, mean and (unless given) noise variances between 0.1 and 1.1."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(model.features, model.latents, generator=generator, dtype=torch.float64)
    model.loadings = drawn * getattr(model, "pattern", 1)
    model.mean = torch.randn(model.features, generator=generator, dtype=torch.float64)
    if model.noise != "none":
        drawn = 0.1 + torch.rand(model.noise_variance.shape, generator=generator, dtype=torch.float64)
        model.noise_variance = drawn if noise is None else torch.full_like(drawn, noise)
    return model


@pytest.fixture(name="randomize")
def randomize_fixture():
    """`randomize`, for tests that build their own models."""
    return randomize


@pytest.fixture(params=MODELS)
def model(request):
    """Each model of the registry, with random parameters."""
    return randomize(MODELS[request.param]())


@pytest.fixture(
    params=[name for name, build in MODELS.items() if build().gaussian and build().noise != "none"]
)
def gaussian_model(request):
    """Each model with a closed-form Gaussian posterior."""
    return randomize(MODELS[request.param]())


@pytest.fixture(params=[name for name, build in MODELS.items() if not build().invertible])
def noisy_model(request):
    """Each model with a density of x given z."""
    return randomize(MODELS[request.param]())


@pytest.fixture(params=[name for name, build in MODELS.items() if build().noise == "none"])
def noiseless_model(request):
    """Each model without noise."""
    return randomize(MODELS[request.param]())


@pytest.fixture(params=[name for name, build in MODELS.items() if build().invertible])
def invertible_model(request):
    """Each model whose latents are a function of x."""
    return randomize(MODELS[request.param]())


@pytest.fixture
def as_installed(monkeypatch):
    """Switch the run-time type checks off: what does a user see who passes a wrong type?"""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def assert_close():
    """Compare tensors: the largest error against the largest value."""

    def compare(actual, expected, relative):
        actual, expected = torch.as_tensor(actual).detach(), torch.as_tensor(expected).detach()
        assert actual.shape == expected.shape
        assert actual.isfinite().all()
        assert (actual - expected).abs().max() <= relative * expected.abs().max()

    return compare
