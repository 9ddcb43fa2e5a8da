"""All chains of a run, moved together: scores, loadings, noise, a move along the orbit, hyperparameters, mean."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.gibbs.group_move import Moved, move_frame, scale_columns
from probae.inference.gibbs.imputation import Imputation
from probae.inference.gibbs.loadings import draw_loadings, draw_loadings_by_axes, residual_squares
from probae.inference.gibbs.mean import draw_flat_mean, draw_normal_mean
from probae.inference.gibbs.rows import Centred, Rows
from probae.inference.gibbs.scores import draw_scores, log_density, map_of, remainders
from probae.inference.gibbs.start import start_loadings, start_noise
from probae.parameter_priors import Fixed, Flat, LoadingsPrior, NoisePrior, Normal
