"""What the tutorial claims, held against measurements that need no key: run `python -m bench.tutorial`."""
