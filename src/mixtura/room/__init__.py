"""The machine room: the project's own models and mixtures on the hardware models."""
