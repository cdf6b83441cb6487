"""The toy models in the package: small transformers that solve arithmetic word problems and nothing else.

`training/` builds them, and docs/lab-models.md says what they can do.
"""
