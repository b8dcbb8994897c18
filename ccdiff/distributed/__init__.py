"""Many processes: ranks, their group, shared work, and who tells of failures."""
