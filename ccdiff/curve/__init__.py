"""Quality against network calls."""
