"""Compares the tutorial's claims with measurements that need no key. Run `python -m bench.tutorial`."""
