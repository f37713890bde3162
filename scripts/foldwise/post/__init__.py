"""Calibration, priors and ensembles: plain arrays in, NumPy and SciPy only."""
