r"""What every law of the latents offers.

.. math:: \psi(z) = -\frac{d}{dz} \log p(z), \quad \kappa = E\,\psi(z)^2, \quad
          f(y) = \int p(z)\, N(y - z; 0, v)\, dz
"""

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from probae.checks import NotExactError, ParameterError, check_count, check_positive
from probae.priors.quadrature import graded_rule, log_convolution

__all__ = ["Prior"]


class Prior(nn.Module):
    """A law of the latents z, of mean 0 and (all but `Scaled`) of variance 1.

    A leaf defines `log_prob`, `score` and `distribution`; closed forms replace the quadrature of this class
    where they exist. The quadrature asks for a density that falls on both sides of 0. The shape of a law is
    held in float64 buffers (or, if learnt, in a parameter), so a prior can be copied, moved and saved.
    `log_prob` and `score` come back in the dtype of z; integrals are computed in float64 and cast to it.

    Attributes
    ----------
    event_dim : int
        0 for a law of one coordinate, applied elementwise; 1 for a joint law over the last axis.
    spherical : bool
        Whether the joint law is invariant under rotations of z.
    has_scale_mixture : bool
        Whether `sample_scales` exists: z given tau is N(0, tau).
    kinks : tuple of float
        Where log p or its derivative jumps; integrals split there.
    """

    event_dim: int = 0
    spherical: bool = False
    has_scale_mixture: bool = False
    kinks: tuple[float, ...] = (0.0,)
    anchor: Tensor

    def __init__(self) -> None:
        super().__init__()
        # follows the module to a device, for laws that hold no shape of their own
        self.register_buffer("anchor", torch.zeros((), dtype=torch.float64), persistent=False)

    def log_prob(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "..."]:
        """Log density in nats: elementwise if `event_dim` is 0, summed over the last axis if it is 1.

        Raises
        ------
        NotImplementedError
            A leaf has to define it.
        """
        raise NotImplementedError(f"{type(self).__name__} should define log_prob.")

    def score(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch latents"]:
        """psi(z) = -d log p(z) / dz, of the shape of z; at a kink the value between the two sides.

        Raises
        ------
        NotImplementedError
            A leaf has to define it.
        """
        raise NotImplementedError(f"{type(self).__name__} should define score.")

    def distribution(self, latents: int, like: Tensor | None = None) -> TorchDistribution:
        """The law as a Pyro program uses it: no batch shape, event shape (latents,), no argument checks.

        Parameters
        ----------
        latents : int
            Number of coordinates.
        like : Tensor, optional
            Gives dtype and device; without it those of the prior's own buffers.

        Raises
        ------
        NotImplementedError
            A leaf has to define it.
        """
        raise NotImplementedError(f"{type(self).__name__} should define distribution.")

    def joint_log_prob(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch"]:
        """Log density of the whole last axis, in nats, whatever `event_dim` is."""
        return self.log_prob(z) if self.event_dim == 1 else self.log_prob(z).sum(-1)

    def coordinates(self, latents: int) -> list["Prior"] | None:
        """The law of each coordinate, or None where the coordinates are not independent."""
        return [self] * check_count("latents", latents) if self.event_dim == 0 else None

    def sample(self, size: int, latents: int | None = None) -> Float[Tensor, "size *latents"]:
        """Draws of shape (size,), or (size, latents), from torch's global generator.

        Raises
        ------
        ParameterError
            `size` or `latents` is not a whole number of at least 1.
        """
        size = check_count("size", size)
        columns = 1 if latents is None else check_count("latents", latents)
        with torch.no_grad():
            draws = self.distribution(columns).sample((size,))
        return draws[:, 0] if latents is None else draws

    def draw(self, shape: torch.Size, like: Tensor) -> Float[Tensor, "*batch latents"]:
        """Draws of a whole shape whose last axis is z, differentiable in the law where that is possible."""
        law = self.distribution(shape[-1], like)
        return (law.rsample if law.has_rsample else law.sample)(torch.Size(shape[:-1]))

    def fisher_information(self) -> float:
        """The number kappa = E psi(z)^2 of one coordinate, at least 1 / variance (attained by a Gaussian).

        Raises
        ------
        NotExactError
            The law is not one of independent, equal coordinates.
        """
        self._check_elementwise("fisher_information")
        z, weights = graded_rule(self.kinks, smallest=2.0**-30, largest=2.0**12)
        z = z.to(self.anchor.device)
        with torch.no_grad():
            integrand = self.log_prob(z).exp() * self.score(z).square()
        return float(weights.to(z) @ integrand)

    def prox(self, v: Float[Tensor, "..."], step: float | Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The minimiser over z of 1/2 (z - v)^2 - step log p(z), elementwise, where -log p is convex.

        Raises
        ------
        ParameterError
            The step is not finite or not above 0.
        NotExactError
            -log p is not convex, so that the minimiser need not be unique.
        """
        raise NotExactError(
            f"{self!r} has no prox: its -log p is not convex, so the minimiser need not be unique. "
            "Use Laplace(), Logistic() or GeneralizedNormal(shape) with shape >= 1, or follow `score`."
        )

    def sample_scales(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch latents"]:
        """A draw of tau from p(tau | z), where the law is z | tau ~ N(0, tau) with a random variance tau.

        Raises
        ------
        NotExactError
            The law has no such form here.
        """
        raise NotExactError(
            f"{self!r} has no Gaussian scale mixture to draw from: use Gaussian, Laplace, StudentT, "
            "SpikeSlab or MultivariateStudentT, or a sampler that asks for log_prob alone."
        )

    def noisy_log_prob(
        self, y: Float[Tensor, "..."], variance: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Log density of z + N(0, variance) at y, in nats, elementwise; differentiable in y and the variance.

        Closed for Gaussian, Laplace, Uniform and SpikeSlab; otherwise Gauss-Legendre panels, accurate to
        about 1e-10 of the density, with memory bounded for any number of points.

        Raises
        ------
        ParameterError
            The variance is not above 0.
        NotExactError
            The coordinates are not independent.
        """
        self._check_elementwise("noisy_log_prob")
        y64, v64 = as_float64(y, variance)
        flat = log_convolution(self.log_prob, self.score, y64.flatten(), v64.flatten())
        return flat.reshape(y64.shape).to(y.dtype)

    def noisy_score(
        self, y: Float[Tensor, "..."], variance: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """-d/dy of `noisy_log_prob`, elementwise; it equals E[psi(z) | y].

        Raises
        ------
        ParameterError, NotExactError
            As in `noisy_log_prob`.
        """
        inputs = [y, *(v for v in (variance,) if isinstance(v, Tensor)), *self.parameters()]
        keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        # one point for each variance it meets, so that the gradient is not summed over them
        y = y.expand(torch.broadcast_shapes(y.shape, getattr(variance, "shape", ())))
        with torch.enable_grad():
            point = y if y.requires_grad else y.detach().requires_grad_()
            value = self.noisy_log_prob(point, variance).sum()
            (gradient,) = torch.autograd.grad(value, point, create_graph=keep)
        return -gradient

    def noisy_fisher_information(self, variance: float) -> float:
        """The number kappa of the noisy law brought back to variance 1: (var z + variance) E noisy_score^2.

        Raises
        ------
        ParameterError
            The variance is not above 0.
        NotExactError
            The coordinates are not independent.
        """
        variance = check_positive("variance", variance)
        self._check_elementwise("noisy_fisher_information")
        total = 1 + variance
        smallest = 0.5 * variance**0.5
        y, weights = graded_rule(self.kinks, smallest=smallest, largest=max(2.0**12 * total**0.5, smallest))
        y = y.to(self.anchor.device)
        with torch.no_grad():
            density = self.noisy_log_prob(y, variance).exp()
            return total * float(weights.to(y) @ (density * self.noisy_score(y, variance).square()))

    def _zero(self, like: Tensor | None) -> Float[Tensor, ""]:
        """Zero in the dtype and on the device of `like`, or else of the prior."""
        return self.anchor if like is None else like.new_zeros(())

    def _check_elementwise(self, name: str) -> None:
        if self.event_dim == 1:
            raise NotExactError(
                f"{name} is a property of one coordinate and {self!r} is a joint law: ask each law of "
                "coordinates(latents), where that is not None."
            )

    def extra_repr(self) -> str:
        """The law's own shape, as in its constructor."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def as_float64(
    y: Float[Tensor, "..."], positive: float | Float[Tensor, "..."], name: str = "variance"
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Two tensors of one shape in float64: y and a positive companion, a variance or the step of a prox.

    Raises
    ------
    ParameterError
        The companion is not finite or not above 0.

    Examples
    --------
    >>> as_float64(torch.zeros(2), 0.5)
    (tensor([0., 0.], dtype=torch.float64), tensor([0.5000, 0.5000], dtype=torch.float64))
    """
    v = torch.as_tensor(positive, dtype=torch.float64, device=y.device)
    wrong = ~((v > 0) & v.isfinite())
    if bool(wrong.any()):
        raise ParameterError(f"{name} should be finite and above 0 everywhere, got {float(v[wrong][0])}.")
    y64, v64 = torch.broadcast_tensors(y.double(), v)
    return y64, v64
