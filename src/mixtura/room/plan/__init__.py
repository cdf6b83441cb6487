"""Recipes on machines: what they ask, who serves it, how long it takes under load, and which machines to take."""
