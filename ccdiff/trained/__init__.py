"""Opening what was trained: a run, a checkpoint, an export."""
