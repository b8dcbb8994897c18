"""Grids of times fitted to a run."""
