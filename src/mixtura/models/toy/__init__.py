"""The toy models in the package: small transformers that solve arithmetic word problems and nothing else.

How they were made stands in `training/`, what they can do in docs/lab-models.md.
"""
