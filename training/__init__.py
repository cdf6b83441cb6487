"""How the toy models that Mixtura carries were made, from seeds; not installed. `python -m training --help`."""
