"""A page that draws, on this machine."""
