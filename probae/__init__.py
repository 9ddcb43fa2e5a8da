"""probae: linear factor models, sparse coding and autoencoders as Pyro models, and what their axes mean.

Names are loaded on first use, so ``import probae`` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "probae.agreement": ("amari_distance", "mean_correlation"),
    "probae.analysis.active_factors": ("ActiveFactors", "active_factors"),
    "probae.analysis.alignment": ("Alignment", "align"),
    "probae.analysis.annealed": ("AnnealedImportance",),
    "probae.analysis.calibration": ("Calibration", "simulation_based_calibration"),
    "probae.analysis.collapse": ("Collapse", "collapse"),
    "probae.analysis.compare": ("Comparison", "compare"),
    "probae.analysis.cross_validation": ("CrossValidation",),
    "probae.analysis.covariance_residual": ("CovarianceResidual", "covariance_residual"),
    "probae.analysis.cubature": ("Quadrature",),
    "probae.analysis.datatree": ("to_datatree",),
    "probae.analysis.denoising_score": ("denoising_score",),
    "probae.analysis.evidence": ("log_evidence",),
    "probae.analysis.exact": ("Exact",),
    "probae.analysis.gaps": ("Gap", "Gaps", "gaps"),
    "probae.analysis.geweke": ("JointDistributionTest", "joint_distribution_test"),
    "probae.analysis.importance_weighted": ("ImportanceWeighted",),
    "probae.analysis.k_fold": ("k_fold", "k_fold_entries"),
    "probae.analysis.loo": ("loo",),
    "probae.analysis.parameter_calibration": ("parameter_calibration",),
    "probae.analysis.mixing": ("Mixing", "mixing"),
    "probae.analysis.pareto": ("pareto_k",),
    "probae.analysis.posterior_comparison": (
        "PosteriorComparison",
        "PosteriorDifference",
        "compare_posteriors",
    ),
    "probae.analysis.predictive": ("posterior_predictive_check", "prior_predictive_check"),
    "probae.analysis.predictive_density": ("log_predictive_density",),
    "probae.analysis.predictive_result": ("PredictiveCheck", "StatisticCheck"),
    "probae.analysis.rank_tables": ("ranks_to_csv", "ranks_to_datatree"),
    "probae.analysis.result": ("Evidence",),
    "probae.analysis.sandwich": ("EvidenceSandwich", "evidence_sandwich"),
    "probae.analysis.tangents": ("Tangents", "tangents"),
    "probae.codes": ("Codes", "k_sparse_codes", "orthogonal_matching_pursuit", "sparse_codes"),
    "probae.encoders": (
        "BinaryCodeEncoder",
        "BitReport",
        "ConvolutionalEncoder",
        "Encoder",
        "FlowEncoder",
        "LISTAEncoder",
        "LaplaceEncoder",
        "LinearGaussianEncoder",
        "MLPEncoder",
        "OneLayerEncoder",
        "SpikeSlabEncoder",
        "TiedEncoder",
        "mirrored",
    ),
    "probae.errors": (
        "BoundaryWarning",
        "CollinearWarning",
        "ConstantColumnWarning",
        "ConvergenceWarning",
        "DataError",
        "DivergenceWarning",
        "EnergyWarning",
        "FileError",
        "FitError",
        "GuideWarning",
        "HeywoodWarning",
        "IntegerDataWarning",
        "MissingRowWarning",
        "NotExactError",
        "ParameterError",
        "ProbaeError",
        "ProbaeWarning",
        "TreeDepthWarning",
        "UnderidentifiedWarning",
    ),
    "probae.factors.alpha": ("Alpha", "alpha"),
    "probae.factors.estimators": ("ExpectedInformation", "ObservedInformation", "Sandwich"),
    "probae.factors.number": ("NumberOfFactors", "number_of_factors"),
    "probae.factors.fit_indices": ("FitIndices", "fit_indices"),
    "probae.factors.loadings_table": ("LoadingsTable", "loadings_table"),
    "probae.factors.omega": ("Omega", "omega"),
    "probae.factors.schmid_leiman": ("SchmidLeiman", "schmid_leiman"),
    "probae.factors.scores": ("FactorScores", "bartlett_scores", "regression_scores", "ten_berge_scores"),
    "probae.factors.standard_errors": ("standard_errors",),
    "probae.factors.uncertainty": ("StandardErrors",),
    "probae.identifiability.counting": ("CountingRules", "counting_rules"),
    "probae.factors.rotated": ("rotated",),
    "probae.identifiability.likelihood_gains": ("LikelihoodGains", "likelihood_gains"),
    "probae.identifiability.likelihood_ratio": ("rotation_profile",),
    "probae.identifiability.segment_information": ("segment_information",),
    "probae.identifiability.nullity": ("fisher_nullity",),
    "probae.identifiability.report": ("Report", "Verdict", "audit"),
    "probae.inference.aligned": (
        "OrthogonalProcrustes",
        "PivotMatch",
        "SignedPermutations",
        "VarimaxPermutations",
    ),
    "probae.inference.checkpoint": ("Checkpoint",),
    "probae.inference.layers": ("GreedyLayers", "PrincipalLayers"),
    "probae.inference.pretraining": ("pretrain",),
    "probae.inference.schedule": ("Constant", "Cosine"),
    "probae.inference.stopping": ("EarlyStopping",),
    "probae.inference": (
        "ELBO",
        "EM",
        "IWAE",
        "MAP",
        "SVI",
        "ContractiveEncoder",
        "ContractiveReconstruction",
        "Denoising",
        "Amortization",
        "Fit",
        "GaussianNoise",
        "GaussianPosterior",
        "Gibbs",
        "GibbsPosterior",
        "HMCPosterior",
        "HigherOrderContraction",
        "JointDensity",
        "Masking",
        "LaplaceApproximation",
        "LassoEnergy",
        "MaximumLikelihood",
        "NUTS",
        "MinimumResiduals",
        "NearbyRow",
        "PredictiveSparseDecomposition",
        "PrincipalAxis",
        "Reconstruction",
        "Regularizer",
        "Renyi",
        "ReweightedWakeSleep",
        "SaltAndPepper",
        "SampledReconstruction",
        "RefinedPosterior",
        "SegmentedLikelihood",
        "SquaredError",
        "StochasticEM",
        "VariationalBayes",
        "VariationalEM",
        "VariationalPosterior",
        "WeightDecay",
    ),
    "probae.inference.fit": ("fit",),
    "probae.inference.saturated": ("Saturated", "saturated"),
    "probae.inference.scores": ("observed_scores",),
    "probae.io": ("load", "save"),
    "probae.matching": ("match_columns", "principal_angles", "procrustes"),
    "probae.models": (
        "Autoencoder",
        "ConfirmatoryFactorAnalysis",
        "FactorAnalysis",
        "IndependentComponents",
        "LatentModel",
        "LinearFactorModel",
        "ProbabilisticPCA",
        "SparseCoding",
    ),
    "probae.retrieval": (
        "ITQ",
        "LSA",
        "HammingIndex",
        "Hyperplanes",
        "Neighbours",
        "PackedCodes",
        "PrecisionCurve",
        "RandomHyperplanes",
        "SemanticSpace",
        "TwoStageIndex",
        "bit_report",
        "cosine_distances",
        "pack",
        "precision_at",
    ),
    "probae.rotation.result": ("Rotation",),
    "probae.rotation.search": ("rotate",),
    "probae.statistics": ("SufficientStatistics",),
}
_MODULES = ("datasets", "decoders", "likelihoods", "parameter_priors", "plots", "priors", "rotation")
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted([*_WHERE, *_MODULES])

if TYPE_CHECKING:
    from probae import datasets, decoders, likelihoods, parameter_priors, plots, priors, rotation
    from probae.agreement import amari_distance, mean_correlation
    from probae.analysis.active_factors import ActiveFactors, active_factors
    from probae.analysis.alignment import Alignment, align
    from probae.analysis.annealed import AnnealedImportance
    from probae.analysis.calibration import Calibration, simulation_based_calibration
    from probae.analysis.collapse import Collapse, collapse
    from probae.analysis.compare import Comparison, compare
    from probae.analysis.covariance_residual import CovarianceResidual, covariance_residual
    from probae.analysis.cross_validation import CrossValidation
    from probae.analysis.cubature import Quadrature
    from probae.analysis.datatree import to_datatree
    from probae.analysis.denoising_score import denoising_score
    from probae.analysis.evidence import log_evidence
    from probae.analysis.exact import Exact
    from probae.analysis.gaps import Gap, Gaps, gaps
    from probae.analysis.geweke import JointDistributionTest, joint_distribution_test
    from probae.analysis.importance_weighted import ImportanceWeighted
    from probae.analysis.k_fold import k_fold, k_fold_entries
    from probae.analysis.loo import loo
    from probae.analysis.mixing import Mixing, mixing
    from probae.analysis.parameter_calibration import parameter_calibration
    from probae.analysis.pareto import pareto_k
    from probae.analysis.posterior_comparison import (
        PosteriorComparison,
        PosteriorDifference,
        compare_posteriors,
    )
    from probae.analysis.predictive import posterior_predictive_check, prior_predictive_check
    from probae.analysis.predictive_density import log_predictive_density
    from probae.analysis.predictive_result import PredictiveCheck, StatisticCheck
    from probae.analysis.rank_tables import ranks_to_csv, ranks_to_datatree
    from probae.analysis.result import Evidence
    from probae.analysis.sandwich import EvidenceSandwich, evidence_sandwich
    from probae.analysis.tangents import Tangents, tangents
    from probae.codes import Codes, k_sparse_codes, orthogonal_matching_pursuit, sparse_codes
    from probae.encoders import (
        BinaryCodeEncoder,
        BitReport,
        ConvolutionalEncoder,
        Encoder,
        FlowEncoder,
        LaplaceEncoder,
        LinearGaussianEncoder,
        LISTAEncoder,
        MLPEncoder,
        OneLayerEncoder,
        SpikeSlabEncoder,
        TiedEncoder,
        mirrored,
    )
    from probae.errors import (
        BoundaryWarning,
        CollinearWarning,
        ConstantColumnWarning,
        ConvergenceWarning,
        DataError,
        DivergenceWarning,
        EnergyWarning,
        FileError,
        FitError,
        GuideWarning,
        HeywoodWarning,
        IntegerDataWarning,
        MissingRowWarning,
        NotExactError,
        ParameterError,
        ProbaeError,
        ProbaeWarning,
        TreeDepthWarning,
        UnderidentifiedWarning,
    )
    from probae.factors.alpha import Alpha, alpha
    from probae.factors.estimators import ExpectedInformation, ObservedInformation, Sandwich
    from probae.factors.fit_indices import FitIndices, fit_indices
    from probae.factors.loadings_table import LoadingsTable, loadings_table
    from probae.factors.number import NumberOfFactors, number_of_factors
    from probae.factors.omega import Omega, omega
    from probae.factors.rotated import rotated
    from probae.factors.schmid_leiman import SchmidLeiman, schmid_leiman
    from probae.factors.scores import FactorScores, bartlett_scores, regression_scores, ten_berge_scores
    from probae.factors.standard_errors import standard_errors
    from probae.factors.uncertainty import StandardErrors
    from probae.identifiability.counting import CountingRules, counting_rules
    from probae.identifiability.likelihood_gains import LikelihoodGains, likelihood_gains
    from probae.identifiability.likelihood_ratio import rotation_profile
    from probae.identifiability.nullity import fisher_nullity
    from probae.identifiability.report import Report, Verdict, audit
    from probae.identifiability.segment_information import segment_information
    from probae.inference import (
        ELBO,
        EM,
        IWAE,
        MAP,
        NUTS,
        SVI,
        Amortization,
        ContractiveEncoder,
        ContractiveReconstruction,
        Denoising,
        Fit,
        GaussianNoise,
        GaussianPosterior,
        Gibbs,
        GibbsPosterior,
        HigherOrderContraction,
        HMCPosterior,
        JointDensity,
        LaplaceApproximation,
        LassoEnergy,
        Masking,
        MaximumLikelihood,
        MinimumResiduals,
        NearbyRow,
        PredictiveSparseDecomposition,
        PrincipalAxis,
        Reconstruction,
        RefinedPosterior,
        Regularizer,
        Renyi,
        ReweightedWakeSleep,
        SaltAndPepper,
        SampledReconstruction,
        SegmentedLikelihood,
        SquaredError,
        StochasticEM,
        VariationalBayes,
        VariationalEM,
        VariationalPosterior,
        WeightDecay,
    )
    from probae.inference.aligned import (
        OrthogonalProcrustes,
        PivotMatch,
        SignedPermutations,
        VarimaxPermutations,
    )
    from probae.inference.checkpoint import Checkpoint
    from probae.inference.fit import fit
    from probae.inference.layers import GreedyLayers, PrincipalLayers
    from probae.inference.pretraining import pretrain
    from probae.inference.saturated import Saturated, saturated
    from probae.inference.schedule import Constant, Cosine
    from probae.inference.scores import observed_scores
    from probae.inference.stopping import EarlyStopping
    from probae.io import load, save
    from probae.matching import match_columns, principal_angles, procrustes
    from probae.models import (
        Autoencoder,
        ConfirmatoryFactorAnalysis,
        FactorAnalysis,
        IndependentComponents,
        LatentModel,
        LinearFactorModel,
        ProbabilisticPCA,
        SparseCoding,
    )
    from probae.retrieval import (
        ITQ,
        LSA,
        HammingIndex,
        Hyperplanes,
        Neighbours,
        PackedCodes,
        PrecisionCurve,
        RandomHyperplanes,
        SemanticSpace,
        TwoStageIndex,
        bit_report,
        cosine_distances,
        pack,
        precision_at,
    )
    from probae.rotation.result import Rotation
    from probae.rotation.search import rotate
    from probae.statistics import SufficientStatistics


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"probae.{name}")
    else:
        raise AttributeError(f"module 'probae' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
