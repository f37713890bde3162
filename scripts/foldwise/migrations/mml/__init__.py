"""Data and results of mml-core, 0.11 to 1.0."""
