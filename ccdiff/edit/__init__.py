"""Editing images with a run."""
