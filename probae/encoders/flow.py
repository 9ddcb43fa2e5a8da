"""A normalising flow as the head of an encoder: a Gaussian bent by monotone splines."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np
import pyro.distributions as dist
import torch
from jaxtyping import Float
from scipy.special import ndtri
from scipy.stats.qmc import Sobol
from torch import Tensor, nn

from probae.checks import ParameterError, check_count
from probae.encoders.gaussian_head import GaussianNetworkEncoder
from probae.encoders.laws import GaussianCode
from probae.encoders.network import check_hidden, perceptron

POINTS = 512  # of a quasi-random sample, over which mean and variance are averaged
WEIGHTS = 50_000_000  # what a flow may allocate: it is built in memory even to read a file
BLOCK = 100_000  # rows of the flow at once there


class FlowCode(dist.TorchDistribution):
    """The law of m + L T(e), e standard normal and T a map with a tractable Jacobian.

    ``mean`` and ``variance`` have no closed form: they are averages over 512 quasi-random points with a fixed seed,
    within about a hundredth of a standard deviation.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}  # the encoder makes sound ones
    support = dist.constraints.real_vector
    has_rsample = True

    def __init__(
        self, gaussian: GaussianCode, flow: nn.Module, context: Float[Tensor, "*batch width"]
    ) -> None:
        self.gaussian, self.flow, self.context = gaussian, flow, context
        super().__init__(gaussian.batch_shape, gaussian.event_shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> FlowCode:
        """Return the law with another batch shape."""
        context = self.context.expand((*batch_shape, self.context.shape[-1]))
        return FlowCode(self.gaussian.expand(batch_shape), self.flow, context)

    def _push(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log |dz / d noise|."""
        context = self.context.expand((*noise.shape[:-1], self.context.shape[-1]))
        bent, log_det = self.flow(context).call_and_ladj(noise)
        root = self.gaussian._unbroadcasted_scale_tril
        z = self.gaussian.loc + (root @ bent.unsqueeze(-1)).squeeze(-1)
        return z, log_det + root.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def rsample_and_log_prob(self, sample_shape: torch.Size = torch.Size()) -> tuple[Tensor, Tensor]:
        """Return z and log q(z) = log N(e; 0, I) - log |dz / de|, in nats."""
        loc = self.gaussian.loc
        noise = torch.randn(*sample_shape, *loc.shape, dtype=loc.dtype, device=loc.device)
        z, log_det = self._push(noise)
        return z, dist.Normal(0.0, 1.0).log_prob(noise).sum(-1) - log_det

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "*draws latents"]:
        """Draw z, with a gradient."""
        return self.rsample_and_log_prob(sample_shape)[0]

    def log_prob(self, value: Float[Tensor, "*draws latents"]) -> Float[Tensor, "*draws"]:
        """Return log q(z) in nats: one pass of the network for each latent."""
        root = self.gaussian._unbroadcasted_scale_tril
        centred = (value - self.gaussian.loc).unsqueeze(-1)
        bent = torch.linalg.solve_triangular(root, centred, upper=False).squeeze(-1)
        context = self.context.expand((*bent.shape[:-1], self.context.shape[-1]))
        noise, log_det = self.flow(context).inv.call_and_ladj(bent)
        log_root = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return dist.Normal(0.0, 1.0).log_prob(noise).sum(-1) + log_det - log_root

    def _moment(self, power: int) -> Float[Tensor, "*batch latents"]:
        """Return the average of (z - m)^power over the quasi-random points."""
        loc = self.gaussian.loc
        points = torch.from_numpy(normal_points(loc.shape[-1])).to(loc)
        total = torch.zeros_like(loc)
        for block in points.split(max(1, BLOCK // max(1, self.batch_shape.numel()))):
            noise = block.reshape(len(block), *(1,) * len(self.batch_shape), -1).expand(-1, *loc.shape)
            total = total + (self._push(noise)[0] - loc).pow(power).sum(0)
        return total / POINTS

    @property
    def mean(self) -> Float[Tensor, "*batch latents"]:
        """Mean over the quasi-random points."""
        return self.gaussian.loc + self._moment(1)

    @property
    def variance(self) -> Float[Tensor, "*batch latents"]:
        """Variance over the quasi-random points."""
        return self._moment(2) - self._moment(1).square()


class FlowEncoder(GaussianNetworkEncoder):
    r"""z = m(x) + L(x) T(e; x) with e standard normal and T a neural spline flow on e, the identity at the start.

    Draws cost one pass of the flow, log q of a given z one for each latent. Untrained it is `MLPEncoder` with full
    covariance; trained it can be skewed or have several modes, which no Gaussian can. Beyond 5 standard deviations T is
    the identity, so tails stay Gaussian. Needs the extra ``flows`` (zuko).

    Parameters
    ----------
    features, latents : int
        At most 32 latents.
    hidden : tuple of int
        Widths of the hidden layers that give m and L; the last one is what T sees of x.
    transforms : int
        Spline layers of T.
    bins : int
        Bins of each spline.
    width : int
        Units of the hidden layer of each spline's network.

    Raises
    ------
    ParameterError
        If zuko is not installed, for more than 32 latents, or for more than 50 million weights in the flow.

    Notes
    -----
    The flow is the neural spline flow of Durkan, Bekasov, Murray & Papamakarios (2019), by zuko.

    Examples
    --------
    >>> import torch, probae as pa
    >>> q = pa.FlowEncoder(5, 2, hidden=(8,), width=8)(torch.zeros(3, 5))
    >>> z, log_q = q.rsample_and_log_prob()
    >>> z.shape, log_q.shape
    (torch.Size([3, 2]), torch.Size([3]))
    """

    def __init__(
        self,
        features: int,
        latents: int,
        hidden: tuple[int, ...] = (128,),
        transforms: int = 2,
        bins: int = 8,
        width: int = 32,
    ) -> None:
        super().__init__(features, latents, "full", 1)
        self.hidden = check_hidden(hidden)
        self.transforms, self.bins = check_count("transforms", transforms), check_count("bins", bins)
        self.width = check_count("width", width)
        last = (features, *self.hidden)[-1]
        self.build(perceptron(features, self.hidden), last)
        self.flow = spline_flow(latents, last, self.transforms, self.bins, self.width)

    def __repr__(self) -> str:
        return (
            f"FlowEncoder({self.features}, {self.latents}, hidden={self.hidden}, transforms={self.transforms}, "
            f"bins={self.bins}, width={self.width})"
        )

    def start(self, x: Float[Tensor, "samples features"], generator: torch.Generator) -> None:
        """Start the Gaussian as an `MLPEncoder`, and the flow as the identity."""
        super().start(x, generator)
        with torch.no_grad():
            for transform in self.flow.transforms:  # type: ignore[union-attr]
                for layer in transform.hyper:  # type: ignore[union-attr]
                    if isinstance(layer, nn.Linear):
                        draw = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)
                        layer.weight.copy_((draw / layer.in_features**0.5).to(x.dtype))
                        layer.bias.zero_()
                layer.weight.zero_()  # the last one: a spline of equal bins and slopes 1 is the identity

    def forward(self, x: Float[Tensor, "samples features"]) -> FlowCode:  # type: ignore[override]
        """Return q(z | x)."""
        context = self.hidden_values(x)
        return FlowCode(self.law(self.head(context)), self.flow, context)  # type: ignore[arg-type]


@functools.cache
def normal_points(latents: int) -> np.ndarray:
    """Return 512 quasi-random points of a standard normal law, by NumPy: torch's do not run inside ``torch.func``.

    Examples
    --------
    >>> normal_points(3).shape
    (512, 3)
    """
    uniform = Sobol(latents, scramble=True, seed=0).random(POINTS)
    return np.asarray(ndtri(uniform.clip(1e-9, 1 - 1e-9)))


def spline_flow(latents: int, context: int, transforms: int, bins: int, width: int) -> nn.Module:
    """Return zuko's neural spline flow as a module from a context to a transform of R^latents.

    Raises
    ------
    ParameterError
        If zuko is not installed, or for more than 50 million weights.

    Examples
    --------
    >>> import torch
    >>> spline_flow(2, 3, transforms=1, bins=4, width=8)(torch.zeros(3))(torch.zeros(2)).shape
    torch.Size([2])
    """
    try:
        import zuko
    except ImportError:
        raise ParameterError("FlowEncoder needs zuko: pip install 'probae[flows]'.") from None
    outputs = latents * (3 * bins - 1)
    size = transforms * ((latents + context) * (width + outputs) + width * outputs)
    if size > WEIGHTS:
        raise ParameterError(
            f"The flow would have {size} weights and masks, at most {WEIGHTS} are possible: choose a smaller width, "
            "fewer transforms, or a narrower last hidden layer."
        )
    # masks are read while it is built, which a device without memory refuses
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        flow = zuko.flows.NSF(latents, context, bins=bins, transforms=transforms, hidden_features=(width,))
    return flow.transform
