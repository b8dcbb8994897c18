"""Sampling from a run."""
