"""Before a run: what it may ask, whether it fits, what it costs and takes."""
