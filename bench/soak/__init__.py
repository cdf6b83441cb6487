"""Thousands of runs over a raw server that fails in every way a wire can fail: nothing is lost, nothing leaks."""
