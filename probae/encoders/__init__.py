"""Encoders: modules from x to a distribution over z, used as amortized inference networks."""

from probae.encoders.base import Encoder, Guide
from probae.encoders.linear_gaussian import LinearGaussianEncoder
from probae.encoders.mlp import MLPEncoder
from probae.encoders.one_layer import OneLayerEncoder

__all__ = ["Encoder", "Guide", "LinearGaussianEncoder", "MLPEncoder", "OneLayerEncoder"]
