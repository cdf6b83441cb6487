"""Runs a recipe over models and says what happens, event by event."""
