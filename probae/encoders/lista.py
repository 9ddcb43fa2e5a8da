"""Unrolled lasso solvers with learned steps, as encoders: LISTA, free, coupled and analytic."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import ParameterError, check_choice, check_count
from probae.codes.blocks import in_blocks
from probae.encoders.base import Encoder
from probae.encoders.descent import KINDS, coordinate_layers, soft_threshold
from probae.encoders.laws import DiagonalCode

Coupling = Literal["free", "coupled", "analytic"]
Solver = Literal["ista", "fista", "coordinate"]


class LISTAEncoder(Encoder):
    r"""Layers of a lasso solver, learned so that few of them give nearly the lasso codes [1]_.

    .. math:: z_{t+1} = S(y_t + s_t (V (x - \mu) - B y_t), \theta_t), \quad y_t = z_t + m_t (z_t - z_{t-1}),
              \quad z_0 = 0

    with S(v, t) = v - clamp(v, -t, t): W1 = s_t V and W2 = I - s_t B in the usual notation. Layers of coordinate
    descent have no momentum, and move the atoms in turn, each with the codes that it finds. Steps, thresholds and
    momenta belong to a layer, matrices are shared by all of them: a row then costs columns of B for its active codes
    only, and B stays in the cache. The law is a Gaussian around the code, with two scales for every latent: of codes
    that are zero, and of those that are not.

    Parameters
    ----------
    features, latents : int
    layers : int
    coupling : {"free", "coupled", "analytic"}
        ``"free"`` learns V and B; ``"coupled"`` learns V, with B = V A for the dictionary A [2]_; ``"analytic"`` keeps
        both at the solver's, so that only steps, thresholds and momenta are learned. If the weights of ever deeper
        layers settle and the codes come to the lasso for every x, the weights settle at the solver's, up to the step
        [3]_; with few layers others may do better. Those of least coherence (ALISTA) are made for another aim, the
        codes that a row was built from. The dictionary is the one of `attach`: a model whose loadings are learned too
        wants ``"free"``.
    solver : {"ista", "fista", "coordinate"}
        What the layers are at the start: steps of ISTA or FISTA, or sweeps of coordinate descent, which come nearest
        the lasso in a given time. The learned coordinate descent of [1]_ (LCoD) moves one atom in a layer, these all.
    least_move : float
        In a layer of coordinate descent, an atom that would move by less than this share of its first threshold is
        left where it is: most of the time goes into moves that change little. 0 for every move.

    Notes
    -----
    At the start the matrices are V = A' / L and B = A'A / L, L being the largest eigenvalue of A'A, and T layers are T
    steps of ISTA or FISTA with the step 1 / L. For coordinate descent each row is divided by its diagonal entry
    :math:`|a_k|^2` in place of L, and T layers are T sweeps over the atoms, each put at its minimum given the others. A
    layer sweeps over those that are active at its start or would be moved then; later layers come to the others. A
    move with a step s_t in (0, 2) and the threshold s_t times the first one never increases the energy.

    `benchmarks/lista.py` measures distance from the lasso and time beside certified codes and FISTA.

    References
    ----------
    .. [1] Gregor, K. & LeCun, Y. (2010). Learning fast approximations of sparse coding. ICML.
    .. [2] Chen, X., Liu, J., Wang, Z. & Yin, W. (2018). Theoretical linear convergence of unfolded ISTA and its
       practical weights and thresholds. NeurIPS.
    .. [3] Ablin, P., Moreau, T., Massias, M. & Gramfort, A. (2019). Learning step sizes for unfolded sparse coding.
       NeurIPS.

    Examples
    --------
    >>> import torch, probae as pa
    >>> encoder = pa.LISTAEncoder(4, 6, layers=3)
    >>> encoder.attach(pa.SparseCoding(4, 6))
    >>> encoder.codes(torch.ones(2, 4)).shape
    torch.Size([2, 6])
    """

    mean: Tensor
    dictionary: Tensor
    level: Tensor
    weight: Tensor
    inner: Tensor
    warning = (
        "The encoder has a diagonal covariance: it prefers axes on which the posterior is uncorrelated, "
        "whatever the model says, so a preferred rotation may be the guide's."
    )

    def __init__(
        self,
        features: int,
        latents: int,
        layers: int = 8,
        coupling: Coupling = "free",
        solver: Solver = "ista",
        least_move: float = 0.1,
    ) -> None:
        super().__init__(features, latents)
        self.layers = check_count("layers", layers)
        self.coupling = check_choice("coupling", coupling, ("free", "coupled", "analytic"))
        self.solver = check_choice("solver", solver, ("ista", "fista", "coordinate"))
        if (
            isinstance(least_move, bool)
            or not isinstance(least_move, (int, float))
            or not 0 <= least_move < 1
        ):
            raise ParameterError(f"least_move should be a number in [0, 1), got {least_move!r}.")
        self.least_move = float(least_move)
        self.attached = False
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("dictionary", torch.eye(features, latents))
        self.register_buffer("level", torch.full((latents,), 0.1))  # penalty / L, or / |a_k|^2
        for name, shape in (("weight", (latents, features)), ("inner", (latents, latents))):
            learned = coupling == "free" or (coupling == "coupled" and name == "weight")
            value = torch.eye(*shape)
            if learned:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self.step = nn.Parameter(torch.ones(layers))
        self.threshold = nn.Parameter(torch.ones(layers, latents))  # in units of the level
        if solver == "fista":
            self.momentum = nn.Parameter(fista_momentum(layers).float())
        self.log_scale = nn.Parameter(torch.zeros(2, latents))  # of zero codes, and of others

    def __repr__(self) -> str:
        return (
            f"LISTAEncoder({self.features}, {self.latents}, layers={self.layers}, coupling={self.coupling!r}, "
            f"solver={self.solver!r}, least_move={self.least_move})"
        )

    def attach(self, model: Any) -> None:
        r"""Read dictionary, mean and penalty :math:`\sqrt2 \sigma^2` of a linear model with Laplace codes.

        Raises
        ------
        ParameterError
            If the model has no loadings, no noise variance, or other sizes.
        """
        loadings, noise = getattr(model, "loadings", None), getattr(model, "noise_variance", None)
        if loadings is None or noise is None:
            raise ParameterError(
                f"LISTAEncoder needs a linear model with noise, such as SparseCoding, got {model!r}."
            )
        if tuple(loadings.shape) != (self.features, self.latents):
            raise ParameterError(
                f"The encoder maps {self.features} features to {self.latents} latents, the model has "
                f"{loadings.shape[0]} and {loadings.shape[1]}: build both with the same sizes."
            )
        units = torch.ones(self.features, dtype=torch.float64)
        self._set(loadings.detach(), model.mean.detach(), math.sqrt(2) * float(noise.detach().mean()), units)
        self.attached = True

    def start(self, x: Float[Tensor, "samples features"], generator: torch.Generator) -> None:
        """Start at the solver for the attached model, else for random atoms in the units of x."""
        if self.attached:
            return
        spread = x.std(0)
        spread = torch.where(spread > 0, spread, torch.ones_like(spread)).double()
        draw = torch.randn(self.features, self.latents, generator=generator, dtype=torch.float64)
        atoms = draw / torch.linalg.vector_norm(draw, dim=0)
        self._set(atoms, x.mean(0), 0.1, spread)

    @torch.no_grad()
    def _set(self, atoms: Tensor, mean: Tensor, penalty: float, units: Tensor) -> None:
        """Set all weights to the solver for x / units, whose dictionary the atoms are."""
        atoms = atoms.double()
        gram = atoms.T @ atoms
        if self.solver == "coordinate":
            curvature = gram.diagonal()
            curvature = torch.where(curvature > 0, curvature, torch.ones_like(curvature))
        else:
            largest = torch.linalg.eigvalsh(gram)[-1].clamp_min(torch.finfo(torch.float64).tiny)
            curvature = largest.expand(self.latents)
        self.mean.copy_(mean)
        self.dictionary.copy_(atoms * units.unsqueeze(1))
        self.level.copy_(penalty / curvature)
        self.weight.copy_(atoms.T / curvature.unsqueeze(1) / units)
        self.inner.copy_(gram / curvature.unsqueeze(1))
        self.step.fill_(1.0)
        self.threshold.fill_(1.0)
        if self.solver == "fista":
            self.momentum.copy_(fista_momentum(self.layers))
        variance = 1 / (1 + gram.diagonal() * math.sqrt(2) / penalty)  # of z_k given x and the other codes
        self.log_scale.copy_(0.5 * variance.log().expand(2, -1))

    @torch.no_grad()
    def rescale(self, units: Float[Tensor, " features"]) -> None:
        """Put an encoder of x / units into the units of x."""
        self.weight.div_(units)
        self.mean.mul_(units)
        self.dictionary.mul_(units.unsqueeze(1))

    def forward(self, x: Float[Tensor, "samples features"]) -> DiagonalCode:
        """Return q(z | x)."""
        z = self.codes(x)
        return DiagonalCode(z, torch.where(z == 0, self.log_scale[0], self.log_scale[1]).exp())

    def codes(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples latents"]:
        """Return the code of each row: the mean of q(z | x), at little cost for rows with few active codes."""
        x = x.to(self.step.dtype)
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype not in KINDS:
            return self._layers((x - self.mean) @ self.weight.mT)
        return self._compiled(x)

    def _inner(self) -> Tensor:
        return self.weight @ self.dictionary if self.coupling == "coupled" else self.inner

    def _levels(self) -> Tensor:
        return (self.threshold * self.level).clamp_min(0.0)

    def _layers(self, cross: Tensor) -> Tensor:
        inner, levels = self._inner(), self._levels()
        if self.solver == "coordinate":
            return coordinate_layers(cross, inner, self.step, levels, self.least_move * self.level)
        z = before = torch.zeros_like(cross)
        for t, (step, level) in enumerate(zip(self.step, levels, strict=True)):
            y = z + self.momentum[t] * (z - before) if self.solver == "fista" else z
            z, before = soft_threshold(y + step * (cross - y @ inner.mT), level), z
        return z

    @torch.no_grad()
    def _compiled(self, x: Tensor) -> Tensor:
        from probae.encoders.sweeps import run_sweeps  # compiled on first use
        from probae.encoders.unrolled import run_layers

        x = x.contiguous()
        columns, weight = self._inner().mT.contiguous(), self.weight.mT.contiguous()
        shift = -(self.mean @ weight)
        if self.solver == "coordinate":
            run, last = run_sweeps, self.least_move * self.level
        else:
            run, last = run_layers, self.momentum if self.solver == "fista" else torch.zeros_like(self.step)
        numbers = [a.detach().contiguous().numpy() for a in (columns, self.step, self._levels(), last)]
        codes = torch.empty(len(x), self.latents, dtype=x.dtype)

        def solve(part: slice) -> None:
            run(torch.addmm(shift, x[part], weight).numpy(), *numbers, codes[part].numpy())

        in_blocks(solve, len(x), self.latents)
        return codes


def fista_momentum(layers: int) -> Float[Tensor, " layers"]:
    """Return m_t = (t_t - 1) / t_{t+1} with t_0 = 1 and t_{t+1} = (1 + sqrt(1 + 4 t_t^2)) / 2, before its first use.

    Beck & Teboulle (2009), SIAM J. Imaging Sciences 2, 183-202, eqs. 4.2-4.3.

    Examples
    --------
    >>> fista_momentum(3)
    tensor([0.0000, 0.0000, 0.2818], dtype=torch.float64)
    """
    values, last = [0.0], 1.0
    for _ in range(layers - 1):
        following = 0.5 * (1 + math.sqrt(1 + 4 * last * last))
        values.append((last - 1) / following)
        last = following
    return torch.tensor(values, dtype=torch.float64)
