"""Factor analysis for the user: inference, fit, scores, reliability, rotation of a fit."""
