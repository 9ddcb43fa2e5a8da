"""Layer-wise pre-training of a mirrored pair: each layer and its mirror reconstruct the layer below."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probae.checks import ParameterError, check_count, check_data, check_positive
from probae.encoders import MLPEncoder
from probae.inference.regularizers import Regularizer
from probae.inference.training import train
from probae.models.autoencoder import Autoencoder
from probae.models.base import local_parameters

Activation = Callable[[Tensor], Tensor]
GAIN = 0.5  # standard deviation of a principal component before tanh, which is then close to linear


@dataclass(frozen=True)
class PrincipalLayers:
    """Start each layer at principal components of the layer below, scaled to where tanh is nearly linear.

    Units beyond the number of components keep their random weights in the encoder and have none in the decoder.

    Examples
    --------
    >>> import probae as pa
    >>> pa.PrincipalLayers()
    PrincipalLayers()
    """

    @torch.no_grad()
    def layer(self, h: Tensor, pair: Pair, generator: torch.Generator) -> None:
        """Set the weights of a layer and of its mirror."""
        up, down = pair.up, pair.down
        mean = h.mean(0)
        _, values, directions = torch.linalg.svd(h - mean, full_matrices=False)
        scale = values / len(h) ** 0.5
        kept = int((scale > 1e-9 * scale[0]).sum())
        kept = min(kept, up.out_features)
        rows = GAIN * directions[:kept] / scale[:kept, None]
        up.weight[:kept] = rows
        up.bias[:kept] = -rows @ mean
        down.weight.zero_()
        down.weight[:, :kept] = (directions[:kept] * scale[:kept, None] / GAIN).mT
        down.bias.copy_(mean)


@dataclass(frozen=True)
class GreedyLayers:
    """Train each layer with its mirror by Adam, to reconstruct the layer below.

    The error of the lowest layer is minus the log-likelihood of x, that of the others squared error.

    Parameters
    ----------
    epochs : int
        Passes over the rows for each layer.
    batch : int
    lr : float
        First step of Adam.
    corruption : Regularizer, optional
        Its ``corrupt`` changes what the layer is shown: denoising pre-training [1]_.
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

    epochs: int = 50
    batch: int = 256
    lr: float = 0.005
    corruption: Regularizer | None = None
    decay: float = 0.0

    def __post_init__(self) -> None:
        check_count("epochs", self.epochs)
        check_count("batch", self.batch)
        check_positive("lr", self.lr)
        if self.decay != 0:
            check_positive("decay", self.decay)
        if not isinstance(self.corruption, Regularizer | None):
            raise ParameterError(
                f"corruption should be a regulariser that corrupts, or None, got {self.corruption!r}."
            )

    def layer(self, h: Tensor, pair: Pair, generator: torch.Generator) -> None:
        """Train a layer and its mirror."""

        def loss(rows: Tensor) -> Tensor:
            shown = rows if self.corruption is None else self.corruption.corrupt(rows)
            squares = pair.up.weight.square().sum() + pair.down.weight.square().sum()
            return pair.error(rows, pair.down(pair.activation(pair.up(shown)))).mean() + self.decay * squares

        parameters = [*pair.up.parameters(), *pair.down.parameters()]
        train(
            loss,
            parameters,
            h,
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            generator=generator,
            usable=lambda: all(bool(one.isfinite().all()) for one in parameters),
            label="pretrain",
        )


@dataclass(frozen=True)
class Pair:
    """A layer, its mirror, what is between them, and the error of reconstructions per row."""

    up: nn.Linear
    down: nn.Linear
    activation: Activation
    error: Callable[[Tensor, Tensor], Tensor]


