"""Between a command line and a command: arguments, errors, sweeps."""
