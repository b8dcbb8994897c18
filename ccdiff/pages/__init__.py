"""What all pages and figures look like."""
