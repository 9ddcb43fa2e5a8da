"""Figures of a fit, with matplotlib: functions of a result and an optional Axes that return the Axes.

`audit` alone takes and returns a whole Figure: it is a page of panels.

Legends and colour bars stand beside the plot: Axes of one's own are best made with ``layout="constrained"``.
"""

from probae.plots.audit_page import audit
from probae.plots.differences import comparison
from probae.plots.eigenvalues import scree
from probae.plots.heat_map import loadings
from probae.plots.loadings_forest import forest
from probae.plots.plans import plan
from probae.plots.profiles import rotation
from probae.plots.rank_bands import calibration
from probae.plots.rank_steps import ranks
from probae.plots.replicated import predictive
from probae.plots.residual_bars import residuals
from probae.plots.scatter import scores
from probae.plots.tiles import dictionary
from probae.plots.traces import trace

__all__ = [
    "audit",
    "calibration",
    "comparison",
    "dictionary",
    "forest",
    "loadings",
    "plan",
    "predictive",
    "ranks",
    "residuals",
    "rotation",
    "scores",
    "scree",
    "trace",
]
