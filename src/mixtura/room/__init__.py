"""The machine room: mixtures and their models on the hardware models."""
