"""All chains of a run, moved together: scores, loadings, noise, a move along the orbit, hyperparameters, mean."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import Data
from probae.inference.gibbs.group_move import Moved, move_frame, scale_columns
from probae.inference.gibbs.imputation import Imputation
from probae.inference.gibbs.loadings import draw_loadings, draw_loadings_by_axes, residual_squares
from probae.inference.gibbs.mean import draw_flat_mean, draw_normal_mean
from probae.inference.gibbs.rows import Centred, Rows, centred
from probae.inference.gibbs.scores import Map, Scores, draw_scores, log_density, map_of, remainder
from probae.inference.gibbs.start import start_loadings, start_noise
from probae.inference.parameter_draws import Problem
from probae.parameter_priors import Fixed, Flat, InverseGamma, Normal


class Chains:
    """State of all chains: loadings (C, D, K), noise (C, D) or (C, 1), mean (C, D), hyperparameters by name.

    Attributes
    ----------
    likelihood : Tensor (C,)
        log p(x | parameters) of the state that the last sweep started from, scores integrated out, in nats.
    acceptance : Tensor (C,)
        Probability with which the last move along the orbit was accepted.
    """

    def __init__(
        self,
        problem: Problem,
        chains: int,
        generator: np.random.Generator,
        *,
        turn: bool = True,
    ) -> None:
        self.problem, self.generator, self.turn = problem, generator, turn
        self.latents = problem.model.latents
        self.prior, self.noise_prior = problem.loadings, problem.noise
        data = problem.data
        self.imputation = None
        if isinstance(data, Data):
            self.imputation = Imputation(data.values.double(), chains)
            self.centred: Centred = self.imputation.start(generator)
        else:
            self.centred = centred(data)
        features = self.centred.squares.shape[-1]
        about = self.centred.about_their_mean()
        self.noise = start_noise(about, chains, problem.isotropic, generator)
        self.loadings = start_loadings(about, self.noise, self.latents, generator)
        self.hyper = self.prior.start(chains, features, self.latents)
        self.mean = (problem.fixed_mean if self._fixed else self.centred.mean).expand(chains, features)
        self.rows = self._rows()
        self.acceptance = self.likelihood = torch.zeros(chains, dtype=torch.float64)

    @property
    def _fixed(self) -> bool:
        return isinstance(self.problem.mean, Fixed)

    @property
    def _flat(self) -> bool:
        return isinstance(self.problem.mean, Flat)

    @property
    def mean_is_integrated(self) -> bool:
        """Whether no sweep draws the mean: a flat one of complete rows."""
        return self._flat and self.imputation is None

    def _rows(self) -> Rows:
        """The rows about what the mean is, or about their own where it is integrated out."""
        if self._flat:
            return self.centred.about_their_mean()
        return self.centred.about(self.mean[0] if self._fixed and self.imputation is None else self.mean)

    @property
    def constant_rows(self) -> bool:
        """Whether every sweep sees the same rows: complete ones, about a mean that is not drawn."""
        return self.imputation is None and not isinstance(self.problem.mean, Normal)

    @property
    def compilable(self) -> bool:
        """Whether the compiled sweep serves: complete rows, one normal law for all factors, inverse-gamma noise."""
        normal = type(self.prior) is Normal and self.prior.rotation_invariant
        conjugate = normal and type(self.noise_prior) is InverseGamma
        return conjugate and self.constant_rows and self.turn and self.latents <= self.loadings.shape[-2]

    def adapt(self) -> None:
        """Nothing: every law of the sweep fits the present state."""

    def sweeps(self, count: int) -> dict[str, Tensor]:
        """Sweep ``count`` times; return every state and the likelihood before each sweep, (count, C, ...)."""
        kept = []
        for _ in range(count):
            self.sweep()
            state = {"loadings": self.loadings, "noise_variance": self.noise, "mean": self.mean} | self.hyper
            kept.append(state | {"likelihood": self.likelihood, "acceptance_rate": self.acceptance})
        return {name: torch.stack([one[name] for one in kept]) for name in kept[0]}

    def sweep(self) -> None:
        """Draw everything once given the rest."""
        if self.imputation is not None:
            self.centred = self.imputation.draw(self.loadings, self.noise, self.mean, self.generator)
            self.rows = self._rows()
        where = map_of(self.loadings, self.noise, self.rows.root)
        self.likelihood = self._likelihood(where)
        freedom = self.rows.count - self.rows.root.shape[-2]
        rest = remainder(self.generator, where.lower.shape[:1], self.latents, freedom)
        scores = draw_scores(where, self.rows.root, rest, self.generator)
        variance = self.prior.variance(self.hyper)
        if self.prior.rotation_invariant:
            self._draw_by_axes(scores, variance[..., :1])
        else:
            variance = self._draw_loadings(scores, variance)
            self._draw_noise(self.loadings, scores)
            self._take(scale_columns(self.loadings, scores.square, variance, self.rows.count))
            self.loadings = self.prior.turned(self.loadings)
        self.hyper = self.prior.update(self.hyper, self.loadings)
        self._draw_mean()

    def _draw_loadings(self, scores: Scores, variance: Tensor) -> Tensor:
        """Draw the loadings; return their variances, which change with the indicators of a sparse law."""
        if not self.prior.sparse:
            self.loadings = draw_loadings(scores, self.noise, variance, self.generator)
            return variance
        self.hyper, self.loadings = self.prior.draw_loadings(self.hyper, self.loadings, *scores, self.noise)
        return self.prior.variance(self.hyper)

    def _draw_by_axes(self, scores: Scores, variance: Tensor) -> None:
        """Draw loadings and noise in the axes of Z'Z, and move the frame; turn back where it may not turn."""
        loadings, turned, axes = draw_loadings_by_axes(scores, self.noise, variance, self.generator)
        self._draw_noise(loadings, turned)
        count = self.rows.count
        if self.latents > loadings.shape[-2]:  # W'W is singular: only factors one by one can be stretched
            loadings = loadings @ axes.mT  # not along axes that depend on the scores
            self._take(scale_columns(loadings, scores.square, variance, count))
            return
        self._take(move_frame(loadings, turned.square, variance, count, self.generator, turn=self.turn))
        if not self.turn:
            self.loadings = self.loadings @ axes.mT

    def _take(self, moved: Moved) -> None:
        self.loadings, self.acceptance = moved

    def _draw_noise(self, loadings: Float[Tensor, "chains features latents"], scores: Scores) -> None:
        """Draw the noise variances given the residuals."""
        squares, count = residual_squares(loadings, scores, self.rows.squares), self.rows.count
        if self.problem.isotropic:
            squares, count = squares.sum(-1, keepdim=True), count * squares.shape[-1]
        self.noise = self.noise_prior.draw(squares, count)

    def _draw_mean(self) -> None:
        """Draw the mean where the next sweep needs it."""
        prior, given = self.problem.mean, (self.centred.mean, self.centred.count, self.loadings, self.noise)
        if isinstance(prior, Normal):
            self.mean = draw_normal_mean(*given, prior.moments, self.generator)
        elif self._flat and not self.mean_is_integrated:
            self.mean = draw_flat_mean(*given, self.generator)

    def _likelihood(self, where: Map) -> Float[Tensor, " chains"]:
        """Return log p(x) of the parameters that the sweep starts from."""
        if self.imputation is not None:
            return self.imputation.log_likelihood
        noise = self.noise.expand(self.loadings.shape[:-1])
        distance = (self.rows.squares / noise).sum(-1) - where.fitted.square().sum((-2, -1))
        return log_density(where, noise, distance, self.rows.count)
