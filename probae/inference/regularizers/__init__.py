"""Regularisers of training with an encoder."""

from probae.inference.regularizers.base import Regularizer, check_regularizers, regularized

__all__ = ["Regularizer", "check_regularizers", "regularized"]
