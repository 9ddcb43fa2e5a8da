r"""Maximum likelihood of noise-free independent components.

On whitened rows y the unmixing B maximises  mean_n sum_j log p_j((B y_n)_j) + log |det B|, with gradient
-E[psi(s) y'] + B^{-T} for s = B y (Pham & Garat, 1997, eq. 5).
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from probae.checks import ConvergenceWarning, Data, DataError, NotExactError
from probae.inference.base import ExactPosterior, Loop, Outcome
from probae.inference.rotation_search import search_rotation, tabulate
from probae.models import LinearFactorModel
from probae.models.base import local_parameters
from probae.priors import Prior, Uniform

MAX_STEPS = 500
UNIT = 0.01  # of the optimiser's variables: its first step has length one, which must not reach a singular matrix


@local_parameters
def fit_noise_free(model: LinearFactorModel, data: Data, seed: int) -> Outcome:
    """Whiten, find the frame by plane rotations from several starts, and refine the unmixing matrix."""
    x = data.values
    laws = model.prior.coordinates(model.latents)
    if laws is None:
        raise NotExactError(
            f"{model.prior!r} sources are not independent: no unmixing matrix is defined without noise."
        )
    if any(isinstance(law, Uniform) for law in laws):
        raise NotExactError(
            "Uniform sources have bounded support: without noise a row outside it has no likelihood."
        )
    mean = x.mean(0)
    eigenvalues, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    if eigenvalues[0] <= 1e-12 * eigenvalues[-1]:
        raise DataError(
            'The covariance of x is singular: with noise="none" first drop collinear columns or add rows.'
        )
    whitener = (vectors / eigenvalues.sqrt()) @ vectors.T
    white = (x - mean) @ whitener
    nothing = torch.zeros_like(whitener)
    search = search_rotation(white, nothing, tabulate(white, nothing, laws), seed)
    unmixing, history, converged, interrupted = _refine(white, search.rotation.T.clone(), laws)
    loadings = torch.linalg.inv(unmixing @ whitener)
    sign = torch.sign(loadings.gather(0, loadings.abs().argmax(0, keepdim=True)))
    model.loadings, model.mean = loadings * sign, mean
    log_det = -0.5 * float(eigenvalues.log().sum())
    if not converged and not interrupted:
        warnings.warn(
            f"ICA stopped after {MAX_STEPS} steps before its gradient vanished.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Outcome(
        ExactPosterior(model),
        [value + log_det for value in history],
        converged,
        interrupted,
        restarts=search.restarts,
    )


def _refine(white: Tensor, unmixing: Tensor, laws: list[Prior]) -> tuple[Tensor, list[float], bool, bool]:
    """Run L-BFGS on the unmixing matrix; return it with the likelihood of the whitened rows at each step."""
    shape = unmixing.shape
    best = unmixing.flatten().numpy() / UNIT
    history: list[float] = []

    def objective(vector: np.ndarray) -> tuple[float, np.ndarray]:
        matrix = torch.from_numpy(UNIT * vector).view(shape)
        sources = white @ matrix.T
        columns = list(zip(laws, sources.unbind(1), strict=True))
        value = sum(float(law.log_prob(s).mean()) for law, s in columns)
        score = torch.stack([law.score(s) for law, s in columns], 1)
        sign, log_det = torch.linalg.slogdet(matrix)
        if sign == 0:
            return math.inf, np.zeros_like(vector)
        gradient = torch.linalg.inv(matrix).T - score.T @ white / len(white)
        return -(value + float(log_det)), -UNIT * gradient.flatten().numpy()

    converged = False
    with Loop("ICA") as loop:
        ticks = loop.steps(MAX_STEPS)

        def record(intermediate_result: scipy.optimize.OptimizeResult) -> None:
            nonlocal best
            best = intermediate_result.x.copy()
            history.append(-float(intermediate_result.fun))
            next(ticks, None)

        answer = scipy.optimize.minimize(
            objective,
            best,
            jac=True,
            method="L-BFGS-B",
            callback=record,
            options={"maxiter": MAX_STEPS, "ftol": 1e-10, "gtol": 1e-8},
        )
        best, converged = answer.x, bool(answer.success)
        history.append(-float(answer.fun))
    return torch.from_numpy(UNIT * best).view(shape), history, converged, loop.interrupted
