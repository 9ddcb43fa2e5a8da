"""What `import probae as pa` offers: every public name and where it is. `probae` reads this file to load names."""

from probae import (
    datasets as datasets,
    decoders as decoders,
    likelihoods as likelihoods,
    parameter_priors as parameter_priors,
    plots as plots,
    priors as priors,
    rotation as rotation,
)
from probae.agreement import (
    amari_distance as amari_distance,
    chance_level as chance_level,
    mean_correlation as mean_correlation,
    mean_cosine as mean_cosine,
    tucker_congruence as tucker_congruence,
)
from probae.analysis.active_factors import ActiveFactors as ActiveFactors, active_factors as active_factors
from probae.analysis.alignment import Alignment as Alignment, align as align
from probae.analysis.annealed import AnnealedImportance as AnnealedImportance
from probae.analysis.calibration import (
    Calibration as Calibration,
    simulation_based_calibration as simulation_based_calibration,
)
from probae.analysis.collapse import Collapse as Collapse, collapse as collapse
from probae.analysis.compare import Comparison as Comparison, compare as compare
from probae.analysis.covariance_residual import (
    CovarianceResidual as CovarianceResidual,
    covariance_residual as covariance_residual,
)
from probae.analysis.cross_validation import CrossValidation as CrossValidation
from probae.analysis.cubature import Quadrature as Quadrature
from probae.analysis.datatree import to_datatree as to_datatree
from probae.analysis.denoising_score import denoising_score as denoising_score
from probae.analysis.evidence import log_evidence as log_evidence
from probae.analysis.exact import Exact as Exact
from probae.analysis.gaps import Gap as Gap, Gaps as Gaps, gaps as gaps
from probae.analysis.geweke import (
    JointDistributionTest as JointDistributionTest,
    joint_distribution_test as joint_distribution_test,
)
from probae.analysis.importance_weighted import ImportanceWeighted as ImportanceWeighted
from probae.analysis.k_fold import k_fold as k_fold, k_fold_entries as k_fold_entries
from probae.analysis.loo import loo as loo
from probae.analysis.mixing import Mixing as Mixing, mixing as mixing
from probae.analysis.parameter_calibration import parameter_calibration as parameter_calibration
from probae.analysis.pareto import pareto_k as pareto_k
from probae.analysis.posterior_comparison import (
    PosteriorComparison as PosteriorComparison,
    PosteriorDifference as PosteriorDifference,
    compare_posteriors as compare_posteriors,
)
from probae.analysis.predictive import (
    posterior_predictive_check as posterior_predictive_check,
    prior_predictive_check as prior_predictive_check,
)
from probae.analysis.predictive_density import log_predictive_density as log_predictive_density
from probae.analysis.predictive_result import (
    PredictiveCheck as PredictiveCheck,
    StatisticCheck as StatisticCheck,
)
from probae.analysis.rank_tables import ranks_to_csv as ranks_to_csv, ranks_to_datatree as ranks_to_datatree
from probae.analysis.result import Evidence as Evidence
from probae.analysis.sandwich import (
    EvidenceSandwich as EvidenceSandwich,
    evidence_sandwich as evidence_sandwich,
)
from probae.analysis.tangents import Tangents as Tangents, tangents as tangents
from probae.codes import (
    Codes as Codes,
    k_sparse_codes as k_sparse_codes,
    orthogonal_matching_pursuit as orthogonal_matching_pursuit,
    sparse_codes as sparse_codes,
)
from probae.encoders import (
    BinaryCodeEncoder as BinaryCodeEncoder,
    BitReport as BitReport,
    ConvolutionalEncoder as ConvolutionalEncoder,
    Encoder as Encoder,
    FlowEncoder as FlowEncoder,
    LISTAEncoder as LISTAEncoder,
    LaplaceEncoder as LaplaceEncoder,
    LinearGaussianEncoder as LinearGaussianEncoder,
    MLPEncoder as MLPEncoder,
    OneLayerEncoder as OneLayerEncoder,
    SpikeSlabEncoder as SpikeSlabEncoder,
    TiedEncoder as TiedEncoder,
    mirrored as mirrored,
)
from probae.errors import (
    BoundaryWarning as BoundaryWarning,
    CollinearWarning as CollinearWarning,
    ConstantColumnWarning as ConstantColumnWarning,
    ConvergenceWarning as ConvergenceWarning,
    DataError as DataError,
    DivergenceWarning as DivergenceWarning,
    EnergyWarning as EnergyWarning,
    FileError as FileError,
    FitError as FitError,
    GuideWarning as GuideWarning,
    HeywoodWarning as HeywoodWarning,
    IntegerDataWarning as IntegerDataWarning,
    MissingRowWarning as MissingRowWarning,
    NotExactError as NotExactError,
    ParameterError as ParameterError,
    ProbaeError as ProbaeError,
    ProbaeWarning as ProbaeWarning,
    TreeDepthWarning as TreeDepthWarning,
    UnderidentifiedWarning as UnderidentifiedWarning,
)
from probae.factors.alpha import Alpha as Alpha, alpha as alpha
from probae.factors.estimators import (
    ExpectedInformation as ExpectedInformation,
    ObservedInformation as ObservedInformation,
    Sandwich as Sandwich,
)
from probae.factors.fit_indices import fit_indices as fit_indices
from probae.factors.fit_indices_table import FitIndices as FitIndices
from probae.factors.loadings_table import LoadingsTable as LoadingsTable, loadings_table as loadings_table
from probae.factors.number import number_of_factors as number_of_factors
from probae.factors.number_table import NumberOfFactors as NumberOfFactors
from probae.factors.omega import Omega as Omega, omega as omega
from probae.factors.rotated import rotated as rotated
from probae.factors.schmid_leiman import SchmidLeiman as SchmidLeiman, schmid_leiman as schmid_leiman
from probae.factors.scores import (
    FactorScores as FactorScores,
    bartlett_scores as bartlett_scores,
    regression_scores as regression_scores,
    ten_berge_scores as ten_berge_scores,
)
from probae.factors.standard_errors import standard_errors as standard_errors
from probae.factors.uncertainty import StandardErrors as StandardErrors
from probae.identifiability.axes_bootstrap import (
    AxesBootstrap as AxesBootstrap,
    axes_bootstrap as axes_bootstrap,
)
from probae.identifiability.counting import CountingRules as CountingRules, counting_rules as counting_rules
from probae.identifiability.curvature import curvature_signs as curvature_signs
from probae.identifiability.effective_information import effective_information as effective_information
from probae.identifiability.fobi import non_gaussian_directions as non_gaussian_directions
from probae.identifiability.gaussian_test import gaussian_test as gaussian_test
from probae.identifiability.group_information import GroupInformation as GroupInformation
from probae.identifiability.guide import (
    InferenceEvidence as InferenceEvidence,
    inference_evidence as inference_evidence,
)
from probae.identifiability.guide_profile import GuideProfile as GuideProfile, guide_profile as guide_profile
from probae.identifiability.hadamard import (
    GuideGap as GuideGap,
    guide_gap as guide_gap,
    hadamard_gap as hadamard_gap,
)
from probae.identifiability.held_out_rotation import held_out_rotation as held_out_rotation
from probae.identifiability.lie_algebra import gl_information as gl_information
from probae.identifiability.likelihood_gains import (
    LikelihoodGains as LikelihoodGains,
    likelihood_gains as likelihood_gains,
)
from probae.identifiability.likelihood_ratio import rotation_profile as rotation_profile
from probae.identifiability.nullity import fisher_nullity as fisher_nullity
from probae.identifiability.planner import (
    AnglePlan as AnglePlan,
    noise_for_angle as noise_for_angle,
    plan_angles as plan_angles,
)
from probae.identifiability.principal_frame import (
    PrincipalFrame as PrincipalFrame,
    principal_frame as principal_frame,
)
from probae.identifiability.prior_orbit import PriorOrbit as PriorOrbit, prior_orbit as prior_orbit
from probae.identifiability.push_forward import CarriedGuide as CarriedGuide, carried_guide as carried_guide
from probae.identifiability.rank_test import RankTest as RankTest, rank_test as rank_test
from probae.identifiability.report import Report as Report, Verdict as Verdict, audit as audit
from probae.identifiability.restarts import (
    RestartLadder as RestartLadder,
    refits as refits,
    restart_ladder as restart_ladder,
)
from probae.identifiability.robust_directions import robust_directions as robust_directions
from probae.identifiability.segment_information import segment_information as segment_information
from probae.identifiability.simple_structure import (
    SimpleStructure as SimpleStructure,
    simple_structure as simple_structure,
)
from probae.identifiability.split_likelihood import split_likelihood as split_likelihood
from probae.inference import (
    Amortization as Amortization,
    ContractiveEncoder as ContractiveEncoder,
    ContractiveReconstruction as ContractiveReconstruction,
    Denoising as Denoising,
    ELBO as ELBO,
    EM as EM,
    Fit as Fit,
    GaussianNoise as GaussianNoise,
    GaussianPosterior as GaussianPosterior,
    Gibbs as Gibbs,
    GibbsPosterior as GibbsPosterior,
    HMCPosterior as HMCPosterior,
    HigherOrderContraction as HigherOrderContraction,
    IWAE as IWAE,
    JointDensity as JointDensity,
    LaplaceApproximation as LaplaceApproximation,
    LassoEnergy as LassoEnergy,
    MAP as MAP,
    Masking as Masking,
    MaximumLikelihood as MaximumLikelihood,
    MinimumResiduals as MinimumResiduals,
    NUTS as NUTS,
    NearbyRow as NearbyRow,
    PredictiveSparseDecomposition as PredictiveSparseDecomposition,
    PrincipalAxis as PrincipalAxis,
    Reconstruction as Reconstruction,
    RefinedPosterior as RefinedPosterior,
    Regularizer as Regularizer,
    Renyi as Renyi,
    ReweightedWakeSleep as ReweightedWakeSleep,
    SVI as SVI,
    SaltAndPepper as SaltAndPepper,
    SampledReconstruction as SampledReconstruction,
    SegmentedLikelihood as SegmentedLikelihood,
    SquaredError as SquaredError,
    StochasticEM as StochasticEM,
    VariationalBayes as VariationalBayes,
    VariationalEM as VariationalEM,
    VariationalPosterior as VariationalPosterior,
    WeightDecay as WeightDecay,
)
from probae.inference.aligned import (
    OrthogonalProcrustes as OrthogonalProcrustes,
    PivotMatch as PivotMatch,
    SignedPermutations as SignedPermutations,
    VarimaxPermutations as VarimaxPermutations,
)
from probae.inference.checkpoint import Checkpoint as Checkpoint
from probae.inference.fit import fit as fit
from probae.inference.layers import GreedyLayers as GreedyLayers, PrincipalLayers as PrincipalLayers
from probae.inference.pretraining import pretrain as pretrain
from probae.inference.saturated import Saturated as Saturated, saturated as saturated
from probae.inference.schedule import Constant as Constant, Cosine as Cosine
from probae.inference.scores import observed_scores as observed_scores
from probae.inference.stopping import EarlyStopping as EarlyStopping
from probae.io import load as load, save as save
from probae.matching import (
    match_columns as match_columns,
    plane_angles as plane_angles,
    principal_angles as principal_angles,
    procrustes as procrustes,
    rotation_angle as rotation_angle,
)
from probae.models import (
    Autoencoder as Autoencoder,
    ConfirmatoryFactorAnalysis as ConfirmatoryFactorAnalysis,
    FactorAnalysis as FactorAnalysis,
    IndependentComponents as IndependentComponents,
    LatentModel as LatentModel,
    LinearFactorModel as LinearFactorModel,
    ProbabilisticPCA as ProbabilisticPCA,
    SparseCoding as SparseCoding,
)
from probae.retrieval import (
    HammingIndex as HammingIndex,
    Hyperplanes as Hyperplanes,
    ITQ as ITQ,
    LSA as LSA,
    Neighbours as Neighbours,
    PackedCodes as PackedCodes,
    PrecisionCurve as PrecisionCurve,
    RandomHyperplanes as RandomHyperplanes,
    SemanticSpace as SemanticSpace,
    TwoStageIndex as TwoStageIndex,
    bit_report as bit_report,
    cosine_distances as cosine_distances,
    pack as pack,
    precision_at as precision_at,
)
from probae.rotation.result import Rotation as Rotation
from probae.rotation.search import rotate as rotate
from probae.statistics import SufficientStatistics as SufficientStatistics
from probae.tucker import Congruence as Congruence, congruence as congruence

__version__: str
__all__: list[str]
