"""Coordinates that are independent, each with its own law."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import NotExactError, ParameterError
from probae.priors.base import Prior
from probae.priors.distribution import PriorDistribution

__all__ = ["Independent"]


class Independent(Prior):
    r"""A joint law of K independent coordinates, one prior each.

    .. math:: \log p(z) = \sum_{k=1}^K \log p_k(z_k)

    `score`, `prox`, `noisy_log_prob`, `noisy_score` and `sample_scales` work column by column and return the
    shape of z; a number per coordinate, such as kappa, is asked of `coordinates(K)`.

    Parameters
    ----------
    laws : sequence of Prior
        The law of each coordinate, each with event_dim 0.

    Raises
    ------
    ParameterError
        There is no law, one is no prior, or one is itself a joint law.

    Examples
    --------
    >>> from probae.priors import Gaussian, Laplace
    >>> prior = Independent([Laplace(), Gaussian()])
    >>> prior.log_prob(torch.zeros(5, 2)).shape
    torch.Size([5])
    >>> [law.fisher_information() for law in prior.coordinates(2)]
    [2.0, 1.0]
    """

    event_dim = 1

    def __init__(self, laws: Sequence[Prior]) -> None:
        super().__init__()
        laws = list(laws) if isinstance(laws, Sequence | nn.ModuleList) else [laws]
        wrong = [law for law in laws if not (isinstance(law, Prior) and law.event_dim == 0)]
        if wrong or not laws:
            raise ParameterError(
                "laws should be a list of priors of one coordinate each, such as [Laplace(), Gaussian()], "
                f"got {f'{wrong[0]!r} in it' if wrong else 'an empty list'}."
            )
        self.laws = nn.ModuleList(laws)
        self.has_scale_mixture = all(law.has_scale_mixture for law in laws)
        variances = {float(law.distribution(1).variance.detach()) for law in laws}
        self.spherical = all(law.spherical for law in laws) and len(variances) == 1

    def log_prob(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch"]:
        """Sum of the coordinates' log densities."""
        return self._columns(lambda law, column: law.log_prob(column), z).sum(-1)

    def score(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch latents"]:
        """Score psi_k(z_k) in column k."""
        return self._columns(lambda law, column: law.score(column), z)

    def distribution(self, latents: int, like: Tensor | None = None) -> PriorDistribution:
        """The product of the coordinates' laws.

        Raises
        ------
        ParameterError
            `latents` is not the number of laws.
        """
        self._check_latents(latents)
        parts = [law.distribution(1, like) for law in self._laws()]
        variance = torch.cat([part.variance for part in parts])
        return PriorDistribution(self, latents, like, variance, has_rsample=all(p.has_rsample for p in parts))

    def draw(self, shape: torch.Size, like: Tensor) -> Float[Tensor, "*batch latents"]:
        """Draws of each coordinate, side by side."""
        column = torch.Size([*shape[:-1], 1])
        return torch.cat([law.draw(column, like) for law in self._laws()], -1)

    def coordinates(self, latents: int) -> list[Prior]:
        """The laws.

        Raises
        ------
        ParameterError
            `latents` is not the number of laws.
        """
        self._check_latents(latents)
        return self._laws()

    def sample(self, size: int, latents: int | None = None) -> Float[Tensor, "size latents"]:
        """Draws of shape (size, K): a joint law of fixed K has no draws of one coordinate."""
        return super().sample(size, len(self.laws) if latents is None else latents)

    def prox(
        self, v: Float[Tensor, "*batch latents"], step: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "*batch latents"]:
        """Each coordinate's prox."""
        return self._columns(lambda law, v, step: law.prox(v, step), v, step)

    def noisy_log_prob(
        self, y: Float[Tensor, "*batch latents"], variance: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "*batch latents"]:
        """Each coordinate's noisy log density; not summed."""
        return self._columns(lambda law, y, v: law.noisy_log_prob(y, v), y, variance)

    def noisy_score(
        self, y: Float[Tensor, "*batch latents"], variance: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "*batch latents"]:
        """Each coordinate's noisy score."""
        return self._columns(lambda law, y, v: law.noisy_score(y, v), y, variance)

    def sample_scales(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch latents"]:
        """Each coordinate's tau given z.

        Raises
        ------
        NotExactError
            A coordinate's law is no Gaussian scale mixture.
        """
        if not self.has_scale_mixture:
            missing = next(law for law in self._laws() if not law.has_scale_mixture)
            raise NotExactError(f"{self!r} has no Gaussian scale mixture, because {missing!r} has none.")
        return self._columns(lambda law, column: law.sample_scales(column), z)

    def _laws(self) -> list[Prior]:
        return [law for law in self.laws if isinstance(law, Prior)]

    def _columns(
        self, function: Callable[..., Tensor], z: Tensor, extra: float | Tensor | None = None
    ) -> Float[Tensor, "*batch latents"]:
        """Apply a function of (law, column, extra of that column) to every column."""
        self._check_latents(z.shape[-1])
        columns = [z.unbind(-1)]
        if extra is not None:
            columns.append(torch.as_tensor(extra, device=z.device).expand_as(z).unbind(-1))
        return torch.stack([function(*parts) for parts in zip(self._laws(), *columns, strict=True)], -1)

    def _check_latents(self, latents: int) -> None:
        if latents != len(self.laws):
            raise ParameterError(
                f"latents should be {len(self.laws)}, the number of laws of {self!r}, got {latents}."
            )

    def extra_repr(self) -> str:
        """Arguments of the constructor."""
        return f"[{', '.join(repr(law) for law in self.laws)}]"
