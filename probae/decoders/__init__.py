"""Decoders: modules from z to the parameters of a likelihood."""

from probae.decoders.base import Decoder
from probae.decoders.convolutional import ConvolutionalDecoder
from probae.decoders.linear import LinearDecoder
from probae.decoders.mlp import MLPDecoder

__all__ = ["ConvolutionalDecoder", "Decoder", "LinearDecoder", "MLPDecoder"]
