"""A run's folder: checkpoints, record, log."""
