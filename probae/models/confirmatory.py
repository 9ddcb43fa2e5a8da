"""Confirmatory factor analysis: loadings with fixed zeros, and factors that may be correlated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pyro.distributions as dist
import torch
from jaxtyping import Bool
from pyro.nn import PyroParam
from torch import Tensor
from torch.distributions import Transform, constraints, transform_to

from probae.checks import DataError, ParameterError, check_data
from probae.containers import open_container
from probae.models.linear import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.parameter_priors.base import ParameterPrior
from probae.priors import CorrelatedGaussian, Gaussian

SHOWN = 4  # names listed in a message


class ConfirmatoryFactorAnalysis(LinearFactorModel):
    r"""Factor analysis whose loadings are zero outside a pattern, with K factors of variance 1.

    .. math:: x = \mu + W z + \varepsilon, \quad z \sim N(0, \Phi), \quad
              \varepsilon \sim N(0, \operatorname{diag}\psi), \quad w_{dk} = 0 \text{ where the pattern is 0}

    Enough zeros in the right places leave no rotation, so that the axes are identified up to their signs: by
    assumption, which the data can only refute (the likelihood-ratio test against the saturated model), never prove.
    `probae.counting_rules` says what a pattern identifies. ``uniquenesses`` is another name of ``noise_variance``.

    Parameters
    ----------
    pattern : matrix (D, K) of 0 and 1, or truth values
        Which loadings are free. A DataFrame names the features by its index and the factors by its columns.
    correlated : bool
        Whether the correlations Phi are free; otherwise they are zero (a bifactor model, say).
    factor_names : sequence of str, optional

    Attributes
    ----------
    pattern : Tensor (D, K), bool
    correlated : bool
    factor_names : tuple of str, or None

    Raises
    ------
    ParameterError
        On a pattern with other entries than 0 and 1, a column of zeros, or more columns than rows.

    References
    ----------
    .. [1] Joreskog, K. G. (1969). A general approach to confirmatory maximum likelihood factor analysis.
       Psychometrika 34, 183-202.

    Examples
    --------
    >>> import probae as pa
    >>> data = pa.datasets.holzinger_swineford()
    >>> tests = {"visual": [0, 1, 2], "textual": [3, 4, 5], "speed": [6, 7, 8]}
    >>> model = pa.ConfirmatoryFactorAnalysis.from_groups(tests, data.feature_names)
    >>> run = pa.fit(model, data.x)
    >>> run.model.factor_correlation.round(decimals=3)
    tensor([[1.0000, 0.4590, 0.4710],
            [0.4590, 1.0000, 0.2830],
            [0.4710, 0.2830, 1.0000]], dtype=torch.float64)
    """

    aliases: ClassVar[dict[str, str]] = {"uniquenesses": "noise_variance"}
    pattern: Tensor

    @local_parameters
    def __init__(
        self, pattern: Any, correlated: bool = True, factor_names: Sequence[str] | None = None
    ) -> None:
        free, features, factors = read_pattern(pattern)
        if not isinstance(correlated, bool | np.bool_):
            raise ParameterError(f"correlated should be True or False, got {correlated!r}.")
        size, latents = free.shape
        prior = CorrelatedGaussian(np.eye(latents), learn=True) if correlated and latents > 1 else Gaussian()
        super().__init__(size, latents, prior=prior, noise="diagonal")
        self.correlated = bool(correlated)
        self.factor_names = _check_factor_names(factor_names or factors, latents)
        self.feature_names = features
        self.register_buffer("pattern", free, persistent=False)
        start = free.double() / free.sum(1, keepdim=True).clamp_min(1).double().sqrt()
        self.loadings = PyroParam(start, ZeroPattern(free))

    @classmethod
    def from_groups(cls, groups: Mapping[str, Sequence[Any]], features: Any, correlated: bool = True) -> Self:
        """Build the model from the features that measure each factor.

        Parameters
        ----------
        groups : mapping of str to sequence
            The names, or the numbers from 0, of the features that load on each factor.
        features : sequence of str, DataFrame or int
            The names of all features in the order of the data, a table that has them, or their number.
        correlated : bool

        Raises
        ------
        ParameterError
            A feature that is not among ``features``, or an empty group.

        Examples
        --------
        >>> import probae as pa
        >>> groups = {"verbal": ["read", "spell"], "number": ["add", "divide"]}
        >>> model = pa.ConfirmatoryFactorAnalysis.from_groups(groups, ["read", "spell", "add", "divide"])
        >>> model.pattern.int().tolist()
        [[1, 0], [1, 0], [0, 1], [0, 1]]
        """
        names, size = _feature_names(features)
        if not isinstance(groups, Mapping) or not groups:
            raise ParameterError(
                "groups should map each factor to the features that measure it, such as "
                f'{{"verbal": ["read", "spell"]}}, got {type(groups).__name__}.'
            )
        pattern = torch.zeros(size, len(groups), dtype=torch.bool)
        for column, (factor, members) in enumerate(groups.items()):
            if isinstance(members, str) or not isinstance(members, Sequence | np.ndarray | range):
                raise ParameterError(f"groups[{factor!r}] should be a list of features, got {members!r}.")
            for member in members:
                pattern[_position(member, names, size, factor), column] = True
        model = cls(pattern, correlated, [str(factor) for factor in groups])
        model.feature_names = names
        return model

    @classmethod
    def for_data(cls, x: Any, latents: Any, correlated: bool = True) -> Self:
        """Build the model for the columns of ``x``.

        Parameters
        ----------
        x : array, DataFrame or Tensor (N, D)
        latents : mapping of str to sequence
            As ``groups`` of `from_groups`.
        correlated : bool

        Examples
        --------
        >>> import pandas as pd
        >>> x = pd.DataFrame([[1.0, 2.0, 3.0], [2.0, 1.0, 0.5]], columns=["a", "b", "c"])
        >>> ConfirmatoryFactorAnalysis.for_data(x, {"f": ["a", "b", "c"]}).pattern.shape
        torch.Size([3, 1])
        """
        data = check_data(x, missing="allow", sparse="allow")
        features = data.names if data.names is not None else data.values.shape[1]
        return cls.from_groups(latents, features, correlated)

    @property
    def free_correlations(self) -> list[tuple[int, int]]:
        """The pairs (j, k), j < k, of factors whose correlation is free."""
        pairs = [(j, k) for j in range(self.latents) for k in range(j + 1, self.latents)]
        return pairs if self.correlated else []

    @property
    def degrees_of_freedom(self) -> int:
        """Variances and covariances minus free parameters: D (D + 1) / 2 - loadings - correlations - D."""
        free = int(self.pattern.sum()) + len(self.free_correlations) + self.features
        return self.features * (self.features + 1) // 2 - free

    @property
    def factor_labels(self) -> tuple[str, ...]:
        """Names of the factors, or z[0] and so on."""
        return self.factor_names or tuple(f"z[{k}]" for k in range(self.latents))

    def with_priors(
        self,
        loadings: ParameterPrior | dist.TorchDistribution | None = None,
        noise_variance: ParameterPrior | dist.TorchDistribution | None = None,
        mean: ParameterPrior | dist.TorchDistribution | None = None,
    ) -> Self:
        """Return a copy in which noise variances or the mean are random; loadings with fixed zeros are refused.

        Raises
        ------
        ParameterError
            A prior of the loadings was given.

        Examples
        --------
        >>> model = ConfirmatoryFactorAnalysis([[1], [1], [1]])
        >>> model.with_priors(mean=dist.Normal(0.0, 1.0)).random_parameters
        ['mean']
        """
        if loadings is not None:
            raise ParameterError(
                "A prior of the loadings would put random numbers where the pattern has zeros: "
                "give priors to noise_variance or mean only, or use LinearFactorModel."
            )
        return super().with_priors(noise_variance=noise_variance, mean=mean)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "loadings" and isinstance(value, Tensor) and not isinstance(value, PyroParam):
            self._check_zeros(value)
        super().__setattr__(name, value)

    def _check_zeros(self, loadings: Tensor) -> None:
        if loadings.shape != self.pattern.shape:
            raise ParameterError(
                f"loadings should have shape {tuple(self.pattern.shape)}, got {tuple(loadings.shape)}."
            )
        wrong = (loadings.detach() != 0) & ~self.pattern.to(loadings.device)
        if wrong.any():
            row, column = torch.nonzero(wrong)[0].tolist()
            raise ParameterError(
                f"The loading of row {row}, column {column} is fixed to zero by the pattern, got "
                f"{float(loadings[row, column]):g}: free it in the pattern, or leave it zero."
            )

    def __repr__(self) -> str:
        free = int(self.pattern.sum())
        kind = "correlated" if self.correlated else "uncorrelated"
        return (
            f"ConfirmatoryFactorAnalysis({self.features} features, {self.latents} {kind} factors, "
            f"{free} free loadings)"
        )


class ZeroPattern(constraints.Constraint):
    """Matrices that are zero where the pattern is False.

    Examples
    --------
    >>> law = ZeroPattern(torch.tensor([[True, False]]))
    >>> law.check(torch.tensor([[3.0, 0.0]])), transform_to(law)(torch.tensor([[3.0, 5.0]]))
    (tensor(True), tensor([[3., 0.]]))
    """

    is_discrete = False
    event_dim = 2

    def __init__(self, pattern: Bool[Tensor, "features latents"]) -> None:
        self.pattern = pattern

    def check(self, value: Tensor) -> Tensor:
        """Whether every entry outside the pattern is zero."""
        return ((value == 0) | self.pattern.to(value.device)).all(-1).all(-1)


class Masking(Transform):
    """Set the entries outside a pattern to zero: the gradient there is zero too, so no optimiser moves them."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.independent(constraints.real, 2)
    bijective = False

    def __init__(self, pattern: Bool[Tensor, "features latents"]) -> None:
        super().__init__()
        self.pattern = pattern

    def _call(self, x: Tensor) -> Tensor:
        return x * self.pattern.to(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return y


@transform_to.register(ZeroPattern)
def _masking(constraint: ZeroPattern) -> Masking:
    return Masking(constraint.pattern)


def read_pattern(
    pattern: Any,
) -> tuple[Bool[Tensor, "features latents"], tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return a pattern as truth values, with the names of its rows and columns where it has them.

    Raises
    ------
    ParameterError
        As the model.

    Examples
    --------
    >>> read_pattern([[1, 0], [1, 1]])
    (tensor([[ True, False],
            [ True,  True]]), None, None)
    """
    if isinstance(pattern, Mapping):
        raise ParameterError(
            "pattern should be a matrix, got a mapping: use ConfirmatoryFactorAnalysis.from_groups(groups, features)."
        )
    try:
        opened = open_container(pattern)
        values = np.asarray(opened.array)
        right = values.dtype.kind in "biuf"
    except (DataError, TypeError, ValueError):
        right = False
    if not right:
        raise ParameterError(
            "pattern should be a matrix of 0 and 1, features by factors, such as [[1, 0], [1, 0], [0, 1], [0, 1]]."
        )
    if values.ndim != 2 or 0 in values.shape:
        raise ParameterError(
            f"pattern should be a matrix of shape (features, factors), got shape {values.shape}."
        )
    odd = np.argwhere((values != 0) & (values != 1))  # true of NaN as well
    if len(odd):
        row, column = odd[0].tolist()
        raise ParameterError(
            f"pattern should hold 0 and 1 only, got {values[row, column]:g} at row {row}, column {column}."
        )
    free = torch.from_numpy(np.array(values != 0))
    factors = None if opened.names is None else tuple(str(name) for name in opened.names)
    features = None if opened.rows is None else tuple(str(name) for name in opened.rows)
    empty = torch.nonzero(~free.any(0)).flatten().tolist()
    if empty:
        labels = ", ".join(factors[k] if factors else f"column {k}" for k in empty[:SHOWN])
        raise ParameterError(
            f"pattern should have a 1 in every column, got none in {labels}: a factor needs features."
        )
    if free.shape[1] > free.shape[0]:
        raise ParameterError(
            f"pattern should have at most as many factors as features, got {free.shape[1]} factors of "
            f"{free.shape[0]} features: is it transposed?"
        )
    return free, features, factors


def _check_factor_names(names: Sequence[str] | None, latents: int) -> tuple[str, ...] | None:
    if names is None:
        return None
    right = not isinstance(names, str) and all(isinstance(name, str) for name in names)
    if not right or len(set(names)) != latents or len(names) != latents:
        raise ParameterError(f"factor_names should be {latents} different names, got {names!r}.")
    return tuple(names)


def _feature_names(features: Any) -> tuple[tuple[str, ...] | None, int]:
    """Return the names of the features, where they have any, and their number."""
    if isinstance(features, int | np.integer) and not isinstance(features, bool) and features > 0:
        return None, int(features)
    columns = getattr(features, "columns", features)
    if isinstance(columns, str) or not hasattr(columns, "__iter__"):
        raise ParameterError(
            f"features should be the names of all features in the order of the data, or their number, got {features!r}."
        )
    names = tuple(str(name) for name in columns)
    if not names or len(set(names)) != len(names):
        raise ParameterError(
            "features should be different names, at least one; some are equal or there is none."
        )
    return names, len(names)


def _position(member: Any, names: tuple[str, ...] | None, size: int, factor: Any) -> int:
    """Return the row of a feature given by name or by number."""
    if isinstance(member, int | np.integer) and not isinstance(member, bool) and 0 <= member < size:
        return int(member)
    if names is not None and isinstance(member, str) and member in names:
        return names.index(member)
    shown = f"the names {', '.join(names[:SHOWN])}{', ...' if size > SHOWN else ''} or " if names else ""
    raise ParameterError(
        f"groups[{factor!r}] has the feature {member!r}, which is not among {shown}the numbers 0 to {size - 1}."
    )
