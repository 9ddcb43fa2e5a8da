"""Encoders: modules from x to a distribution over z, used as amortized inference networks."""

from probae.encoders.base import Encoder, Guide
from probae.encoders.binary import BinaryCodeEncoder
from probae.encoders.bit_report import BitReport
from probae.encoders.convolutional import ConvolutionalEncoder
from probae.encoders.flow import FlowEncoder
from probae.encoders.laplace import LaplaceEncoder
from probae.encoders.linear_gaussian import LinearGaussianEncoder
from probae.encoders.lista import LISTAEncoder
from probae.encoders.mirror import mirrored
from probae.encoders.mlp import MLPEncoder
from probae.encoders.one_layer import OneLayerEncoder
from probae.encoders.spike_slab import SpikeSlabEncoder
from probae.encoders.tied import TiedEncoder

__all__ = [
    "BinaryCodeEncoder",
    "BitReport",
    "ConvolutionalEncoder",
    "Encoder",
    "FlowEncoder",
    "Guide",
    "LISTAEncoder",
    "LaplaceEncoder",
    "LinearGaussianEncoder",
    "MLPEncoder",
    "OneLayerEncoder",
    "SpikeSlabEncoder",
    "TiedEncoder",
    "mirrored",
]
