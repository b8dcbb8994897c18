"""The mathematics of diffusion; it knows of torch alone."""
