"""Objectives of training with an encoder, each one term per row in nats."""

from probae.inference.objectives.elbo import ELBO

__all__ = ["ELBO"]
