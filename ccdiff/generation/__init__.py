"""From labels to images with a trained denoiser."""
