"""A multi-layer perceptron from x to a Gaussian over z."""

from __future__ import annotations

from probae.activations import check_activation
from probae.checks import ParameterError
from probae.encoders.gaussian_head import GaussianNetworkEncoder
from probae.encoders.network import check_hidden, perceptron


class MLPEncoder(GaussianNetworkEncoder):
    r"""q(z | x) = N(m(x), L(x) L(x)') with m and L from a network on standardised x.

    Parameters
    ----------
    features, latents : int
    hidden : tuple of int
        Widths of the hidden layers.
    covariance : {"full", "low_rank", "diagonal"}
        ``"full"`` up to 32 latents. ``"low_rank"`` is diag(s^2) + U U' with ``rank`` columns. ``"diagonal"`` breaks
        the rotation symmetry of a Gaussian model, so its axes are the guide's choice; a Fit says so in ``warnings``.
    rank : int
        Columns of U for ``"low_rank"``.
    residual : bool
        A skip around each hidden layer as wide as the one before it: deep networks then start near a shallow one.
    normalize : bool
        Layer normalisation before each unit, row by row: no row's code depends on the other rows.
    activation : {"tanh", "sigmoid", "relu"}
        The hidden units.

    Raises
    ------
    ParameterError
        If ``covariance="full"`` with more than 32 latents, or ``normalize`` with a layer of one unit.

    Examples
    --------
    >>> import torch, probae as pa
    >>> pa.MLPEncoder(5, 2, hidden=(8,))(torch.zeros(3, 5)).event_shape
    torch.Size([2])
    """

    def __init__(
        self,
        features: int,
        latents: int,
        hidden: tuple[int, ...] = (128,),
        covariance: str = "full",
        rank: int = 4,
        residual: bool = False,
        normalize: bool = False,
        activation: str = "tanh",
    ) -> None:
        super().__init__(features, latents, covariance, rank)
        self.hidden = check_hidden(hidden)
        if normalize and 1 in self.hidden:
            raise ParameterError("normalize=True makes a hidden layer of one unit constant: use two or more.")
        self.residual, self.normalize = bool(residual), bool(normalize)
        self.activation = check_activation(activation).name
        body = perceptron(features, self.hidden, self.residual, self.normalize, self.activation)
        self.build(body, (features, *self.hidden)[-1])

    def __repr__(self) -> str:
        extra = "".join(f", {name}=True" for name in ("residual", "normalize") if getattr(self, name))
        extra += f", activation={self.activation!r}" if self.activation != "tanh" else ""
        return (
            f"MLPEncoder({self.features}, {self.latents}, hidden={self.hidden}, covariance={self.covariance!r}, "
            f"rank={self.rank}{extra})"
        )
