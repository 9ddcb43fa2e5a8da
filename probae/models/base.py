"""The latent-variable model: p(x, z) = p(x | z) p(z), written once as a Pyro program."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal, Self

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import Tensor

from probae.checks import DataError, NotExactError, ParameterError, check_count
from probae.models.pyro_context import Unconstrained, ensure_local_context, local_parameters
from probae.parameter_priors.base import ParameterPrior, expanded
from probae.priors import Prior


class LatentModel(PyroModule):
    r"""A latent-variable model x, z as a Pyro program with plate ``samples`` and sites ``z`` and ``x``.

    .. math:: z_n \\sim p(z), \\qquad x_n \\sim p(x \\mid z_n)

    Parameters
    ----------
    features : int
        Columns D of the observations.
    latents : int
        Columns K of the latent variables.
    prior : Prior
        The law of z; deep-copied.

    Notes
    -----
    Parameters live in the module: every call runs with Pyro's ``module_local_params`` on, so two fitted
    models never share values through the global parameter store. Stock ``pyro.infer.SVI`` needs the same
    setting: ``with pyro.settings.context(module_local_params=True): svi.step(x)``.
    """

    parameter_names: tuple[str, ...] = ()
    aliases: ClassVar[dict[str, str]] = {}
    feature_names: tuple[str, ...] | None = None  # of the data a Fit saw; a table with other names is refused

    @local_parameters
    def __init__(self, features: int, latents: int, prior: Prior) -> None:
        super().__init__()
        self.features = check_count("features", features)
        self.latents = check_count("latents", latents)
        if not isinstance(prior, Prior):
            raise ParameterError(
                f"prior should be a law from probae.priors, such as Laplace(), got {type(prior).__name__}."
            )
        prior.coordinates(latents)  # a law made for another number of latents says so here
        self.prior = copy.deepcopy(prior)
        self.parameter_priors: dict[str, Any] = {}  # by name: a ParameterPrior, or a distribution of Pyro
        self.point_values: dict[str, Tensor] = {}  # what random parameters were before

    @local_parameters
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the Pyro program with parameters kept in the module."""
        ensure_local_context(self)
        for parameter in self.prior.parameters():
            parameter.unconstrained = Unconstrained(parameter)  # type: ignore[attr-defined]
        return super().__call__(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(type(self).aliases.get(name, name))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(type(self).aliases.get(name, name), value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.features}, {self.latents}, prior={self.prior!r})"

    @property
    def units(self) -> Literal["each", "common"] | None:
        """Whether ``rescale`` takes a unit for each column of x, or one common to all; None without it."""
        return None

    def rescale(self, units: Float[Tensor, " features"]) -> None:
        """Put a model of x / units into the units of x."""
        raise NotImplementedError

    @property
    def random_parameters(self) -> list[str]:
        """Names of the parameters that carry a prior (``PyroSample``)."""
        return list(self._pyro_samples)

    def likelihood(self, z: Float[Tensor, "*batch latents"]) -> dist.TorchDistribution:
        """Return p(x | z) with event shape (features,)."""
        raise NotImplementedError

    def log_joint(
        self, x: Float[Tensor, "samples features"], z: Float[Tensor, "*draws samples latents"]
    ) -> Float[Tensor, "*draws samples"]:
        """Return log p(x, z) per row, in nats."""
        return self.prior.joint_log_prob(z) + self.likelihood(z).log_prob(x)

    def check(self, x: Float[Tensor, "samples features"]) -> None:
        """Refuse rows that p(x | z) has no density for; every finite row has one unless a model says otherwise.

        Raises
        ------
        DataError
            With what is needed, what came and what to do.
        """

    def log_likelihood(self, x: Any) -> Float[Tensor, "samples"]:
        """Return log p(x) per row in nats, where the integral over z has a closed form: here it has none.

        Raises
        ------
        NotExactError
            Always.
        """
        raise NotExactError(
            f"The likelihood of {type(self).__name__} has no closed form: log_evidence(model, x) estimates it, and "
            "log_evidence(run, x) starts from the encoder of a fit."
        )

    def forward(
        self,
        x: Float[Tensor, "samples features"] | None = None,
        context: Float[Tensor, "samples latents"] | None = None,
        *,
        size: int | None = None,
    ) -> Float[Tensor, "samples features"]:
        """Run the Pyro program.

        Parameters
        ----------
        x : Tensor (N, D), optional
            Observed rows; NaN entries are left unobserved. Without it, x is sampled.
        context : Tensor (N, K), optional
            A known variance for each latent of each row; the law of z is scaled by its square root. Pass it by
            position under Pyro's handlers, which have a keyword of that name themselves.
        size : int, optional
            Rows of the whole data when ``x`` is a minibatch (its log-probability is scaled by ``size / N``);
            rows to simulate when ``x`` is absent.

        Returns
        -------
        Tensor (N, D)
        """
        self.read_parameters()
        if x is None and size is None:
            raise DataError("The program needs x, or size, the number of rows to simulate; got neither.")
        rows = len(x) if x is not None else check_count("size", size)
        if size is not None and size < rows:
            raise DataError(
                f"size counts the rows of the whole data, so at least the {rows} of x; got {size}."
            )
        with pyro.plate("samples", size or rows, subsample=torch.arange(rows)):
            return self.program(x, context)

    def program(self, x: Tensor | None, context: Tensor | None) -> Tensor:
        """Sample z, then x given z, for the rows of the plate."""
        like = self.read_parameters()
        z = pyro.sample("z", scaled(self.prior.distribution(self.latents, like=like), context))
        return observe(self.likelihood(z), x)

    def read_parameters(self) -> Tensor:
        """Read every parameter once, outside the plate: a first read inside would batch it over rows.

        Returns
        -------
        Tensor
            One with the dtype and device of the parameters.
        """
        values = [getattr(self, name) for name in self.parameter_names]
        return values[-1] if values else torch.zeros((), dtype=torch.float64)

    @local_parameters
    def sample(self, size: int, *, seed: int | None = None) -> Float[Tensor, "size features"]:
        """Simulate rows of x from the model.

        Parameters
        ----------
        size : int
            Rows to draw.
        seed : int, optional
            Seed of the draw; the caller's random state is left as it was when a seed is given.

        Returns
        -------
        Tensor (size, D)
        """
        check_count("size", size)
        with torch.no_grad(), torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return self(size=size)

    def _randomized(self, laws: dict[str, ParameterPrior | dist.TorchDistribution | None]) -> Self:
        """Return a copy whose parameters with a law are random, the law expanded to the parameter's shape."""
        random = copy.deepcopy(self)
        for name, law in laws.items():
            if law is None:
                continue
            if name not in self.parameter_names or not hasattr(self, name):
                raise ParameterError(f"{self!r} has no {name} that a prior could be put on.")
            random._fix(name)
            value = getattr(random, name).detach().clone()
            given = isinstance(law, ParameterPrior)
            sites = law.sites(name, value.shape) if given else {name: expanded(law, value.shape)}
            for site, prior in sites.items():
                setattr(random, site, PyroSample(prior))
            if sites:
                random.point_values[name] = value
            random.parameter_priors[name] = law
        return random

    def _fix(self, name: str) -> None:
        """Give a random parameter the value that it had before, and drop the hyperparameters of its law."""
        value = self.point_values.pop(name, None)
        if value is None:
            return
        for site in [one for one in self.random_parameters if one == name or one.startswith(f"{name}_")]:
            delattr(self, site)
        constraint = constraints.positive if name == "noise_variance" else constraints.real
        setattr(self, name, PyroParam(value.clone(), constraint))

    @local_parameters
    def point(self) -> Self:
        """Return a copy with fixed parameters at the values they had before they were given priors.

        The copy still lists the priors in ``parameter_priors``.
        """
        fixed = copy.deepcopy(self)
        for name in self.point_values:
            fixed._fix(name)
        return fixed


def observe(likelihood: dist.TorchDistribution, x: Tensor | None) -> Tensor:
    """Sample the site ``x``, masking NaN entries of the observations."""
    if x is None or not x.isnan().any():
        return pyro.sample("x", likelihood, obs=x)
    missing = x.isnan()
    entries = likelihood.base_dist.mask(~missing).to_event(1)
    return pyro.sample("x", entries, obs=x.nan_to_num())


def scaled(law: dist.TorchDistribution, variance: Tensor | None) -> dist.TorchDistribution:
    """Scale a law by a known standard deviation per row and latent."""
    if variance is None:
        return law
    spread = dist.transforms.AffineTransform(torch.zeros_like(variance), variance.sqrt(), event_dim=1)
    return dist.TransformedDistribution(law, [spread])
