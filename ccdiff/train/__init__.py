"""Training one run from its config."""
