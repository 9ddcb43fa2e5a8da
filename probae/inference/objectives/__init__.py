"""Objectives of training with an encoder, each one term per row in nats."""

from probae.inference.objectives.elbo import ELBO
from probae.inference.objectives.importance_weighted import IWAE, Renyi
from probae.inference.objectives.point import JointDensity, Reconstruction, SquaredError
from probae.inference.objectives.wake_sleep import ReweightedWakeSleep

__all__ = ["ELBO", "IWAE", "JointDensity", "Reconstruction", "Renyi", "ReweightedWakeSleep", "SquaredError"]
