"""Figures of a fit, with matplotlib: each function takes a result and an optional Axes, and returns the Axes."""

from probae.plots.heat_map import loadings
from probae.plots.profiles import rotation
from probae.plots.scatter import scores
from probae.plots.tiles import dictionary

__all__ = ["dictionary", "loadings", "rotation", "scores"]
