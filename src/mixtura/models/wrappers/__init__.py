"""Behaviour added to a model by wrapping it: limits, retries, prices, thinking apart."""
