"""Encoders: modules from x to a distribution over z, used as amortized inference networks."""

from probae.encoders.base import Encoder, Guide
from probae.encoders.linear_gaussian import LinearGaussianEncoder
from probae.encoders.lista import LISTAEncoder
from probae.encoders.mlp import MLPEncoder

__all__ = ["Encoder", "Guide", "LISTAEncoder", "LinearGaussianEncoder", "MLPEncoder"]
