"""Fits the coefficients of the step models to measured data, and says how well they do on what they have not seen.

Not installed. The data is read from `../shared/data`, the coefficients are written to `src/mixtura/hardware/data`.
"""
