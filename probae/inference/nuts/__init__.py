"""The no-U-turn sampler on the density of the parameters, factors integrated out."""

from probae.inference.nuts.method import NUTS

__all__ = ["NUTS"]