@local_parameters
def pretrain(
    encoder: MLPEncoder,
    model: Autoencoder,
    x: Any,
    how: GreedyLayers | PrincipalLayers | None = None,
    *,
    seed: int = 0,
) -> tuple[MLPEncoder, Autoencoder]:
    """Pre-train a mirrored pair layer by layer, from x to z.

    Parameters
    ----------
    encoder, model
        As `mirrored` returns them; copied.
    x : array, DataFrame or Tensor (N, D)
    how : GreedyLayers or PrincipalLayers, optional
        ``GreedyLayers()`` by default.
    seed : int

    Returns
    -------
    encoder : MLPEncoder
    model : Autoencoder
        Copies with pre-trained weights, codes of unit variance on x, and ``started`` set: a fit goes on from these
        weights. Set ``started = False`` on both to have a fit draw new ones.

    Raises
    ------
    ParameterError
        If the two do not mirror each other.
    DataError
        If x cannot be used.

    References
    ----------
    .. [1] Hinton, G. E. & Salakhutdinov, R. R. (2006). Reducing the dimensionality of data with neural networks.
       Science 313, 504-507.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pair = pa.pretrain(*pa.mirrored(9, 2, hidden=(6,)), x, pa.GreedyLayers(epochs=2))
    >>> [part.started for part in pair]
    [True, True]
    """
    check_mirrored(encoder, model)
    how = GreedyLayers() if how is None else how
    if not isinstance(how, GreedyLayers | PrincipalLayers):
        raise ParameterError(f"how should be GreedyLayers() or PrincipalLayers(), got {how!r}.")
    rows = check_data(x, features=model.features, minimum_rows=2).values.double()
    generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
    encoder, model = copy.deepcopy((encoder, model))
    encoder.double()
    encoder.started = model.started = False
    model.start(rows, generator)
    encoder.start(rows, generator)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        train_layers(encoder, model, rows, how, generator)
    encoder.started = model.started = True
    return encoder, model


def train_layers(
    encoder: MLPEncoder,
    model: Autoencoder,
    x: Tensor,
    how: GreedyLayers | PrincipalLayers,
    generator: torch.Generator,
) -> None:
    """Train each layer on the code of the one below, and put the weights in their places."""
    ups = [part for part in encoder.body if isinstance(part, nn.Linear)]
    downs = [model.decoder.head, *[part for part in model.decoder.body if isinstance(part, nn.Linear)][::-1]]
    code = nn.utils.skip_init(nn.Linear, encoder.head.in_features, encoder.latents).double()
    means = encoder.head.weight.data[: encoder.latents], encoder.head.bias.data[: encoder.latents]
    with torch.no_grad():
        code.weight.copy_(means[0])
        code.bias.copy_(means[1])
    decoder = model.decoder
    h = (x - encoder.centre) / encoder.spread

    def lowest(rows: Tensor, output: Tensor) -> Tensor:
        law = model.noise_model(decoder.centre + decoder.spread * output)
        return -law.log_prob(rows * encoder.spread + encoder.centre)

    def inner(rows: Tensor, output: Tensor) -> Tensor:
        return (output.tanh() - rows).square().sum(1)

    for level, (up, down) in enumerate(zip([*ups, code], downs, strict=True)):
        activation: Activation = torch.tanh if up is not code else torch.nn.Identity()
        how.layer(h, Pair(up, down, activation, inner if level else lowest), generator)
        with torch.no_grad():
            h = activation(up(h))
    with (
        torch.no_grad()
    ):  # codes of mean 0 and variance 1, as the prior has them; the map to x stays the same
        mean, scale = h.mean(0), h.std(0)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        downs[-1].bias += downs[-1].weight @ mean
        downs[-1].weight *= scale
        means[0].copy_(code.weight / scale.unsqueeze(1))
        means[1].copy_((code.bias - mean) / scale)


def check_mirrored(encoder: Any, model: Any) -> None:
    """Refuse a pair that has no layers to train together."""
    if (
        not isinstance(encoder, MLPEncoder)
        or not isinstance(model, Autoencoder)
        or (encoder.features, encoder.latents) != (model.features, model.latents)
        or encoder.hidden != getattr(model.decoder, "hidden", ())[::-1]
    ):
        raise ParameterError(
            "pretrain needs an MLPEncoder and an Autoencoder with the widths reversed, as mirrored(64, 2) returns, "
            f"got {encoder!r} and {model!r}."
        )
