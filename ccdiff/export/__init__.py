"""A run as a folder to pass on."""
