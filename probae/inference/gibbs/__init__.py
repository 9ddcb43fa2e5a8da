"""Gibbs sampling of the parameters of factor analysis at a cost that does not depend on the number of rows."""

from probae.inference.gibbs.method import Gibbs

__all__ = ["Gibbs"]
