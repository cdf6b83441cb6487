"""Fits the coefficients of the step models to measured data and reports their errors on data left out of the fit.

Not installed with the package. Reads the data from `../shared/data` and writes the coefficients to
`src/mixtura/hardware/data`.
"""
