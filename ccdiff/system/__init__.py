"""Files, locks, devices and signals: what the operating system has to do with it."""
