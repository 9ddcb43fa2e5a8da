r"""Laws whose shapes are learnt: where they start, and the frame and shapes of noisy scores found in turn.

A frame in which factors of light tails mix is a maximum for every exponent below 2 of the generalised normal law, and a
frame in which factors of heavy tails mix for every exponent above: a learnt exponent starts on both sides of the
Gaussian, and the better likelihood is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import scipy.optimize
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.relative_newton import BOUNDS
from probae.inference.rotation_search import (
    ROWS,
    LawTable,
    RotationSearch,
    column_density,
    search_rotation,
    tabulate,
)
from probae.priors import GeneralizedNormal, Prior
from probae.priors.shape import Shape

OTHER_SIDE = (1.0, 4.0)  # exponents to start from, below and above the Gaussian's 2
ROUNDS, GAIN = 6, 1e-4  # of shapes and frames in turn, and nats per row that another round has to bring
POINTS = 256  # of the table of a shape that is tried; the likelihood of all parameters refines it
REACH = 1.5  # change of a log shape in one round


def learnt_shapes(laws: Iterable[Prior]) -> list[Shape]:
    """Return the shapes that may be learnt, each once.

    Examples
    --------
    >>> from probae.priors import Laplace, StudentT
    >>> law = StudentT(5, learn=True)
    >>> len(learnt_shapes([law, law, Laplace(), StudentT(3)]))
    1
    """
    found = (module for law in laws for module in law.modules())
    return list({id(shape): shape for shape in found if isinstance(shape, Shape) and shape.learn}.values())


def logs_of(shapes: list[Shape]) -> Float[Tensor, " learnt"]:
    """Return shapes as they are, as logarithms above their bounds."""
    return torch.tensor([float(shape.log_excess.detach()) for shape in shapes], dtype=torch.float64)


def write(shapes: list[Shape], logs: Float[Tensor, " learnt"]) -> None:
    """Give shapes these values."""
    for shape, value in zip(shapes, logs, strict=True):
        shape.log_excess.data.fill_(float(value))


def named(shapes: list[Shape], logs: Float[Tensor, " learnt"]) -> dict[str, list[float]]:
    """Return where shapes started, in their own units, for a report; nothing where none is learnt."""
    found = [shape.bound + math.exp(value) for shape, value in zip(shapes, logs.tolist(), strict=True)]
    return {"start_shapes": found} if found else {}


def start_shapes(laws: Iterable[Prior], shapes: list[Shape]) -> list[Float[Tensor, " learnt"]]:
    """Return the shapes to start from: as they are, and with learnt exponents on the other side of 2.

    Examples
    --------
    >>> laws = [GeneralizedNormal(1.5, learn=True)]
    >>> [start.exp().round(decimals=6).tolist() for start in start_shapes(laws, learnt_shapes(laws))]
    [[1.5], [4.0]]
    """
    exponents = {
        id(module.exponent)
        for law in laws
        for module in law.modules()
        if isinstance(module, GeneralizedNormal)
    }
    own = logs_of(shapes)
    other = own.clone()
    for index, shape in enumerate(shapes):
        if id(shape) in exponents:
            other[index] = math.log(OTHER_SIDE[bool(shape() < 2)])
    return [own] if torch.equal(own, other) else [own, other]


@torch.no_grad()
def search_frame_and_shapes(
    scores: Float[Tensor, "samples latents"],
    covariance: Float[Tensor, "latents latents"],
    laws: list[Prior],
    seed: int,
) -> RotationSearch:
    """Find the best frame of noisy scores, and write the best shapes into the laws, in turn from each start."""
    shapes = learnt_shapes(laws)
    if len(scores) > ROWS:
        chosen = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))
        scores = scores[chosen[:ROWS]]
    best, logs, reports = None, logs_of(shapes), []
    for start in start_shapes(laws, shapes):
        write(shapes, start)
        found = search_rotation(scores, covariance, tabulate(scores, covariance, laws), seed)
        reports += [report | named(shapes, start) for report in found.restarts]
        if shapes:
            found = _in_turn(scores, covariance, laws, shapes, found, seed)
            reports[-1]["with_shapes"] = found.contrast
        if best is None or found.contrast > best.contrast:
            best, logs = found, logs_of(shapes)
    write(shapes, logs)
    assert best is not None
    restarts = [report | {"restart": number} for number, report in enumerate(reports)]
    return RotationSearch(best.rotation, best.contrast, restarts)


def _in_turn(
    scores: Tensor,
    covariance: Tensor,
    laws: list[Prior],
    shapes: list[Shape],
    found: RotationSearch,
    seed: int,
) -> RotationSearch:
    """Choose the shapes of a frame and turn the frame, while that gains."""
    rotation, contrast = found.rotation, found.contrast
    for _ in range(ROUNDS):
        turned, noise = scores @ rotation, rotation.T @ covariance @ rotation
        for shape in shapes:
            _best_shape(shape, laws, turned, noise)
        tables = tabulate(turned, noise, laws)
        following = search_rotation(turned, noise, tables, seed, restarts=0)
        rotation = rotation @ following.rotation
        gain, contrast = following.contrast - contrast, following.contrast
        if gain < GAIN:
            break
    return RotationSearch(rotation, contrast)


def _best_shape(shape: Shape, laws: list[Prior], scores: Tensor, covariance: Tensor) -> None:
    """Give one shape the value of highest density of the scores whose laws have it."""
    columns = [j for j, law in enumerate(laws) if any(module is shape for module in law.modules())]
    own, y, noise = float(shape.log_excess), scores[:, columns], covariance[columns][:, columns]
    reach, level = float(y.abs().max()), float(noise.diagonal().mean())

    def lacking(value: float) -> float:
        shape.log_excess.data.fill_(value)
        table = LawTable.of(laws[columns[0]], reach, (level, level), POINTS)
        return -float(column_density([table] * len(columns), y, noise).mean())

    here = lacking(own)
    low, high = max(own - REACH, BOUNDS[0]), min(own + REACH, BOUNDS[1])
    answer = scipy.optimize.minimize_scalar(
        lacking, bounds=(low, high), method="bounded", options={"xatol": 0.05, "maxiter": 12}
    )
    shape.log_excess.data.fill_(float(answer.x) if answer.fun < here else own)
