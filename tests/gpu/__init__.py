"""What needs a GPU, in one command: ``python -m tests.gpu``; see docs/gpu.md."""
