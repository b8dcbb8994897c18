"""Runs and sweeps side by side."""
