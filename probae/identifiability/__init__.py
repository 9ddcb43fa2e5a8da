"""Whether the axes of a fitted model mean anything: structure, data, inference, precision, verdict."""
