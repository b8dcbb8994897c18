"""Grids of times and coefficients of samplers, fitted to a run."""
