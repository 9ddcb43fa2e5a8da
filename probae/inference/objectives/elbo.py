"""The evidence lower bound of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from probae.checks import check_choice, check_count
from probae.inference.objectives.closed_forms import entropy, expected_likelihood, expected_prior, moments
from probae.models import LatentModel


@dataclass(frozen=True)
class ELBO:
    r"""Evidence lower bound: in closed form as far as there is one, else by reparametrised draws.

    .. math:: \log p(x) \ge E_q \log p(x | z) - KL(q(z | x) \| p(z))
              = E_q[\log p(x, z) - \log q(z | x)]

    Parameters
    ----------
    draws : int
        Draws of z per row, where draws are needed.
    analytic : bool
        Whether to use closed forms, for a Gaussian q: of the divergence from a Gaussian (also correlated), Laplace or
        `Scaled` prior, and of the likelihood of a linear model as well. False draws every part, from the same random
        numbers as Pyro's ``Trace_ELBO``.

    Notes
    -----
    Both have the same expectation. For a linear model the closed form has no variance at all. With a closed divergence
    but drawn likelihood the objective is Pyro's ``TraceMeanField_ELBO``; where the divergence is not closed all parts
    are drawn together, because log p(x, z) and log q(z) vary alike near the posterior and their difference little.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.ELBO()(pa.FactorAnalysis(9, 3), pa.LinearGaussianEncoder(9, 3).double(), x).shape
    torch.Size([301])
    """

    draws: int = 1
    analytic: bool = True
    name: ClassVar[str] = "ELBO"
    energy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("draws", self.draws)
        check_choice("analytic", self.analytic, (True, False))

    def __call__(
        self,
        model: Any,
        encoder: Any,
        x: Float[Tensor, "samples features"],
        seen: Float[Tensor, "samples features"] | None = None,
    ) -> Float[Tensor, "samples"]:
        """Return the bound of each row; the encoder is shown ``seen``, such as corrupted rows, in place of x."""
        law = encoder(x if seen is None else seen)
        q = moments(law) if self.analytic else None
        prior = None if q is None else expected_prior(model.prior, q)
        if q is None or prior is None:
            z, log_q = law.rsample_and_log_prob(self._shape)
            value = model.log_joint(x, z) - log_q
            return value if self.draws == 1 else value.mean(0)
        likelihood = expected_likelihood(model, x, q)
        if likelihood is None:
            z = law.rsample_and_log_prob(self._shape)[0]
            likelihood = log_likelihood(model, x, z)
            likelihood = likelihood if self.draws == 1 else likelihood.mean(0)
        return likelihood + (prior + entropy(q))

    @property
    def _shape(self) -> tuple[int, ...]:
        return () if self.draws == 1 else (self.draws,)


def log_likelihood(model: Any, x: Tensor, z: Tensor) -> Float[Tensor, "*draws samples"]:
    """Return log p(x | z); a model with a joint density of its own, which may leave out missing entries, gives it."""
    if type(model).log_joint is LatentModel.log_joint:
        return model.likelihood(z).log_prob(x)
    return model.log_joint(x, z) - model.prior.joint_log_prob(z)
