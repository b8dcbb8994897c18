"""Fidelity of a run, as numbers."""
