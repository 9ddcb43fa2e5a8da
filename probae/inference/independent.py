r"""Maximum likelihood of independent components: the reduction to white rows, the starts, and the stages.

With K = D and no noise, x = mean + W z has the likelihood sum_j log p_j((W^{-1}(x - mean))_j) - log |det W|. On white
rows y = Q (x - mean) it is that of the unmixing B = (Q W)^{-1} plus log |det Q| (`probae.inference.unmixing`), and
`probae.inference.relative_newton` climbs it. The mean is the sample mean.

With K < D and noise in the complement of the loadings alone, x = mean + W z + U e, U'W = 0, e ~ N(0, sigma^2 I),

.. math:: \log p(x) = \log p_z(W^+ (x - \mu)) - \tfrac12 \log |W'W|
          - \tfrac{D - K}2 \log 2\pi\sigma^2 - \frac{\|(I - WW^+)(x - \mu)\|^2}{2\sigma^2}.

For a basis V of the span of W, with S the covariance of x, sigma^2 = tr(S - VV'S)/(D - K) maximises it, and the white
rows (V'SV)^{-1/2} V'(x - mean) carry the rest:

.. math:: \frac{\ell}{N} = \max_B \ell_{\text{white}}(B) - \tfrac12 \log|V'SV| - \tfrac{D - K}2 (1 + \log 2\pi\sigma^2).

The last two terms are what principal components maximise among the spans whose directions all vary by more than
sigma^2 (Tipping & Bishop, 1999, appendix A). The first depends on the span only through how far from normal the rows
are in it: the principal span is its exact maximum for normal z, and for other laws that of the second moments alone,
consistent when sigma^2 is below the variance of every kept direction. A source of Fisher information kappa along a
direction of variance r sigma^2 leaves the exact maximum the information r - 2 + kappa / r on an angle towards the
complement, and the principal span r - 2 + 1 / r: 99 % of it for Laplace sources at r = 10, 90 % at 4, half at 2.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from probae.checks import Data, DataError, HeywoodWarning, NotExactError, ProbaeWarning, warn
from probae.inference.base import ExactPosterior, Loop, Outcome, few_threads
from probae.inference.learnt_shapes import named, start_shapes
from probae.inference.relative_newton import BOUNDS, ascend, slope_inside
from probae.inference.source_laws import has_kink
from probae.inference.unmixing import Point, UnmixingLikelihood
from probae.linalg import haar_rotation
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.priors import Prior, Uniform

TOL = 1e-7  # largest entry of the relative gradient that counts as none
LOOSE = 1e-3  # the same while rows are few or a kink is wide
MAX_STEPS = 1000
ROWS = 5000  # rows that judge the starts, or ROWS_PER_SOURCE for each source where that is more
ROWS_PER_SOURCE = 100
WIDE, NARROWER = 0.25, 0.25  # width of a kink at first, and its factor from stage to stage
SMALLEST = 1e-14  # noise in the complement, relative to the mean variance, that float64 still tells from none
FRAMES = (5, 2)  # starts with few sources or several laws, and with many of one law
FEW = 8
SWAPS = 5  # times that sources may be dealt to other laws
SPREAD = 0.2  # log-scales that a source is tried with under another law


@local_parameters
def fit_noise_free(model: LinearFactorModel, data: Data, seed: int, starts: int | None = None) -> Outcome:
    """Whiten, find the best of several frames on a part of the rows, and climb the likelihood of all."""
    laws = _laws_of(model)
    reduced = reduce_rows(data.values, model.latents)
    first = {id(law): j for j, law in reversed(list(enumerate(laws)))}
    order = sorted(range(len(laws)), key=lambda j: first[id(laws[j])])  # equal laws side by side
    climb = Climb([laws[j] for j in order], seed, starts)
    with Loop("ICA") as loop, few_threads(reduced.white.numel()):
        ticks = loop.steps(MAX_STEPS)
        for value in climb.run(reduced.white):
            loop.value = value
            next(ticks, None)
    climb.warn_of_ends()
    unmixing = climb.unmixing(model.latents)[torch.argsort(torch.tensor(order))]
    loadings = reduced.mixing @ torch.linalg.inv(unmixing)
    sign = torch.sign(loadings.gather(0, loadings.abs().argmax(0, keepdim=True)))
    model.loadings, model.mean = loadings * sign, reduced.mean
    if model.noise != "none":
        model.noise_variance = torch.tensor(reduced.noise, dtype=torch.float64)
    return Outcome(
        ExactPosterior(model),
        [value + reduced.rest for value in climb.history],
        climb.converged and not loop.interrupted,
        loop.interrupted,
        restarts=climb.restarts,
    )


def _laws_of(model: LinearFactorModel) -> list[Prior]:
    """Return the law of each source, equal ones as one object, or say why there is no unmixing."""
    laws = model.prior.coordinates(model.latents)
    if laws is None:
        raise NotExactError(
            f"{model.prior!r} sources are not independent: no unmixing matrix is defined without noise."
        )
    if any(isinstance(law, Uniform) for law in laws):
        raise NotExactError(
            "Uniform sources have bounded support: without noise a row outside it has no likelihood."
        )
    known: dict[Any, Prior] = {}
    for law in laws:
        known.setdefault(_key(law), law)
    return [known[_key(law)] for law in laws]


def _key(law: Prior) -> tuple[Any, ...]:
    """Return what tells laws apart: their kind and numbers, and which object holds a learnt shape."""
    return (repr(law), *map(id, law.parameters()), *(tuple(b.flatten().tolist()) for b in law.buffers()))


@dataclass(frozen=True, eq=False)
class Reduced:
    """White rows (N, K), the map from them back to x, and the part of the log-likelihood per row that is settled."""

    white: Float[Tensor, "samples k"]
    mixing: Float[Tensor, "features k"]
    mean: Float[Tensor, " features"]
    noise: float
    rest: float


def reduce_rows(x: Float[Tensor, "samples features"], latents: int) -> Reduced:
    """Whiten the rows, in their principal subspace where there are fewer sources than columns.

    Raises
    ------
    DataError
        If the covariance has fewer directions than there are sources.
    """
    mean = x.mean(0)
    centred = x - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    features = len(values)
    kept, basis = values[features - latents :], vectors[:, features - latents :]
    if kept[0] <= 1e-12 * kept[-1]:
        raise DataError(
            f"The covariance of x is singular: {latents} sources without noise need {latents} directions that vary, so "
            "drop collinear columns, add rows, or fit fewer sources."
        )
    if latents == features:
        root = (vectors * values.sqrt()) @ vectors.T
        whitener = (vectors / values.sqrt()) @ vectors.T
        return Reduced(centred @ whitener, root, mean, 0.0, -0.5 * float(values.log().sum()))
    noise, floor = float(values[: features - latents].mean()), SMALLEST * float(values.mean())
    if noise < floor:
        warnings.warn(
            f"The data lie in {latents} dimensions to the last digit: noise_variance was held at {floor:.3g}.",
            HeywoodWarning,
            stacklevel=3,
        )
    held = max(noise, floor)
    energy = math.log(2 * math.pi * held) + max(noise, 0.0) / held
    rest = -0.5 * float(kept.log().sum()) - 0.5 * (features - latents) * energy
    return Reduced(centred @ (basis / kept.sqrt()), basis * kept.sqrt(), mean, held, rest)


@dataclass(eq=False)
class Climb:
    """The way up: starts on a part of the rows, then all rows, kinks rounded less and less."""

    laws: list[Prior]
    seed: int
    starts: int | None
    point: Point | None = None
    history: list[float] = field(default_factory=list)
    restarts: list[dict[str, Any]] = field(default_factory=list)
    converged: bool = False

    def unmixing(self, latents: int) -> Float[Tensor, "k k"]:
        """Return the unmixing matrix so far."""
        return torch.eye(latents, dtype=torch.float64) if self.point is None else self.point.unmixing

    def run(self, white: Float[Tensor, "samples k"]) -> Iterator[float]:
        """Climb, and yield the log-likelihood per row of each step."""
        widths = self.widths(len(white))
        yield from self.best_start(white, widths[0])
        assert self.point is not None
        likelihood = UnmixingLikelihood(white, self.laws)
        for width in widths:
            last = width == widths[-1]
            self.point = likelihood.evaluate(self.point.unmixing, self.point.shapes, width)
            self.history = [self.point.value]
            for point in ascend(likelihood, self.point, width, TOL if last else LOOSE, MAX_STEPS):
                self.point = point
                self.history.append(point.value)
                yield point.value
        self.converged = slope_inside(self.point) < TOL
        if widths[-1] > 0:
            exact = likelihood.evaluate(self.point.unmixing, self.point.shapes, 0.0)
            self.history.append(exact.value)

    def warn_of_ends(self) -> None:
        """Warn of learnt shapes that ended at the end of their range."""
        shapes = torch.zeros(0) if self.point is None else self.point.shapes
        if bool(((shapes <= BOUNDS[0]) | (shapes >= BOUNDS[1])).any()):
            warn(
                f"A learnt shape ended at the end of its range, {math.exp(BOUNDS[0]):.2g} to {math.exp(BOUNDS[1]):.2g} "
                "above its lower bound: the data ask for a law outside this family, so the likelihood has no maximum.",
                ProbaeWarning,
            )

    def widths(self, samples: int) -> list[float]:
        """Return the widths of a rounded kink, from wide to the last, the standard error of one coordinate."""
        if not any(has_kink(law) for law in self.laws):
            return [0.0]
        widths = [WIDE]
        while widths[-1] * NARROWER > samples**-0.5:
            widths.append(widths[-1] * NARROWER)
        return [*widths, samples**-0.5]

    def best_start(self, white: Float[Tensor, "samples k"], width: float) -> Iterator[float]:
        """Climb from the white axes and from random frames, each on the same part of the rows; keep the best.

        Learnt exponents start on both sides of the Gaussian: see `probae.inference.learnt_shapes`.
        """
        latents = white.shape[1]
        generator = torch.Generator().manual_seed(self.seed)
        size = max(ROWS, ROWS_PER_SOURCE * latents)
        part = white
        if len(white) > 2 * size:
            part = white[torch.randperm(len(white), generator=generator)[:size]]
        likelihood = UnmixingLikelihood(part, self.laws)
        sides = start_shapes(self.laws, likelihood.learnt)
        easy = latents > FEW and len(likelihood.groups) == 1
        count = self.starts or (1 if latents == 1 else FRAMES[easy])
        frames = [torch.eye(latents, dtype=torch.float64)]
        frames += [haar_rotation(latents, generator) for _ in range(count - 1)]
        for frame, shapes in itertools.product(frames, sides):
            start = point = likelihood.evaluate(frame, shapes, width)
            for point in self.climb_start(likelihood, start, width):
                yield point.value
            self.restarts.append(
                {"restart": len(self.restarts), "contrast": point.value} | named(likelihood.learnt, shapes)
            )
            if self.point is None or point.value > self.point.value:
                self.point = point

    def climb_start(self, likelihood: UnmixingLikelihood, point: Point, width: float) -> Iterator[Point]:
        """Climb from one frame, and deal the sources to the laws anew while that gains."""
        for _ in range(SWAPS):
            start = point
            for point in ascend(likelihood, start, width, LOOSE, MAX_STEPS):
                yield point
            if len(likelihood.groups) == 1:
                return
            dealt, scale = deal(likelihood.white @ point.unmixing.T, self.laws)
            swapped = likelihood.evaluate(scale[:, None] * point.unmixing[dealt], point.shapes, width)
            if swapped.value <= point.value + 1e-9:
                likelihood.set_shapes(point.shapes)
                return
            point = swapped


def deal(
    sources: Float[Tensor, "samples k"], laws: list[Prior]
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Return which source each law should have, for the largest sum of mean log densities, and its best scale."""
    scales = torch.linspace(-SPREAD, SPREAD, 7, dtype=torch.float64).exp()
    gains = {}
    with torch.no_grad():
        for law in {id(law): law for law in laws}.values():
            gains[id(law)] = torch.stack([law.log_prob(c * sources).mean(0) + c.log() for c in scales]).max(0)
    table = torch.stack([gains[id(law)].values for law in laws])
    dealt = torch.from_numpy(linear_sum_assignment(table.numpy(), maximize=True)[1])
    best = torch.stack([gains[id(law)].indices[source] for law, source in zip(laws, dealt, strict=True)])
    return dealt, scales[best]
