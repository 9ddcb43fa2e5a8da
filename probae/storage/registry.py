"""What a file may hold: a fixed table of classes, each with the arguments of its constructor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn

from probae import decoders, encoders, likelihoods, models, parameter_priors, priors
from probae.inference import (
    ELBO,
    EM,
    MAP,
    NUTS,
    SVI,
    Amortization,
    Checkpoint,
    Constant,
    Cosine,
    EarlyStopping,
    GaussianPosterior,
    Gibbs,
    GibbsPosterior,
    HMCPosterior,
    ImportancePosterior,
    LaplaceApproximation,
    LassoEnergy,
    MaximumLikelihood,
    MinimumResiduals,
    PredictiveSparseDecomposition,
    PrincipalAxis,
    RefinedPosterior,
    SegmentedLikelihood,
    StochasticEM,
    VariationalBayes,
    VariationalEM,
    VariationalPosterior,
    objectives,
    regularizers,
)
from probae.inference.base import ExactPosterior
from probae.inference.code_draws_posterior import CodeDrawsPosterior
from probae.inference.codes_posterior import CodesPosterior
from probae.inference.draws_posterior import DrawsPosterior
from probae.inference.point_encoder import PointEncoderPosterior
from probae.inference.segment_labels import Segments
from probae.inference.segment_posterior import SegmentPosterior
from probae.inference.svi import EncoderPosterior

OWNERS = (models.LatentModel, encoders.Encoder)  # their tensors are in the file: never within another object
POSTERIORS = (
    ExactPosterior,
    ImportancePosterior,
    CodeDrawsPosterior,
    CodesPosterior,
    DrawsPosterior,
    EncoderPosterior,
    GaussianPosterior,
    GibbsPosterior,
    HMCPosterior,
    PointEncoderPosterior,
    RefinedPosterior,
    SegmentPosterior,
    VariationalPosterior,
)


# every law of a parameter, but not the interfaces they are made to
PARAMETER_PRIORS = tuple(
    cls
    for cls in vars(parameter_priors).values()
    if isinstance(cls, type) and issubclass(cls, parameter_priors.ParameterPrior) and not cls.__subclasses__()
)


def _fields(*classes: type) -> dict[str, tuple[type, tuple[str, ...]]]:
    """Rows of the table for dataclasses: every field is an argument."""
    return {table_name(cls): (cls, tuple(f.name for f in dataclasses.fields(cls))) for cls in classes}


def table_name(cls: type) -> str:
    """Return the name of a class in the table: laws of x, of parameters and of z share some of theirs.

    Examples
    --------
    >>> from probae import likelihoods, priors
    >>> table_name(priors.StudentT), table_name(likelihoods.StudentT)
    ('StudentT', 'likelihoods.StudentT')
    """
    if issubclass(cls, likelihoods.Likelihood):
        return f"likelihoods.{cls.__name__}"
    if issubclass(cls, parameter_priors.ParameterPrior):
        return f"parameter_priors.{cls.__name__}"
    return cls.__name__


# class name -> the class, and the names of its constructor's arguments
REGISTRY: dict[str, tuple[type, tuple[str, ...]]] = {
    "LinearFactorModel": (models.LinearFactorModel, ("features", "latents", "prior", "noise")),
    "FactorAnalysis": (models.FactorAnalysis, ("features", "latents")),
    "ConfirmatoryFactorAnalysis": (
        models.ConfirmatoryFactorAnalysis,
        ("pattern", "correlated", "factor_names"),
    ),
    "ProbabilisticPCA": (models.ProbabilisticPCA, ("features", "latents")),
    "SparseCoding": (models.SparseCoding, ("features", "latents", "prior")),
    "IndependentComponents": (models.IndependentComponents, ("features", "latents", "prior")),
    "Autoencoder": (models.Autoencoder, ("features", "latents", "decoder", "likelihood", "prior")),
    "LinearDecoder": (decoders.LinearDecoder, ("latents", "outputs")),
    "MLPDecoder": (decoders.MLPDecoder, ("latents", "outputs", "hidden", "activation")),
    "ConvolutionalDecoder": (decoders.ConvolutionalDecoder, ("latents", "size", "channels")),
    "likelihoods.Gaussian": (likelihoods.Gaussian, ("noise",)),
    "likelihoods.StudentT": (likelihoods.StudentT, ("df", "noise", "learn")),
    "likelihoods.Bernoulli": (likelihoods.Bernoulli, ()),
    "likelihoods.Multinomial": (likelihoods.Multinomial, ()),
    "Gaussian": (priors.Gaussian, ()),
    "CorrelatedGaussian": (priors.CorrelatedGaussian, ("correlation", "learn")),
    "Laplace": (priors.Laplace, ()),
    "Logistic": (priors.Logistic, ()),
    "Uniform": (priors.Uniform, ()),
    "StudentT": (priors.StudentT, ("df", "learn")),
    "MultivariateStudentT": (priors.MultivariateStudentT, ("df", "learn")),
    "GeneralizedNormal": (priors.GeneralizedNormal, ("shape", "learn")),
    "SpikeSlab": (priors.SpikeSlab, ("probability", "spike")),
    "Independent": (priors.Independent, ("laws",)),
    "Scaled": (priors.Scaled, ("law", "sd")),
    "LinearGaussianEncoder": (encoders.LinearGaussianEncoder, ("features", "latents")),
    "MLPEncoder": (
        encoders.MLPEncoder,
        ("features", "latents", "hidden", "covariance", "rank", "residual", "normalize", "activation"),
    ),
    "LaplaceEncoder": (encoders.LaplaceEncoder, ("features", "latents", "hidden")),
    "SpikeSlabEncoder": (encoders.SpikeSlabEncoder, ("features", "latents", "hidden", "spike")),
    "TiedEncoder": (encoders.TiedEncoder, ("features", "latents", "standardize", "activation")),
    "ConvolutionalEncoder": (
        encoders.ConvolutionalEncoder,
        ("features", "latents", "channels", "covariance", "rank"),
    ),
    "FlowEncoder": (
        encoders.FlowEncoder,
        ("features", "latents", "hidden", "transforms", "bins", "width"),
    ),
    "BinaryCodeEncoder": (encoders.BinaryCodeEncoder, ("features", "latents", "hidden", "noise_std")),
    "OneLayerEncoder": (encoders.OneLayerEncoder, ("features", "latents", "activation")),
    "LISTAEncoder": (
        encoders.LISTAEncoder,
        ("features", "latents", "layers", "coupling", "solver", "least_move"),
    ),
    **_fields(
        MaximumLikelihood,
        MinimumResiduals,
        NUTS,
        PrincipalAxis,
        EM,
        MAP,
        SVI,
        ELBO,
        Checkpoint,
        Constant,
        Cosine,
        EarlyStopping,
        objectives.IWAE,
        objectives.JointDensity,
        objectives.Reconstruction,
        objectives.Renyi,
        objectives.ReweightedWakeSleep,
        objectives.SampledReconstruction,
        objectives.SquaredError,
        regularizers.ContractiveEncoder,
        regularizers.ContractiveReconstruction,
        regularizers.Denoising,
        regularizers.GaussianNoise,
        regularizers.HigherOrderContraction,
        regularizers.Masking,
        regularizers.NearbyRow,
        regularizers.SaltAndPepper,
        regularizers.WeightDecay,
        Amortization,
        LaplaceApproximation,
        LassoEnergy,
        PredictiveSparseDecomposition,
        SegmentedLikelihood,
        Segments,
        StochasticEM,
        Gibbs,
        VariationalBayes,
        VariationalEM,
        *PARAMETER_PRIORS,
        *POSTERIORS,
    ),
}

# Arguments that no attribute of the same name holds.
READERS: dict[tuple[type, str], Callable[[Any], Any]] = {
    (models.Autoencoder, "likelihood"): lambda model: model.noise_model,
    (priors.StudentT, "learn"): lambda law: law.freedom.learn,
    (models.ConfirmatoryFactorAnalysis, "pattern"): lambda model: model.pattern.int().tolist(),
    (priors.CorrelatedGaussian, "correlation"): lambda law: law.correlation.detach().tolist(),
    (priors.MultivariateStudentT, "learn"): lambda law: law.freedom.learn,
    (priors.GeneralizedNormal, "learn"): lambda law: law.exponent.learn,
    (encoders.MLPEncoder, "hidden"): lambda encoder: tuple(
        layer.out_features for layer in encoder.body.modules() if isinstance(layer, nn.Linear)
    ),
}
