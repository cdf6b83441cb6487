"""Mixtura beside its peers: what it costs, measured. Run `make bench`."""
