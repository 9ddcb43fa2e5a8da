"""Likelihoods: modules from the output of a decoder to p(x | z)."""

from probae.likelihoods.base import Likelihood
from probae.likelihoods.bernoulli import Bernoulli
from probae.likelihoods.gaussian import Gaussian
from probae.likelihoods.multinomial import CountsGivenTotal, Multinomial
from probae.likelihoods.student_t import StudentT

__all__ = ["Bernoulli", "CountsGivenTotal", "Gaussian", "Likelihood", "Multinomial", "StudentT"]
