"""Foldwise: deep learning on many image tasks as a reproducible pipeline."""

__version__ = "0.1.0"
