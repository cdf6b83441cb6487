"""Builds the toy models in the package from seeds. This folder is not installed. See `python -m training --help`."""
