"""Dollars a day, kept across processes."""
