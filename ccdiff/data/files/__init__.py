"""Data sets that come as files."""
