"""Mutants: small changes of the code, one at a time, each of which some test should notice.

mutmut makes them in a copy of the project, `mutants/`, and runs for each the tests that reach the changed function.
This package draws a seeded sample, has it judged in pieces that may be interrupted, and reports what survived.
"""
