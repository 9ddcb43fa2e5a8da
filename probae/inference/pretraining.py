"""Layer-wise pre-training of a mirrored pair: each layer and its mirror reconstruct the layer below."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.activations import ACTIVATIONS
from probae.checks import ParameterError, check_count, check_data
from probae.decoders import MLPDecoder
from probae.encoders import MLPEncoder
from probae.inference.layers import GreedyLayers, Pair, PrincipalLayers
from probae.models.autoencoder import Autoencoder
from probae.models.pyro_context import local_parameters


@local_parameters
def pretrain(
    encoder: MLPEncoder,
    model: Autoencoder,
    x: Any,
    how: GreedyLayers | PrincipalLayers | None = None,
    *,
    seed: int = 0,
) -> tuple[MLPEncoder, Autoencoder]:
    r"""Pre-train a mirrored pair layer by layer, from x to z.

    Layer l is trained on the values h that the layers below give, with its mirror, and then left as it is [1]_. With
    the mirrors' Lipschitz constants L and the error e of each layer alone (root mean squares in one unit), the pair
    leaves at most e_1 + L_1 e_2 + L_1 L_2 e_3 + ...; that no layer could do better together with the others is not
    said, which is what a fit from these weights is for.

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
        Copies with pre-trained weights, codes of mean 0 and variance 1 on x, and ``started`` set: a fit goes on from
        these weights. Set ``started = False`` on both to have a fit draw new ones. After Ctrl-C the layers that were
        not reached keep random weights.

    Raises
    ------
    ParameterError
        If the two do not mirror each other.
    DataError
        If x cannot be used.

    References
    ----------
    .. [1] Bengio, Y., Lamblin, P., Popovici, D. & Larochelle, H. (2007). Greedy layer-wise training of deep networks.
       NIPS 19.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> encoder, model = pa.pretrain(*pa.mirrored(9, 2, hidden=(6,)), x, pa.GreedyLayers(epochs=2))
    >>> encoder.started, model.started              # pa.fit(model, x, pa.SVI(encoder)) goes on from here
    (True, True)
    """
    check_mirrored(encoder, model)
    how = GreedyLayers() if how is None else how
    if not isinstance(how, GreedyLayers | PrincipalLayers):
        raise ParameterError(f"how should be GreedyLayers() or PrincipalLayers(), got {how!r}.")
    data = check_data(x, features=model.features, minimum_rows=2)
    rows = data.values.to(data.dtype)
    generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
    encoder, model = copy.deepcopy((encoder, model))
    encoder.to(rows.dtype)
    model.to(rows.dtype)
    encoder.started = model.started = False
    model.start(rows, generator)
    encoder.start(rows, generator)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        train_layers(encoder, model, rows, how, generator)
    encoder.double()
    model.double()
    encoder.started = model.started = True
    return encoder, model


def train_layers(
    encoder: MLPEncoder,
    model: Autoencoder,
    x: Float[Tensor, "samples features"],
    how: GreedyLayers | PrincipalLayers,
    generator: torch.Generator,
) -> None:
    """Train each layer on the values of the one below, and put the weights in their places."""
    unit = ACTIVATIONS[encoder.activation]
    squash = unit.module()
    code = code_layer(encoder)
    ups, downs = [*linear_layers(encoder.body), code], mirrors(model)
    decoder = model.decoder
    h, target = (x - encoder.centre) / encoder.spread, (x - decoder.centre) / decoder.spread
    for level, (up, down) in enumerate(zip(ups, downs, strict=True)):
        between: Callable[[Tensor], Tensor] = nn.Identity() if up is code else squash
        middle = 0.0 if up is code else unit.middle
        error = inner_error(squash) if level else lowest_error(encoder, model)
        interrupted = how.layer(h, target, Pair(up, down, between, middle, error), generator)
        with torch.no_grad():
            target = up(h)  # what the unit makes h of: where the mirror of the next layer should end
            h = between(target) * (down.weight != 0).any(0)  # units without a use are not passed on
        if interrupted:
            break
    else:
        standardize_codes(h, code, downs[-1])
    with torch.no_grad():
        encoder.head.weight[: encoder.latents] = code.weight
        encoder.head.bias[: encoder.latents] = code.bias


def linear_layers(body: nn.Module) -> list[nn.Linear]:
    """Return the layers of a network in order."""
    return [part for part in body.modules() if isinstance(part, nn.Linear)]


def mirrors(model: Autoencoder) -> list[nn.Linear]:
    """Return the layers of the decoder, from x on."""
    decoder: Any = model.decoder
    return [decoder.head, *linear_layers(decoder.body)[::-1]]


@torch.no_grad()
def code_layer(encoder: MLPEncoder) -> nn.Linear:
    """Return a copy of the part of the head that gives the mean of z."""
    head, k = encoder.head, encoder.latents
    code = nn.utils.skip_init(
        nn.Linear, head.in_features, k, dtype=head.weight.dtype, device=head.weight.device
    )
    code.weight.copy_(head.weight[:k])
    code.bias.copy_(head.bias[:k])
    return code


def inner_error(squash: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the squared error of the values of a hidden layer."""
    return lambda h, output: (squash(output) - h).square().sum(1)


def lowest_error(encoder: MLPEncoder, model: Autoencoder) -> Callable[[Tensor, Tensor], Tensor]:
    """Return minus the log-likelihood of x, from standardised x and the output of the decoder's last layer."""
    decoder = model.decoder

    def error(h: Tensor, output: Tensor) -> Tensor:
        law = model.noise_model(decoder.centre + decoder.spread * output)
        return -law.log_prob(h * encoder.spread + encoder.centre)

    return error


@torch.no_grad()
def standardize_codes(codes: Float[Tensor, "samples latents"], code: nn.Linear, down: nn.Linear) -> None:
    """Give codes the mean 0 and the variance 1 that the prior has; the way to x stays the same."""
    mean, scale = codes.mean(0), codes.std(0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    down.bias.add_(down.weight @ mean)
    down.weight.mul_(scale)
    code.weight.div_(scale.unsqueeze(1))
    code.bias.copy_((code.bias - mean) / scale)


def check_mirrored(encoder: Any, model: Any) -> None:
    """Refuse a pair that has no layers to train together."""
    fits = (
        isinstance(encoder, MLPEncoder)
        and isinstance(model, Autoencoder)
        and isinstance(model.decoder, MLPDecoder)
        and (encoder.features, encoder.latents) == (model.features, model.latents)
        and encoder.hidden == model.decoder.hidden[::-1]
        and encoder.activation == model.decoder.activation
        and not (encoder.residual or encoder.normalize)
    )
    if not fits:
        raise ParameterError(
            "pretrain needs an MLPEncoder of plain layers and an Autoencoder with the same units and the widths "
            f"reversed, as mirrored(64, 2) returns, got {encoder!r} and {model!r}."
        )
