"""Laws of the latents z: unit variance, with density, score, information, prox, noisy density and draws.

Examples
--------
>>> from probae import priors
>>> [prior.fisher_information() for prior in (priors.Gaussian(), priors.Laplace(), priors.StudentT(df=5))]
[1.0, 2.0, 1.25]
"""

from probae.priors.base import Prior
from probae.priors.correlated_gaussian import CorrelatedGaussian
from probae.priors.gaussian import Gaussian
from probae.priors.generalized_normal import GeneralizedNormal
from probae.priors.independent import Independent
from probae.priors.laplace import Laplace
from probae.priors.logistic import Logistic
from probae.priors.multivariate_student_t import MultivariateStudentT
from probae.priors.scaled import Scaled
from probae.priors.spike_slab import SpikeSlab
from probae.priors.student_t import StudentT
from probae.priors.uniform import Uniform

__all__ = [
    "CorrelatedGaussian",
    "Gaussian",
    "GeneralizedNormal",
    "Independent",
    "Laplace",
    "Logistic",
    "MultivariateStudentT",
    "Prior",
    "Scaled",
    "SpikeSlab",
    "StudentT",
    "Uniform",
]
