r"""Ways to give a layer and its mirror their first weights, from the values h of the layer below.

The layer is h' = s(U h + c), its mirror t = V h' + d, and the unit before the layer puts t among the values h again:
the two are trained to h = s(t), or for the lowest layer to the likelihood of x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import ParameterError, check_count, check_positive
from probae.inference.regularizers import Regularizer
from probae.inference.training import train

NEGLIGIBLE = 1e-9  # spread of a component below this share of the first is rounding


@dataclass(frozen=True)
class Pair:
    """A layer, its mirror, and what they are to do.

    Parameters
    ----------
    up, down : nn.Linear
        Layer and mirror.
    unit : callable
        What stands between them.
    middle : float
        Where the unit is close to linear.
    error : callable
        Values h (B, W) and outputs of the mirror (B, W) to the error of each row.
    """

    up: nn.Linear
    down: nn.Linear
    unit: Callable[[Tensor], Tensor]
    middle: float
    error: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PrincipalLayers:
    """Start each layer at principal components of the values below, and its mirror at least squares.

    Units beyond the number of components keep their random weights from below, and begin with none to the mirror and
    to the layer above. For a small gain the others are linear, and the pair reconstructs what as many principal
    components do: a plateau, near which a short training stays.

    Parameters
    ----------
    gain : float
        Standard deviation of the first component where it enters the units; the others keep their size beside it.

    Examples
    --------
    >>> import probae as pa
    >>> pa.PrincipalLayers()
    PrincipalLayers(gain=0.5)
    """

    gain: float = 0.5

    def __post_init__(self) -> None:
        check_positive("gain", self.gain)

    @torch.no_grad()
    def layer(
        self,
        h: Float[Tensor, "samples width"],
        target: Float[Tensor, "samples width"],
        pair: Pair,
        generator: torch.Generator,
    ) -> bool:
        """Set the weights of layer and mirror, in float64; never interrupted."""
        up, down, rows = pair.up, pair.down, h.double()
        mean = rows.mean(0)
        _, values, directions = torch.linalg.svd(rows - mean, full_matrices=False)
        kept = min(int((values > NEGLIGIBLE * values[0]).sum()), up.out_features)
        if kept == 0:
            return False
        # one scale for all: whitened noise would hide the signal from the next layer
        chosen = directions[:kept] * (self.gain * len(rows) ** 0.5 / values[0])
        offset = pair.middle * self.gain - chosen @ mean
        code = pair.unit(rows @ chosen.mT + offset)
        centred, goal = code - code.mean(0), target.double()
        slopes = torch.linalg.lstsq(centred, goal - goal.mean(0), driver="gelsd").solution
        up.weight[:kept], up.bias[:kept] = chosen.to(h.dtype), offset.to(h.dtype)
        down.weight.zero_()
        down.weight[:, :kept] = slopes.mT.to(h.dtype)
        down.bias.copy_(goal.mean(0) - code.mean(0) @ slopes)
        return False


@dataclass(frozen=True)
class GreedyLayers:
    """Train each layer with its mirror by Adam, to reconstruct the values below.

    The error of the lowest layer is minus the log-likelihood of x, that of the others the squared error. A layer as
    wide as the one below can copy it at any scale, so its values need not keep what matters most for x largest, and a
    narrow layer above may choose the noise. A little decay, or corruption, ends that; a decay above the variance of
    the values cuts them all.

    Parameters
    ----------
    epochs : int
        Passes over the rows for each layer.
    batch : int or None
    lr : float
        First step of Adam; it falls along a cosine.
    corruption : Regularizer, optional
        Its ``corrupt`` changes what the layer is shown, in the units of the values below (standardised columns for the
        lowest): denoising pre-training [1]_.
    decay : float
        Weight of the squares of the two matrices in the loss.

    References
    ----------
    .. [1] Vincent, P., Larochelle, H., Lajoie, I., Bengio, Y. & Manzagol, P.-A. (2010). Stacked denoising
       autoencoders. Journal of Machine Learning Research 11, 3371-3408.

    Examples
    --------
    >>> import probae as pa
    >>> pa.GreedyLayers(epochs=10).batch
    256
    """

    epochs: int = 100
    batch: int | None = 256
    lr: float = 0.005
    corruption: Regularizer | None = None
    decay: float = 0.0

    def __post_init__(self) -> None:
        check_count("epochs", self.epochs)
        if self.batch is not None:
            check_count("batch", self.batch)
        check_positive("lr", self.lr)
        if self.decay != 0:
            check_positive("decay", self.decay)
        if not isinstance(self.corruption, Regularizer | None):
            raise ParameterError(
                f"corruption should be a value such as Denoising(GaussianNoise(0.1)), or None, got {self.corruption!r}."
            )

    def layer(
        self,
        h: Float[Tensor, "samples width"],
        target: Float[Tensor, "samples width"],
        pair: Pair,
        generator: torch.Generator,
    ) -> bool:
        """Train layer and mirror; return whether that was interrupted."""
        parameters = [*pair.up.parameters(), *pair.down.parameters()]
        _, interrupted = train(
            lambda rows: self.loss(rows, pair),
            parameters,
            h,
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            generator=generator,
            usable=lambda: all(bool(one.isfinite().all()) for one in parameters),
            label="pre-training",
        )
        return interrupted

    def loss(self, h: Float[Tensor, "batch width"], pair: Pair) -> Tensor:
        """Return the mean error of rows, with the decay."""
        shown = h if self.corruption is None else self.corruption.corrupt(h)
        error = pair.error(h, pair.down(pair.unit(pair.up(shown)))).mean()
        if self.decay:
            error = error + self.decay * (pair.up.weight.square().sum() + pair.down.weight.square().sum())
        return error
